"""How long trajectories are and how they end: the one histogram that a trajectory method asks for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Bool, Index, Schema, Transitions
from bench.core.privacy import GaussianAnswers
from synthesizers._parts.discretize import Grid, affordable_cells, project_onto_simplex

Shares = NDArray[np.float64]
"""Of the lengths 1 to M (columns) by how a trajectory ends (rows: a timeout, and a terminal where the schema has one), (e, M); sum to one."""


def learn_lengths(data: Transitions, answer: GaussianAnswers) -> Shares:
    """The shares from one noisy histogram over (length, end), of L2 sensitivity 1: a trajectory adds one to one cell.

    Lengths are pooled into as many equal intervals as the noise allows; within one all are alike.
    """
    longest, trajectories = data.schema.max_trajectory_length, data.schema.nominal_trajectories
    cells = affordable_cells(longest, answer.scale, trajectories)
    noisy = project_onto_simplex(answer(_histogram(data, cells)), float(trajectories))
    return _shares(noisy, longest, _ends(data.schema))


def exact_lengths(public: Transitions) -> Shares:
    """The shares of public trajectories."""
    longest = public.schema.max_trajectory_length
    return _shares(_histogram(public, longest).astype(np.float64), longest, _ends(public.schema))


def within(shares: Shares, longest: int) -> Shares:
    """The shares under another public maximum M: what is longer counts as the longest."""
    kept = np.zeros((len(shares), longest))
    kept[:, : shares.shape[1]] = shares[:, :longest]
    kept[:, -1] += shares[:, longest:].sum(1)
    return kept


def draw_lengths(shares: Shares, rows: int, rng: np.random.Generator) -> tuple[Index, Bool]:
    """Lengths (m,) and ends (m,), True for a terminal, of the fewest trajectories that hold `rows` rows."""
    longest = shares.shape[1]
    expected = rows / float(shares.sum(0) @ np.arange(1, longest + 1))
    drawn = np.empty(0, np.int64)  # numbers of cells of `shares`, read row by row: end * longest + length - 1
    while (drawn % longest + 1).sum() < rows:
        drawn = np.append(drawn, rng.choice(shares.size, int(expected) + 1, p=shares.ravel()))
    lengths = drawn % longest + 1
    needed = int(np.searchsorted(np.cumsum(lengths), rows)) + 1
    return lengths[:needed], drawn[:needed] >= longest


def _histogram(data: Transitions, cells: int) -> NDArray[np.int64]:
    """Trajectories by end and length, (e cells,)."""
    offsets, longest = data.require_trajectories(), data.schema.max_trajectory_length
    cell = _cells(longest, cells)[np.clip(np.diff(offsets), 1, longest) - 1]
    end = data.terminals[offsets[1:] - 1] * (_ends(data.schema) - 1)
    return np.bincount(cell + cells * end, minlength=_ends(data.schema) * cells)


def _shares(counts: NDArray[np.float64], longest: int, ends: int) -> Shares:
    cell = _cells(longest, counts.size // ends)
    return (counts.reshape(ends, -1) / np.bincount(cell))[:, cell] / counts.sum()


def _ends(schema: Schema) -> int:
    """In how many ways a trajectory can end."""
    return 2 if Grid(schema.terminal, steps=1).size > 1 else 1


def _cells(longest: int, cells: int) -> Index:
    """The cell of each of the lengths 1 to `longest`."""
    return np.arange(longest) * cells // longest
