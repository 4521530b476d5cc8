"""Statistics of several tasks: the formulas of rliable, written out with scipy, and coverage on simulated data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from bench.tables.stats import iqm, probability_of_improvement

Array = NDArray[np.float64]
TRIALS = 400


def tasks_of(matrix: Array) -> list[Array]:
    """From rliable's matrix (runs, tasks) to one array (synthesizer, 1, 1) for each task."""
    return [column[:, None, None] for column in matrix.T]


def drawn(rng: np.random.Generator, means: Sequence[float], shape: tuple[int, int, int]) -> list[Array]:
    """One array for each task: a normal effect of each fit and half as large a one of each run, around the mean of the task."""
    return [mean + rng.normal(size=(shape[0], 1, 1)) + 0.5 * rng.normal(size=shape) for mean in means]


# --- formulas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 1), (5, 1), (7, 1), (5, 3), (3, 2), (9, 5), (3, 15)])
def test_iqm_is_the_trimmed_mean_of_the_flattened_matrix(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).normal(size=shape)
    assert iqm(tasks_of(matrix)).mean == pytest.approx(scipy_stats.trim_mean(matrix, 0.25, axis=None), abs=1e-12)


@pytest.mark.parametrize("shape", [(3, 1), (5, 4), (10, 3)])
@pytest.mark.parametrize("decimals", [12, 0])
def test_probability_of_improvement_is_the_mean_u_statistic(shape: tuple[int, int], decimals: int) -> None:
    """Without decimals most pairs are ties, which count a half."""
    x, y = np.random.default_rng(1).normal(size=(2, *shape)).round(decimals)
    expected = np.mean([scipy_stats.mannwhitneyu(x[:, m], y[:, m]).statistic / shape[0] ** 2 for m in range(shape[1])])
    assert probability_of_improvement(tasks_of(x), tasks_of(y)).mean == pytest.approx(expected, abs=1e-12)


def test_all_layers_are_runs_of_a_task() -> None:
    x, y = np.random.default_rng(2).normal(size=(2, 3, 2, 2))
    flat = [runs.reshape(-1, 1, 1) for runs in (x, y)]
    assert iqm([x]).mean == pytest.approx(iqm(flat[:1]).mean, abs=1e-12)
    assert probability_of_improvement([x], [y]).mean == pytest.approx(probability_of_improvement(flat[:1], flat[1:]).mean, abs=1e-12)


def test_equal_runs_are_a_coin_and_two_directions_share_one() -> None:
    x, y = (tasks_of(matrix) for matrix in np.random.default_rng(3).normal(size=(2, 6, 4)))
    assert probability_of_improvement(x, x).mean == 0.5
    assert probability_of_improvement(x, y).mean + probability_of_improvement(y, x).mean == pytest.approx(1)
    assert probability_of_improvement([runs + 9 for runs in x], y) == probability_of_improvement([runs + 9 for runs in x], [runs - 9 for runs in y])


def test_only_the_order_of_runs_matters_to_the_probability() -> None:
    x, y = (tasks_of(matrix) for matrix in np.random.default_rng(4).normal(size=(2, 5, 3)))
    assert probability_of_improvement([np.exp(runs) for runs in x], [np.exp(runs) for runs in y]) == probability_of_improvement(x, y)


def test_seeds_that_one_method_lacks_are_left_out() -> None:
    x, y = np.random.default_rng(5).normal(size=(2, 5, 1, 1))
    assert probability_of_improvement([x], [y[:3]]) == probability_of_improvement([x[:3]], [y[:3]])


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tasks", "shape"), [(1, (6, 1, 2)), (2, (3, 1, 1)), (5, (3, 1, 1)), (4, (5, 1, 2)), (2, (10, 2, 1))])
def test_intervals_over_tasks_cover_at_their_level(tasks: int, shape: tuple[int, int, int]) -> None:
    """rliable's plain percentile interval of the mean, which covers 84 % with two or five tasks of three runs, fails."""
    rng, means, shift = np.random.default_rng(6), np.linspace(0, 4, tasks), 0.5
    middle = scipy_stats.trim_mean(np.concatenate(drawn(rng, means, (200_000, 1, 1))), 0.25, axis=None)
    better = scipy_stats.norm.cdf(shift / np.sqrt(2 * 1.25))
    hits = []
    for _ in range(TRIALS):
        x, y = drawn(rng, means + shift, shape), drawn(rng, means, shape)
        intervals = [(iqm(y), middle), (probability_of_improvement(x, y), better)]
        hits.append([np.nan if summary.low is None or summary.high is None else summary.low <= truth <= summary.high for summary, truth in intervals])
    assert (np.isnan(hits).mean(axis=0) <= [0, 0.1]).all(), "a probability has no interval where all resamples agree"
    assert (np.nanmean(hits, axis=0) > [0.88, 0.84]).all()


def test_many_agents_on_few_fits_do_not_narrow_an_interval() -> None:
    """Runs resampled alike would cover about half."""
    rng = np.random.default_rng(7)
    intervals = [iqm([rng.normal(size=(3, 1, 1)) + 0.1 * rng.normal(size=(3, 1, 8)) for _ in range(2)]) for _ in range(TRIALS)]
    assert np.mean([not summary.excludes_zero for summary in intervals]) > 0.88


def test_each_task_is_resampled_by_itself() -> None:
    """Two tasks with the same runs are as good as twice the runs; resampled together they would be as good as one."""
    runs = np.random.default_rng(8).normal(size=(20, 1, 1))
    one, two = (iqm([runs] * tasks).half_width for tasks in (1, 2))
    assert one is not None
    assert two is not None
    assert two / one == pytest.approx(np.sqrt(0.5), rel=0.1)


def test_an_interval_of_many_runs_is_that_of_normal_theory_for_trimmed_means() -> None:
    """Standard error by winsorized variance (Tukey & McLaughlin, 1963)."""
    tasks = list(np.random.default_rng(9).normal(size=(10, 30, 1, 1)))
    summary = iqm(tasks)
    trimmed = scipy_stats.trimboth(np.sort(np.concatenate(tasks), axis=None), 0.25)
    winsorized = np.clip(np.concatenate(tasks), trimmed.min(), trimmed.max())
    error = winsorized.std(ddof=1) / (0.5 * np.sqrt(300))
    assert summary.half_width == pytest.approx(1.96 * error, rel=0.1)


def test_too_few_fits_have_no_interval() -> None:
    rng = np.random.default_rng(10)
    few = [[(4, 1, 9)], [(2, 1, 1), (2, 3, 3)], [(1, 1, 1)] * 8, [(9, 1, 1), (1, 1, 1)]]
    assert [iqm([rng.normal(size=shape) for shape in shapes]).interval for shapes in few] == [None] * 4
    assert [iqm([rng.normal(size=shape) for shape in shapes]).interval for shapes in ([(5, 1, 1)], [(3, 1, 1)] * 2)] == ["bootstrap"] * 2


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_probability_is_covered_at_its_level_wherever_it_has_an_interval(tasks: int) -> None:
    """Of runs that are better in 95 % of all pairs, half the samples hold better ones alone, and their resamples the probability 1 alone."""
    rng, gap, found = np.random.default_rng(11), np.sqrt(2) * scipy_stats.norm.ppf(0.95), []
    for _ in range(300):
        ours, theirs = (list(mean + rng.normal(size=(tasks, 5, 1, 1))) for mean in (gap, 0.0))
        found.append(probability_of_improvement(ours, theirs))
    covered = [summary.low <= 0.95 <= summary.high for summary in found if summary.low is not None and summary.high is not None]
    assert len(covered) > 60
    assert np.mean(covered) > 0.89


def test_what_all_resamples_agree_on_has_no_interval() -> None:
    x = tasks_of(np.random.default_rng(11).normal(size=(6, 2)))
    better, equal = probability_of_improvement([runs + 99 for runs in x], x), probability_of_improvement(*[[np.zeros((6, 1, 1))]] * 2)
    assert [(summary.mean, summary.low, summary.interval) for summary in (better, equal)] == [(1, None, None), (0.5, None, None)]


@pytest.mark.parametrize("shapes", [[(3, 1, 1)] * 2, [(3, 1, 1)] * 5, [(10, 1, 1), (2, 1, 1)]])
def test_an_interval_over_tasks_is_a_quantile_of_middle_means_of_fits_resampled_task_by_task(shapes: list[tuple[int, int, int]]) -> None:
    """At the levels of t with one degree of freedom less for every task."""
    rng = np.random.default_rng(0)
    tasks = [10 * place + rng.normal(size=shape) for place, shape in enumerate(shapes)]
    draws = np.concatenate([rng.choice(task.ravel(), (200_000, task.size)) for task in tasks], axis=1)
    middle, fits = scipy_stats.trim_mean(draws, 0.25, axis=1), sum(map(len, tasks))
    freedom = fits - len(tasks)
    tail = scipy_stats.norm.cdf(scipy_stats.t.ppf(0.025, freedom) * np.sqrt(fits / freedom))
    slack = 3 * np.sqrt(tail * (1 - tail) / 10_000)
    least, most = max(tail - slack, 0), tail + slack
    summary = iqm(tasks)
    assert summary.low is not None
    assert summary.high is not None
    assert np.quantile(middle, least) <= summary.low <= np.quantile(middle, most)
    assert np.quantile(middle, 1 - most) <= summary.high <= np.quantile(middle, 1 - least)
