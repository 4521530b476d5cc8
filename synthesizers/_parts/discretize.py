"""Bins from public bounds: columns to codes and back.

A row is modelled as (s, a, r, s' - s, terminal): the difference carries the dynamics that s' itself hides behind s. Everything here is
post-processing or public knowledge: edges come from the Schema, never from rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Column, Float, Schema, Transitions


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


def transitions_from_columns(schema: Schema, columns: list[Float]) -> Transitions:
    """Rows from the values of `modelled_columns`: s' = s + difference, everything clipped to the schema."""
    width = len(schema.observations)
    states, differences = columns[:width], columns[-1 - width : -1]
    moved = [state + difference for state, difference in zip(states, differences, strict=True)]
    table = [*columns[: -1 - width], *moved, columns[-1]]
    clipped = [np.clip(values, np.float32(c.low), np.float32(c.high)) for c, values in zip(schema.columns, table, strict=True)]
    return Transitions.from_table(schema, np.column_stack(clipped))


@dataclass(frozen=True)
class Binning:
    """Equal-width bins inside a column's declared bounds; a column with levels has one bin for each."""

    column: Column
    bins: int

    @property
    def size(self) -> int:
        return len(self.column.levels) if self.column.levels else self.bins

    def encode(self, values: Float) -> NDArray[np.int64]:
        """Bin of each value; values outside the bounds go to the bin at the edge."""
        if self.column.levels:
            levels = np.sort(np.array(self.column.levels, np.float32))
            return np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
        scaled = (values - self.column.low) * (self.bins / (self.column.high - self.column.low))
        return np.clip(scaled, 0, self.bins - 1).astype(np.int64)

    def decode(self, codes: NDArray[np.int64], rng: np.random.Generator) -> Float:
        """A level, or a uniform draw inside the bin."""
        if self.column.levels:
            return np.sort(np.array(self.column.levels, np.float32))[codes]
        width = (self.column.high - self.column.low) / self.bins
        return (self.column.low + width * (codes + rng.random(len(codes)))).astype(np.float32)
