"""Trajectories as windows: what a trajectory model learns from, and what its releases are stitched of.

A *window* is H consecutive rows of one trajectory, padded past its end: the first state, then for each row what it adds to it, (a, r, s' - s). The
states in between are no freedom of the model: they follow from the differences, so that s' is the next row's s. Its *condition* is all that a model
knows of the rest: the row before, the state that it led to, how many rows are left, whether the last one is terminal. Training cuts windows out of
trajectories; sampling draws lengths and ends first and then window after window, each under the condition that the last one left. Both ask
`conditions`.

A window is held as one row of numbers, in z (`scaling`): its content, its flags and its condition, as `Layout` says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.data import Bool, Float, Index, Schema, Transitions
from synthesizers._parts.scaling import Scaling, varying

_LEFT_WAVES = 4
"""Cosines that tell how many rows are left, on a logarithmic scale."""


@dataclass(frozen=True)
class Layout:
    """Where the numbers of a window stand.

    Attributes:
        horizon: H, rows in a window.
        states: S, varying columns of s.
        columns: d, the other varying columns of a row, but for its terminal.
        moves: for each of the S the place of its difference among the d; None where it never moves.
    """

    horizon: int
    states: int
    columns: int
    moves: tuple[int | None, ...]

    @classmethod
    def of(cls, schema: Schema, horizon: int) -> Layout:
        width, first_difference = len(schema.observations), len(schema.observations) + len(schema.actions) + 1
        states = [i for i in varying(schema) if i < width]
        others = [i for i in varying(schema) if width <= i < first_difference + width]
        places = {column - first_difference: place for place, column in enumerate(others)}
        return cls(horizon, len(states), len(others), tuple(places.get(i) for i in states))

    @property
    def content(self) -> int:
        """Numbers that a model draws: the first state and H rows."""
        return self.states + self.horizon * self.columns

    @property
    def flags(self) -> int:
        """Whether the window opens its trajectory, and for each of H rows whether it is there."""
        return 1 + self.horizon

    @property
    def condition(self) -> int:
        """Numbers in a condition."""
        return sum(self.condition_parts)

    @property
    def condition_parts(self) -> tuple[int, int, int, int]:
        """The row before, the state that it led to, what is left and how it ends, and how differences move states."""
        return self.states + self.columns, self.states, _LEFT_WAVES + 1, 2 * self.states

    def split(self, windows: Tensor) -> tuple[Tensor, ...]:
        """Content, flags and condition of windows (..., D)."""
        return windows.split([self.content, self.flags, self.condition], dim=-1)

    def split_content(self, content: Tensor) -> tuple[Tensor, Tensor]:
        """First states (..., S) and rows (..., H, d)."""
        first, rows = content.split([self.states, self.horizon * self.columns], dim=-1)
        return first, rows.unflatten(-1, (self.horizon, self.columns))

    def is_drawn(self, flags: Tensor) -> Tensor:
        """Which numbers of a content (..., S + H d) are for a model to draw: rows that are there, and the first state of a window that opens."""
        opening, present = flags.bool().split([1, self.horizon], dim=-1)
        return torch.cat([opening.repeat_interleave(self.states, dim=-1), present.repeat_interleave(self.columns, dim=-1)], dim=-1)

    def states_before(self, content: Tensor, flags: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """The states (..., H, S) before each row, which follow from the differences, and by how much z of a difference moves each (..., S)."""
        opening, present = flags[..., :1], flags[..., 1:, None]
        (first, rows), (_, reached, _, moving) = self.split_content(content), condition.split(self.condition_parts, dim=-1)
        slopes, shifts = moving.unflatten(-1, (2, self.states)).unbind(-2)
        moved = [rows[..., place] if place is not None else torch.zeros_like(rows[..., 0]) for place in self.moves]
        moves = (torch.stack(moved, dim=-1) * slopes[..., None, :] + shifts[..., None, :]) * present
        since = torch.cat([torch.zeros_like(moves[..., :1, :]), moves[..., :-1, :].cumsum(-2)], dim=-2)
        return torch.where(opening.bool(), first, reached)[..., None, :] + since, slopes


def conditions(scaling: Scaling, layout: Layout, before: Transitions, opening: Bool, left: Index, terminal: Bool) -> Float:
    """What is known (n, c) of n windows, of which `left` (n,) rows are to come, those of the window included.

    Args:
        before: the n rows before; whatever they are where a window is `opening` (n,) its trajectory.
        terminal: whether the last of the rows that are left (n,) is.
    """
    known = np.column_stack([_encode(scaling, layout, before), scaling.encode_states(before.next_observations)])
    known[opening] = 0
    place = np.log(left) / np.log(max(scaling.schema.max_trajectory_length, 2))
    waves = np.cos(np.pi * place[:, None] * np.arange(1, _LEFT_WAVES + 1)).astype(np.float32)
    ends = terminal.astype(np.float32)
    return np.column_stack([known, waves, ends, np.tile(_moves_in_z(scaling, layout), (len(known), 1))])


def _moves_in_z(scaling: Scaling, layout: Layout) -> Float:
    """(2 S,): z of a state grows by z of its difference times the first S numbers, plus the others."""
    slopes, shifts = np.zeros((2, layout.states), np.float32)
    for i, place in enumerate(layout.moves):
        if place is not None:
            slopes[i] = scaling.scale[layout.states + place] / scaling.scale[i]
            shifts[i] = scaling.mean[layout.states + place] / scaling.scale[i]
    return np.concatenate([slopes, shifts])


def _encode(scaling: Scaling, layout: Layout, rows: Transitions) -> Float:
    """Rows z (n, S + d), without the terminal."""
    return scaling.encode(rows)[:, : layout.states + layout.columns]


# --- out of trajectories --------------------------------------------------------------------------------------------------------------------------


def cut(data: Transitions, scaling: Scaling, layout: Layout, units: Index, places: NDArray[np.float64]) -> Float:
    """Windows (B, K, D) of the trajectories `units` (B,) at `places` (B, K) in [0, 1).

    Of a trajectory of L rows a place picks one of the starts -(H - 1), ..., L - 1, all equally likely; starts before the first row are moved onto it.
    So H of the L + H - 1 places give the opening window, which is as often as sampling, window after window, asks for one.
    """
    offsets, horizon = data.require_trajectories(), layout.horizon
    begins, ends = offsets[:-1][units][:, None], offsets[1:][units][:, None]
    first = np.maximum(begins, begins + (places * (ends - begins + horizon - 1)).astype(np.int64) - (horizon - 1))
    left, opening, first = (ends - first).ravel(), (first == begins).ravel(), first.ravel()
    present = np.arange(horizon) < left[:, None]
    index = first[:, None] + np.minimum(np.arange(horizon), left[:, None] - 1)
    z = _encode(scaling, layout, data.rows(index.ravel())).reshape(*index.shape, -1)
    known = conditions(scaling, layout, data.rows(np.maximum(first - 1, 0)), opening, left, data.terminals[first + left - 1])
    rows = (z[:, :, layout.states :] * present[:, :, None]).reshape(len(z), -1)
    return np.column_stack([z[:, 0, : layout.states], rows, _flags(opening, present), known]).reshape(*places.shape, -1)


def holding(data: Transitions, layout: Layout, rows: Index) -> tuple[Index, NDArray[np.float64]]:
    """For `cut`, the units (n,) and places (n,) of the windows that hold `rows` (n,), where a trajectory is windows one after another."""
    offsets = data.require_trajectories()
    units = np.searchsorted(offsets, rows, side="right") - 1
    begins = (rows - offsets[units]) // layout.horizon * layout.horizon
    # the middle of the places that `cut` turns into `begins`
    return units, (begins + layout.horizon - 0.5) / (np.diff(offsets)[units] + layout.horizon - 1)


def _flags(opening: Bool, present: Bool) -> Float:
    return np.column_stack([opening, present]).astype(np.float32)


# --- and back -------------------------------------------------------------------------------------------------------------------------------------


def stitch(
    scaling: Scaling,
    layout: Layout,
    lengths: Index,
    terminal: Bool,
    draw: Callable[[Float, Float], Float],
    progress: Callable[[int, int], None],
) -> Transitions:
    """Trajectories of these `lengths` (m,), inside the schema; within one, s' is the next row's s to the bit.

    Args:
        terminal: which of them (m,) end in a terminal, the others in a timeout.
        draw: contents (n, S + H d) of windows with these flags (n, 1 + H) and conditions (n, c).
    """
    schema, horizon, longest = scaling.schema, layout.horizon, int(lengths.max(initial=0))
    offsets = np.append(0, np.cumsum(lengths))
    released = Transitions.from_table(schema, np.zeros((offsets[-1], len(schema.columns)), np.float32))
    for begin in range(0, longest, horizon):
        (alive,) = np.nonzero(lengths > begin)
        at, left = offsets[:-1][alive] + begin, lengths[alive] - begin
        opening, present = np.full(len(at), begin == 0), np.arange(horizon) < left[:, None]
        before = released.rows(np.maximum(at - 1, 0))
        content = draw(_flags(opening, present), conditions(scaling, layout, before, opening, left, terminal[alive]))
        values = _decoded(content, scaling, layout)
        states = _path(values, schema, None if opening.all() else before.next_observations)
        _write(released, (at[:, None] + np.arange(horizon))[present], present, states, values)
        progress(min(begin + horizon, longest), longest)
    released.terminals[offsets[1:] - 1], released.timeouts[offsets[1:] - 1] = terminal, ~terminal
    return replace(released, trajectories=offsets)


def _decoded(content: Float, scaling: Scaling, layout: Layout) -> list[Float]:
    """The modelled columns (n, H) of contents (n, S + H d); those of s repeat the first state, and nothing is terminal."""
    first, rows = np.split(content, [layout.states], axis=1)
    z = np.zeros((len(content) * layout.horizon, len(scaling.mean)), np.float32)
    z[:, : layout.states] = np.repeat(first, layout.horizon, axis=0)
    z[:, layout.states : layout.states + layout.columns] = rows.reshape(-1, layout.columns)
    values = scaling.values(z)
    return [column.reshape(len(content), layout.horizon) for column in values]


def _path(values: list[Float], schema: Schema, reached: Float | None) -> Float:
    """States (n, H + 1, S) from the state `reached`, or from the first state drawn, on; clipped to the schema as they go."""
    low, high = (np.array([getattr(column, side) for column in schema.observations], np.float32) for side in ("low", "high"))
    width, horizon = len(low), values[0].shape[1]
    path = np.empty((len(values[0]), horizon + 1, width), np.float32)
    path[:, 0] = np.column_stack([column[:, 0] for column in values[:width]]) if reached is None else reached
    for t, moved in enumerate(np.stack(values[-1 - width : -1], axis=2).swapaxes(0, 1)):
        path[:, t + 1] = np.clip(path[:, t] + moved, low, high)
    return path


def _write(released: Transitions, rows: Index, present: Bool, states: Float, values: list[Float]) -> None:
    """Put what is `present` (n, H) of windows into their `rows`."""
    width = released.observations.shape[1]
    released.observations[rows], released.next_observations[rows] = states[:, :-1][present], states[:, 1:][present]
    released.actions[rows] = np.stack(values[width : -2 - width], axis=2)[present]
    released.rewards[rows] = values[-2 - width][present]
