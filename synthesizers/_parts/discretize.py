"""From transitions to small integer codes and back, with edges that never look at a row.

A row is modelled as (s, a, r, s' - s, terminal): the difference carries the dynamics that s' itself hides behind s. Columns that the Schema knows
to be constant are left out and cost nothing. Two resolutions share the work:

- *cells* are public, fine and equal (`Grid`). A bounded column has one cell more at each bound, since clipped values gather there; a column with
  declared levels has one cell for each. Their noisy histograms are all that is ever measured here.
- *bins* are few: runs of cells, drawn from the noisy histograms, so they are post-processing (`refine`). A bin is what joint tables are made of.

Decoding allots the rows of a bin to its cells by the noisy histogram, and draws a point inside the cell: marginals keep the resolution of the cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Column, Float, Index, Schema, Transitions
from bench.core.protocols import State

Codes = NDArray[np.unsignedinteger]
"""One row of codes for each varying column, (d, n)."""
_FEWEST_CELLS = 16
_TINY = 1e-9
"""Stands for a noise of zero: an infinite budget."""

# --- the modelled columns -----------------------------------------------------------------------------------------------------------------------


def modelled_columns(schema: Schema) -> tuple[Column, ...]:
    """The columns (s, a, r, s' - s, terminal), all with public bounds."""
    return (*schema.observations, *schema.actions, schema.reward, *schema.differences, schema.terminal)


def modelled_column(data: Transitions, index: int) -> Float:
    """Values (n,) of one of `modelled_columns`; column by column, so that no second table is ever held."""
    width, depth = len(data.schema.observations), len(data.schema.actions)
    if index < width:
        return data.observations[:, index]
    if index < width + depth:
        return data.actions[:, index - width]
    if index == width + depth:
        return data.rewards
    if index <= 2 * width + depth:
        state = index - width - depth - 1
        return data.next_observations[:, state] - data.observations[:, state]
    return data.terminals.astype(np.float32)


def transitions_from_columns(schema: Schema, columns: Sequence[Float]) -> Transitions:
    """Rows from the values of `modelled_columns`: s' = s + difference, everything clipped to the schema."""
    width = len(schema.observations)
    states, differences = columns[:width], columns[-1 - width : -1]
    moved = [state + difference for state, difference in zip(states, differences, strict=True)]
    table = [*columns[: -1 - width], *moved, columns[-1]]
    clipped = [np.clip(values, np.float32(c.low), np.float32(c.high)) for c, values in zip(schema.columns, table, strict=True)]
    return Transitions.from_table(schema, np.column_stack(clipped))


# --- cells --------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """The public cells of a column: each level, or low, `steps` equal intervals, high."""

    column: Column
    steps: int

    @cached_property
    def levels(self) -> Float | None:
        """The values of a column that has only these; None for a range."""
        if self.column.low == self.column.high:
            return np.array([self.column.low], np.float32)
        return None if self.column.levels is None else np.unique(np.array(self.column.levels, np.float32))

    @property
    def size(self) -> int:
        """The number of cells; 1 for a known constant."""
        return self.steps + 2 if self.levels is None else len(self.levels)

    def encode(self, values: Float) -> Index:
        """The cell of each value; beyond the bounds it is the bound, between levels the nearest one."""
        if self.levels is not None:
            return np.searchsorted((self.levels[1:] + self.levels[:-1]) / 2, values)
        low, high = np.float32(self.column.low), np.float32(self.column.high)
        scaled = (values - low) * np.float32(self.steps / (self.column.high - self.column.low))
        cells = np.clip(np.nan_to_num(scaled), 0, self.steps - 1).astype(np.int64) + 1  # a crash on one bad row would tell of it
        cells[values <= low] = 0
        cells[values >= high] = self.steps + 1
        return cells

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """Where the cells of a range begin and end, (size + 1,); the cells of the bounds have no width."""
        inside = np.linspace(self.column.low, self.column.high, self.steps + 1)
        return np.concatenate([inside[:1], inside, inside[-1:]])


def varying_grids(schema: Schema, steps: int) -> tuple[Grid, ...]:
    """The grids of the modelled columns that are no known constants; each row adds one to one cell of each, an L2 sensitivity of sqrt(d)."""
    return tuple(_varying(schema, steps).values())


def _varying(schema: Schema, steps: int) -> dict[int, Grid]:
    """The grids by the place of their column among the modelled ones."""
    grids = enumerate(Grid(column, steps) for column in modelled_columns(schema))
    return {i: grid for i, grid in grids if grid.size > 1}


def affordable_cells(most: int, scale: float, rows: int) -> int:
    """How many cells a column of `rows` nominal rows can bear: one of average mass holds twice its noise, of standard deviation `scale`."""
    return int(np.clip(rows / (2 * max(scale, _TINY)), _FEWEST_CELLS, most))


def histograms(data: Transitions, steps: int) -> NDArray[np.int64]:
    """Cell counts of all varying columns, one histogram after another: the exact answer, for the Ledger alone."""
    varying = _varying(data.schema, steps).items()
    return np.concatenate([np.bincount(grid.encode(modelled_column(data, i)), minlength=grid.size) for i, grid in varying])


def split_by(sizes: Sequence[int] | Index, flat: NDArray) -> list[NDArray]:
    """Cut a concatenation of arrays of `sizes` entries apart again."""
    return np.split(flat, np.cumsum(sizes)[:-1])


# --- bins ---------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Discretization:
    """The bins of all varying columns.

    Attributes:
        grids: the public cells of each varying column.
        starts: the first cell of each bin, one array (k,) for each varying column.
        weights: the non-negative histogram of each column over its cells, by which a bin is decoded.
    """

    schema: Schema
    grids: tuple[Grid, ...]
    starts: tuple[Index, ...]
    weights: tuple[NDArray[np.float64], ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bins of each varying column."""
        return tuple(len(starts) for starts in self.starts)

    @property
    def total(self) -> float:
        """The noisy number of rows, to which every histogram sums."""
        return float(self.weights[0].sum())

    def cells(self, data: Transitions) -> list[Index]:
        """The cell of every value, (n,) for each varying column."""
        return [grid.encode(modelled_column(data, i)) for i, grid in zip(_varying(self.schema, 1), self.grids, strict=True)]

    def encode(self, data: Transitions) -> Codes:
        """The bin of every value, (d, n), one byte each up to 256 bins."""
        codes = np.empty((len(self.grids), len(data)), np.min_scalar_type(max(self.sizes) - 1))
        for j, (i, grid, starts) in enumerate(zip(_varying(self.schema, 1), self.grids, self.starts, strict=True)):
            bin_of_cell = np.repeat(np.arange(len(starts)), np.diff(starts, append=grid.size)).astype(codes.dtype)
            codes[j] = bin_of_cell[grid.encode(modelled_column(data, i))]
        return codes

    def decode(self, codes: Codes, rng: np.random.Generator) -> Transitions:
        """Rows from bins: each value falls in a cell of its bin by the histogram, and anywhere in that cell."""
        columns = [np.full(codes.shape[1], (column.levels or (column.low,))[0], np.float32) for column in modelled_columns(self.schema)]
        for i, bins, grid, starts, weights in zip(_varying(self.schema, 1), codes, self.grids, self.starts, self.weights, strict=True):
            columns[i] = _draw_values(bins, grid, starts, weights, rng)
        return transitions_from_columns(self.schema, columns)

    def one_way(self, i: int) -> NDArray[np.float64]:
        """The histogram of column i over its bins."""
        return np.add.reduceat(self.weights[i], self.starts[i])

    def state(self) -> State:
        """For the sampler's state: cells of a range, flat histograms over cells, and the first cells of the bins (a 0 begins the next column)."""
        return {"steps": np.array(self.grids[0].steps), "cells": np.concatenate(self.weights), "starts": np.concatenate(self.starts)}

    @classmethod
    def restore(cls, schema: Schema, state: State) -> Discretization:
        grids = varying_grids(schema, int(state["steps"]))
        starts = np.split(state["starts"], np.flatnonzero(state["starts"] == 0)[1:])
        return cls(schema, grids, tuple(starts), tuple(split_by([grid.size for grid in grids], state["cells"])))


def discretize(schema: Schema, steps: int, noisy: NDArray[np.float64], scale: float, bins: int) -> Discretization:
    """At most `bins` bins for each column, from the noisy `histograms` with noise of standard deviation `scale`. Post-processing.

    A column with no more cells than that (levels) keeps one bin for each.
    """
    grids = varying_grids(schema, steps)
    counts = split_by([grid.size for grid in grids], noisy)
    total = noisy_total(counts, [scale**2] * len(counts))
    starts = [np.arange(len(c)) if len(c) <= bins else refine(c, scale, bins) for c in counts]
    return Discretization(schema, grids, tuple(starts), tuple(_weights(c, s, total) for c, s in zip(counts, starts, strict=True)))


def exact_columns(public: Transitions, steps: int, bins: int) -> Discretization:
    """The bins of public rows, which need no noise."""
    return discretize(public.schema, steps, histograms(public, steps).astype(np.float64), 0.0, bins)


def refine(counts: NDArray[np.float64], scale: float, bins: int) -> Index:
    """The first cell of each of at most `bins` bins: split again and again where sum(mass x width) falls the most.

    The sum bounds how far decoding moves a value from its place within a bin. Mass counts only where it exceeds twice its noise, so that no bin
    is spent on noise; the search stops early where no split helps.
    """
    below = np.concatenate([[0.0], np.cumsum(counts)])

    def cost(first: NDArray, end: NDArray) -> NDArray[np.float64]:
        cells = end - first
        return np.maximum(below[end] - below[first] - 2 * scale * np.sqrt(cells), 0.0) * (cells - 1)

    def best_split(first: int, end: int) -> tuple[float, int, int]:
        """Gain, place and end of the best split of the cells [first, end)."""
        inner = np.arange(first + 1, end)
        if not len(inner):
            return 0.0, first, end
        gains = cost(np.array(first), np.array(end)) - cost(np.array(first), inner) - cost(inner, np.array(end))
        return float(gains.max()), int(inner[gains.argmax()]), end

    open_bins = {0: best_split(0, len(counts))}
    while len(open_bins) < bins:
        first = max(open_bins, key=lambda start: open_bins[start][0])
        gain, middle, end = open_bins[first]
        if gain <= 0:
            break
        open_bins[first], open_bins[middle] = best_split(first, middle), best_split(middle, end)
    return np.array(sorted(open_bins), np.int64)


def _weights(counts: NDArray[np.float64], starts: Index, total: float) -> NDArray[np.float64]:
    """The histogram behind noisy cell counts, bins first: pooled, they stand out of the noise even where single cells do not."""
    cells = np.diff(starts, append=len(counts))
    mass = project_onto_simplex(np.add.reduceat(counts, starts), total, cells)
    return np.concatenate([project_onto_simplex(inside, share) for inside, share in zip(split_by(cells, counts), mass, strict=True)])


def _draw_values(bins: NDArray[np.unsignedinteger], grid: Grid, starts: Index, weights: NDArray[np.float64], rng: np.random.Generator) -> Float:
    """A value for each row: a cell of its bin by weight, and anywhere in the cell."""
    cells = allot(bins, weights, starts, rng)
    if grid.levels is not None:
        return grid.levels[cells]
    return (grid.edges[cells] + np.diff(grid.edges)[cells] * rng.random(len(cells))).astype(np.float32)


def allot(groups: NDArray[np.integer], weights: NDArray[np.float64], starts: Index, rng: np.random.Generator) -> Index:
    """For each row an entry of its group by weight; group g owns the entries from starts[g] to the next start, evenly if they weigh nothing.

    Systematic sampling: within a group, whose rows come in random order, the count of an entry strays by less than one from its mean.
    """
    entries = np.diff(starts, append=len(weights))
    last = starts + entries - 1
    mass = np.repeat(np.add.reduceat(weights, starts), entries)
    share = np.divide(weights, mass, out=1 / np.repeat(entries, entries), where=mass > 0)
    rows = np.bincount(groups, minlength=len(starts))
    # Rows of its group that belong to an entry or to one before it: a real number, and a whole one after a random shift for each group.
    height = (np.cumsum(share) - np.repeat(np.arange(len(starts)), entries)) * np.repeat(rows, entries)
    reached = np.ceil(height - np.repeat(rng.random(len(starts)), entries)).clip(0, np.repeat(rows, entries)).astype(np.int64)
    reached[last] = rows
    before = np.append(0, reached[:-1])
    before[starts] = 0
    order = rng.permutation(len(groups))
    order = order[np.argsort(groups[order].astype(np.min_scalar_type(len(starts) - 1)), kind="stable")]
    drawn = np.empty(len(groups), np.int64)
    drawn[order] = np.repeat(np.arange(len(weights)), reached - before)
    return drawn


# --- from noisy counts to weights ---------------------------------------------------------------------------------------------------------------


def noisy_total(tables: Sequence[NDArray[np.float64]], variances: Sequence[float]) -> float:
    """The number of rows: the mean of the totals of noisy tables, by inverse variance (`variances`: of one cell of each table)."""
    precisions = np.array([1 / (table.size * max(variance, _TINY)) for table, variance in zip(tables, variances, strict=True)])
    total = sum(precision * table.sum() for precision, table in zip(precisions, tables, strict=True)) / precisions.sum()
    return float(max(total, 1.0))


def project_onto_simplex(counts: NDArray[np.float64], total: float, variance: NDArray | float = 1.0) -> NDArray[np.float64]:
    """The nearest non-negative counts that sum to `total`, by inverse variance: one shift for all, negative ones cut (norm-sub, Wang et al. 2020)."""
    spread = np.broadcast_to(variance, counts.shape)
    order = np.argsort(-counts / spread)
    shifts = (np.cumsum(counts[order]) - total) / np.cumsum(spread[order])
    kept = np.flatnonzero(counts[order] / spread[order] >= shifts)[-1]
    return np.maximum(counts - shifts[kept] * spread, 0.0)
