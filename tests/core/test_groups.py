"""Epsilon of several units at once, against integrals done by hand and numbers measured when the project began."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, norm  # type: ignore[import-untyped]

from bench.core import groups
from bench.core.accounting import Accountant, Charge, epsilon_spent
from bench.core.groups import NO_PROTECTION, group_epsilon

ROWS = 161_599  # 80 % of halfcheetah-medium-replay
TRAINING = Charge("sgd", "dp-sgd", 1.0, 5 * ROWS // 128, noise_multiplier=0.727, rate=128 / ROWS)
"""PrivORL's training there at transition-level epsilon 1 and delta 1e-6."""
TEACHERS = 12


def sgd(noise: float, steps: int, rate: float) -> Charge:
    return Charge("sgd", "dp-sgd", 1.0, steps, noise_multiplier=noise, rate=rate)


def gaussian(noise: float, count: int = 1, saturation: int | None = None) -> Charge:
    return Charge("gaussian", "gaussian", 1.0, count, noise_multiplier=noise, saturation=saturation)


def pick(epsilon: float, count: int = 1) -> Charge:
    return Charge("best", "exponential", 1.0, count, pick_epsilon=epsilon)


# --- DP-SGD by hand -------------------------------------------------------------------------------------------------------------------------------

Densities = tuple[NDArray[np.float64], NDArray[np.float64]]
"""What one mechanism answers with and without the group, as chances of the cells of a fine grid."""


def densities(charge: Charge, size: int, cells: int) -> Densities:
    noise = (charge.noise_multiplier or 0.0) / math.sqrt(charge.count)
    counts = np.arange(size + 1)
    chances = binom.pmf(counts, size, charge.rate)
    counts, chances = counts[chances > 1e-30], chances[chances > 1e-30]
    x = np.linspace(-9 * noise, counts[-1] + 9 * noise, cells)
    width = x[1] - x[0]
    return sum(p * norm.pdf(x, n, noise) for n, p in zip(counts, chances, strict=True)) * width, norm.pdf(x, 0, noise) * width


def epsilon_by_hand(charges: Sequence[Charge], delta: float, size: int, cells: int) -> float:
    """Bisection for the epsilon at which the larger of both hockey-stick divergences is delta."""
    factors = [densities(charge, size, cells) for charge in charges]
    with_group, without = (np.multiply.outer(*parts).ravel() if len(parts) == 2 else parts[0] for parts in zip(*factors, strict=True))

    def divergence(epsilon: float) -> float:
        pairs = ((with_group, without), (without, with_group))
        return max(float(np.maximum(p - math.exp(epsilon) * q, 0).sum()) for p, q in pairs)

    low, high = 0.0, 60.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if divergence(middle) > delta else (low, middle)
    return high


@pytest.mark.parametrize(
    ("charges", "delta", "size"),
    [
        pytest.param([sgd(1.0, 1, 0.1)], 1e-3, 3, id="a-step"),
        pytest.param([sgd(0.6, 1, 0.01)], 1e-4, 10, id="little-noise"),
        pytest.param([sgd(9.0, 1, 0.3)], 1e-5, 100, id="many-units"),
        pytest.param([sgd(120.0, 1, 0.82)], 1e-5, 600, id="nearly-all-of-them"),
        pytest.param([sgd(2.0, 1, 0.002)], 1e-6, 1000, id="rare-ones"),
    ],
)
def test_epsilon_of_a_step_is_the_one_by_hand(charges: list[Charge], delta: float, size: int) -> None:
    exact = epsilon_by_hand(charges, delta, size, 200_000)
    assert exact - 1e-3 <= group_epsilon(charges, delta, "pld", size) <= exact * 1.01 + 1e-3


@pytest.mark.parametrize("other", [sgd(1.5, 1, 0.1), gaussian(20.0, 4)])
def test_steps_and_answers_compose(other: Charge) -> None:
    """A step beside a second one, and beside answers that all units of the group reach."""
    step, size = sgd(1.5, 1, 0.1), 4
    exact = epsilon_by_hand([step, other], 1e-4, size, 2_500)
    together = [replace(step, count=2)] if other == step else [step, other]
    assert exact - 2e-3 <= group_epsilon(together, 1e-4, "pld", size) <= exact * 1.01


@pytest.mark.parametrize(("size", "rate"), [(3, 0.1), (200, 0.01), (1000, 0.82), (3000, 0.5)])
def test_counts_are_rounded_up_and_hardly(size: int, rate: float) -> None:
    """Every count is at least as likely to be reached as by the coins."""
    counts, chances = groups._included(size, rate, 1e-12)
    reached = np.array([chances[counts >= count].sum() for count in range(size + 1)])
    by_coins = binom.sf(np.arange(size + 1) - 1, size, rate)
    assert (reached >= by_coins * (1 - 1e-9)).all()
    assert np.abs(reached - by_coins).max() < 1e-9


def test_ten_rows_of_the_published_training_cost_what_was_measured() -> None:
    assert group_epsilon([TRAINING], 1e-6, "pld", 10) == pytest.approx(9.3, rel=0.01)


def test_a_batch_of_everything_is_a_gaussian_answer() -> None:
    assert group_epsilon([sgd(20.0, 5, 1.0)], 1e-5, "pld", 7) == pytest.approx(group_epsilon([gaussian(20.0, 5)], 1e-5, "pld", 7), rel=2e-3)


# --- answers and picks ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 10])
def test_a_group_moves_a_gaussian_answer_size_times_as_far(size: int) -> None:
    """delta(epsilon) of the Gaussian mechanism in closed form (Balle and Wang 2018), at the epsilon that is claimed for 4 answers."""
    mu = size * math.sqrt(4) / 15.0
    epsilon = group_epsilon([gaussian(15.0, 4)], 1e-6, "pld", size)
    delta = norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
    assert delta == pytest.approx(1e-6, rel=1e-3)


def test_a_group_multiplies_the_epsilon_of_a_pick() -> None:
    enlarged = epsilon_spent([pick(0.6, 20), gaussian(5.0)], 1e-6, "rdp")
    assert group_epsilon([pick(0.1, 20), gaussian(30.0)], 1e-6, "rdp", 6) == pytest.approx(enlarged, rel=1e-9)


def test_votes_of_teachers_are_moved_by_no_more_rows_than_there_are_teachers() -> None:
    epsilons = {size: group_epsilon([gaussian(40.0, saturation=TEACHERS)], 1e-6, "pld", size) for size in (1, 5, TEACHERS, TEACHERS + 1, 10_000)}
    free = {size: group_epsilon([gaussian(40.0)], 1e-6, "pld", size) for size in (1, 5, TEACHERS, TEACHERS + 1)}
    assert {size: epsilons[size] for size in (1, 5, TEACHERS)} == {size: free[size] for size in (1, 5, TEACHERS)}
    assert epsilons[TEACHERS] == epsilons[TEACHERS + 1] == epsilons[10_000] < free[TEACHERS + 1]


def test_a_pick_beside_dp_sgd_adds_to_it() -> None:
    step = sgd(2.0, 20, 0.02)
    alone, one, four = (group_epsilon([step, *picks], 1e-5, "rdp", 3) for picks in ([], [pick(0.1)], [pick(0.1, 4)]))
    assert alone < one <= alone + 3 * 0.1 + 0.01
    assert one < four <= alone + 4 * 3 * 0.1 + 0.01


# --- one unit, many units, too many ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
@pytest.mark.parametrize("charges", [[], [gaussian(2.0, 3)], [sgd(1.5, 100, 0.05), gaussian(4.0)], [gaussian(2.0, saturation=5)]])
def test_a_group_of_one_unit_costs_what_the_unit_costs(charges: list[Charge], accountant: Accountant) -> None:
    assert group_epsilon(charges, 1e-5, accountant, 1) == epsilon_spent(charges, 1e-5, accountant)


def test_a_pick_of_one_unit_costs_what_the_unit_costs() -> None:
    charges = [pick(0.2, 5), sgd(1.5, 20, 0.05)]
    assert group_epsilon(charges, 1e-5, "rdp", 1) == epsilon_spent(charges, 1e-5, "rdp")


@pytest.mark.parametrize("charges", [[sgd(2.0, 50, 0.01)], [gaussian(20.0, 2)], [pick(0.05, 4)], [sgd(2.0, 50, 0.01), gaussian(30.0)]])
def test_larger_groups_are_protected_less(charges: list[Charge]) -> None:
    accountant: Accountant = "rdp" if charges[0].pick_epsilon else "pld"
    epsilons = [group_epsilon(charges, 1e-5, accountant, size) for size in (1, 2, 4, 8, 16)]
    assert all(0 < smaller < larger < math.inf for smaller, larger in pairwise(epsilons))


@pytest.mark.parametrize(
    ("charges", "size"),
    [
        pytest.param([TRAINING], 1000, id="dp-sgd"),
        pytest.param([gaussian(0.5)], 1000, id="answer"),
        pytest.param([pick(1.0, 10)], 1000, id="pick"),
        pytest.param([TRAINING, gaussian(5.0)], 50, id="answer-beside-dp-sgd"),
        pytest.param([sgd(0.0, 1, 0.1)], 2, id="no-noise"),
    ],
)
def test_what_is_beyond_hope_is_found_without_a_privacy_loss_distribution(charges: list[Charge], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_composed_epsilon", None)
    accountant: Accountant = "rdp" if charges[0].pick_epsilon else "pld"
    assert group_epsilon(charges, 1e-6, accountant, size) == math.inf


@pytest.mark.parametrize("charge", [sgd(1.2, 200, 0.02), sgd(1.5, 100, 0.02), sgd(0.8, 50, 0.01), sgd(8.0, 400, 0.1)])
def test_the_shortcut_gives_up_on_nothing_below_the_limit(charge: Charge) -> None:
    """It is a lower bound of what the distribution gives."""
    epsilon = group_epsilon([charge], 1e-5, "pld", 10)
    assert 0 < groups._least_epsilon(charge, 1e-5, 10) < epsilon <= NO_PROTECTION


def test_above_the_limit_there_is_no_number() -> None:
    assert group_epsilon([gaussian(1 / 8.0)], 1e-6, "pld", 1) == math.inf
    assert NO_PROTECTION < epsilon_spent([gaussian(1 / 8.0)], 1e-6, "pld") < math.inf
    assert groups._least_epsilon(sgd(3.0, 100, 0.04), 1e-5, 50) < NO_PROTECTION
    assert group_epsilon([sgd(3.0, 100, 0.04)], 1e-5, "pld", 50) == math.inf


def test_charges_of_older_records_have_no_saturation() -> None:
    recorded: dict[str, Any] = asdict(gaussian(2.0))
    del recorded["saturation"]
    assert Charge(**recorded) == gaussian(2.0)
