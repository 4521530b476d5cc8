"""Between transitions and the normal scores z that a network learns: each varying column of (s, a, r, s' - s, terminal) through its own distribution.

The distribution function of a column is that of its histogram, exact for public rows and bought for sensitive ones. A value becomes the normal
quantile of its place in it, so that every column of z is standard normal, whatever the value was: skewed, heavy-tailed, a sliver of a wide box. What
many rows share (a bound, a level, a terminal) owns an interval of mass: it falls anywhere in there, and comes back as itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from bench.core.data import Float, Schema, Transitions
from bench.core.protocols import State
from synthesizers._parts.discretize import Discretization, Grid, modelled_column, modelled_columns, transitions_from_columns
from synthesizers._parts.scaling import varying

_RAREST = 1e-5
"""What is nearer than this to 0 or 1 counts as this: scores end at 4.3."""


@dataclass(frozen=True, eq=False)
class NormalScores:
    """The distribution functions of all varying columns, from their histograms over public cells."""

    columns: Discretization

    @classmethod
    def pooled(cls, scores: Sequence[NormalScores]) -> NormalScores:
        """The mean of several distributions, box on box, whatever the number of rows behind each."""
        first = scores[0].columns
        shares = [[weights / weights.sum() for weights in own.columns.weights] for own in scores]
        starts = tuple(np.zeros(1, np.int64) for _ in first.grids)
        return cls(replace(first, starts=starts, weights=tuple(np.mean(column, axis=0) for column in zip(*shares, strict=True))))

    @property
    def width(self) -> int:
        """Columns of z."""
        return len(self.columns.grids)

    def encode(self, data: Transitions, dither: NDArray[np.float64]) -> Float:
        """Scores z (n, d); `dither` (n, d) in [0, 1) says where in its interval a shared value falls."""
        z = np.empty((len(data), self.width), np.float32)
        for j, (i, grid, below) in enumerate(self._columns()):
            mass = _mass_below(grid, below, modelled_column(data, i), dither[:, j])
            z[:, j] = ndtri(np.clip(mass, _RAREST, 1 - _RAREST))
        return z

    def decode(self, z: Float) -> Transitions:
        """Transitions inside the schema."""
        columns = [np.full(len(z), (column.levels or (column.low,))[0], np.float32) for column in modelled_columns(self.columns.schema)]
        for j, (i, grid, below) in enumerate(self._columns()):
            mass = ndtr(z[:, j].astype(np.float64))
            if grid.levels is not None:
                columns[i] = grid.levels[np.searchsorted(below[1:-1], mass, side="right")]
            else:
                columns[i] = np.interp(mass, below, grid.edges).astype(np.float32)
        return transitions_from_columns(self.columns.schema, columns)

    def state(self) -> State:
        return self.columns.state()

    @classmethod
    def restore(cls, schema: Schema, state: State) -> NormalScores:
        return cls(Discretization.restore(schema, state))

    def _columns(self) -> Iterator[tuple[int, Grid, NDArray[np.float64]]]:
        """The place of each varying column, its cells, and the mass below each of them, (size + 1,)."""
        return zip(varying(self.columns.schema), self.columns.grids, self._cumulative, strict=True)

    @cached_property
    def _cumulative(self) -> tuple[NDArray[np.float64], ...]:
        below = (np.concatenate([[0.0], np.cumsum(weights)]) for weights in self.columns.weights)
        return tuple(mass / mass[-1] for mass in below)


def renormalized(z: Float, drawn: Float) -> Float:
    """Scores z (n, d) with standard normal columns again: each through the distribution function of `drawn` (m, d), of the same source."""
    ranks = np.column_stack([np.searchsorted(np.sort(known), column) for known, column in zip(drawn.T, z.T, strict=True)])
    return ndtri((ranks + 0.5) / (len(drawn) + 1)).astype(np.float32)


def _mass_below(grid: Grid, below: NDArray[np.float64], values: Float, dither: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distribution function at each value (n,); anywhere in its jump at a level or a bound. What is no number counts as the lower bound."""
    values = np.clip(np.where(np.isnan(values), np.float32(grid.column.low), values), np.float32(grid.column.low), np.float32(grid.column.high))
    cells = grid.encode(values)
    anywhere = below[cells] + dither * (below[cells + 1] - below[cells])
    if grid.levels is not None:
        return anywhere
    on_bound = (cells == 0) | (cells == grid.size - 1)
    return np.where(on_bound, anywhere, np.interp(values, grid.edges[1:-1], below[1:-1]))
