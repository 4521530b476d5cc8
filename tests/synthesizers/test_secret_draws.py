"""What a loss draws for each unit of a batch is the Ledger's secret: to one who knew it, a missing unit would show in the draws of the next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.conformance.probes import Recorder
from bench.conformance.synthesizers import Case
from bench.core.privacy import ReplayLedger
from bench.core.registry import resolve

TOY = resolve("environments", "toy").instance


def case_of(name: str) -> Case:
    method = resolve("synthesizers", name).instance.audit_size()
    return Case(method, TOY, method.unit)


def clipped_sums(ledger: Recorder | ReplayLedger) -> list[Any]:
    """What a fit asked to be released, step by step."""
    return [question for name, question in ledger.questions if name == "gradients"]


@pytest.mark.parametrize("name", ["privorl-n", "privorl-j"])
def test_another_secret_key_gives_other_draws_to_the_same_batch(name: str) -> None:
    case = case_of(name)
    ledger = case.recorded.ledger
    assert isinstance(ledger, Recorder)
    other_key = [(question, answer + 1 if question == "secret_key" else answer) for question, answer in ledger.tape]
    recorded = clipped_sums(ledger)
    same, changed = (clipped_sums(case.replay(case.data, tape).ledger) for tape in (ledger.tape, other_key))
    assert all(np.array_equal(one, two) for one, two in zip(same, recorded, strict=True))
    assert not any(np.array_equal(one, two) for one, two in zip(changed, recorded, strict=True))


@pytest.mark.parametrize("name", ["privorl-n", "privorl-j"])
def test_every_step_has_draws_of_its_own(name: str) -> None:
    """Weights that hardly move, and the same units in each batch: what differs between two steps is what was drawn for them."""
    case = case_of(name)
    still = Case(replace(case.synthesizer, learning_rate=1e-12), TOY, case.unit)
    first, second, *_ = clipped_sums(still.fit(still.data, inclusion=lambda included: np.arange(3)).ledger)
    assert np.linalg.norm(first - second) > 1e-3 * np.linalg.norm(first)
