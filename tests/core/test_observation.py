"""Who watches a fit sees what every mechanism was asked, may add to it, and changes nothing by watching."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stubs import STUBS

from bench.core.data import Unit, View
from bench.core.privacy import DPSGD, Budget, Exponential, Gaussian, Ledger, RecordingLedger, ReplayLedger
from bench.core.protocols import AuditSubject, Environment, State
from bench.core.registry import resolve

BUDGET = Budget(1.0, 1e-5, Unit.TRANSITION)
WATCHED = {
    **{name: STUBS[name] for name in ("dp-sgd", "exponential", "pate")},
    "torch": resolve("synthesizers", "privorl-n[pretraining_steps=0]").instance,
}


def fitted(toy: Environment, method: Any, make: Any) -> State:
    small = method.audit_size() if hasattr(method, "audit_size") else method
    subject = AuditSubject(small, toy, BUDGET, "rdp", View("toy", "train", 200), {}, None, "observation")
    return subject.refit(subject.view, 0, make).state()


@pytest.mark.parametrize("name", WATCHED)
def test_a_watched_fit_gives_the_model_of_an_unwatched_one(name: str, toy: Environment) -> None:
    plain, watched = (fitted(toy, WATCHED[name], kind) for kind in (Ledger, RecordingLedger))
    assert all(np.array_equal(plain[array], watched[array]) for array in plain)


def ask(kind: Any) -> tuple[Any, list[Any]]:
    """A ledger of a kind, and its answers to one question of each mechanism; the question changes in place afterwards."""
    ledger = kind(BUDGET, 10, np.random.default_rng(0), "rdp")
    plan = ledger.plan(sums=Gaussian(1.0, 0.4), best=Exponential(1.0, 0.2), sgd=DPSGD(1.0, 1, 1.0, 0.4))
    answers = [plan.sums([1.0, 2.0]), plan.best([0.0, 0.0, 0.0])]
    plan.sgd.include()
    gradients = np.array([3.0, 4.0])
    answers.append(plan.sgd.release(gradients, lambda values, seed, scale: np.add(values, scale, out=values)))
    return ledger, answers


def test_questions_are_kept_as_they_were_asked() -> None:
    recorded, _ = ask(RecordingLedger)
    replayed, _ = ask(lambda budget, units, rng, accountant: ReplayLedger(budget, recorded.tape, accountant))
    for ledger in (recorded, replayed):
        assert [name for name, _ in ledger.questions] == ["sums", "best", "sgd"]
        assert [list(exact) for _, exact in ledger.questions] == [[1.0, 2.0], [0.0, 0.0, 0.0], [3.0, 4.0]]


def test_what_a_watcher_adds_is_answered_with_the_noise_that_would_have_been() -> None:
    class Adding(Ledger):
        def asked(self, name: str, exact: Any) -> Any:
            return exact + 1e9 * np.eye(len(exact))[-1]

    plain, added = ask(Ledger)[1], ask(Adding)[1]
    assert added[0] - plain[0] == pytest.approx([0, 1e9])
    assert added[1] == 2, "the score that was raised wins"
    assert added[2] - plain[2] == pytest.approx([0, 1e9])
