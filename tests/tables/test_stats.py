"""Statistics of nested runs: coverage on simulated data, formulas against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from bench.tables.stats import FEW, Summary, paired_difference, private_gain, rank_sets, summarize, summarize_estimates, surely_better

TRIALS = 500


def nested(shape: tuple[int, int, int], spreads: tuple[float, float, float], trials: int, seed: int = 0) -> NDArray[np.float64]:
    """Trials of runs (trials, synthesizer, sampling, agent) around 0, with a normal effect at each layer."""
    rng, (fits, samples, agents) = np.random.default_rng(seed), shape
    layers = [(trials, fits, 1, 1), (trials, fits, samples, 1), (trials, fits, samples, agents)]
    return sum((spread * rng.normal(size=layer) for spread, layer in zip(spreads, layers, strict=True)), np.zeros((trials, *shape)))


def coverage(shape: tuple[int, int, int], spreads: tuple[float, float, float], trials: int = TRIALS) -> float:
    return 1 - float(np.mean([summarize(runs).excludes_zero for runs in nested(shape, spreads, trials)]))


def column(*scores: float) -> NDArray[np.float64]:
    """One run for each synthesizer seed."""
    return np.array(scores, float)[:, None, None]


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spreads", [(1.0, 0.0, 0.5), (0.3, 0.5, 1.0)])
def test_a_t_interval_covers_at_its_level(spreads: tuple[float, float, float]) -> None:
    """Four binomial standard deviations below 95 %: a z interval, which covers 81 % at three runs, fails."""
    assert 0.91 < coverage((3, 2, 2), spreads) < 0.99


@pytest.mark.parametrize(("shape", "spreads"), [((5, 1, 1), (1.0, 0.0, 0.5)), ((10, 1, 1), (1.0, 0.0, 1.0)), ((5, 2, 3), (1.0, 0.3, 1.0))])
def test_a_bootstrap_interval_covers_at_its_level(shape: tuple[int, int, int], spreads: tuple[float, float, float]) -> None:
    """The plain percentile interval, which covers 83 % at five runs, fails."""
    assert coverage(shape, spreads) > 0.89


def test_many_agents_on_few_fits_do_not_narrow_the_interval() -> None:
    """Resampling all runs alike would take 40 agents for 40 independent runs and cover about half."""
    assert coverage((5, 1, 8), (1.0, 0.0, 0.1)) > 0.89


def test_noisy_agents_are_not_counted_twice() -> None:
    """Resampling agents inside the fits that are resampled covers 99 %: three binomial deviations below that fail."""
    assert 0.89 < coverage((8, 1, 3), (0.3, 0.0, 1.0), trials=1000) < 0.975


@pytest.mark.parametrize("fits", [5, 6, 9])
def test_a_bootstrap_interval_is_a_quantile_of_means_of_resampled_fits(fits: int) -> None:
    """Of a million resamples of its own, at the levels of the docstring: two binomial deviations of 10,000 resamples apart at most."""
    (runs,) = nested((fits, 1, 2), (1.0, 0.0, 1.0), trials=1)
    means = np.random.default_rng(1).choice(runs.mean(axis=(1, 2)), (1_000_000, fits)).mean(axis=1)
    tail = scipy_stats.norm.cdf(np.sqrt(fits / (fits - 1)) * scipy_stats.t.ppf(0.025, fits - 1))
    slack = 2 * np.sqrt(tail * (1 - tail) / 10_000)
    summary = summarize(runs)
    assert summary.low is not None
    assert summary.high is not None
    assert np.quantile(means, tail - slack) <= summary.low <= np.quantile(means, tail + slack)
    assert np.quantile(means, 1 - tail - slack) <= summary.high <= np.quantile(means, 1 - tail + slack)


def test_a_t_interval_is_that_of_scipy_over_the_means_of_the_fits() -> None:
    (runs,) = nested((4, 2, 3), (1.0, 0.5, 0.2), trials=1)
    means = runs.mean(axis=(1, 2))
    expected = scipy_stats.t.interval(0.95, 3, loc=means.mean(), scale=scipy_stats.sem(means))
    summary = summarize(runs)
    assert (summary.mean, summary.low, summary.high) == pytest.approx((runs.mean(), *expected), rel=1e-12)
    assert summary.interval == "t"


def test_a_bootstrap_of_many_runs_agrees_with_the_t_interval() -> None:
    """Where the central limit theorem holds the two are one; 6 % leave room for the noise of the resamples."""
    (runs,) = nested((60, 1, 1), (1.0, 0.0, 0.0), trials=1)
    low, high = scipy_stats.t.interval(0.95, 59, loc=runs.mean(), scale=scipy_stats.sem(runs.ravel()))
    summary = summarize(runs)
    assert (summary.low, summary.high) == pytest.approx((low, high), abs=0.06 * (high - low))


def test_the_kind_of_interval_follows_the_number_of_fits() -> None:
    kinds = [summarize(nested((fits, 1, 9), (1.0, 0.0, 1.0), trials=1)[0]).interval for fits in (1, 2, FEW - 1, FEW)]
    assert kinds == [None, "t", "t", "bootstrap"]


def test_one_fit_has_no_interval_and_proves_nothing() -> None:
    summary = summarize(np.array([[[3.0, 4.0, 5.0]]]))
    assert (summary.mean, summary.half_width, summary.excludes_zero) == (4.0, None, False)


def test_a_half_width_is_the_wider_side() -> None:
    assert [Summary(1.0, 0.0, 4.0, "t").half_width, Summary(1.0, -4.0, 2.0, "t").half_width] == [3.0, 5.0]


def test_an_interval_repeats_itself_and_scales_with_the_scores() -> None:
    (runs,) = nested((6, 1, 2), (1.0, 0.0, 1.0), trials=1)
    first, again, moved = summarize(runs), summarize(runs), summarize(10 * runs + 3)
    assert first == again
    assert (moved.low, moved.high) == pytest.approx((10 * first.low + 3, 10 * first.high + 3))  # type: ignore[operator]


@pytest.mark.parametrize("runs", [np.zeros((0, 1, 1)), np.zeros(3), np.full((3, 1, 1), np.nan)])
def test_unfit_runs_are_refused(runs: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="runs"):
        summarize(runs)


# --- estimates with intervals of their own ----------------------------------------------------------------------------


def test_an_estimate_of_one_run_keeps_the_interval_it_brought() -> None:
    summary = summarize_estimates(column(0.6), column(0.5), column(0.8))
    assert (summary.low, summary.high) == pytest.approx((0.5, 0.8))
    assert summary.interval == "run"


def test_own_errors_and_the_spread_between_runs_add_in_squares() -> None:
    values = column(0.4, 0.5, 0.6)
    spread = summarize(values).half_width
    assert spread is not None
    summary = summarize_estimates(values, values - 0.3, values + 0.4)
    assert (summary.low, summary.high) == pytest.approx((0.5 - np.hypot(0.3, spread), 0.5 + np.hypot(0.4, spread)))
    assert summary.interval == "run+t"


def test_repeating_a_run_does_not_shrink_its_own_error() -> None:
    values = column(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert summarize_estimates(values, values - 0.1, values + 0.1).half_width == pytest.approx(0.1)


# --- comparisons ------------------------------------------------------------------------------------------------------


def test_a_paired_difference_sees_through_what_seeds_have_in_common() -> None:
    common = nested((4, 1, 1), (20.0, 0.0, 0.0), trials=1)[0]
    better = common + column(1.0, 1.1, 0.9, 1.0)
    assert paired_difference(better, common).excludes_zero
    assert not paired_difference(better, common[::-1]).excludes_zero


def test_a_difference_uses_the_seeds_that_both_have() -> None:
    assert paired_difference(column(3.0, 4.0, 99.0), column(1.0, 2.0)).mean == 2.0


def test_private_gain_is_0_for_the_floor_and_1_for_real_data() -> None:
    floor, real, method = column(10.0, 12.0, 11.0), column(50.0, 52.0, 48.0), column(30.0, 32.0, 30.0)
    ends = [private_gain(runs, floor, real) for runs in (floor, real)]
    assert [end and (end.mean, end.half_width) for end in ends] == [pytest.approx((0.0, 0.0)), pytest.approx((1.0, 0.0), abs=1e-12)]
    gain = private_gain(method, floor, real)
    assert gain is not None
    assert gain.mean == pytest.approx((30.667 - 11) / (50 - 11), abs=1e-3)
    assert gain.excludes_zero


def test_private_gain_covers_the_ratio() -> None:
    noise = nested((4, 1, 1), (2.0, 0.0, 0.0), 3 * TRIALS).reshape(TRIALS, 3, 4, 1, 1)
    gains = [private_gain(30 + method, 10 + floor, 50 + real) for method, floor, real in noise]
    hits = [gain.low <= 0.5 <= gain.high for gain in gains if gain and gain.low is not None and gain.high is not None]
    assert len(hits) == TRIALS
    assert np.mean(hits) > 0.91


def test_private_gain_is_undefined_where_private_data_add_nothing_sure() -> None:
    assert private_gain(column(1.0, 2.0, 3.0), column(50.0, 40.0, 60.0), column(55.0, 35.0, 70.0)) is None


def test_private_gain_is_undefined_where_private_data_surely_harm() -> None:
    """A share of what is below 0 would be the larger the worse a method is."""
    assert private_gain(column(10.0, 11.0, 12.0), column(50.0, 51.0, 52.0), column(20.0, 21.0, 22.0)) is None


def test_ends_stay_within_the_range_of_the_score() -> None:
    assert Summary(0.01, -0.1, 0.2, "run").within(0, 1) == Summary(0.01, 0, 0.2, "run")
    assert Summary(0.99, 0.9, 1.1, "t").within(0, 1) == Summary(0.99, 0.9, 1, "t")
    assert Summary(0.5).within(0, 1) == Summary(0.5)


# --- ranks ------------------------------------------------------------------------------------------------------------


def test_well_separated_methods_have_one_rank_each_and_equals_share_theirs() -> None:
    steps = column(0.0, 0.1, 0.05)
    methods = [steps, steps + 30, steps + column(0.1, -0.1, 0.02), steps + 20]
    assert rank_sets(methods) == [(3, 4), (1, 1), (3, 4), (2, 2)]


def test_a_rank_set_holds_the_rank_of_the_mean_and_all_pairs_agree() -> None:
    """Best is 1 + those surely better, worst leaves out those surely worse; both counted by hand."""
    methods = list(nested((4, 1, 2), (1.0, 0.0, 0.5), trials=12) + np.linspace(0, 5, 12)[:, None, None, None])
    order = np.argsort(np.argsort([-runs.mean() for runs in methods])) + 1
    for i, (best, worst) in enumerate(rank_sets(methods)):
        surely = [difference for other in methods if (difference := paired_difference(methods[i], other)).excludes_zero]
        assert best == 1 + sum(difference.mean < 0 for difference in surely)
        assert worst == 12 - sum(difference.mean > 0 for difference in surely)
        assert best <= order[i] <= worst


def test_single_runs_leave_every_rank_open() -> None:
    assert rank_sets([column(1.0), column(50.0), column(99.0)]) == [(1, 3)] * 3


def test_surely_better_is_what_each_pair_says_by_itself() -> None:
    """Whatever seeds the two have in common: none, a few, enough for the bootstrap."""
    rng, shapes = np.random.default_rng(0), [(1, 1, 1), (3, 1, 2), (4, 2, 1), (6, 1, 1), (8, 1, 2), (6, 2, 2)]
    methods = [rng.normal(mean, size=shape) for shape in shapes for mean in (0.0, 1.0, 4.0)]
    better = surely_better(methods)
    for i, ours in enumerate(methods):
        for j, theirs in enumerate(methods):
            difference = paired_difference(ours, theirs)
            assert better[i, j] == (difference.excludes_zero and difference.mean > 0)
