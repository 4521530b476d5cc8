"""Between transitions and the rows z that a network learns: the varying columns of (s, a, r, s' - s, terminal), each shifted and scaled.

The constants are statistics of public rows, or of noisy histograms that were paid for; never of sensitive rows. A value on a declared bound is moved
a step beyond it, since clipped values gather there (one action in three of the mazes): what was an atom at the edge of a cloud becomes a cloud of its
own, and clipping on the way back makes it an atom again.

A rare terminal is no number that a network gets right in each row: the rows that look most like one are released with it, as many as its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Column, Float, Schema, Transitions
from bench.core.errors import InputError
from bench.core.protocols import State
from synthesizers._parts.discretize import Discretization, Grid, modelled_column, modelled_columns, transitions_from_columns

_SMALLEST_SCALE = 1e-6
_TRIMMED = 0.005
_STEP_BEYOND = 0.1
"""How far a value on its bound is moved, in half widths of the declared range."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """z = (value - mean) / scale of each varying column (d,); the terminal's mean is its share, and its scale 1."""

    schema: Schema
    mean: Float
    scale: Float

    @classmethod
    def of_histograms(cls, columns: Discretization) -> Scaling:
        """Mean and deviation of one-way histograms, noisy or exact; what lies beyond a quantile of 1 in 200 counts as lying on it.

        Noise leaves a little mass far out in a wide range, which would be most of the deviation.
        """
        moments = []
        for grid, weights in zip(columns.grids, columns.weights, strict=True):
            centres = grid.levels if grid.levels is not None else (grid.edges[1:] + grid.edges[:-1]) / 2
            share = weights / weights.sum()
            low, high = centres[np.searchsorted(share.cumsum(), (_TRIMMED, 1 - _TRIMMED))]
            kept = centres if grid.column == columns.schema.terminal else np.clip(centres, low, high)
            moments.append((share @ kept, share @ kept**2))
        return cls._from_moments(columns.schema, *np.array(moments).T)

    @classmethod
    def pooled(cls, scalings: Sequence[Scaling]) -> Scaling:
        """That of the union of several datasets, box on box, each with equal weight, whatever its size.

        Raises:
            InputError: datasets whose varying columns differ.
        """
        names = [[column.name for column in varying(scaling.schema).values()] for scaling in scalings]
        if any(other != names[0] for other in names):
            raise InputError(f"public: siblings have different varying columns, {names[0]} in one of them; keep those of one kind")
        alike = [cls.restore(scalings[0].schema, scaling.state()) for scaling in scalings]
        first = np.array([scaling.mean for scaling in alike], np.float64)
        second = first**2 + np.square([scaling.scale for scaling in alike], dtype=np.float64)
        return cls._from_moments(scalings[0].schema, np.asarray(first.mean(0)), np.asarray(second.mean(0)))

    @classmethod
    def _from_moments(cls, schema: Schema, first: NDArray, second: NDArray) -> Scaling:
        """A column without deviation is scaled by its declared box."""
        scale = np.sqrt(np.maximum(second - first**2, 0))
        low, high = _boxes(schema)
        constant = scale < _SMALLEST_SCALE * (high - low)
        mean, scale = np.where(constant, (low + high) / 2, first), np.where(constant, (high - low) / 2, scale)
        if _ends_in_terminal(schema):
            mean[-1], scale[-1] = first[-1], 1
        return cls(schema, mean.astype(np.float32), scale.astype(np.float32))

    def encode(self, data: Transitions) -> Float:
        """Rows z (n, d)."""
        columns = zip(varying(self.schema).items(), self.mean, self.scale, strict=True)
        return np.column_stack([(_beyond_bounds(modelled_column(data, i), column) - mean) / scale for (i, column), mean, scale in columns])

    def encode_states(self, states: Float) -> Float:
        """The varying columns of states (n, S), scaled as `encode` scales them."""
        chosen = [i for i in varying(self.schema) if i < states.shape[1]]
        return (states[:, chosen] - self.mean[: len(chosen)]) / self.scale[: len(chosen)]

    def decode(self, z: Float) -> Transitions:
        """Transitions inside the schema, from `values`; terminals are the rows that are most like one, as many as their share."""
        columns = self.values(z)
        if _ends_in_terminal(self.schema):
            columns[-1][np.argsort(-z[:, -1], kind="stable")[: round(len(z) * float(self.mean[-1]))]] = 1
        return transitions_from_columns(self.schema, columns)

    def values(self, z: Float) -> list[Float]:
        """The modelled columns (n,) of rows z (n, d): values clipped, levels the nearest, nothing terminal."""
        columns = [np.full(len(z), (column.levels or (column.low,))[0], np.float32) for column in modelled_columns(self.schema)]
        for j, (i, column) in enumerate(varying(self.schema).items()):
            grid = Grid(column, steps=1)
            values = np.clip(z[:, j] * self.scale[j] + self.mean[j], np.float32(column.low), np.float32(column.high))
            columns[i] = values if grid.levels is None else grid.levels[grid.encode(values)]
        if _ends_in_terminal(self.schema):
            columns[-1] = np.zeros(len(z), np.float32)
        return columns

    def state(self) -> State:
        """`mean` and `scale` (d,) in widths of the declared boxes, the means from their lower ends on: the same for mazes of any size."""
        low, high = _boxes(self.schema)
        return {"mean": ((self.mean - low) / (high - low)).astype(np.float32), "scale": (self.scale / (high - low)).astype(np.float32)}

    @classmethod
    def restore(cls, schema: Schema, state: State) -> Scaling:
        """The same in the boxes of `schema`.

        Raises:
            InputError: the state was made for other columns than those that vary in `schema`.
        """
        low, high = _boxes(schema)
        if len(state["mean"]) != len(low):
            raise InputError(f"public: the siblings have {len(state['mean'])} varying columns, the sensitive rows {len(low)}; name like siblings")
        return cls(schema, (low + state["mean"] * (high - low)).astype(np.float32), (state["scale"] * (high - low)).astype(np.float32))


def varying(schema: Schema) -> dict[int, Column]:
    """The modelled columns that are no known constants, by their place."""
    return {i: column for i, column in enumerate(modelled_columns(schema)) if Grid(column, steps=1).size > 1}


def _boxes(schema: Schema) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Declared lows and highs (d,) of the varying columns."""
    low, high = np.array([(column.low, column.high) for column in varying(schema).values()]).T
    return low, high


def _beyond_bounds(values: Float, column: Column) -> Float:
    """The values of a range, those on a bound or past it moved outwards; levels stay."""
    if column.levels is not None:
        return values
    step = np.float32(_STEP_BEYOND * (column.high - column.low) / 2)
    moved = values.copy()
    moved[values >= np.float32(column.high)] += step
    moved[values <= np.float32(column.low)] -= step
    return moved


def _ends_in_terminal(schema: Schema) -> bool:
    return Grid(schema.terminal, steps=1).size > 1
