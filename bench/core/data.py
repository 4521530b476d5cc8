"""What a dataset is: declared columns, transitions, and the views through which a fit may see them.

A `Schema` is public knowledge. Its bounds, levels and nominal sizes are declared by the environment and never measured on sensitive rows.
`Transitions` are the rows themselves. A `View` names the rows a fit sees, so that every refit on other data is visible in its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Index = NDArray[np.int64]

ROW_ARRAYS = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
"""The arrays of `Transitions`, one entry for each row."""


class Unit(Enum):
    """The privacy unit: what neighbouring datasets differ by (add/remove of one)."""

    TRANSITION = "transition"
    TRAJECTORY = "trajectory"


@dataclass(frozen=True)
class Column:
    """One scalar column with public bounds.

    `levels`, if given, lists every value the column can take; a column with one level is a known constant.
    """

    name: str
    low: float
    high: float
    levels: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"column {self.name!r}: low {self.low} is above high {self.high}; declare low <= high")
        if self.levels is not None and not all(self.low <= level <= self.high for level in self.levels):
            raise ValueError(f"column {self.name!r}: levels {self.levels} leave [{self.low}, {self.high}]; widen the bounds")


@dataclass(frozen=True)
class Schema:
    """The public description of an environment's dataset.

    `differences` bounds s' - s column by column: tighter than the box of s allows where the dynamics are known to be slow.
    `nominal_rows` and `nominal_trajectories` stand in for the private counts wherever a method needs N (sampling rate, delta, teacher count).
    `max_trajectory_length` is the public cap: rows beyond it are dropped by the environment, never a second unit.
    """

    observations: tuple[Column, ...]
    actions: tuple[Column, ...]
    reward: Column
    terminal: Column
    differences: tuple[Column, ...]
    nominal_rows: int
    nominal_trajectories: int
    max_trajectory_length: int

    def __post_init__(self) -> None:
        if len(self.differences) != len(self.observations):
            raise ValueError(f"schema: {len(self.differences)} difference columns for {len(self.observations)} observations; declare one each")
        for name in ("nominal_rows", "nominal_trajectories", "max_trajectory_length"):
            if not getattr(self, name) > 0:
                raise ValueError(f"schema: {name} is {getattr(self, name)}; declare at least 1")

    @property
    def next_observations(self) -> tuple[Column, ...]:
        """The columns of s': those of s under primed names."""
        return tuple(replace(column, name=f"{column.name}'") for column in self.observations)

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns in table order: s, a, r, s', terminal."""
        return (*self.observations, *self.actions, self.reward, *self.next_observations, self.terminal)

    def nominal_units(self, unit: Unit) -> int:
        """The public N of `unit`."""
        return self.nominal_rows if unit is Unit.TRANSITION else self.nominal_trajectories

    def with_rows(self, rows: int) -> Schema:
        """The same schema for a dataset of `rows` nominal rows; the nominal number of trajectories scales along."""
        trajectories = max(1, round(self.nominal_trajectories * rows / self.nominal_rows))
        return replace(self, nominal_rows=rows, nominal_trajectories=trajectories)


@dataclass(frozen=True, eq=False)
class Transitions:
    """Rows (s, a, r, s', terminal, timeout), float32 and bool, in time order within each trajectory.

    `trajectories` holds m + 1 row offsets of the m trajectories, or None where rows stand alone.

    Raises:
        ValueError: ragged lengths, a wrong width or dtype, or offsets that do not run from 0 to n.
    """

    schema: Schema
    observations: Float
    actions: Float
    rewards: Float
    next_observations: Float
    terminals: Bool
    timeouts: Bool
    trajectories: Index | None = field(default=None)

    def __post_init__(self) -> None:
        n, width, depth = len(self.rewards), len(self.schema.observations), len(self.schema.actions)
        expected = {
            "observations": ((n, width), np.float32),
            "actions": ((n, depth), np.float32),
            "rewards": ((n,), np.float32),
            "next_observations": ((n, width), np.float32),
            "terminals": ((n,), np.bool_),
            "timeouts": ((n,), np.bool_),
        }
        for name, (shape, dtype) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name}: {array.dtype} of shape {array.shape} where the schema asks for {np.dtype(dtype)} of shape {shape}")
        if self.trajectories is not None:
            offsets = self.trajectories
            if not len(offsets) or offsets[0] != 0 or offsets[-1] != n or (np.diff(offsets) <= 0).any():
                raise ValueError(
                    f"trajectories: {len(offsets)} offsets do not rise from 0 to {n} rows; give the start of each trajectory and the end"
                )

    def __len__(self) -> int:
        return len(self.rewards)

    @classmethod
    def empty(cls, schema: Schema) -> Transitions:
        """No rows: what a data-free method is handed."""
        return cls.from_table(schema, np.zeros((0, len(schema.columns)), np.float32))

    @classmethod
    def from_table(cls, schema: Schema, table: NDArray, timeouts: Bool | None = None, trajectories: Index | None = None) -> Transitions:
        """Split a table (n, D) in the order of `schema.columns`."""
        width, depth = len(schema.observations), len(schema.actions)
        state, action, reward, next_state, terminal = np.split(np.asarray(table, np.float32), np.cumsum([width, depth, 1, width]), axis=1)
        timeouts = np.zeros(len(table), bool) if timeouts is None else timeouts
        return cls(schema, state, action, reward[:, 0], next_state, terminal[:, 0] > 0.5, timeouts, trajectories)

    def table(self) -> Float:
        """All columns side by side, (n, D) float32, in the order of `schema.columns`."""
        return np.column_stack([self.observations, self.actions, self.rewards, self.next_observations, self.terminals.astype(np.float32)])

    def rows(self, index: NDArray | slice) -> Transitions:
        """The rows at `index`, standing alone (no trajectories)."""
        arrays: dict[str, Any] = {name: getattr(self, name)[index] for name in ROW_ARRAYS}
        return Transitions(self.schema, **arrays)

    def inside(self) -> Transitions:
        """The same rows, what lies outside its declared bounds moved to them, what is no number to the lower one: what a synthesizer is handed.

        Each row for itself, so that neighbours stay neighbours; a value that overflows or warns in a method's arithmetic would tell of its row.
        """
        schema = self.schema
        groups = {
            "observations": schema.observations,
            "actions": schema.actions,
            "rewards": (schema.reward,),
            "next_observations": schema.observations,
        }
        arrays: dict[str, Any] = {name: _clipped(getattr(self, name), columns) for name, columns in groups.items()}
        return replace(self, **arrays)

    def without(self, dropped: Sequence[int] | NDArray) -> Transitions:
        """All rows but those at the indices `dropped`; trajectories shorten, and vanish when nothing is left of them."""
        keep = np.ones(len(self), bool)
        keep[np.asarray(dropped, np.int64)] = False
        kept = self.rows(keep)
        if self.trajectories is None:
            return kept
        offsets = np.unique(np.concatenate([[0], np.cumsum(keep)])[self.trajectories])
        return replace(kept, trajectories=offsets)

    def joined(self, ids: NDArray, limit: int | None = None) -> Transitions:
        """The trajectories `ids` one after another, cut to `limit` rows; a cut trajectory ends in a timeout."""
        offsets = self.require_trajectories()
        lengths = np.diff(offsets)[ids]
        ends = np.cumsum(lengths)
        index = np.repeat(offsets[:-1][ids] - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
        if limit is not None and len(index) > limit:
            index, ends = index[:limit], np.append(ends[ends < limit], limit)
        chosen = self.rows(index)
        if len(ends):
            chosen.timeouts[ends[-1] - 1] |= not chosen.terminals[ends[-1] - 1]
        return replace(chosen, trajectories=np.concatenate([[0], ends]).astype(np.int64))

    def require_trajectories(self) -> Index:
        """The offsets, or one clear sentence where there are none."""
        if self.trajectories is None:
            raise ValueError("trajectories: this dataset holds single transitions; a trajectory method needs a dataset with trajectory offsets")
        return self.trajectories

    def units(self, unit: Unit) -> int:
        """How many privacy units the rows hold. Private: only the bench asks."""
        return len(self) if unit is Unit.TRANSITION else len(self.require_trajectories()) - 1


def _clipped(values: Float, columns: Sequence[Column]) -> Float:
    """Values (n, k) or (n,) within the bounds of their k columns or the one; the array itself where it is."""
    low, high = np.array([(column.low, column.high) for column in columns], np.float32).T
    if ((values >= low) & (values <= high)).all():
        return values
    return np.clip(np.where(np.isnan(values), low, values), low, high)


def concatenate(parts: Sequence[Transitions]) -> Transitions:
    """Stack datasets of one schema; trajectories are kept where every part has them."""
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ROW_ARRAYS}
    starts = np.cumsum([0, *(len(part) for part in parts)])
    pieces = [part.trajectories[:-1] + start for part, start in zip(parts, starts, strict=False) if part.trajectories is not None]
    offsets = np.concatenate([*pieces, starts[-1:]]) if len(pieces) == len(parts) else None
    return Transitions(parts[0].schema, **arrays, trajectories=offsets)


PARTS = ("train", "holdout", "reference")


@dataclass(frozen=True)
class View:
    """The rows a fit sees: one part of one dataset, less the rows `drop`, plus the rows `canaries` (each a trajectory of one row).

    Shadow models and audits refit through other views and in no other way. Nominal sizes stay those of `rows`, whatever is dropped or added.
    """

    environment: str
    part: str
    rows: int
    dataset_seed: int = 0
    drop: tuple[int, ...] = ()
    canaries: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ValueError(f"part: {self.part!r} is none of {', '.join(PARTS)}")
        if self.rows < 1:
            raise ValueError(f"rows: {self.rows} is not positive; a part holds at least one row")

    def apply(self, part: Transitions) -> Transitions:
        """Drop and add what the view says to the rows of its part."""
        data = part.without(self.drop) if self.drop else part
        if not self.canaries:
            return data
        offsets = None if data.trajectories is None else np.arange(len(self.canaries) + 1, dtype=np.int64)
        rows = np.array(self.canaries, np.float32)
        return concatenate([data, Transitions.from_table(data.schema, rows, np.ones(len(rows), bool), offsets)])


def rows_shared(data: Transitions, other: Transitions) -> Bool:
    """For each row (n,) whether `other` holds its (s, a, s') too, bit for bit within the bounds that both declare.

    Another reward makes a row no other, nor does what a reader has clipped to the bounds of one of the two.
    """
    pairs = zip(_state_action_columns(data.schema), _state_action_columns(other.schema), strict=True)
    common = [(max(ours.low, theirs.low), min(ours.high, theirs.high)) for ours, theirs in pairs]
    shared: Bool = np.isin(_row_hashes(data, common), _row_hashes(other, common))
    return shared


def _state_action_columns(schema: Schema) -> tuple[Column, ...]:
    return (*schema.observations, *schema.actions, *schema.next_observations)


def _row_hashes(data: Transitions, bounds: Sequence[tuple[float, float]]) -> NDArray[np.uint64]:
    """A 64-bit hash of the bits of each row's (s, a, s') within these bounds, column by column, so that no second table is held."""
    columns = (*data.observations.T, *data.actions.T, *data.next_observations.T)
    hashes = np.zeros(len(data), np.uint64)
    for column, (low, high) in zip(columns, bounds, strict=True):
        bits = np.clip(column, np.float32(low), np.float32(high)).view(np.uint32).astype(np.uint64)
        hashes = (hashes ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes
