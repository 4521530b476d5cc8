"""The Ledger: one plan, charged before the first answer; nothing outside it; noise and batches as declared, from its own generator."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stubs import SgdStub

from bench.conformance.probes import Recorder
from bench.core.accounting import Charge
from bench.core.data import Unit
from bench.core.errors import InputError
from bench.core.privacy import (
    DPSGD,
    Budget,
    Exponential,
    ExponentialPicks,
    Gaussian,
    Ledger,
    PlanError,
    RecordingLedger,
    ReplayLedger,
)
from bench.core.protocols import Environment, Runtime


def ledger(epsilon: float = 1.0, units: int = 1000, seed: int = 0, kind: Any = Ledger) -> Any:
    return kind(Budget(epsilon, 1e-5, Unit.TRANSITION), units, np.random.default_rng(seed), "rdp")


SGD = DPSGD(rate=0.1, steps=2, clip_norm=1.0)


# --- the plan -------------------------------------------------------------------------------------------------------------------------------------


def test_a_plan_is_charged_before_its_first_answer_and_meets_the_budget() -> None:
    one = ledger()
    one.plan(total=Gaussian(l2=1.0, weight=0.5), best=Exponential(sensitivity=1.0, weight=0.5, count=3))
    assert [charge.name for charge in one.charges] == ["total", "best"]
    assert 0.999 < one.spent() <= 1.0


def test_weights_are_shares_of_zcdp() -> None:
    """rho is count / (2 sigma^2) for answers and count epsilon^2 / 8 for picks."""
    one = ledger()
    one.plan(total=Gaussian(l2=3.0, weight=0.25, count=5), best=Exponential(sensitivity=2.0, weight=0.75, count=3))
    total, best = one.charges
    assert 3 * (total.count / (2 * total.noise_multiplier**2)) == pytest.approx(best.count * best.pick_epsilon**2 / 8)


def test_what_was_spent_is_recomputed_from_the_noise_whatever_a_kept_calibration_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    honest, poisoned = ledger(), ledger()
    honest.plan(sgd=SGD)
    (kept,) = tmp_path.rglob("*.json")
    answer = json.loads(kept.read_text())
    kept.write_text(json.dumps(answer | {"factor": answer["factor"] / 2}))
    poisoned.plan(sgd=SGD)
    assert poisoned.charges[0].noise_multiplier == honest.charges[0].noise_multiplier / 2
    assert honest.spent() <= 1.0 < poisoned.spent()


@pytest.mark.parametrize(
    "requests",
    [
        {"a": Gaussian(l2=1.0, weight=0.5)},
        {"a": Gaussian(l2=1.0, weight=1.5), "b": Gaussian(l2=1.0, weight=-0.5)},
        {"a": Gaussian(l2=1.0, weight=math.nan)},
        {"a": Gaussian(l2=0.0, weight=1.0)},
        {"a": Gaussian(l2=math.nan, weight=1.0)},
        {"a": Gaussian(l2=math.inf, weight=1.0)},
        {"a": Gaussian(l2=1.0, weight=1.0, count=0)},
        {"a": Gaussian(l2=1.0, weight=1.0, count=2.5)},  # type: ignore[arg-type]  # three answers at the price of two and a half
        {"a": Gaussian(l2=1.0, weight=1.0, saturation=0)},
        {"a": Gaussian(l2=1.0, weight=1.0, saturation=2.5)},  # type: ignore[arg-type]
        {"a": Exponential(sensitivity=-1.0, weight=1.0)},
        {"a": Exponential(sensitivity=1.0, weight=1.0, count=1.5)},  # type: ignore[arg-type]
        {"a": DPSGD(rate=0.1, steps=1.5, clip_norm=1.0)},  # type: ignore[arg-type]
        {"a": DPSGD(rate=1.5, steps=1, clip_norm=1.0)},
        {"a": DPSGD(rate=0.0, steps=1, clip_norm=1.0)},
        {"a": DPSGD(rate=0.1, steps=1, clip_norm=0.0)},
    ],
)
def test_senseless_requests_are_refused_and_charge_nothing(requests: dict[str, Any]) -> None:
    one = ledger()
    with pytest.raises(InputError):
        one.plan(**requests)
    assert one.charges == ()


def test_numbers_of_numpy_and_whole_floats_are_charged_as_plain_ones() -> None:
    """They were refused by JSON, or by the accountant, in words of their own."""
    whole, real = np.int64(3), np.float32(1.0)
    requests = {
        "total": Gaussian(l2=real, weight=0.25, count=whole, saturation=whole),
        "best": Exponential(sensitivity=real, weight=0.25, count=whole),
        "steps": DPSGD(rate=np.float32(0.5), steps=3.0, clip_norm=real, weight=0.5),  # type: ignore[arg-type]
    }
    plain = {
        "total": Gaussian(l2=1.0, weight=0.25, count=3, saturation=3),
        "best": Exponential(sensitivity=1.0, weight=0.25, count=3),
        "steps": DPSGD(rate=0.5, steps=3, clip_norm=1.0, weight=0.5),
    }
    one, other = ledger(), ledger()
    one.plan(**requests)
    other.plan(**plain)
    assert json.dumps([vars(charge) for charge in one.charges]) == json.dumps([vars(charge) for charge in other.charges])


def test_there_is_one_plan_and_it_is_not_empty() -> None:
    one = ledger()
    with pytest.raises(PlanError, match="empty"):
        one.plan()
    one.plan(total=Gaussian(l2=1.0, weight=1.0))
    with pytest.raises(PlanError, match="one plan"):
        one.plan(more=Gaussian(l2=1.0, weight=1.0))


def test_a_closed_ledger_refuses_every_plan() -> None:
    closed = Ledger(None, 0, np.random.default_rng(0))
    with pytest.raises(PlanError, match="no budget"):
        closed.plan(total=Gaussian(l2=1.0, weight=1.0))
    assert closed.spent() == 0


def unknown_question(plan: Any) -> None:
    plan.other(1.0)


def second_answer(plan: Any) -> None:
    plan.total(1.0)
    plan.total(1.0)


def second_pick(plan: Any) -> None:
    plan.best([1.0, 2.0])
    plan.best([1.0, 2.0])


def step_too_many(plan: Any) -> None:
    for _ in range(3):
        plan.sgd.include()
        plan.sgd.release(np.zeros(2))


def release_first(plan: Any) -> None:
    plan.sgd.release(np.zeros(2))


def release_twice(plan: Any) -> None:
    plan.sgd.include()
    plan.sgd.release(np.zeros(2))
    plan.sgd.release(np.zeros(2))


def include_twice(plan: Any) -> None:
    plan.sgd.include()
    plan.sgd.include()


def unclipped_sum(plan: Any) -> None:
    plan.sgd.release(np.array([1.02 * len(plan.sgd.include())]))


def sum_that_is_not_a_number(plan: Any) -> None:
    plan.sgd.include()
    plan.sgd.release(np.full(2, np.nan))


def answer_that_is_not_a_number(plan: Any) -> None:
    plan.total([0.0, np.nan])


def infinite_answer(plan: Any) -> None:
    plan.total(-np.inf)


def score_that_is_not_a_number(plan: Any) -> None:
    plan.best([0.0, np.nan])


def infinite_score(plan: Any) -> None:
    plan.best([0.0, np.inf])


OUTSIDE = [
    unknown_question,
    second_answer,
    second_pick,
    step_too_many,
    release_first,
    release_twice,
    include_twice,
    unclipped_sum,
    sum_that_is_not_a_number,
    answer_that_is_not_a_number,
    infinite_answer,
    score_that_is_not_a_number,
    infinite_score,
]


@pytest.mark.parametrize("misuse", OUTSIDE, ids=lambda misuse: misuse.__name__)
def test_a_question_outside_the_plan_is_refused_before_noise_is_drawn(misuse: Any) -> None:
    generator = np.random.default_rng(0)

    class Watched(Ledger):
        after = generator.bit_generator.state

        def _answer(self, name: str, compute: Any) -> Any:
            value = compute()
            self.after = generator.bit_generator.state
            return value

    one = Watched(Budget(1.0, 1e-5, Unit.TRANSITION), 1000, generator, "rdp")
    plan = one.plan(total=Gaussian(l2=1.0, weight=0.3), best=Exponential(sensitivity=1.0, weight=0.3), sgd=DPSGD(0.1, 2, 1.0, weight=0.4))
    with pytest.raises(PlanError):
        misuse(plan)
    assert generator.bit_generator.state == one.after


# --- answers --------------------------------------------------------------------------------------------------------------------------------------


def test_gaussian_noise_has_the_charged_scale() -> None:
    one = ledger()
    plan = one.plan(values=Gaussian(l2=2.0, weight=1.0))
    noise = plan.values(np.zeros(100_000))
    scale = 2.0 * one.charges[0].noise_multiplier
    assert plan.values.scale == scale
    assert abs(noise.std() / scale - 1) < 4 / math.sqrt(2 * len(noise))
    assert abs(noise.mean()) < 4 * scale / math.sqrt(len(noise))


@given(st.sampled_from([(), (3,), (2, 3)]))
@settings(derandomize=True, max_examples=5)
def test_an_answer_is_an_array_of_the_shape_of_the_question(shape: tuple[int, ...]) -> None:
    answer = ledger().plan(value=Gaussian(l2=1.0, weight=1.0)).value(np.zeros(shape))
    assert isinstance(answer, np.ndarray)
    assert answer.shape == shape


def test_picks_follow_the_exponential_mechanism() -> None:
    """Pearson's chi-squared of 40,000 picks against the softmax of epsilon score / (2 sensitivity); 99.99 % quantile for 3 degrees is 21.1."""
    scores, draws = np.array([0.0, 1.0, 2.5, -np.inf, 4.0]), 40_000
    question = ExponentialPicks(ledger(), Charge("best", "exponential", 2.0, draws, pick_epsilon=1.7))
    picked = np.bincount([question(scores) for _ in range(draws)], minlength=5)
    expected = np.exp(1.7 * scores / 4)
    expected *= draws / expected.sum()
    assert picked[3] == 0
    assert ((picked - expected)[[0, 1, 2, 4]] ** 2 / expected[[0, 1, 2, 4]]).sum() < 21.1


def test_inclusion_is_poisson_sampling() -> None:
    units, rate, steps = 40, 0.3, 4000
    one = ledger(units=units)
    handle = one.plan(sgd=DPSGD(rate=rate, steps=steps, clip_norm=1.0)).sgd
    hits = np.zeros((steps, units))
    for hit in hits:
        included = handle.include()
        assert (np.diff(included) > 0).all()
        hit[included] = 1
        handle.release(np.zeros(1))
    error = math.sqrt(rate * (1 - rate) / steps)
    assert abs(hits.mean() - rate) < 4 * error / math.sqrt(units)
    assert np.abs(hits.mean(0) - rate).max() < 4.5 * error
    covariance = np.cov(hits.T) / (rate * (1 - rate))  # each unit has its own coin
    assert np.abs(covariance - np.eye(units)).max() < 6 / math.sqrt(steps)
    assert abs(covariance.sum() / units - 1) < 4 * math.sqrt(2 / steps), "batch sizes are binomial, not fixed"


def test_batches_come_from_the_ledger_and_not_from_the_generator_of_the_method(toy: Environment) -> None:
    data = toy.dataset(500, 0, "train")

    def batches(rng_seed: int, ledger_seed: int) -> list[list[int]]:
        recorder = Recorder(Budget(1.0, 1e-5, Unit.TRANSITION), 500, np.random.default_rng(ledger_seed))
        SgdStub().fit(data, recorder, np.random.default_rng(rng_seed), public={}, pretrained=None, runtime=Runtime())
        return [list(answer) for name, answer in recorder.tape if name == "sgd.include"]

    assert batches(1, 7) == batches(2, 7)
    assert batches(1, 7) != batches(1, 8)


def test_an_empty_batch_is_released_with_noise() -> None:
    handle = ledger(units=0).plan(sgd=SGD).sgd
    assert len(handle.include()) == 0
    assert (handle.release(np.zeros(50)) != 0).all()


def test_dp_sgd_noise_has_the_charged_scale_and_is_drawn_where_the_caller_says() -> None:
    one = ledger()
    handle = one.plan(sgd=DPSGD(rate=0.1, steps=2, clip_norm=0.5)).sgd
    assert handle.noise_multiplier == one.charges[0].noise_multiplier
    handle.include()
    noise = handle.release(np.zeros(100_000, np.float32))
    assert noise.dtype == np.float32
    assert abs(noise.std() / (0.5 * handle.noise_multiplier) - 1) < 4 / math.sqrt(2e5)
    handle.include()
    assert handle.release(np.zeros(3), add_noise=lambda total, seed, scale: total + scale * np.arange(3.0)) == pytest.approx(
        0.5 * handle.noise_multiplier * np.arange(3)
    )


def test_an_infinite_budget_answers_exactly_and_spends_infinity() -> None:
    one = ledger(epsilon=math.inf)
    plan = one.plan(total=Gaussian(l2=1.0, weight=0.3), best=Exponential(sensitivity=1.0, weight=0.3), sgd=DPSGD(0.1, 1, 1.0, weight=0.4))
    assert plan.total(3.0) == 3.0
    assert plan.best([0.0, 5.0, -np.inf]) == 1
    included = plan.sgd.include()
    assert plan.sgd.release(np.array([len(included) / 2])) == len(included) / 2
    assert one.spent() == math.inf


# --- record and replay ----------------------------------------------------------------------------------------------------------------------------


def test_a_replay_gives_the_recorded_answers_even_if_the_fit_changed_them_in_place() -> None:
    recording = ledger(kind=RecordingLedger)
    answer = recording.plan(values=Gaussian(l2=1.0, weight=1.0)).values(np.zeros(3))
    original = answer.copy()
    answer[:] = 0
    for _ in range(2):
        replay = ReplayLedger(recording.budget, recording.tape, "rdp")
        told = replay.plan(values=Gaussian(l2=1.0, weight=1.0)).values(np.ones(3))
        assert np.array_equal(told, original)
        told[:] = 0


def test_a_replay_refuses_a_question_that_was_not_asked() -> None:
    recording = ledger(kind=RecordingLedger)
    two = {"one": Gaussian(l2=1.0, weight=0.5), "other": Gaussian(l2=1.0, weight=0.5)}
    recording.plan(**two).one(1.0)
    plan = ReplayLedger(recording.budget, recording.tape, "rdp").plan(**two)
    with pytest.raises(PlanError, match="'other' where the recorded fit was told 'one'"):
        plan.other(1.0)


def test_secret_keys_are_recorded() -> None:
    recording = ledger(kind=RecordingLedger)
    key = recording.secret_key()
    assert ReplayLedger(recording.budget, recording.tape).secret_key() == key


# --- secrets ----------------------------------------------------------------------------------------------------------------------------------------


def test_keys_and_seeds_follow_from_the_generator_of_the_ledger_and_never_repeat() -> None:
    def drawn(seed: int) -> list[int]:
        one = ledger(seed=seed)
        return [one.secret_key(), one.secret_key(), one.noise_seed(), one.noise_seed()]

    everything = [draw for seed in range(3) for draw in drawn(seed)]
    assert len(set(everything)) == 12
    assert everything[:4] == drawn(0)
    assert 2**60 < max(everything) < 2**63


def test_every_step_has_a_noise_seed_of_its_own() -> None:
    seeds: list[int] = []
    handle = ledger().plan(sgd=DPSGD(rate=0.1, steps=9, clip_norm=1.0)).sgd
    for _ in range(9):
        handle.include()
        handle.release(np.zeros(2), add_noise=lambda total, seed, scale: seeds.append(seed) or total)
    assert len(set(seeds)) == 9


def test_a_sum_may_exceed_the_clip_norms_by_rounding() -> None:
    handle = ledger().plan(sgd=SGD).sgd
    handle.release(np.array([1.005 * len(handle.include())]))
