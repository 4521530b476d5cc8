"""Accounting against other people's: dp-accounting's PLD, Opacus' PRV and RDP, and numbers measured when the project began."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import dp_accounting as dpa
import numpy as np
import pytest
from dp_accounting import pld
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core import accounting
from bench.core.accounting import Accountant, Charge, accountant_for, epsilon_spent, noise_factor
from bench.core.data import Unit
from bench.core.errors import InputError
from bench.core.privacy import DPSGD, Budget, Exponential, Gaussian, Ledger

ROWS = 161_599  # 80 % of halfcheetah-medium-replay
STEPS, RATE = 5 * ROWS // 128, 128 / ROWS
PUBLISHED = {
    "halfcheetah-medium-replay": (ROWS, {1.0: 0.727, 10.0: 0.416}),
    "kitchen-partial": (109_560, {1.0: 0.766, 10.0: 0.429}),
    "maze2d-umaze": (800_000, {1.0: 0.610, 10.0: 0.372}),
    "maze2d-medium": (1_600_000, {1.0: 0.573, 10.0: 0.356}),
}
"""PrivORL's training on 80 % of each dataset, five epochs of batches of 128: by epsilon at delta 1e-6, the noise that PLD was measured to ask for."""
TABLE = [(name, epsilon) for name, (_, noises) in PUBLISHED.items() for epsilon in noises]
FAST = [pytest.param(*row, marks=[] if row[0].startswith("half") else pytest.mark.slow, id=f"{row[0]}-{row[1]:g}") for row in TABLE]


def sgd(noise: float, steps: int, rate: float) -> Charge:
    return Charge("sgd", "dp-sgd", 1.0, steps, noise_multiplier=noise, rate=rate)


def gaussian(noise: float, count: int = 1) -> Charge:
    return Charge("gaussian", "gaussian", 1.0, count, noise_multiplier=noise)


def charged(epsilon: float, delta: float = 1e-6, accountant: Accountant = "pld", **requests: Any) -> tuple[Charge, ...]:
    ledger = Ledger(Budget(epsilon, delta, Unit.TRANSITION), 1000, np.random.default_rng(0), accountant)
    ledger.plan(**requests)
    return ledger.charges


# --- DP-SGD ---------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charge", "delta", "accountant", "epsilon"),
    [
        pytest.param(sgd(0.436, STEPS, RATE), 1e-6, "rdp", 10.0, id="halfcheetah-rdp-10"),
        pytest.param(sgd(0.944, STEPS, RATE), 1e-6, "rdp", 1.0, id="halfcheetah-rdp-1"),
        pytest.param(sgd(0.944, STEPS, RATE), 1e-6, "pld", 0.39, id="halfcheetah-at-the-rdp-noise"),
        pytest.param(sgd(1.55, steps=1000, rate=512 / 5950), 1e-5, "pld", 10.0, id="trajectories-10"),
        pytest.param(sgd(10.2, steps=1000, rate=512 / 5950), 1e-5, "pld", 1.0, id="trajectories-1"),
    ],
)
def test_epsilon_of_dp_sgd_is_the_measured_one(charge: Charge, delta: float, accountant: Accountant, epsilon: float) -> None:
    assert epsilon_spent([charge], delta, accountant) == pytest.approx(epsilon, rel=0.02)


def published(name: str, noise: float) -> Charge:
    rows, _ = PUBLISHED[name]
    return sgd(noise, 5 * rows // 128, 128 / rows)


@pytest.mark.parametrize(("name", "epsilon"), FAST)
def test_epsilon_of_the_published_training_is_the_measured_one(name: str, epsilon: float) -> None:
    assert epsilon_spent([published(name, PUBLISHED[name][1][epsilon])], 1e-6, "pld") == pytest.approx(epsilon, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "epsilon"), TABLE)
def test_calibration_of_the_published_training_asks_for_the_measured_noise_and_never_overspends(name: str, epsilon: float) -> None:
    rows, noises = PUBLISHED[name]
    (charge,) = charged(epsilon, sgd=DPSGD(rate=128 / rows, steps=5 * rows // 128, clip_norm=1.0))
    assert charge.noise_multiplier == pytest.approx(noises[epsilon], rel=0.01)
    assert 0.99 * epsilon < epsilon_spent([charge], 1e-6, "pld") <= epsilon


@pytest.mark.filterwarnings("ignore")  # Opacus and torch warn at import
@pytest.mark.parametrize("charge", [sgd(1.55, 1000, 512 / 5950), pytest.param(sgd(0.416, STEPS, RATE), marks=pytest.mark.slow)])
def test_pld_agrees_with_prv(charge: Charge) -> None:
    """Opacus returns the upper end of its error interval (0.01 in epsilon); ours rounds pessimistically too."""
    from opacus.accountants import PRVAccountant  # type: ignore[import-untyped]

    oracle = PRVAccountant()
    oracle.history = [(charge.noise_multiplier, charge.rate, charge.count)]
    assert epsilon_spent([charge], 1e-5, "pld") == pytest.approx(oracle.get_epsilon(1e-5), rel=0.003)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("charge", [sgd(1.55, 1000, 512 / 5950), sgd(0.436, STEPS, RATE), sgd(3.0, 200, 0.01)])
def test_rdp_agrees_with_opacus(charge: Charge) -> None:
    """Within 2 %: the two libraries try other orders alpha."""
    from opacus.accountants import RDPAccountant

    oracle = RDPAccountant()
    oracle.history = [(charge.noise_multiplier, charge.rate, charge.count)]
    assert epsilon_spent([charge], 1e-5, "rdp") == pytest.approx(oracle.get_epsilon(1e-5), rel=0.02)


def test_the_published_accountant_asks_for_more_noise() -> None:
    """At epsilon 1 RDP calibrates to 30 to 40 % more noise than PLD; so PLD sees less than epsilon 1 there."""
    assert epsilon_spent([sgd(0.944, STEPS, RATE)], 1e-6, "rdp") > 2 * epsilon_spent([sgd(0.944, STEPS, RATE)], 1e-6, "pld")


# --- Gaussian answers and picks -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("noise", "delta"), [(0.5, 1e-6), (1.0, 1e-5), (5.0, 1e-7), (40.0, 1e-9)])
def test_the_closed_form_of_gaussians_agrees_with_their_privacy_loss_distribution(noise: float, delta: float) -> None:
    judge = pld.PLDAccountant(dpa.NeighboringRelation.ADD_OR_REMOVE_ONE)
    judge.compose(dpa.GaussianDpEvent(noise))
    assert epsilon_spent([gaussian(noise)], delta, "pld") == pytest.approx(judge.get_epsilon(delta), rel=2e-3)


@given(st.lists(st.tuples(st.floats(2.0, 100.0), st.integers(1, 20)), min_size=1, max_size=5))
@settings(derandomize=True, max_examples=30, deadline=None)
def test_gaussians_compose_to_the_one_with_their_precision(parts: list[tuple[float, int]]) -> None:
    together = sum(count / noise**2 for noise, count in parts) ** -0.5
    charges = [gaussian(noise, count) for noise, count in parts]
    for accountant in ("pld", "rdp"):
        assert epsilon_spent(charges, 1e-6, accountant) == pytest.approx(epsilon_spent([gaussian(together)], 1e-6, accountant), rel=1e-9)


def test_gaussians_beside_dp_sgd_are_composed_with_it() -> None:
    """The oracle composes event by event."""
    judge = pld.PLDAccountant(dpa.NeighboringRelation.ADD_OR_REMOVE_ONE)
    judge.compose(dpa.PoissonSampledDpEvent(0.05, dpa.GaussianDpEvent(2.0)), 50)
    for noise in (6.0, 6.0, 9.0):
        judge.compose(dpa.GaussianDpEvent(noise))
    charges = [sgd(2.0, 50, 0.05), gaussian(6.0, 2), gaussian(9.0)]
    assert epsilon_spent(charges, 1e-5, "pld") == pytest.approx(judge.get_epsilon(1e-5), rel=2e-3)


@pytest.mark.parametrize(("epsilon", "picks", "answers"), [(10.0, 1.539, 1.708), (1.0, 0.0244, 0.0280)])
def test_the_price_of_a_pick(epsilon: float, picks: float, answers: float) -> None:
    """Total rho at delta 1e-6: as zCDP with picks, and with Gaussian answers alone, which have an exact bound."""
    (pick,) = charged(epsilon, best=Exponential(sensitivity=1.0, weight=1.0, count=4))
    (answer,) = charged(epsilon, counts=Gaussian(l2=1.0, weight=1.0, count=4))
    assert pick.pick_epsilon is not None
    assert answer.noise_multiplier is not None
    assert pick.count * pick.pick_epsilon**2 / 8 == pytest.approx(picks, rel=5e-3)
    assert answer.count / (2 * answer.noise_multiplier**2) == pytest.approx(answers, rel=5e-3)


def test_many_picks_cost_less_than_pure_dp_would_charge() -> None:
    """A hundred picks of epsilon 0.1 are epsilon 10 by basic composition; zCDP of rho = 100 * 0.01 / 8 makes less than a third of it."""
    assert epsilon_spent([Charge("best", "exponential", 1.0, 100, pick_epsilon=0.1)], 1e-6, "rdp") < 10 / 3


def test_a_pick_calls_for_rdp() -> None:
    pick, answer = Charge("best", "exponential", 1.0, 1, pick_epsilon=1.0), gaussian(1.0)
    assert accountant_for([answer, pick], "pld") == "rdp"
    assert accountant_for([answer, sgd(1.0, 1, 0.1)], "pld") == "pld"
    assert accountant_for([answer], "rdp") == "rdp"


@pytest.mark.parametrize(
    "changes",
    [
        {"mechanism": "laplace"},
        {"noise_multiplier": None},
        {"noise_multiplier": "large"},
        {"noise_multiplier": math.nan},
        {"noise_multiplier": -1.0},
        {"mechanism": "exponential"},
        {"noise_multiplier": 1e-200},
        {"noise_multiplier": 1e200},
        {"noise_multiplier": math.inf},
        {"mechanism": "exponential", "pick_epsilon": 1e200},
        {"saturation": -3},
        {"saturation": "few"},
        {"count": 0},
        {"count": 1.5},
        {"count": -1},
        {"count": None},
        {"rate": 0},
        {"rate": -0.1},
        {"rate": 1.1},
    ],
)
def test_what_no_accountant_can_judge_is_no_charge(changes: dict[str, Any]) -> None:
    """It was taken for DP-SGD, or for nothing."""
    with pytest.raises(ValueError, match=r"charge 'gaussian': .* is no mechanism of the Ledger"):
        replace(gaussian(1.0), **changes)


# --- calibration ----------------------------------------------------------------------------------------------------------------------------------

weights = st.lists(st.integers(1, 20), min_size=1, max_size=4).map(lambda parts: [part / sum(parts) for part in parts])
budgets = st.tuples(st.floats(0.05, 20.0), st.floats(-9, -4).map(lambda exponent: 10**exponent))


@given(weights, st.lists(st.tuples(st.booleans(), st.integers(1, 50)), min_size=4, max_size=4), budgets, st.sampled_from(["pld", "rdp"]))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_calibration_never_overspends_and_wastes_nothing(
    shares: list[float], kinds: list[tuple[bool, int]], budget: tuple[float, float], wanted: Accountant
) -> None:
    requests = [
        Exponential(sensitivity=1.0, weight=share, count=count) if pick else Gaussian(l2=1.0, weight=share, count=count)
        for share, (pick, count) in zip(shares, kinds, strict=False)
    ]
    check_calibration(requests, *budget, wanted)


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_calibration_of_dp_sgd(accountant: Accountant) -> None:
    check_calibration([DPSGD(rate=0.1, steps=20, clip_norm=1.0)], 2.0, 1e-5, accountant)


@pytest.mark.parametrize("accountant", ["rdp", pytest.param("pld", marks=pytest.mark.slow)])
def test_calibration_of_dp_sgd_beside_an_answer(accountant: Accountant) -> None:
    check_calibration([DPSGD(rate=0.02, steps=100, clip_norm=1.0, weight=0.7), Gaussian(l2=1.0, weight=0.3)], 2.0, 1e-5, accountant)


def check_calibration(requests: list[Any], epsilon: float, delta: float, wanted: Accountant) -> None:
    """At the returned factor the budget holds; with 0.1 % less noise it does not."""

    def charges_at(factor: float) -> tuple[Charge, ...]:
        return tuple(request.charge(f"question {i}", factor) for i, request in enumerate(requests))

    accountant = accountant_for(charges_at(1.0), wanted)
    factor = noise_factor(charges_at, epsilon, delta, accountant)
    assert epsilon_spent(charges_at(factor), delta, accountant) <= epsilon
    assert epsilon_spent(charges_at(factor * (1 - 1e-3)), delta, accountant) > epsilon


def test_where_delta_alone_nearly_pays_calibration_still_ends() -> None:
    """A huge delta and a tiny epsilon: more noise than needed costs exactly 0, which has no logarithm."""
    (charge,) = charged(1e-3, 1e-2, counts=Gaussian(l2=1.0, weight=1.0))
    assert 0 < epsilon_spent([charge], 1e-2, "pld") <= 1e-3


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # dp-accounting, where noise hides everything
@pytest.mark.parametrize(
    ("epsilon", "delta", "question", "sentence"),
    [
        (1.0, 1e-16, DPSGD(rate=0.05, steps=50, clip_norm=1.0), "delta: 1e-16 is below what the pld accountant resolves; give a larger one"),
        (1e-3, 1e-6, Exponential(sensitivity=1.0, weight=1.0), "epsilon: the rdp accountant cannot tell 0.001 from 0 at delta 1e-06; give a larger"),
        (1e-16, 1e-6, Gaussian(l2=1.0, weight=1.0), "epsilon: the pld accountant cannot tell 1e-16 from 0 at delta 1e-06; give a larger one"),
    ],
)
def test_a_budget_that_no_noise_can_be_found_for_is_refused_in_a_sentence(epsilon: float, delta: float, question: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        charged(epsilon, delta, question=question)


def test_an_infinite_budget_needs_no_noise() -> None:
    assert [charge.noise_multiplier for charge in charged(math.inf, counts=Gaussian(l2=1.0, weight=1.0))] == [0.0]
    assert [charge.pick_epsilon for charge in charged(math.inf, best=Exponential(sensitivity=1.0, weight=1.0))] == [math.inf]
    assert epsilon_spent([gaussian(1.0), gaussian(0.0)], 1e-6, "pld") == math.inf


def test_no_charge_spends_nothing() -> None:
    assert epsilon_spent([], 1e-6, "pld") == 0


# --- calibrations on disk -------------------------------------------------------------------------------------------------------------------------

QUESTION: dict[str, Any] = {"epsilon": 2.0, "delta": 1e-5, "accountant": "rdp", "rate": 0.02, "steps": 50}
ANOTHER = {"epsilon": 2.1, "delta": 1e-6, "accountant": "pld", "rate": 0.021, "steps": 51}


def calibrated(epsilon: float, delta: float, accountant: Accountant, rate: float, steps: int) -> Charge:
    (charge,) = charged(epsilon, delta, accountant, sgd=DPSGD(rate=rate, steps=steps, clip_norm=1.0))
    return charge


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def without_searching(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*question: Any) -> float:
        raise AssertionError("searched for a factor")

    monkeypatch.setattr(accounting, "_searched_factor", search)


def test_a_question_is_calibrated_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = calibrated(**QUESTION)
    without_searching(monkeypatch)
    assert calibrated(**QUESTION) == first


@pytest.mark.parametrize("name", QUESTION)
def test_a_question_that_differs_in_anything_is_another_one(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrated(**QUESTION)
    without_searching(monkeypatch)
    with pytest.raises(AssertionError, match="searched"):
        calibrated(**QUESTION | {name: ANOTHER[name]})


def test_an_infinite_budget_is_not_searched_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_searching(monkeypatch)
    assert calibrated(**QUESTION | {"epsilon": math.inf}).noise_multiplier == 0
    assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_to_does_no_harm(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = calibrated(**QUESTION)
    (cache / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    assert calibrated(**QUESTION) == first


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"factor": null}'])
def test_a_kept_calibration_that_is_not_whole_is_found_again(text: str, cache: Path) -> None:
    first = calibrated(**QUESTION)
    (kept,) = cache.rglob("*.json")
    kept.write_text(text)
    assert calibrated(**QUESTION) == first
    assert json.loads(kept.read_text())["factor"]


def test_a_calibration_leaves_one_file_that_says_what_it_answers(cache: Path) -> None:
    calibrated(**QUESTION)
    (kept,) = (path for path in cache.rglob("*") if path.is_file())
    assert kept.suffix == ".json"
    charges, *_ = json.loads(json.loads(kept.read_text())["question"])
    assert charges == [["sgd", "dp-sgd", 1.0, 50, pytest.approx(0.02 * math.sqrt(50 / 2)), None, 0.02]]


def test_what_many_units_do_is_no_part_of_a_question(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = charged(2.0, counts=Gaussian(l2=1.0, weight=1.0))
    without_searching(monkeypatch)
    (saturated,) = charged(2.0, counts=Gaussian(l2=1.0, weight=1.0, saturation=5))
    assert saturated.noise_multiplier == first.noise_multiplier
    assert (first.saturation, saturated.saturation) == (None, 5)


@pytest.mark.parametrize(("name", "other"), [("_ACCOUNTING_VERSION", "0.0"), ("_LOG_FACTOR_TOLERANCE", 1e-2)])
def test_a_calibration_of_another_accountant_is_made_anew(name: str, other: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        noise_factor(lambda factor: (Gaussian(1.0, 1.0).charge("a", factor),), 1.0, 1e-5, "rdp")
        monkeypatch.setattr(accounting, name, other)
    assert len(list(tmp_path.rglob("*.json"))) == 2
