"""Cells and bins: no row moves an edge, what goes in comes out in the same bin, and bins follow mass, not noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from marginal_support import SCHEMAS, random_rows
from numpy.typing import NDArray

from bench.core.data import Column, Float, Index, Schema, Transitions, concatenate
from synthesizers._parts.discretize import (
    Discretization,
    Grid,
    affordable_cells,
    allot,
    discretize,
    histograms,
    modelled_column,
    modelled_columns,
    noisy_total,
    project_onto_simplex,
    refine,
    split_by,
    varying_grids,
)

STEPS = 1024
QUICK = settings(derandomize=True, max_examples=60, deadline=None)
EVERY_SCHEMA = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)


def binned(data: Transitions, bins: int, steps: int = STEPS) -> Discretization:
    """The discretisation that an infinite budget gives."""
    return discretize(data.schema, steps, histograms(data, steps).astype(float), 0.0, bins)


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


def peak(cells: int, rows: float, spread: float, centre: float) -> NDArray[np.float64]:
    """A histogram with the shape of a bell."""
    bell = np.exp(-(((np.arange(cells) - centre) / spread) ** 2) / 2)
    return rows * bell / bell.sum()


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


# --- decoding -----------------------------------------------------------------------------------------------------------------------------------


def rows_with_atoms(n: int, rng: np.random.Generator) -> Transitions:
    """maze2d with terminals in 3 % of the rows, and a reward that is 0 in 60 % and 1 in 10 %."""
    schema = replace(SCHEMAS["maze2d-medium"], terminal=Column("terminal", 0, 1, levels=(0.0, 1.0)))
    rewards = np.where(rng.random(n) < 0.7, rng.random(n) < 1 / 7, rng.random(n)).astype(np.float32)
    return replace(random_rows(schema, n, rng), rewards=rewards, terminals=rng.random(n) < 0.03)


@pytest.mark.parametrize("bins", [1, 2, 32])
def test_terminals_and_reward_atoms_keep_their_rates(bins: int) -> None:
    n, rng = 20_000, np.random.default_rng(bins)
    data = rows_with_atoms(n, rng)
    columns = binned(data, bins)
    back = columns.decode(columns.encode(data), rng)
    for real, synthetic in ((data.terminals, back.terminals), (data.rewards == 0, back.rewards == 0), (data.rewards == 1, back.rewards == 1)):
        rate = real.mean()
        assert rate > 0.02
        assert abs(synthetic.mean() - rate) < 4 * (rate * (1 - rate) / n) ** 0.5


def test_continuous_columns_come_back_with_many_more_values_than_bins() -> None:
    rng = np.random.default_rng(0)
    data = random_rows(SCHEMAS["maze2d-medium"], 5000, rng)
    columns = binned(data, 16)
    back = columns.decode(columns.encode(data), rng)
    assert max(columns.sizes) == 16
    assert min(len(np.unique(values)) for values in back.table()[:, :-1].T) > 100 * 16


def test_a_bin_is_decoded_by_the_histogram_of_its_cells() -> None:
    """Of each row's bin: cells in proportion to their count, to the row. The columns of s, a, r, which come back as they were drawn."""
    schema, rng, n, bins = SCHEMAS["toy"], np.random.default_rng(0), 20_000, 4
    counts = rng.exponential(100, (7, 32)) * (rng.random((7, 32)) < 0.5)
    counts *= 1000 / counts.sum(axis=1, keepdims=True)
    columns = discretize(schema, 30, counts.ravel(), 0.0, bins)
    codes = rng.integers(bins, size=(7, n), dtype=np.uint8)
    back = columns.decode(codes, rng)
    for i, starts in enumerate(columns.starts[:5]):
        width = np.diff(starts, append=32)
        rows, mass = np.repeat(np.bincount(codes[i], minlength=bins), width), np.repeat(np.add.reduceat(counts[i], starts), width)
        seen = np.bincount(columns.grids[i].encode(modelled_column(back, i)), minlength=32)
        assert np.abs(seen - rows * counts[i] / mass).max() < 1.5  # a value may be rounded into the next cell


# --- allotting ----------------------------------------------------------------------------------------------------------------------------------


@st.composite
def groups_of_entries(draw: st.DrawFn) -> tuple[Index, NDArray[np.float64]]:
    """(starts, weights): some groups and some entries without weight, others of any magnitude."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=8))
    weights = draw(arrays(np.float64, sum(sizes), elements=st.one_of(st.just(0.0), st.floats(1e-3, 1e6))))
    return np.cumsum([0, *sizes[:-1]]), weights


@given(groups_of_entries(), st.integers(0, 400), st.integers(0, 2**32))
@QUICK
def test_entries_are_allotted_by_weight_to_the_row(drawn: tuple[Index, NDArray[np.float64]], rows: int, seed: int) -> None:
    starts, weights = drawn
    rng = np.random.default_rng(seed)
    groups = rng.integers(len(starts), size=rows)
    entries = allot(groups, weights, starts, rng)
    owner = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(weights)))
    mass = np.add.reduceat(weights, starts)
    likely = np.where(mass[owner] > 0, weights, 1.0)
    mean = np.bincount(groups, minlength=len(starts))[owner] * likely / np.add.reduceat(likely, starts)[owner]
    seen = np.bincount(entries, minlength=len(weights))
    assert (owner[entries] == groups).all()
    assert np.abs(seen - mean).max() < 1 + 1e-6
    assert not seen[likely == 0].any()


def test_every_row_of_a_group_is_as_likely_to_get_an_entry() -> None:
    """Whatever its place; two in three runs of a weight of two thirds."""
    rng = np.random.default_rng(0)
    groups, runs = np.array([0, 1, 0, 0, 1]), 3000
    drawn = np.array([allot(groups, np.array([1.0, 2.0, 2.0, 1.0]), np.array([0, 2]), rng) for _ in range(runs)])
    hit = (drawn == np.array([1, 2, 1, 1, 2])).mean(axis=0)
    assert hit == pytest.approx(2 / 3, abs=5 * (2 / 9 / runs) ** 0.5)


def test_a_group_that_weighs_next_to_nothing_is_still_a_group() -> None:
    """What rounding leaves of an empty bin, beside one that holds everything."""
    groups = np.array([0, 1, 1, 1, 1])
    entries = allot(groups, np.array([1e6, 1e-14, 3e-14]), np.array([0, 1]), np.random.default_rng(0))
    assert np.bincount(entries, minlength=3).tolist() == [1, 1, 3]


def test_a_bin_without_weight_is_decoded_evenly() -> None:
    schema, rng = SCHEMAS["toy"], np.random.default_rng(0)
    grids = varying_grids(schema, 30)
    weights = np.where(np.arange(32) < 16, 1.0, 0.0)
    columns = Discretization(schema, grids, tuple(np.array([0, 16]) for _ in grids), tuple(weights for _ in grids))
    seen = grids[0].encode(columns.decode(np.ones((len(grids), 3200), np.uint8), rng).observations[:, 0])
    assert np.abs(np.bincount(seen, minlength=32) - np.where(weights > 0, 0, 200)).max() <= 2


# --- from noisy counts to weights -----------------------------------------------------------------------------------------------------------------


@st.composite
def noisy_counts(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """(counts, variances, total)"""
    size = draw(st.integers(1, 50))
    counts, variances = (draw(arrays(np.float64, size, elements=st.floats(*bounds))) for bounds in ((-1e4, 1e4), (0.1, 100.0)))
    return counts, variances, draw(st.floats(1, 1e5))


@given(noisy_counts())
@QUICK
def test_the_projection_meets_the_conditions_of_the_nearest_point(drawn: tuple[NDArray[np.float64], NDArray[np.float64], float]) -> None:
    """Karush, Kuhn and Tucker: kept counts moved by one shift times their variance, and a cut count lies below it."""
    counts, variances, total = drawn
    for variance, spread in ((variances, variances), (1.0, np.ones(len(counts)))):
        nearest = project_onto_simplex(counts, total, variance)
        slack = 1e-9 * (np.abs(counts).max() + total) / spread.min()
        shift = ((counts - nearest) / spread)[nearest > slack]
        assert nearest.min() >= 0
        assert nearest.sum() == pytest.approx(total)
        assert np.ptp(shift) <= slack
        assert ((counts / spread)[nearest == 0] <= shift.mean() + slack).all()


@given(noisy_counts(), st.integers(0, 2**32))
@QUICK
def test_the_projection_commutes_with_permutations_and_repeats_itself(
    drawn: tuple[NDArray[np.float64], NDArray[np.float64], float], seed: int
) -> None:
    counts, variances, total = drawn
    order = np.random.default_rng(seed).permutation(len(counts))
    nearest = project_onto_simplex(counts, total, variances)
    assert project_onto_simplex(counts[order], total, variances[order]) == pytest.approx(nearest[order], abs=1e-6)
    assert project_onto_simplex(nearest, total, variances) == pytest.approx(nearest, abs=1e-6)


def test_the_total_is_unbiased_and_better_than_the_best_table() -> None:
    rng, n, runs = np.random.default_rng(0), 5000.0, 4000
    sizes, variances = (1000, 10, 100), (1.0, 150.0, 10.0)

    def estimate() -> float:
        return noisy_total([n / k + rng.normal(0, v**0.5, k) for k, v in zip(sizes, variances, strict=True)], variances)

    totals = np.array([estimate() for _ in range(runs)])
    assert totals.mean() == pytest.approx(n, abs=4 * totals.std() / runs**0.5)
    assert totals.var() < 0.5 * min(k * v for k, v in zip(sizes, variances, strict=True))


def test_the_total_of_exact_tables_is_exact_and_never_below_one_row() -> None:
    exact, noisy = np.full(10, 7.0), np.full(5, 100.0)
    assert noisy_total([exact, exact], [0.0, 0.0]) == pytest.approx(70)
    assert noisy_total([exact, noisy], [0.0, 9.0]) == pytest.approx(70)
    assert noisy_total([np.full(10, -3.0)], [4.0]) == 1


@pytest.mark.parametrize("scale", [0.0, 5.0, 500.0])
@pytest.mark.parametrize("bins", [1, 16])
def test_every_histogram_is_non_negative_and_sums_to_the_total(scale: float, bins: int) -> None:
    schema, rng = SCHEMAS["maze2d-medium"], np.random.default_rng(0)
    exact = histograms(random_rows(schema, 500, rng), STEPS).astype(float)
    columns = discretize(schema, STEPS, exact + rng.normal(0, scale, len(exact)), scale, bins)
    for i, weights in enumerate(columns.weights):
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(columns.total)
        assert columns.one_way(i) == pytest.approx([part.sum() for part in np.split(weights, columns.starts[i][1:])])
    if not scale:
        assert np.concatenate(columns.weights) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("scale", [10.0, 30.0, 100.0])
def test_bins_keep_their_mass_where_single_cells_drown_in_noise(scale: float) -> None:
    """Closer to the truth than a projection of the cells one by one, which lifts the noise of the empty ones."""
    schema, rng = SCHEMAS["toy"], np.random.default_rng(0)
    exact = [peak(1026, 20_000, 100, centre) for centre in rng.uniform(300, 700, 7)]
    noisy = [counts + rng.normal(0, scale, 1026) for counts in exact]
    columns = discretize(schema, 1024, np.concatenate(noisy), scale, 32)
    ours, cellwise = 0.0, 0.0
    for i, starts in enumerate(columns.starts):
        truth, cells = np.add.reduceat(exact[i], starts), project_onto_simplex(noisy[i], columns.total)
        ours += np.abs(columns.one_way(i) - truth).sum()
        cellwise += np.abs(np.add.reduceat(cells, starts) - truth).sum()
    assert ours < 0.8 * cellwise
