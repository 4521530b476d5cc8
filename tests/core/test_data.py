"""Datasets keep their rows: every way of choosing, joining and viewing is checked against plain lists of row numbers."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.data import ROW_ARRAYS, Column, Schema, Transitions, Unit, View, concatenate

SCHEMA = Schema(
    observations=(Column("x", 0.0, 1e6), Column("y", -1.0, 1.0)),
    actions=(Column("push", -1.0, 1.0),),
    reward=Column("reward", 0.0, 1e6),
    terminal=Column("terminal", 0.0, 1.0, levels=(0.0, 1.0)),
    differences=(Column("dx", -1.0, 1.0), Column("dy", -1.0, 1.0)),
    nominal_rows=1000,
    nominal_trajectories=50,
    max_trajectory_length=9,
)
lengths = st.lists(st.integers(1, 9), min_size=1, max_size=8)
quick = settings(derandomize=True, max_examples=50, deadline=None)


def numbered(sizes: list[int] | None, start: int = 0, rows: int = 0) -> Transitions:
    """Rows whose reward is their number, in trajectories of the given sizes (None: `rows` rows that stand alone)."""
    n = rows if sizes is None else sum(sizes)
    table = np.zeros((n, len(SCHEMA.columns)), np.float32)
    table[:, 3] = start + np.arange(n)
    table[:, 0] = table[:, 3] / 2
    ends = None if sizes is None else np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    timeouts = np.zeros(n, bool)
    if ends is not None:
        timeouts[ends[1:] - 1] = True
    return Transitions.from_table(SCHEMA, table, timeouts, ends)


def numbers(data: Transitions) -> list[int]:
    return data.rewards.astype(int).tolist()


def pieces(data: Transitions) -> list[list[int]]:
    """Row numbers, trajectory by trajectory."""
    return [part.astype(int).tolist() for part in np.split(data.rewards, data.require_trajectories()[1:-1])]


# --- declarations ---------------------------------------------------------------------------------------------------------------------------------


def test_columns_are_named_in_table_order() -> None:
    assert [column.name for column in SCHEMA.columns] == ["x", "y", "push", "reward", "x'", "y'", "terminal"]


def test_columns_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'x': low 1\.0 is above high 0\.0"):
        Column("x", 1.0, 0.0)
    with pytest.raises(ValueError, match="'x': levels"):
        Column("x", 0.0, 1.0, levels=(0.0, 2.0))
    with pytest.raises(ValueError, match="1 difference columns for 2 observations"):
        replace(SCHEMA, differences=SCHEMA.differences[:1])
    for size in ("nominal_rows", "nominal_trajectories", "max_trajectory_length"):
        with pytest.raises(ValueError, match=f"{size} is 0; declare at least 1"):
            replace(SCHEMA, **{size: 0})


def test_nominal_sizes_scale_together() -> None:
    larger = SCHEMA.with_rows(100_000)
    assert (larger.nominal_units(Unit.TRANSITION), larger.nominal_units(Unit.TRAJECTORY)) == (100_000, 5_000)
    assert SCHEMA.with_rows(1).nominal_trajectories == 1


@pytest.mark.parametrize("name", ROW_ARRAYS)
def test_ragged_or_misshapen_arrays_are_refused(name: str) -> None:
    data = numbered([3, 2])
    array = getattr(data, name)
    for spoiled in (array[:-1], array[..., None], array.astype(np.float64)):
        with pytest.raises(ValueError, match="where the schema asks for"):
            replace(data, **{name: spoiled})


@pytest.mark.parametrize("offsets", [[], [0], [0, 4], [1, 5], [0, 3, 3, 5], [0, 4, 2, 5], [0, 6]])
def test_offsets_that_do_not_rise_from_the_first_row_to_the_last_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="trajectories"):
        replace(numbered([3, 2]), trajectories=np.array(offsets, np.int64))


def test_no_rows_are_a_dataset_too() -> None:
    empty = Transitions.empty(SCHEMA)
    assert len(empty) == empty.units(Unit.TRANSITION) == 0
    assert empty.table().shape == (0, len(SCHEMA.columns))
    assert replace(empty, trajectories=np.array([0])).units(Unit.TRAJECTORY) == 0


def test_a_synthesizer_is_handed_rows_inside_the_declared_box_and_neighbours_stay_neighbours() -> None:
    """The largest floats, infinities and what is no number: a method's arithmetic would overflow on them, and a warning tells of its row."""
    data = numbered([3, 4])
    assert data.inside().table().tobytes() == data.table().tobytes()
    wild = replace(data, observations=data.observations.copy(), actions=data.actions.copy(), rewards=data.rewards.copy())
    wild.observations[0], wild.actions[1], wild.rewards[2] = (np.inf, -np.inf), np.nan, -3e38
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = wild.inside()
    assert kept.observations[0].tolist() == [1e6, -1.0]
    assert (kept.actions[1].item(), kept.rewards[2]) == (-1.0, 0.0)
    assert kept.rows(slice(3, None)).table().tobytes() == data.rows(slice(3, None)).table().tobytes()
    assert wild.without([0]).inside().table().tobytes() == kept.without([0]).table().tobytes()
    assert np.array_equal(kept.require_trajectories(), data.require_trajectories())


def test_a_trajectory_method_is_told_what_it_lacks() -> None:
    with pytest.raises(ValueError, match="needs a dataset with trajectory offsets"):
        numbered(None, rows=3).require_trajectories()


# --- choosing and joining -------------------------------------------------------------------------------------------------------------------------


@given(lengths)
@quick
def test_a_table_and_back(sizes: list[int]) -> None:
    data = numbered(sizes)
    back = Transitions.from_table(SCHEMA, data.table(), data.timeouts, data.trajectories)
    assert all(np.array_equal(getattr(back, name), getattr(data, name)) for name in ROW_ARRAYS)


@given(lengths, st.data())
@quick
def test_dropping_rows_keeps_the_others_in_their_trajectories(sizes: list[int], draw: Any) -> None:
    data = numbered(sizes)
    dropped = draw.draw(st.sets(st.integers(0, len(data) - 1)))
    left = [[row for row in piece if row not in dropped] for piece in pieces(data)]
    kept = data.without(sorted(dropped))
    assert numbers(kept) == list(chain(*left))
    assert kept.units(Unit.TRAJECTORY) == len([piece for piece in left if piece])
    if len(kept):
        assert pieces(kept) == [piece for piece in left if piece]
    assert numbered(None, rows=len(data)).without(sorted(dropped)).trajectories is None


@given(lengths, st.data())
@quick
def test_joined_trajectories_stand_one_after_another(sizes: list[int], draw: Any) -> None:
    data = numbered(sizes)
    ids = draw.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=6))
    joined = data.joined(np.array(ids, np.int64))
    assert numbers(joined) == list(chain(*(pieces(data)[i] for i in ids)))
    assert joined.units(Unit.TRAJECTORY) == len(ids)
    assert np.flatnonzero(joined.timeouts).tolist() == (np.cumsum([sizes[i] for i in ids], dtype=int) - 1).tolist()


@given(lengths, st.integers(1, 40))
@quick
def test_a_limit_cuts_the_last_trajectory_and_marks_a_timeout(sizes: list[int], limit: int) -> None:
    data = numbered(sizes)
    cut = data.joined(np.arange(len(sizes)), limit=limit)
    assert numbers(cut) == list(range(min(limit, len(data))))
    assert cut.timeouts[-1]
    assert all(len(piece) <= size for piece, size in zip(pieces(cut), sizes, strict=False))
    assert data.timeouts.sum() == len(sizes), "the original is as it was"


def test_a_cut_at_a_terminal_is_no_timeout() -> None:
    data = numbered([3])
    data.terminals[1] = True
    cut = data.joined(np.array([0]), limit=2)
    assert not cut.timeouts[-1]


@given(st.lists(lengths, min_size=1, max_size=4))
@quick
def test_concatenation_keeps_rows_and_trajectories(parts: list[list[int]]) -> None:
    starts = np.cumsum([0, *(sum(sizes) for sizes in parts)]).tolist()
    whole = concatenate([numbered(sizes, start) for sizes, start in zip(parts, starts, strict=False)])
    assert numbers(whole) == list(range(starts[-1]))
    assert np.diff(whole.require_trajectories()).tolist() == list(chain(*parts))
    assert concatenate([whole, numbered(None, rows=2)]).trajectories is None


# --- views ----------------------------------------------------------------------------------------------------------------------------------------


@given(lengths, st.data())
@quick
def test_a_view_drops_rows_and_adds_canaries_and_leaves_the_nominal_size(sizes: list[int], draw: Any) -> None:
    data = numbered(sizes)
    drop = tuple(sorted(draw.draw(st.sets(st.integers(0, len(data) - 1)))))
    canaries = tuple((0.0, 0.0, 0.0, float(1000 + i), 0.0, 0.0, 1.0) for i in range(draw.draw(st.integers(0, 3))))
    seen = View("toy", "train", len(data), drop=drop, canaries=canaries).apply(data)
    assert numbers(seen) == [row for row in range(len(data)) if row not in drop] + [1000 + i for i in range(len(canaries))]
    assert seen.schema == data.schema
    assert seen.units(Unit.TRAJECTORY) == data.without(drop).units(Unit.TRAJECTORY) + len(canaries)
    assert seen.terminals[len(seen) - len(canaries) :].all()
    assert seen.timeouts[len(seen) - len(canaries) :].all(), "each is a trajectory of its own"


def test_a_plain_view_is_the_part_itself() -> None:
    data = numbered([3, 4])
    assert View("toy", "train", 7).apply(data) is data


def test_views_of_unknown_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="part: 'test' is none of train, holdout, reference"):
        View("toy", "test", 7)
