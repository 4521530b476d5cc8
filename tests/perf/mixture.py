"""The committed table of the performance scripts: four correlated Gaussian components in [-10, 10], packed as transitions."""

from __future__ import annotations

import numpy as np

from bench.core.data import Column, Schema, Transitions
from synthesizers._parts.discretize import transitions_from_columns

COMPONENTS = 4
BOUND = 10.0
"""Values are clipped here. States are declared twice as wide, since s' = s + difference may go that far."""


def mixture(rows: int, columns: int, seed: int = 0) -> Transitions:
    """`rows` independent rows of `columns` varying columns (s, a, r, s' - s); no row is terminal.

    The components depend on `columns` and `seed` alone, so tables of different lengths are draws of one distribution.
    """
    rng = np.random.default_rng([seed, columns])
    weights = rng.dirichlet(np.full(COMPONENTS, 5.0))
    centres = rng.uniform(-7, 7, (COMPONENTS, columns))
    factors = rng.normal(0, 2 / np.sqrt(columns), (COMPONENTS, columns, columns))
    values = np.empty((columns, rows), np.float32)
    component = rng.choice(COMPONENTS, rows, p=weights)
    for k in range(COMPONENTS):
        members = np.flatnonzero(component == k)
        values[:, members] = centres[k][:, None] + factors[k] @ rng.standard_normal((columns, len(members)), np.float32)
    never = np.zeros(rows, np.float32)
    return transitions_from_columns(_schema(rows, columns), [*np.clip(values, -BOUND, BOUND), never])


def _schema(rows: int, columns: int) -> Schema:
    """As many differences as states, and one action for every few states: 4, 2, 1, 4 of 11 columns and 25, 9, 1, 25 of 60."""
    width = columns * 5 // 12
    return Schema(
        observations=tuple(Column(f"s{i}", -2 * BOUND, 2 * BOUND) for i in range(width)),
        actions=tuple(Column(f"a{i}", -BOUND, BOUND) for i in range(columns - 1 - 2 * width)),
        reward=Column("r", -BOUND, BOUND),
        terminal=Column("terminal", 0, 0, levels=(0.0,)),
        differences=tuple(Column(f"d{i}", -BOUND, BOUND) for i in range(width)),
        nominal_rows=rows,
        nominal_trajectories=rows,
        max_trajectory_length=1,
    )
