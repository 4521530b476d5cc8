"""Decoding: rates and resolution survive the bins, rows are allotted by weight, and noisy counts become the nearest weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from marginal_support import QUICK, SCHEMAS, STEPS, binned, peak, random_rows
from numpy.typing import NDArray

from bench.core.data import Column, Index, Transitions
from synthesizers._parts.discretize import (
    Discretization,
    allot,
    discretize,
    histograms,
    modelled_column,
    noisy_total,
    project_onto_simplex,
    varying_grids,
)

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
