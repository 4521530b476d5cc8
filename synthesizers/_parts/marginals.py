"""Marginal tables: counted exactly, and made to agree after noise.

A *clique* is a tuple of column numbers; its *table* holds the counts of all combinations of their bins, one axis for each column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import pi, prod, sqrt

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Transitions
from bench.core.privacy import GaussianAnswers
from bench.core.protocols import State
from synthesizers._parts.discretize import Codes, Discretization, affordable_cells, discretize, histograms, split_by

Clique = tuple[int, ...]
Table = NDArray[np.float64]

_PREFIX = "table "
_CHUNK = 1 << 16
"""Rows counted at a time: their codes and a table stay in the processor's cache."""
_STEPS, _TOLERANCE = 1000, 1e-8
"""The search ends after so many steps, or when one moves the multipliers of a table by less than this share of the rows, on average."""
_TINY = 1e-9
"""Stands for a variance of zero: the tables of an infinite budget agree already."""

# --- counting -----------------------------------------------------------------------------------------------------------------------------------


def count_pairs(codes: Codes, sizes: Sequence[int]) -> dict[Clique, NDArray[np.int64]]:
    """The tables of all pairs i < j, from codes (d, n). One pass over the rows; memory beside the tables does not grow with n."""
    counts = {(i, j): np.zeros(sizes[i] * sizes[j], np.int64) for i, j in combinations(range(len(sizes)), 2)}
    for chunk in _chunks(codes):
        for i in range(len(sizes) - 1):
            shifted = {size: chunk[i] * size for size in set(sizes[i + 1 :])}
            for j in range(i + 1, len(sizes)):
                counts[i, j] += np.bincount(shifted[sizes[j]] + chunk[j], minlength=sizes[i] * sizes[j])
    return {(i, j): table.reshape(sizes[i], sizes[j]) for (i, j), table in counts.items()}


def count(codes: Codes, sizes: Sequence[int], clique: Clique) -> NDArray[np.int64]:
    """The table of one clique."""
    shape = tuple(sizes[i] for i in clique)
    counts = np.zeros(prod(shape), np.int64)
    for start in range(0, codes.shape[1], _CHUNK):
        counts += np.bincount(fuse(codes[:, start : start + _CHUNK], sizes, clique), minlength=counts.size)
    return counts.reshape(shape)


def fuse(codes: Codes, sizes: Sequence[int], clique: Clique) -> NDArray[np.int64]:
    """One integer for each row: its cell in the table of `clique`, flattened."""
    fused = np.zeros(codes.shape[1], np.int64)
    for i in clique:
        fused *= sizes[i]
        fused += codes[i]
    return fused


def _chunks(codes: Codes) -> Iterator[NDArray[np.int64]]:
    for start in range(0, codes.shape[1], _CHUNK):
        yield codes[:, start : start + _CHUNK].astype(np.int64)


def margin(table: NDArray, axis: int) -> NDArray:
    """The counts along one axis of a table."""
    return table.sum(axis=tuple(other for other in range(table.ndim) if other != axis))


# --- measuring ----------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Measured:
    """Noisy counts, and the variance of their noise: of each cell, or one for all."""

    counts: Table
    variance: Table | float


def affordable_bins(most: int, noise: float, rows: int) -> int:
    """How many bins the columns of a pair can bear: `noise`, the standard deviation in each cell, may add up to a fifth of the nominal rows."""
    return int(np.clip(sqrt(0.2 * rows / (sqrt(2 / pi) * max(noise, _TINY))), 2, most))


def measure(answer: GaussianAnswers, exact: Mapping[Clique, NDArray[np.int64]], shares: Sequence[float]) -> dict[Clique, Measured]:
    """All tables in one answer of L2 sensitivity 1, each with its share of the answer's zCDP; the shares sum to one.

    A row is in one cell of each table, so tables scaled by sqrt(share) make a vector that it moves by sqrt(sum of shares) = 1. How many tables
    there are may depend on earlier answers; what is charged does not.
    """
    scaled = np.concatenate([table.ravel() * sqrt(share) for table, share in zip(exact.values(), shares, strict=True)])
    noisy = split_by([table.size for table in exact.values()], answer(scaled))
    return {
        clique: Measured(counts.reshape(table.shape) / sqrt(share), answer.scale**2 / share)
        for (clique, table), counts, share in zip(exact.items(), noisy, shares, strict=True)
    }


def learn_columns(data: Transitions, answer: GaussianAnswers, cells: int, bins: int) -> tuple[Discretization, list[Measured]]:
    """The first answer of a marginal method, of L2 sensitivity sqrt(d): noisy histograms over at most `cells` cells.

    Returns:
        The bins drawn from them, at most `bins` for each column, and the noisy counts of these bins.
    """
    steps = affordable_cells(cells, answer.scale, data.schema.nominal_rows)
    noisy = answer(histograms(data, steps))
    columns = discretize(data.schema, steps, noisy, answer.scale, bins)
    return columns, measured_one_way(columns, noisy, answer.scale)


def measured_one_way(columns: Discretization, noisy: NDArray[np.float64], scale: float) -> list[Measured]:
    """The noisy `histograms`, whose noise has standard deviation `scale`, pooled from cells to bins."""
    by_column = split_by([grid.size for grid in columns.grids], noisy)
    return [
        Measured(np.add.reduceat(counts, starts), scale**2 * np.diff(starts, append=len(counts)))
        for counts, starts in zip(by_column, columns.starts, strict=True)
    ]


# --- agreement after noise ------------------------------------------------------------------------------------------------------------------------


def consistent(one_way: Sequence[Measured], tables: Mapping[Clique, Measured], total: float) -> dict[Clique, Table]:
    """The non-negative tables nearest to the noisy ones, by inverse variance, that sum to `total` and agree on each column they share.

    Where the cliques form a tree of pairs, this is the estimate of private-pgm (McKenna et al. 2019). Without the sign the answer is closed-form
    (`_Agreement`); the sign is reached by accelerated projected gradient on its multipliers (Beck and Teboulle 2009, restarted as by
    O'Donoghue and Candes 2015), whose step length is exactly one, because the closed form is a projection.

    Args:
        one_way: the noisy histogram of every column.
        tables: noisy tables, with one variance each.
        total: the sum of every table.
    """
    agreement = _Agreement(one_way, tables, total)
    lift = [np.zeros_like(counts) for counts in agreement.noisy]
    ahead, momentum = lift, 1.0
    for _ in range(_STEPS):
        estimate = agreement.nearest([noisy + push for noisy, push in zip(agreement.noisy, ahead, strict=True)])
        raised = [np.maximum(push - counts, 0.0) for push, counts in zip(ahead, estimate, strict=True)]
        if sum(float(np.abs(new - old).sum()) for new, old in zip(raised, ahead, strict=True)) <= _TOLERANCE * total * len(tables):
            break
        turns = zip(agreement.precision, ahead, raised, lift, strict=True)
        overshot = sum(float(np.sum(w * (y - x) * (x - before))) for w, y, x, before in turns) > 0
        following = 1.0 if overshot else (1 + sqrt(1 + 4 * momentum**2)) / 2
        pace = 0.0 if overshot else (momentum - 1) / following
        ahead = [x + pace * (x - before) for x, before in zip(raised, lift, strict=True)]
        lift, momentum = raised, following
    return agreement.by_clique([np.maximum(counts, 0.0) for counts in estimate])


class _Agreement:
    """The nearest tables, of any sign, that sum to the total and agree on each column.

    The main effects of a table's columns are orthogonal to each other and to the rest, so the tables agree on column i at the mean of their margins
    by inverse variance, and each table moves evenly along its other columns. Tables of one shape are stacked; the first stack holds the one-way
    histograms, padded by cells that stay zero.
    """

    def __init__(self, one_way: Sequence[Measured], tables: Mapping[Clique, Measured], total: float) -> None:
        shapes = sorted({measured.counts.shape for measured in tables.values()})
        self.total = total
        self.stacks = [[clique for clique in tables if tables[clique].counts.shape == shape] for shape in shapes]
        self.columns = [np.array(cliques) for cliques in self.stacks]
        self.noisy = [_padded([measured.counts for measured in one_way])]
        self.precision = [_padded([_precision(measured) for measured in one_way])]
        self.pull = []
        for cliques, shape in zip(self.stacks, shapes, strict=True):
            self.noisy.append(np.stack([tables[clique].counts for clique in cliques]))
            self.precision.append(np.array([1 / max(float(tables[clique].variance), _TINY) for clique in cliques]).reshape(-1, *[1] * len(shape)))
            self.pull.append([self.precision[-1].reshape(-1, 1) * bins / prod(shape) for bins in shape])
        together = self.precision[0].copy()
        for columns, stack, pulls in zip(self.columns, self.noisy[1:], self.pull, strict=True):
            for axis, pull in enumerate(pulls):
                np.add.at(together[:, : stack.shape[axis + 1]], columns[:, axis], pull)
        self.give = np.divide(1.0, together, out=np.zeros_like(together), where=self.precision[0] > 0)

    def nearest(self, stacks: list[Table]) -> list[Table]:
        """The projection of `stacks`, arranged as `noisy` is."""
        wanted = self.precision[0] * stacks[0]
        moved, margins = [], []
        for stack, columns, pulls in zip(stacks[1:], self.columns, self.pull, strict=True):
            axes = tuple(range(1, stack.ndim))
            level = stack + ((self.total - stack.sum(axis=axes, keepdims=True)) / stack[0].size)
            moved.append(level)
            margins.append([level.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes])
            for axis, (pull, seen) in enumerate(zip(pulls, margins[-1], strict=True)):
                np.add.at(wanted[:, : seen.shape[1]], columns[:, axis], pull * seen)
        agreed = self.give * wanted
        agreed -= self.give * ((agreed.sum(axis=1) - self.total) / self.give.sum(axis=1))[:, None]
        for level, columns, seen_by_axis in zip(moved, self.columns, margins, strict=True):
            for axis, seen in enumerate(seen_by_axis, 1):
                others = tuple(other for other in range(1, level.ndim) if other != axis)
                shift = (agreed[columns[:, axis - 1], : seen.shape[1]] - seen) * (level.shape[axis] / level[0].size)
                level += np.expand_dims(shift, others)
        return [agreed, *moved]

    def by_clique(self, stacks: list[Table]) -> dict[Clique, Table]:
        tables = {clique: stack[k] for cliques, stack in zip(self.stacks, stacks[1:], strict=True) for k, clique in enumerate(cliques)}
        return dict(sorted(tables.items()))


def _padded(rows: Sequence[NDArray[np.float64]]) -> Table:
    """Rows of different lengths in one matrix, zeros behind them."""
    matrix = np.zeros((len(rows), max(map(len, rows))))
    for filled, row in zip(matrix, rows, strict=True):
        filled[: len(row)] = row
    return matrix


def _precision(measured: Measured) -> NDArray[np.float64]:
    return np.broadcast_to(1 / np.maximum(measured.variance, _TINY), measured.counts.shape)


# --- the released form ----------------------------------------------------------------------------------------------------------------------------


def pack(tables: Mapping[Clique, Table]) -> State:
    """Tables as arrays of a sampler's state, each under its column numbers."""
    return {_PREFIX + " ".join(map(str, clique)): table for clique, table in tables.items()}


def unpack(state: State) -> dict[Clique, Table]:
    """The tables of `pack`, in the order of their columns."""
    cliques = sorted(tuple(map(int, name.removeprefix(_PREFIX).split())) for name in state if name.startswith(_PREFIX))
    return {clique: state[_PREFIX + " ".join(map(str, clique))] for clique in cliques}
