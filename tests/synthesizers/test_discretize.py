"""Cells and bins: no row moves an edge, what goes in comes out in the same bin, and bins follow mass, not noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from marginal_support import EVERY_SCHEMA, QUICK, SCHEMAS, STEPS, binned, peak, random_rows
from numpy.typing import NDArray

from bench.core.data import Column, Float, Index, Schema, Transitions, concatenate
from bench.core.errors import InputError
from bench.core.registry import resolve
from synthesizers._parts.discretize import (
    Discretization,
    Grid,
    affordable_cells,
    discretize,
    histograms,
    modelled_column,
    modelled_columns,
    refine,
    split_by,
    varying_grids,
)


def ends(starts: Index, cells: int) -> Index:
    return np.append(starts[1:], cells)


def decoded(grid: Grid, cells: NDArray, seed: int = 0) -> Float:
    """Values of cells: those of a reward column that stands alone and has a bin for each cell."""
    terminal = Column("terminal", 0, 0, levels=(0.0,))
    schema = Schema((), (), grid.column, terminal, (), nominal_rows=1, nominal_trajectories=1, max_trajectory_length=1)
    columns = Discretization(schema, (grid,), (np.arange(grid.size),), (np.ones(grid.size),))
    return columns.decode(cells[None].astype(np.uint16), np.random.default_rng(seed)).rewards


# --- cells --------------------------------------------------------------------------------------------------------------------------------------


@st.composite
def ranges(draw: st.DrawFn) -> Grid:
    """Grids whose cells are wider than four steps of float32."""
    low, width, steps = draw(st.floats(-1e3, 1e3)), draw(st.floats(1e-3, 1e4)), draw(st.integers(1, 4096))
    assume(width / steps > 4 * np.spacing(np.float32(max(abs(low), abs(low + width)))))
    return Grid(Column("x", low, low + width), steps)


TINY_RANGE, FAR_RANGE = Grid(Column("x", -0.0525, 0.0525), STEPS), Grid(Column("x", 1000, 1001), STEPS)


@given(ranges())
@example(TINY_RANGE)
@example(FAR_RANGE)
@QUICK
def test_cells_rise_with_the_value_and_hold_it(grid: Grid) -> None:
    low, width = grid.column.low, grid.column.high - grid.column.low
    values = np.linspace(low - width / 8, low + 9 * width / 8, 2001).astype(np.float32)
    cells = grid.encode(values)
    assert cells[0] == 0
    assert cells[-1] == grid.size - 1 == grid.steps + 1
    assert (np.diff(cells) >= 0).all()
    inside = (cells > 0) & (cells <= grid.steps)
    place = (values[inside].astype(float) - low) / width * grid.steps
    assert np.abs(place - (cells[inside] - 0.5)).max(initial=0) < 0.65


@given(ranges(), st.integers(0, 2**32))
@example(TINY_RANGE, 0)
@example(FAR_RANGE, 0)
@QUICK
def test_a_decoded_cell_is_encoded_again_within_one_cell(grid: Grid, seed: int) -> None:
    cells = np.arange(grid.size)
    values = decoded(grid, cells, seed)
    assert np.abs(grid.encode(values) - cells).max() <= 1
    assert values.min() >= np.float32(grid.column.low)
    assert values.max() <= np.float32(grid.column.high)


@given(ranges())
@example(TINY_RANGE)
@example(FAR_RANGE)
@QUICK
def test_a_bound_has_a_cell_of_its_own_and_comes_back_exactly(grid: Grid) -> None:
    low, high = np.float32(grid.column.low), np.float32(grid.column.high)
    width = high - low
    at_bounds = np.array([low, low - width, high, high + width], np.float32)
    assert grid.encode(at_bounds).tolist() == [0, 0, grid.steps + 1, grid.steps + 1]
    assert grid.encode(np.array([np.nextafter(low, high), np.nextafter(high, low)])).tolist() == [1, grid.steps]
    assert decoded(grid, grid.encode(at_bounds)).tolist() == [low, low, high, high]


def test_a_value_goes_to_the_nearest_level_in_whatever_order_they_are_declared() -> None:
    levels = np.array([4, -1, 0.1, 2.5, 0.1], np.float32)
    grid = Grid(Column("reward", -1.0, 4.0, levels=tuple(levels.tolist())), STEPS)
    values = np.random.default_rng(0).uniform(-3, 6, 1000).astype(np.float32)
    nearest = levels[np.abs(values[:, None] - levels).argmin(axis=1)]
    assert grid.size == 4
    assert (decoded(grid, grid.encode(values)) == nearest).all()
    assert (decoded(grid, grid.encode(levels)) == levels).all()


def test_an_affordable_cell_of_average_mass_holds_twice_its_noise() -> None:
    """Fewer cells for more noise, between 16 and the most; an infinite budget affords all."""
    for scale in (1.0, 7.0, 30.0):
        cells = affordable_cells(10_000, scale, 20_000)
        assert 20_000 / cells >= 2 * scale > 20_000 / (cells + 1)
    assert affordable_cells(1024, 0.0, 20_000) == affordable_cells(1024, 0.1, 20_000) == 1024
    assert affordable_cells(1024, 1e9, 20_000) == 16
    assert affordable_cells(8, 1e9, 20_000) == 8


# --- round trip ---------------------------------------------------------------------------------------------------------------------------------


def cells_outside_the_bin(columns: Discretization, codes: NDArray, data: Transitions) -> NDArray[np.int64]:
    """For each value, how many cells lie between it and the bin that the codes name, (d, n)."""
    varying = [i for i, column in enumerate(modelled_columns(data.schema)) if Grid(column, 1).size > 1]
    distances = []
    for i, bins, grid, starts in zip(varying, codes, columns.grids, columns.starts, strict=True):
        cells = grid.encode(modelled_column(data, i))
        distances.append(np.maximum(np.maximum(starts[bins] - cells, cells - ends(starts, grid.size)[bins] + 1), 0))
    return np.array(distances)


def clipped_differences(back: Transitions) -> NDArray[np.bool_]:
    """Where s' is at a bound, so that s' - s need not be what was drawn: (d, n), False for all other columns."""
    clipped = []
    for i, column in enumerate(modelled_columns(back.schema)):
        if Grid(column, 1).size > 1:
            state = i - len(back.schema.observations) - len(back.schema.actions) - 1
            if 0 <= state < len(back.schema.observations):
                bounds, moved = back.schema.observations[state], back.next_observations[:, state]
                clipped.append((moved <= np.float32(bounds.low)) | (moved >= np.float32(bounds.high)))
            else:
                clipped.append(np.zeros(len(back), bool))
    return np.array(clipped)


@EVERY_SCHEMA
@pytest.mark.parametrize("bins", [1, 7, 300])
def test_a_decoded_row_lies_in_the_bins_it_was_drawn_from(schema: Schema, bins: int) -> None:
    """Up to float32: a difference is rounded with s', so a few fall in the next cell."""
    rng = np.random.default_rng(bins)
    data = random_rows(schema, 1000, rng)
    columns = binned(data, bins)
    codes = columns.encode(data)
    back = columns.decode(codes, rng)
    clipped = clipped_differences(back)
    outside = np.where(clipped, 0, cells_outside_the_bin(columns, codes, back))
    assert not cells_outside_the_bin(columns, codes, data).any()
    assert clipped.mean() < 0.2
    assert outside.max() <= 1
    assert (outside > 0).mean() < 2e-3


@EVERY_SCHEMA
def test_decoded_rows_are_inside_the_schema(schema: Schema) -> None:
    """Whatever the codes are: here each is drawn on its own."""
    rng = np.random.default_rng(0)
    columns = binned(random_rows(schema, 1000, rng), 32)
    codes = np.array([rng.integers(size, size=1000, dtype=np.uint8) for size in columns.sizes])
    for column, values in zip(schema.columns, columns.decode(codes, rng).table().T, strict=True):
        assert values.min() >= np.float32(column.low)
        assert values.max() <= np.float32(column.high)
        if column.levels is not None:
            assert np.isin(values, np.array(column.levels, np.float32)).all()


@EVERY_SCHEMA
def test_the_state_restores_the_same_decoding(schema: Schema) -> None:
    rng = np.random.default_rng(0)
    columns = binned(random_rows(schema, 500, rng), 20)
    again = Discretization.restore(schema, columns.state())
    codes = np.array([rng.integers(size, size=300, dtype=np.uint8) for size in columns.sizes])
    before, after = (each.decode(codes, np.random.default_rng(1)).table() for each in (columns, again))
    assert before.tobytes() == after.tobytes()


# --- known constants ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "varying", "constant"), [("toy", 7, 1), ("maze2d-medium", 11, 1), ("kitchen-partial", 71, 60)])
def test_known_constants_have_no_grid_and_come_back_exactly(name: str, varying: int, constant: int) -> None:
    schema, rng = SCHEMAS[name], np.random.default_rng(0)
    data = random_rows(schema, 200, rng)
    columns = binned(data, 8)
    back = columns.decode(columns.encode(data), rng)
    known = [i for i, column in enumerate(schema.columns) if column.low == column.high]
    assert len(varying_grids(schema, STEPS)) == varying
    assert len(histograms(data, STEPS)) == sum(grid.size for grid in columns.grids)
    assert len(known) == constant
    assert (back.table()[:, known] == np.array([schema.columns[i].low for i in known], np.float32)).all()


def test_a_column_with_one_level_or_without_width_is_a_known_constant() -> None:
    schema = replace(SCHEMAS["toy"], reward=Column("reward", -1.0, 1.0, levels=(0.5,)), actions=(Column("ax", 0.3, 0.3), Column("ay", -1.0, 1.0)))
    data = random_rows(schema, 50, np.random.default_rng(0))
    columns = binned(data, 4)
    back = columns.decode(columns.encode(data), np.random.default_rng(0))
    assert len(columns.grids) == len(varying_grids(SCHEMAS["toy"], STEPS)) - 2
    assert set(back.rewards) == {np.float32(0.5)}
    assert set(back.actions[:, 0]) == {np.float32(0.3)}


# --- neighbours ---------------------------------------------------------------------------------------------------------------------------------


@EVERY_SCHEMA
@pytest.mark.parametrize("stretch", [1.0, 1e4])
def test_one_row_moves_one_count_of_each_histogram_by_one(schema: Schema, stretch: float) -> None:
    """Wherever the row lies, even far outside the schema: an L2 sensitivity of sqrt(d)."""
    rng = np.random.default_rng(0)
    data = random_rows(schema, 300, rng)
    row = Transitions.from_table(schema, random_rows(schema, 1, rng).table() * np.float32(stretch) + np.float32(stretch - 1))
    grids = varying_grids(schema, STEPS)
    moved = histograms(concatenate([data, row]), STEPS) - histograms(data, STEPS)
    for change in split_by([grid.size for grid in grids], moved):
        assert sorted(change[change != 0]) == [1]
    assert np.linalg.norm(moved) == pytest.approx(len(grids) ** 0.5)


@EVERY_SCHEMA
def test_every_histogram_counts_every_row(schema: Schema) -> None:
    sizes = [grid.size for grid in varying_grids(schema, STEPS)]
    for n in (0, 1, 500):
        counts = histograms(random_rows(schema, n, np.random.default_rng(0)), STEPS)
        assert [part.sum() for part in split_by(sizes, counts)] == [n] * len(sizes)


# --- bins ---------------------------------------------------------------------------------------------------------------------------------------


def blur(counts: NDArray[np.float64], starts: Index) -> float:
    """sum(mass x width) of bins: what `refine` lowers."""
    return float(np.add.reduceat(counts, starts) @ np.diff(starts, append=len(counts)))


@given(arrays(np.float64, st.integers(1, 80), elements=st.floats(-1e3, 1e6)), st.floats(0, 1e3), st.integers(1, 40))
@QUICK
def test_bins_are_runs_of_cells_that_begin_at_the_first(counts: NDArray[np.float64], scale: float, bins: int) -> None:
    untouched = counts.copy()
    starts = refine(counts, scale, bins)
    assert starts[0] == 0
    assert starts[-1] < len(counts)
    assert (np.diff(starts) > 0).all()
    assert len(starts) <= bins
    assert (refine(untouched, scale, bins) == starts).all()
    assert (counts == untouched).all()


def test_bins_do_not_depend_on_the_unit_of_the_counts_and_more_bins_only_split() -> None:
    rng = np.random.default_rng(0)
    noisy = peak(500, 1e5, 30, 200) + rng.normal(0, 20, 500)
    assert (refine(noisy * 8, 160, 32) == refine(noisy, 20, 32)).all()
    for bins in (1, 2, 5, 16, 31):
        assert set(refine(noisy, 20, bins)) < set(refine(noisy, 20, bins + 1))


@pytest.mark.parametrize("scale", [0.0, 10.0, 100.0])
def test_an_atom_gets_a_bin_to_itself(scale: float) -> None:
    """A fifth of the mass in one of 1000 cells, the rest even: its bin holds hardly anything else, and with twice the bins it is one cell wide."""
    rng = np.random.default_rng(0)
    for place in rng.integers(1000, size=15):
        counts = np.full(1000, 80.0)
        counts[place] += 20_000
        noisy = counts + rng.normal(0, scale, 1000)
        few, many = refine(noisy, scale, 32), refine(noisy, scale, 64)
        first = few[np.searchsorted(few, place, side="right") - 1]
        assert counts[place] > 0.95 * counts[first : min(few[few > place], default=1000)].sum()
        assert {place, min(place + 1, 999)} <= set(many)


@pytest.mark.parametrize("scale", [0.0, 10.0, 100.0])
def test_clipped_values_at_both_bounds_get_their_own_bins(scale: float) -> None:
    counts = np.full(1026, 80.0)
    counts[[0, -1]] = 20_000
    starts = refine(counts + np.random.default_rng(0).normal(0, scale, 1026), scale, 32)
    assert starts[1] == 1
    assert starts[-1] == 1025


@pytest.mark.parametrize(("scale", "most"), [(1.0, 3), (30.0, 4), (300.0, 8)])
def test_bins_are_not_spent_on_noise_where_nothing_is(scale: float, most: int) -> None:
    """The mass fills a tenth of the cells; the bins that begin in the other nine tenths are few."""
    rng = np.random.default_rng(0)
    for first in rng.integers(900, size=15):
        counts = np.zeros(1000)
        counts[first : first + 100] = 2000
        starts = refine(counts + rng.normal(0, scale, 1000), scale, 32)
        inside = (starts >= first) & (starts < first + 100)
        assert (~inside).sum() <= most
        assert inside.sum() >= 32 - most


@pytest.mark.parametrize("scale", [0.1, 30.0])
def test_pure_noise_gives_hardly_any_bins(scale: float) -> None:
    rng = np.random.default_rng(0)
    assert max(len(refine(rng.normal(0, scale, 1024), scale, 32)) for _ in range(30)) <= 2


@pytest.mark.parametrize(("spread", "scale"), [(5.0, 0.0), (5.0, 10.0), (20.0, 10.0), (60.0, 10.0)])
def test_bins_follow_a_peak_closer_than_equal_ones(spread: float, scale: float) -> None:
    """Against the true counts, though the bins saw noisy ones."""
    rng = np.random.default_rng(0)
    for centre in rng.uniform(100, 900, 5):
        counts = peak(1024, 1e5, spread, centre)
        starts = refine(counts + rng.normal(0, scale, 1024), scale, 32)
        assert blur(counts, starts) < 0.5 * blur(counts, np.arange(0, 1024, 32))


def test_a_level_keeps_its_own_bin_however_rare_it_is() -> None:
    schema = SCHEMAS["kitchen-partial"]
    sizes = [grid.size for grid in varying_grids(schema, 64)]
    columns = discretize(schema, 64, np.random.default_rng(0).normal(0, 50, sum(sizes)), 50.0, 8)
    for grid, starts in zip(columns.grids, columns.starts, strict=True):
        assert (grid.levels is None) or starts.tolist() == list(range(grid.size))
    assert [grid.size for grid in columns.grids if grid.levels is not None] == [5, 2]


# --- hyper-parameters -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["independent[cells=0]", "pgm[bins=0]", "pgm[rounds=-1.0]", "privsyn[proposals=-1]", "privsyn[threshold=nan]"])
def test_a_hyper_parameter_out_of_range_is_named_with_its_value(variant: str) -> None:
    field, value = variant.removesuffix("]").split("[")[1].split("=")
    with pytest.raises(InputError, match=f"{field}.*{value}.*or more"):
        resolve("synthesizers", variant)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_counted_like_any_other(value: float) -> None:
    """A crash would tell that it is there."""
    data = random_rows(SCHEMAS["maze2d-medium"], 1000, np.random.default_rng(0))
    data.observations[0], data.rewards[0] = value, value
    counts = histograms(data, 50)
    assert counts.min() >= 0
    assert counts.sum() == len(data) * len(varying_grids(data.schema, 50))
