"""Named, graded ways to spoil real rows: the yardstick by which a utility is validated (`bench validate`).

A utility that does not fall as the rows get worse cannot rank synthesizers. Every kind has one level, at which 0 changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Float, Transitions

POSITIONS = ("x", "y")  # names of the columns that place a body in a plane, in metres in the mazes


def independent(rows: Transitions, share: float, rng: np.random.Generator) -> Transitions:
    """A share of the rows gets every column of s, a, r and s' - s from other rows: all marginals stay, nothing joins them."""
    (spoiled,) = np.nonzero(rng.random(len(rows)) < share)
    parts = [rows.observations.copy(), rows.actions.copy(), rows.next_observations - rows.observations]
    for part in parts:
        for column in part.T:
            column[spoiled] = column[rng.permutation(spoiled)]
    states, actions, steps = parts
    reached = rows.next_observations.copy()
    reached[spoiled] = (states + steps)[spoiled]
    return replace(rows, observations=states, actions=actions, rewards=_permuted(rows.rewards, spoiled, rng), next_observations=reached)


def noisy_steps(rows: Transitions, level: float, rng: np.random.Generator) -> Transitions:
    """Gaussian noise on s' - s, of `level` standard deviations of each column."""
    steps = rows.next_observations - rows.observations
    return replace(rows, next_observations=rows.next_observations + level * steps.std(axis=0) * _normal(steps.shape, rng))


def blurred_positions(rows: Transitions, metres: float, rng: np.random.Generator) -> Transitions:
    """Every row, s and s' together, is moved by Gaussian noise of `metres`: also into walls, and through them.

    Raises:
        ValueError: no columns are named as positions.
    """
    places = [i for i, column in enumerate(rows.schema.observations) if column.name in POSITIONS]
    if not places:
        raise ValueError(
            f"corruption: blurred-positions needs columns named {' and '.join(POSITIONS)}, which this environment has not; take another kind"
        )
    moved = np.zeros_like(rows.observations)
    moved[:, places] = metres * _normal((len(rows), len(places)), rng)
    return replace(rows, observations=rows.observations + moved, next_observations=rows.next_observations + moved)


def permuted_rewards(rows: Transitions, share: float, rng: np.random.Generator) -> Transitions:
    """A share of the rows gets its reward from other rows."""
    (spoiled,) = np.nonzero(rng.random(len(rows)) < share)
    return replace(rows, rewards=_permuted(rows.rewards, spoiled, rng))


def noisy_rewards(rows: Transitions, level: float, rng: np.random.Generator) -> Transitions:
    """Gaussian noise on the rewards, of `level` standard deviations."""
    return replace(rows, rewards=rows.rewards + level * rows.rewards.std() * _normal(rows.rewards.shape, rng))


def fewer_rows(rows: Transitions, loss: float, rng: np.random.Generator) -> Transitions:
    """As many rows, but copies of a share of 1 - `loss` of them, at least one.

    They stand alone: an agent that reads trajectories, on the environment's own task, loses these too. Goal sets have no use for them.
    """
    kept = max(1, round((1 - loss) * len(rows)))
    return rows.rows(rng.choice(len(rows), kept, replace=False)[np.arange(len(rows)) % kept])


CORRUPTIONS: Mapping[str, Callable[[Transitions, float, np.random.Generator], Transitions]] = {
    "independent": independent,
    "noisy-steps": noisy_steps,
    "blurred-positions": blurred_positions,
    "permuted-rewards": permuted_rewards,
    "noisy-rewards": noisy_rewards,
    "fewer-rows": fewer_rows,
}


def _permuted(values: Float, index: NDArray[np.int64], rng: np.random.Generator) -> Float:
    permuted = values.copy()
    permuted[index] = values[rng.permutation(index)]
    return permuted


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> Float:
    return rng.standard_normal(shape, dtype=np.float32)
