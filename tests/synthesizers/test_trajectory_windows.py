"""Windows: each is a piece of one trajectory and knows of the rest what sampling knows; stitched together they are the trajectories again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from window_support import EVERY_SCHEMA, HORIZON, SCHEMAS, Walks, walks

from bench.conformance.rows import faults
from bench.core.data import Bool, Float, Index, Schema, Transitions
from synthesizers._parts.scaling import varying
from synthesizers._parts.windows import stitch

# --- where the numbers stand ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "states", "columns", "moves"),
    [("toy", 2, 5, (3, 4)), ("maze", 4, 7, (3, 4, 5, 6)), ("terminals", 3, 4, (2, 3, None))],
)
def test_every_varying_column_has_its_place_and_every_state_finds_its_difference(name: str, states: int, columns: int, moves: tuple) -> None:
    layout, window = walks(name).layout, walks(name).anywhere([0], 1)
    assert (layout.states, layout.columns, layout.moves) == (states, columns, moves)
    assert (layout.content, layout.flags) == (states + HORIZON * columns, 1 + HORIZON)
    assert window.shape == (1, 1, layout.content + layout.flags + layout.condition)
    modelled = [column.name for column in varying(SCHEMAS[name]).values()]
    differences = [modelled[states + place] for place in moves if place is not None]
    assert differences == [f"d{state}" for state, place in zip(modelled, moves, strict=False) if place is not None]


@pytest.mark.parametrize("opening", [0.0, 1.0])
def test_rows_that_are_there_are_drawn_and_the_state_before_them_where_the_trajectory_opens(opening: float) -> None:
    layout = walks("toy").layout
    first, rows = layout.split_content(layout.is_drawn(torch.tensor([opening, 1, 1, 0, 0])))
    assert first.tolist() == [bool(opening)] * layout.states
    assert rows.tolist() == [[present] * layout.columns for present in (True, True, False, False)]


# --- out of trajectories --------------------------------------------------------------------------------------------------------------------------


@EVERY_SCHEMA
def test_a_window_holds_the_rows_of_its_trajectory_from_its_beginning_on_and_zeros_past_the_end(name: str) -> None:
    w = walks(name)
    z, states = w.scaling.encode(w.data)[:, : w.layout.states + w.layout.columns], w.layout.states
    for begin in range(int(w.lengths.max())):
        (units,) = np.nonzero(w.lengths > begin)
        content, flags, _ = w.parts(w.beginning(units, begin))
        for unit, found, (opening, *present) in zip(units, content, flags, strict=True):
            start, end = w.data.require_trajectories()[unit] + begin, w.data.require_trajectories()[unit + 1]
            own = z[start : min(end, start + HORIZON)]
            expected = np.zeros((HORIZON, w.layout.columns), np.float32)
            expected[: len(own)] = own[:, states:]
            assert np.array_equal(found, np.concatenate([own[0, :states], expected.ravel()]))
            assert present == [1.0] * len(own) + [0.0] * (HORIZON - len(own))
            assert opening == (begin == 0)


@EVERY_SCHEMA
def test_a_condition_tells_the_row_before_and_the_state_that_it_led_to_and_nothing_of_them_at_an_opening(name: str) -> None:
    w = walks(name)
    z, states, width = w.scaling.encode(w.data), w.layout.states, w.layout.states + w.layout.columns
    (units,) = np.nonzero(w.lengths > 3)
    at = w.data.require_trajectories()[:-1][units] + 3
    _, _, known = w.parts(w.beginning(units, 3))
    assert np.array_equal(known[:, :width], z[at - 1, :width])
    np.testing.assert_allclose(known[:, width : width + states], w.scaling.encode_states(w.data.observations[at]), atol=1e-5)
    assert not w.parts(w.beginning(units, 0))[2][:, : width + states].any()


@EVERY_SCHEMA
def test_openings_differ_in_what_is_left_alone(name: str) -> None:
    w = walks(name)
    _, units = np.unique(w.lengths, return_index=True)
    _, _, known = w.parts(w.beginning(units, 0))
    *others, left, moving = np.split(known, np.cumsum(w.layout.condition_parts)[:-1], axis=1)
    gaps = np.abs(left[:, None] - left[None]).max(2)
    assert gaps[~np.eye(len(left), dtype=bool)].min() > 1e-3
    assert np.ptp(np.column_stack([*others, moving]), axis=0).max() == 0


def test_a_condition_tells_how_the_trajectory_ends_wherever_the_window_is() -> None:
    w = walks("terminals")
    last = w.data.require_trajectories()[1:] - 1
    assert 0 < w.data.terminals[last].mean() < 1
    other = replace(w.data, terminals=w.data.terminals.copy())
    other.terminals[last] ^= True
    units, kind = np.arange(40), sum(w.layout.condition_parts[:3]) - 1
    told, told_otherwise = (replace(w, data=data).anywhere(units, 5) for data in (w.data, other))
    (differ,) = np.nonzero((told != told_otherwise).any((0, 1)))
    assert differ == [w.layout.content + w.layout.flags + kind]
    assert (told[:, :, differ] == w.data.terminals[last][:, None, None]).all()


@EVERY_SCHEMA
def test_the_windows_of_a_trajectory_are_those_that_it_has_alone(name: str) -> None:
    """So none crosses into another, and what a unit is asked for depends on no other."""
    w = walks(name)
    among = w.anywhere(np.arange(40), 20)
    for unit in range(40):
        alone = replace(w, data=w.data.joined(np.array([unit])))
        assert np.array_equal(alone.windows([0], np.random.default_rng(0).random((40, 20))[[unit]])[0], among[unit])


def test_a_unit_has_as_many_windows_as_any_other_however_long_it_is_and_however_often_it_is_asked_for() -> None:
    w, places = walks("maze"), np.random.default_rng(0).random((3, 5))
    shortest, longest = int(w.lengths.argmin()), int(w.lengths.argmax())
    windows = w.windows([shortest, longest, longest], np.concatenate([places[:1], places[1:2], places[1:2]]))
    assert windows.shape[:2] == (3, 5)
    assert np.array_equal(windows[1], windows[2])


@pytest.mark.parametrize("horizon", [1, 4, 40])
def test_a_window_opens_its_trajectory_in_h_of_l_plus_h_minus_one_ways_and_begins_anywhere_else_in_one(horizon: int) -> None:
    w = walks("maze", horizon)
    for unit, length in enumerate(w.lengths):
        ways = length + horizon - 1
        content, flags, _ = w.parts(w.windows([unit], (np.arange(ways)[None] + 0.5) / ways)[0])
        assert flags[:, 0].sum() == horizon
        assert len(np.unique(content, axis=0)) == length
    edges = w.windows([unit, unit], np.array([[0.0], [np.nextafter(1, 0)]]))[:, 0]
    assert w.parts(edges)[1][:, :2].tolist() == [[1, 1], [length == 1, 1]]


# --- and back -------------------------------------------------------------------------------------------------------------------------------------


def silent(done: int, total: int) -> None:
    """Nobody watches."""


def stitched(w: Walks, draw: Callable[[Float, Float], Float], lengths: Index, terminal: Bool | None = None) -> Transitions:
    ends = np.zeros(len(lengths), bool) if terminal is None else terminal
    return stitch(w.scaling, w.layout, lengths, ends, draw, silent)


class Told:
    """Draws what the walks really hold. `asked` pairs the flags and conditions of stitching with those of the windows cut there."""

    def __init__(self, w: Walks) -> None:
        self.w, self.begin = w, 0
        self.asked: list[tuple[Float, Float]] = []

    def __call__(self, flags: Float, condition: Float) -> Float:
        (alive,) = np.nonzero(self.w.lengths > self.begin)
        windows = self.w.beginning(alive, self.begin)
        self.asked.append((np.column_stack([flags, condition]), windows[:, self.w.layout.content :]))
        self.begin += self.w.layout.horizon
        return self.w.parts(windows)[0]


@EVERY_SCHEMA
@pytest.mark.parametrize("horizon", [1, HORIZON, 64])
def test_the_true_contents_are_stitched_to_the_true_trajectories_under_the_conditions_of_training(name: str, horizon: int) -> None:
    w = walks(name, horizon)
    told, last = Told(w), w.data.require_trajectories()[1:] - 1
    rebuilt = stitched(w, told, w.lengths, w.data.terminals[last])
    np.testing.assert_allclose(rebuilt.table(), w.data.table(), atol=2e-5)
    assert np.array_equal(rebuilt.require_trajectories(), w.data.require_trajectories())
    assert np.array_equal(rebuilt.terminals, w.data.terminals)
    assert np.array_equal(rebuilt.timeouts, w.data.timeouts)
    assert len(told.asked) == -(-w.lengths.max() // horizon)
    for asked, given in told.asked:
        np.testing.assert_allclose(asked, given, atol=1e-3)


def noise(w: Walks, size: float) -> Callable[[Float, Float], Float]:
    """A model that draws anything."""
    rng = np.random.default_rng(0)
    return lambda flags, condition: (size * rng.standard_normal((len(flags), w.layout.content))).astype(np.float32)


@EVERY_SCHEMA
@pytest.mark.parametrize("size", [1.0, 1e3, 1e30])
def test_whatever_a_model_draws_becomes_trajectories_inside_the_schema_whose_states_join(name: str, size: float) -> None:
    w = walks(name)
    longest = w.data.schema.max_trajectory_length
    lengths = np.random.default_rng(1).integers(1, longest + 1, 50)
    terminal = (np.arange(50) % 2 == 0) & (w.data.schema.terminal.high == 1)
    rows = stitched(w, noise(w, size), lengths, terminal)
    offsets = rows.require_trajectories()
    inside = np.setdiff1d(np.arange(len(rows)), offsets[1:] - 1)
    assert not faults(rows)
    assert np.array_equal(np.diff(offsets), lengths)
    assert rows.next_observations[inside].tobytes() == rows.observations[inside + 1].tobytes()
    assert np.array_equal(np.flatnonzero(rows.terminals), offsets[1:][terminal] - 1)
    assert np.array_equal(np.flatnonzero(rows.timeouts), offsets[1:][~terminal] - 1)


def columns_that_vary(schema: Schema, rows: Transitions) -> list[str]:
    return [column.name for column, values in zip(schema.columns, rows.table().T, strict=True) if np.ptp(values) > 0]


@EVERY_SCHEMA
def test_every_column_of_a_release_is_drawn(name: str) -> None:
    w = walks(name)
    rows = stitched(w, noise(w, 1.0), np.full(20, 7))
    unmoved = ("constant", "constant'", "terminal")
    assert columns_that_vary(w.data.schema, rows) == [column.name for column in w.data.schema.columns if column.name not in unmoved]


def test_no_trajectory_is_stitched_of_nothing() -> None:
    w = walks("toy")
    rows = stitched(w, noise(w, 1.0), np.empty(0, np.int64))
    assert (len(rows), rows.require_trajectories().tolist()) == (0, [0])


def test_what_is_drawn_past_an_end_or_before_a_state_that_was_reached_is_not_released() -> None:
    w = walks("maze")
    layout, lengths = w.layout, np.array([1, 4, 6, 9])

    def with_rubbish(draw: Callable[[Float, Float], Float], rubbish: float) -> Callable[[Float, Float], NDArray]:
        def spoiled(flags: Float, condition: Float) -> Float:
            return np.where(layout.is_drawn(torch.from_numpy(flags)).numpy(), draw(flags, condition), np.float32(rubbish))

        return spoiled

    one, other = (stitched(w, with_rubbish(noise(w, 1.0), rubbish), lengths) for rubbish in (0.0, 7.0))
    assert one.table().tobytes() == other.table().tobytes()


def test_progress_is_reported_in_rows_of_the_longest_trajectory() -> None:
    w, reported = walks("toy"), []
    lengths = np.array([3, 10])
    stitch(w.scaling, w.layout, lengths, lengths < 0, noise(w, 1.0), lambda *done: reported.append(done))
    assert reported == [(4, 10), (8, 10), (10, 10)]
