"""What the tests of pgm and privsyn share: schemas made of free columns, fits that are watched, awkward rows, and a distance between samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from marginal_support import random_rows
from numpy.typing import NDArray

from bench.conformance.probes import ACCOUNTANT, Recorder
from bench.core.data import Column, Schema, Transitions, Unit
from bench.core.privacy import Budget, ReplayLedger
from bench.core.protocols import Runtime, Synthesizer
from bench.envs.maze2d import UMAZE
from synthesizers._parts.discretize import Codes, modelled_column, modelled_columns
from synthesizers._parts.marginals import Table, count_pairs

Awkward = Callable[[Schema], Transitions]

# --- rows -----------------------------------------------------------------------------------------------------------------------------------------


def level_schema(sizes: Sequence[int], rows: int) -> Schema:
    """Columns of levels 0 to size - 1, all of them actions: free of each other, and the only ones that vary. Their codes are their values."""
    constant = Column("constant", 0.0, 0.0, levels=(0.0,))
    return Schema(
        observations=(constant,),
        actions=tuple(Column(f"column{i}", 0.0, size - 1.0, levels=tuple(map(float, range(size)))) for i, size in enumerate(sizes)),
        reward=constant,
        terminal=constant,
        differences=(constant,),
        nominal_rows=rows,
        nominal_trajectories=1,
        max_trajectory_length=rows,
    )


def level_rows(codes: NDArray, sizes: Sequence[int]) -> Transitions:
    """Rows of a `level_schema` from their codes (d, n)."""
    schema = level_schema(sizes, max(codes.shape[1], 1))
    table = np.zeros((codes.shape[1], len(schema.columns)), np.float32)
    table[:, 1 : 1 + len(sizes)] = codes.T
    return Transitions.from_table(schema, table)


def level_codes(data: Transitions) -> Codes:
    """The codes (d, n) of `level_rows`."""
    return data.actions.T.astype(np.uint16)


@cache
def umaze(rows: int) -> Transitions:
    """Rows of maze2d-umaze under a schema whose nominal size they have."""
    data = UMAZE.dataset(rows, 0, "train")
    return replace(data, schema=data.schema.with_rows(rows), trajectories=None)


AWKWARD: Mapping[str, Awkward] = {
    "no row": Transitions.empty,
    "one row": lambda schema: random_rows(schema, 1, np.random.default_rng(0)),
    "one row, a thousand times": lambda schema: random_rows(schema, 1, np.random.default_rng(0)).rows(np.zeros(1000, np.int64)),
    "noise": lambda schema: random_rows(schema, 1000, np.random.default_rng(0)),
}
"""Rows that leave most cells of a schema empty, or all of them, or none."""

# --- fits -----------------------------------------------------------------------------------------------------------------------------------------


def budget(epsilon: float) -> Budget:
    return Budget(epsilon, 1e-6, Unit.TRANSITION)


def fit(method: Synthesizer, data: Transitions, ledger: Any) -> Any:
    """The fitted sampler."""
    return method.fit(data, ledger, np.random.default_rng(0), public={}, pretrained=None, runtime=Runtime())


def fitted(method: Synthesizer, data: Transitions, epsilon: float = 10.0, seed: int = 0) -> Any:
    """The sampler of a fit with its own ledger."""
    return fit(method, data, Recorder(budget(epsilon), len(data), np.random.default_rng(seed)))


def draw(sampler: Any, n: int, seed: int = 0) -> Transitions:
    sampled: Transitions = sampler.sample(n, np.random.default_rng(seed), runtime=Runtime())
    return sampled


def watched(method: Synthesizer, data: Transitions, epsilon: float = 10.0) -> Recorder:
    """The ledger of a fit: its charges, and every question that was asked."""
    ledger = Recorder(budget(epsilon), len(data), np.random.default_rng(0))
    fit(method, data, ledger)
    return ledger


def sensitivities(method: Synthesizer, data: Transitions) -> dict[str, float]:
    """What a fit declares, by question."""
    return {charge.name: charge.sensitivity for charge in watched(method, data).charges}


def movements(method: Synthesizer, data: Transitions, neighbour: Transitions, epsilon: float = 1.0) -> dict[str, list[NDArray]]:
    """The difference of every question between two datasets, by name: the fit on the neighbour is told the answers of the other."""
    recorder = watched(method, data, epsilon)
    replayer = ReplayLedger(budget(epsilon), recorder.tape, ACCOUNTANT)
    fit(method, neighbour, replayer)
    moved: dict[str, list[NDArray]] = {}
    for (name, one), (_, other) in zip(recorder.questions, replayer.questions, strict=True):
        both = np.isfinite(one) & np.isfinite(other)
        assert np.array_equal(one[~both], other[~both]), "what may not be picked depends on the rows"
        moved.setdefault(name, []).append(one[both] - other[both])
    return moved


# --- distances ------------------------------------------------------------------------------------------------------------------------------------


def pair_tables(data: Transitions, target: Transitions, bins: int = 20) -> list[Table]:
    """The tables of all pairs of modelled columns, as shares, over equal bins of the target's own range; columns constant there are left out."""
    codes = []
    for i in range(len(modelled_columns(target.schema))):
        low, high = modelled_column(target, i).min(), modelled_column(target, i).max()
        if low < high:
            codes.append(np.clip((modelled_column(data, i) - low) / (high - low) * bins, 0, bins - 1).astype(np.uint8))
    return [table / len(data) for table in count_pairs(np.array(codes), [bins] * len(codes)).values()]


def pairwise_tv(data: Transitions, target: Transitions, bins: int = 20) -> float:
    """Mean total variation distance over the tables of all pairs."""
    pairs = zip(pair_tables(data, target, bins), pair_tables(target, target, bins), strict=True)
    return float(np.mean([np.abs(one - other).sum() / 2 for one, other in pairs]))
