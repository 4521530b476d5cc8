"""Where the variance comes from and how many seeds it asks for: a textbook's table, simulated truth, and scipy's noncentral t."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from bench.tables.stats import LAYERS, POWER, paired_difference, seeds_needed, variance_parts

Array = NDArray[np.float64]

WINGS = np.array(
    [
        [[58.5, 59.5], [77.8, 80.9], [84.0, 83.6], [70.1, 68.3]],
        [[69.8, 69.8], [56.0, 54.5], [50.7, 49.3], [63.8, 65.8]],
        [[56.6, 57.5], [77.8, 79.2], [69.9, 69.2], [62.1, 64.5]],
    ]
)
"""Wing lengths of mosquitoes: 3 cages, 4 females in each, 2 measurements of each (Sokal & Rohlf, Biometry, box 10.1)."""


def nested(shape: tuple[int, int, int], deviations: tuple[float, float, float], trials: int) -> Array:
    """Trials of runs (trials, synthesizer, sampling, agent) around 0, with a normal effect at each layer."""
    rng, (fits, samples, agents) = np.random.default_rng(0), shape
    layers = [(trials, fits, 1, 1), (trials, fits, samples, 1), (trials, fits, samples, agents)]
    return sum((deviation * rng.normal(size=layer) for deviation, layer in zip(deviations, layers, strict=True)), np.zeros((trials, *shape)))


def parts_of(runs: Array) -> list[float]:
    return [part.mean for part in variance_parts(runs).values() if part is not None]


# --- the split --------------------------------------------------------------------------------------------------------


def test_the_split_is_that_of_a_textbook() -> None:
    """Its table has mean squares of 332.8379 among cages, 191.1864 among the females of a cage and 1.3017 among the measurements of one."""
    assert list(variance_parts(WINGS)) == list(LAYERS)
    expected = [(332.8379 - 191.1864) / 8, (191.1864 - 1.3017) / 2, 1.3017]
    assert parts_of(WINGS) == pytest.approx(expected, abs=1e-4)


def test_the_split_is_that_of_the_mean_squares() -> None:
    """The table of a nested analysis of variance, from sums of squares: MS of each layer, and the differences that its expectations suggest."""
    (runs,) = nested((4, 3, 5), (9.0, 3.0, 1.0), trials=1)
    fits, samples = runs.mean(axis=(1, 2), keepdims=True), runs.mean(axis=2, keepdims=True)
    squares = [
        3 * 5 * ((fits - runs.mean()) ** 2).sum() / (4 - 1),
        5 * ((samples - fits) ** 2).sum() / (4 * (3 - 1)),
        ((runs - samples) ** 2).sum() / (4 * 3 * (5 - 1)),
    ]
    assert parts_of(runs) == pytest.approx([(squares[0] - squares[1]) / 15, (squares[1] - squares[2]) / 5, squares[2]])


@pytest.mark.parametrize(
    ("shape", "deviations", "expected"),
    [
        ((8, 4, 3), (3.0, 2.0, 1.0), [9.0, 4.0, 1.0]),
        ((8, 1, 3), (3.0, 1.0, 2.0), [10.0, 4.0]),
        ((8, 4, 1), (3.0, 2.0, 1.0), [9.0, 5.0]),
        ((8, 1, 1), (3.0, 2.0, 1.0), [14.0]),
        ((1, 8, 3), (3.0, 2.0, 1.0), [4.0, 1.0]),
    ],
)
def test_the_split_is_unbiased_and_one_seed_is_counted_further_out(
    shape: tuple[int, int, int], deviations: tuple[float, float, float], expected: list[float]
) -> None:
    """Within five standard errors, with parts so large that next to none is cut off at 0."""
    found = np.array([parts_of(runs) for runs in nested(shape, deviations, trials=3000)])
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - expected) < 5 * error).all()


def test_a_layer_with_one_seed_has_no_part() -> None:
    shapes = [(5, 1, 1), (5, 1, 3), (5, 2, 1), (1, 1, 4), (1, 1, 1)]
    known = [[part is not None for part in variance_parts(np.random.default_rng(0).normal(size=shape)).values()] for shape in shapes]
    assert known == [[True, False, False], [True, False, True], [True, True, False], [False, False, True], [False] * 3]


def test_a_negative_part_is_0() -> None:
    """Fits whose means are equal although their agents differ: less variance between fits than agents alone would leave."""
    runs = np.array([[[-1.0, 0.0, 1.0]], [[-2.0, 0.0, 2.0]], [[1.0, 0.0, -1.0]]])
    assert parts_of(runs) == [pytest.approx(2.0), 0.0][::-1]
    low, high = ends_of(runs)[0]
    assert low == 0.0
    more = runs + np.sqrt(2 / 3) * np.array([[[-1.0]], [[0.0]], [[1.0]]])
    assert parts_of(more)[0] == pytest.approx(0.0, abs=1e-9), "fits that differ by no more than their agents would leave"
    assert high == pytest.approx(ends_of(more)[0][1]), "less than that makes nobody surer"


# --- its intervals ----------------------------------------------------------------------------------------------------


def ends_of(runs: Array) -> list[tuple[float, float]]:
    """Those that are known."""
    return [(part.low, part.high) for part in variance_parts(runs).values() if part and part.low is not None and part.high is not None]


def test_the_innermost_interval_is_that_of_chi_square() -> None:
    (runs,) = nested((3, 2, 4), (3.0, 2.0, 1.0), trials=1)
    (*_, mean), (*_, ends) = parts_of(runs), ends_of(runs)
    freedom = 3 * 2 * (4 - 1)
    assert ends == pytest.approx([freedom * mean / scipy_stats.chi2.ppf(tail, freedom) for tail in (0.975, 0.025)])


@pytest.mark.parametrize(("share", "unseen"), [(0.999, True), (1.001, False)])
def test_the_lower_end_leaves_0_where_the_f_test_sees_a_difference(share: float, unseen: bool) -> None:
    """Runs of two fits, three agents each, made so that the ratio of their mean squares lies on either side of the quantile of F."""
    agents = np.array([[[-1.0, 0.0, 1.0]], [[1.0, 0.0, -1.0]]])
    between = scipy_stats.f.ppf(0.975, 1, 4) / 3 * share
    runs = agents + np.sqrt(between / 2) * np.array([[[1.0]], [[-1.0]]])
    assert (ends_of(runs)[0][0] == 0.0) == unseen


@pytest.mark.parametrize("shape", [(3, 1, 2), (5, 1, 3), (4, 3, 2), (3, 1, 1)])
@pytest.mark.parametrize("deviations", [(1.0, 1.0, 1.0), (3.0, 1.0, 0.3), (0.3, 0.5, 2.0)])
def test_intervals_cover_the_truth(shape: tuple[int, int, int], deviations: tuple[float, float, float]) -> None:
    """At least 93 % of 4,000 times, where 95 % are meant; four standard errors of it are 1.4 %."""
    truth, inside = [], 0.0
    for seeds, deviation in zip(reversed(shape), reversed(deviations), strict=True):
        inside += deviation**2
        if seeds > 1:
            truth, inside = [inside, *truth], 0.0
    found = np.array([ends_of(runs) for runs in nested(shape, deviations, trials=4000)])
    covered = ((found[:, :, 0] <= truth) & (np.array(truth) <= found[:, :, 1])).mean(axis=0)
    assert (covered >= 0.93).all(), covered


# --- how many seeds ---------------------------------------------------------------------------------------------------


def power(effect: float, fits: int) -> float:
    critical = scipy_stats.t.ppf(0.975, fits - 1)
    return float(scipy_stats.nct.sf(critical, fits - 1, effect * np.sqrt(fits)))


@pytest.mark.parametrize(("effect", "fits"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_seeds_are_those_of_the_tables_of_power(effect: float, fits: int) -> None:
    """Cohen's small, medium and large effect in a paired t-test."""
    assert seeds_needed(effect, 1.0) == fits


@pytest.mark.parametrize("effect", [0.013, 0.1, 0.37, 0.9, 1.5, 2.5, 4.0, 6.6, 9.0, 40.0])
def test_seeds_are_the_fewest_with_that_power(effect: float) -> None:
    fits = seeds_needed(-3 * effect, 9.0)
    assert power(effect, fits) >= POWER
    assert fits == 2 or power(effect, fits - 1) < POWER


def test_what_never_varies_needs_two_seeds() -> None:
    assert seeds_needed(0.1, 0.0) == 2
    assert seeds_needed(0.1, float(np.var([73.2 - 73.1, 50.8 - 50.7, 20.4 - 20.3], ddof=1))) == 2


@pytest.mark.parametrize("effect", [2.5, 1.6, 1.0, 0.7, 0.5])
def test_so_many_seeds_do_separate_two_methods_in_80_percent_of_the_draws(effect: float) -> None:
    """As the leaderboard separates them, by Student's t or the bootstrap, whose levels differ a little: hence four deviations of 2000 coins, .036.

    A seed more or less matters where there are few: power is then above 80 %, as much as the noncentral t says.
    """
    rng, fits = np.random.default_rng(1), seeds_needed(effect * 5, 25.0)
    common = rng.normal(size=(2000, fits, 1, 1))
    ours, theirs = (common + mean + np.sqrt(12.5) * rng.normal(size=common.shape) for mean in (effect * 5, 0.0))
    separated = np.mean([paired_difference(*runs).excludes_zero for runs in zip(ours, theirs, strict=True)])
    assert separated == pytest.approx(power(effect, fits), abs=0.036)
    assert separated > POWER - 0.036
