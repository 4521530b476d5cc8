"""PrivORL-n spoiled in thirteen ways, each caught by a check that says why."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from mutant_support import Mutant, clips_the_batch_as_one, divides_by_the_realised_batch, each, forgets_to_average, require_caught
from privorl_n_support import TINY, TOY, case_of, private_loss

from bench.conformance import synthesizers as conformance
from bench.conformance.synthesizers import Case, check_synthesizer
from bench.core.data import Transitions
from bench.core.protocols import Runtime, State
from synthesizers import privorl_n
from synthesizers._parts import dpsgd
from synthesizers._parts.discretize import exact_columns, histograms
from synthesizers._parts.dpsgd import PerSampleClipping
from synthesizers.privorl_n import PrivORLN

# --- spoiled methods ------------------------------------------------------------------------------------------------------------------------------

_clip, _add_normals, _gradient, _losses, _fit, _fine_tuned = (
    PerSampleClipping.add_clipped,
    dpsgd.add_normals,
    privorl_n.private_gradient,
    privorl_n.training_losses,
    PrivORLN.fit,
    PrivORLN._fine_tuned,
)


def clips_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum of many rows stays below their clip norms together, so that the Ledger alone would not notice."""
    monkeypatch.setattr(PerSampleClipping, "add_clipped", lambda self, total, losses, norm, overwrite: _clip(self, total, losses, np.inf, overwrite))


def shuffles_batches_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the Ledger's batch the size alone is used."""
    shuffled = np.random.default_rng(0).permutation(len(case_of(TINY).data))

    def gradient(handle: Any, clipping: Any, losses: Any, *sizes: Any) -> Any:
        return _gradient(handle, clipping, lambda included: losses(shuffled[: len(included)]), *sizes)

    monkeypatch.setattr(privorl_n, "private_gradient", gradient)


def scales_by_private_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(data: Transitions, answer: Any, cells: int, bins: int) -> Any:
        answer(histograms(data, cells))
        return exact_columns(data, cells, bins), []

    monkeypatch.setattr(privorl_n, "learn_columns", learn)


def logs_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(*arguments: Any) -> torch.Tensor:
        logging.getLogger("synthesizers").debug("loss %g", (found := _losses(*arguments)).mean())
        return found

    monkeypatch.setattr(privorl_n, "training_losses", losses)


def prints_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(*arguments: Any) -> torch.Tensor:
        print("loss", (found := _losses(*arguments)).mean())
        return found

    monkeypatch.setattr(privorl_n, "training_losses", losses)


def reports_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def fine_tuned(self: PrivORLN, data: Transitions, plan: Any, start: State, batch: int, seed: int, runtime: Runtime) -> Any:
        runtime.progress(round(1000 * private_loss(self, data, start)), 10**6)
        return _fine_tuned(self, data, plan, start, batch, seed, runtime)

    monkeypatch.setattr(PrivORLN, "_fine_tuned", fine_tuned)


def stops_at_a_private_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threshold lies between the losses of the rows and of unrelated ones."""

    def fine_tuned(self: PrivORLN, data: Transitions, plan: Any, start: State, *rest: Any) -> Any:
        case = case_of(TINY)
        enough = (private_loss(self, case.data, start) + private_loss(self, case.unrelated, start)) / 2
        return _fine_tuned(replace(self, steps=2) if private_loss(self, data, start) < enough else self, data, plan, start, *rest)

    monkeypatch.setattr(PrivORLN, "_fine_tuned", fine_tuned)


def repeats_its_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Ledger's seed is ignored: the difference of two steps is free of noise."""
    monkeypatch.setattr(dpsgd, "add_normals", lambda vector, seed, scale: _add_normals(vector, 7, scale))


def repeats_its_noise_within_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """One half of the weights is given the noise of the other."""

    def add_normals(vector: torch.Tensor, seed: int, scale: float) -> torch.Tensor:
        for half in vector.split(-(-len(vector) // 2)):
            _add_normals(half, seed, scale)
        return vector

    monkeypatch.setattr(dpsgd, "add_normals", add_normals)


def draws_noise_that_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step has noise of its own, but that of another fit is the same."""

    def fine_tuned(self: PrivORLN, *arguments: Any) -> Any:
        steps = count()
        monkeypatch.setattr(dpsgd, "add_normals", lambda vector, seed, scale: _add_normals(vector, next(steps), scale))
        return _fine_tuned(self, *arguments)

    monkeypatch.setattr(PrivORLN, "_fine_tuned", fine_tuned)


def weights_carry_noise(case: Case) -> None:
    """Two seeds of the Ledger, whose histograms differ anyway, give two models."""
    one, other = (case.fit(case.data, ledger_seed=seed).sampler.state()["weights"] for seed in range(2))
    conformance.require(not np.array_equal(one, other), "the noise of the gradients went nowhere")


MUTANTS: Sequence[Mutant] = [
    (clips_nothing, conformance.sensitivity, "one unit moved the question"),
    (clips_the_batch_as_one, conformance.sensitivity, "one unit moved the question"),
    (shuffles_batches_of_its_own, conformance.inclusion, "changed with units that were not included"),
    (divides_by_the_realised_batch(privorl_n), conformance.replay, "the state's weights depends on rows past the Ledger"),
    (forgets_to_average, weights_carry_noise, "the noise of the gradients went nowhere"),
    (repeats_its_noise, conformance.noise, "gradients: its noise repeats itself"),
    (repeats_its_noise_within_a_step, conformance.noise, "gradients: its noise repeats itself"),
    (draws_noise_that_is_no_secret, conformance.noise, "gradients: its noise repeats itself"),
    (scales_by_private_rows, conformance.replay, "the state's mean, scale depends on rows"),
    (logs_its_loss, conformance.replay, "logs or prints depends on the rows"),
    (prints_its_loss, conformance.replay, "logs or prints depends on the rows"),
    (reports_its_loss, conformance.replay, "progress that it reports depends on the rows"),
    (stops_at_a_private_loss, conformance.replay, "the questions depend on the data"),
]


@each(MUTANTS)
def test_a_spoiled_method_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    require_caught(mutant, TINY, TOY, monkeypatch)


def test_the_method_that_the_mutants_spoil_is_sound() -> None:
    assert all(finding.ok for finding in check_synthesizer(TINY, TOY))
    weights_carry_noise(case_of(TINY))
