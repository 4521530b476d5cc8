"""Audits: what a canary contributes, what a transcript says about a unit, and that both are told as they should be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from audit_arms import subject
from stubs import SgdStub

from bench import Exponential, Runtime
from bench.conformance.audits import Counts
from bench.conformance.rows import faults
from bench.core.accounting import Charge
from bench.core.data import Transitions
from bench.core.privacy import RecordingLedger
from bench.core.registry import resolve
from metrics import audits
from metrics._bounds import Errors, bounds_of_errors
from metrics._canaries import GradientCanaries, corner_row, estimated_coins, gradient_scores, random_rows
from metrics._transcripts import _log_ratio, in_full_batches, is_gaussian, log_likelihood_ratio, record
from metrics.audits import ManyRun, OneRun

ROWS, RUNS = 200, 400


def with_corner(audited: Any, view: Any) -> Any:
    return replace(view, canaries=(corner_row(audited.data(view).schema),))


# --- rows and gradients ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["toy", "maze2d-umaze"])
def test_canaries_stay_inside_the_declared_box(name: str) -> None:
    schema = resolve("environments", name).instance.schema
    rows = Transitions.from_table(schema, np.vstack([random_rows(schema, 300, np.random.default_rng(0)), [corner_row(schema)]]))
    assert not faults(rows)
    moved = (rows.next_observations - rows.observations)[:-1]
    assert (np.abs(moved) <= [max(-column.low, column.high) * 1.001 for column in schema.differences]).all()


def test_coins_are_estimated_exactly_where_there_is_hardly_any_noise() -> None:
    rng = np.random.default_rng(0)
    contributions, coins = 1e4 * rng.standard_normal((20, 50)), rng.random(20) < 0.5
    assert estimated_coins(contributions, coins @ contributions) == pytest.approx(coins - 0.5, abs=1e-3)


def test_a_coin_without_a_contribution_is_not_estimated() -> None:
    contributions = np.array([[0.0, 0.0], [3.0, 1.0]])
    assert estimated_coins(contributions, np.array([3.0, 1.0]))[0] == 0


@pytest.mark.parametrize("method", [SgdStub(), resolve("synthesizers", "privorl-n[pretraining_steps=0]").instance], ids=["numpy", "torch"])
def test_canaries_that_are_all_out_change_nothing(method: Any) -> None:
    audited, out, rng = subject(method, 1.0, ROWS, accountant="rdp"), np.zeros(5, bool), np.random.default_rng(0)
    models = [audited.refit(audited.view, 0, make).state() for make in (RecordingLedger, lambda *arguments: GradientCanaries(out, rng, *arguments))]
    assert all(np.array_equal(models[0][name], models[1][name]) for name in models[0])


def test_a_gradient_canary_adds_the_clip_norm_and_no_more() -> None:
    audited = subject(SgdStub(steps=2, batch=ROWS), 1.0, ROWS, accountant="rdp")
    lent: list[GradientCanaries] = []

    def make(*arguments: Any) -> GradientCanaries:
        lent.append(GradientCanaries(np.arange(5) == 3, np.random.default_rng(0), *arguments))
        return lent[0]

    transcript = record(audited, audited.view, 0, make)
    ((name, directions),) = lent[0].directions.items()
    added = lent[0]._batch(transcript.charges[name], directions.shape[1])
    assert np.linalg.norm(added) == pytest.approx(transcript.charges[name].sensitivity)
    assert np.linalg.norm(directions, axis=1) == pytest.approx(np.ones(5))


def test_gradient_canaries_of_little_noise_are_all_found() -> None:
    audited = subject(SgdStub(steps=2, batch=ROWS), 1e4, ROWS, accountant="rdp")
    coins = np.random.default_rng(0).random(5) < 0.5
    _, scores = gradient_scores(audited, audited.view, coins, np.random.default_rng(1), Runtime())
    assert scores == pytest.approx(coins - 0.5, abs=0.05)


# --- transcripts ----------------------------------------------------------------------------------------------------------------------------------


def test_the_likelihood_ratio_of_one_gaussian_answer() -> None:
    """One row more moves one count by one: y of that cell, less the count without it, decides."""
    audited = subject(Counts(), 1.0, ROWS)
    without, with_unit = audited.view, with_corner(audited, audited.view)
    for view in (without, with_unit):
        transcript = record(audited, view, 3)
        ((charge, answer),), exact = transcript.answers, record(audited, without, 0).questions[0][1]
        by_hand = ((answer - exact)[-1] - 0.5) / charge.noise_multiplier**2
        assert log_likelihood_ratio(audited, transcript, without, with_unit) == pytest.approx(by_hand)


@pytest.mark.parametrize("batch", [ROWS, 40], ids=["full batches", "Poisson batches"])
@pytest.mark.parametrize("side", [0, 1], ids=["without", "with"])
def test_likelihood_ratios_against_the_truth_average_to_one(batch: int, side: int) -> None:
    """E[p1 / p0] under p0 is 1, and E[p0 / p1] under p1, whatever they are: a ratio that counted noise or batches wrongly would not keep to it."""
    audited = subject(SgdStub(batch=batch, steps=2), 0.5, ROWS, accountant="rdp")
    sides = (audited.view, with_corner(audited, audited.view))
    logs = np.array([log_likelihood_ratio(audited, record(audited, sides[side], seed), *sides) for seed in range(RUNS)])
    ratios = np.exp(-logs if side else logs)
    assert np.std(ratios) > 0
    assert np.mean(ratios) == pytest.approx(1, abs=4 * np.std(ratios) / RUNS**0.5)


def test_a_dp_sgd_method_is_audited_where_each_unit_is_in_each_batch() -> None:
    audited = subject(SgdStub(batch=40), 1.0, ROWS, accountant="rdp")
    sampled = record(audited, audited.view, 0)
    view = in_full_batches(audited, sampled)
    assert not is_gaussian(sampled)
    assert view.rows == 40
    assert is_gaussian(record(audited, view, 0))


@pytest.mark.parametrize("name", ["independent", "pgm[select=exponential]"])
def test_only_a_gaussian_mechanism_gets_a_gaussian_bound(name: str) -> None:
    audited = subject(resolve("synthesizers", name).instance, 1.0, ROWS)
    reports = [audit.audit(audited, np.random.default_rng(0), runtime=Runtime()) for audit in (OneRun(ROWS, 20), ManyRun(ROWS, 3))]
    first = [next(iter(report.bounds)) for report in reports]
    assert first == (["one-run f-dp", "gaussian dp"] if name == "independent" else ["one-run", "clopper-pearson"])


def test_a_method_without_noisy_sums_is_told_so() -> None:
    class Picks:
        needs_public, units = False, frozenset({next(iter(SgdStub().units))})

        def fit(self, data: Transitions, ledger: Any, rng: Any, **rest: Any) -> None:
            ledger.plan(best=Exponential(1.0, 1.0)).best(np.zeros(3))

    with pytest.raises(ValueError, match="releases no noisy sum"):
        OneRun(ROWS, 5).audit(subject(Picks(), 1.0, ROWS), np.random.default_rng(0), runtime=Runtime())


def test_coins_of_canaries_are_fair(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the theorem of one-run audits has it."""
    tossed: list[Any] = []
    sound = audits.row_scores
    monkeypatch.setattr(audits, "row_scores", lambda audited, view, coins, *rest: tossed.append(coins) or sound(audited, view, coins, *rest))
    for seed in range(4):
        OneRun(100, 100).audit(subject(Counts(), 1.0, 100), np.random.default_rng(seed), runtime=Runtime())
    assert np.mean(tossed) == pytest.approx(0.5, abs=4 * 0.5 / 400**0.5)


def test_the_bounds_of_many_runs_are_those_of_the_errors_that_it_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    sound = audits.record
    monkeypatch.setattr(audits, "record", lambda audited, view, seed: seeds.append(seed) or sound(audited, view, seed))
    audit, audited = ManyRun(100, 40), subject(Counts(), 10.0, 100)
    report = audit.audit(audited, np.random.default_rng(0), runtime=Runtime())
    wrong = [int(report.facts[name]) for name in ("false positives", "false negatives")]
    assert wrong[0] != wrong[1], "else one could stand for the other"
    assert report.bounds == bounds_of_errors(Errors(40, *wrong, audited.budget.delta), 10.0, gaussian=True)
    assert next(iter(report.bounds.values())).epsilon > 0
    assert len(set(seeds[1:])) == 80, "each fit has a noise of its own"


def test_the_likelihood_ratio_of_a_pick_is_that_of_the_exponential_mechanism() -> None:
    charge = Charge("best", "exponential", 2.0, 1, pick_epsilon=1.7)
    absent, moved = np.array([0.0, 1.0, 2.5]), np.array([0.0, 2.0, -1.0])
    without, present = (np.exp(1.7 * scores / 4) / np.exp(1.7 * scores / 4).sum() for scores in (absent, absent + moved))
    for pick in range(3):
        found = _log_ratio(charge, np.array(pick), absent, absent + moved)
        assert found == pytest.approx(np.log(present[pick] / without[pick]))
