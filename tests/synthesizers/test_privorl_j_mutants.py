"""PrivORL-j spoiled as the published code is, and otherwise, each caught by a check that says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from mutant_support import Mutant, clips_the_batch_as_one, divides_by_the_realised_batch, each, forgets_to_average, require_caught
from privorl_j_support import TINY, TOY, UNITS, weights_of

from bench.conformance import synthesizers as conformance
from bench.conformance.synthesizers import Case, check_synthesizer
from bench.core.data import Index, Transitions, Unit
from bench.core.protocols import State
from synthesizers._parts import trajectory_method, window_models
from synthesizers._parts.discretize import exact_columns
from synthesizers._parts.lengths import exact_lengths
from synthesizers._parts.scaling import Scaling
from synthesizers._parts.window_denoiser import WindowDenoiser
from synthesizers._parts.window_models import TrajectorySGD
from synthesizers.privorl_j import PrivORLJ

METHOD = replace(TINY, clip_norm=1e-3)
"""Every gradient of it is longer than the norm."""

# --- spoiled methods ------------------------------------------------------------------------------------------------------------------------------

_gradient, _cut, _losses, _learn, _scale, _run, _fit = (
    window_models.private_gradient,
    window_models.cut,
    WindowDenoiser.losses,
    trajectory_method.learn_lengths,
    trajectory_method._learned_scaling,
    TrajectorySGD.run,
    PrivORLJ.fit,
)


class Handle:
    """The Ledger's handle, seen through a method that knows better."""

    def __init__(self, own: Any) -> None:
        self.own, self.clip_norm = own, own.clip_norm

    def include(self) -> Index:
        included: Index = self.own.include()
        return included

    def release(self, clipped: Any, add_noise: Any) -> Any:
        return self.own.release(clipped, add_noise)


def through(handle: type[Handle], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_models, "private_gradient", lambda own, *rest: _gradient(handle(own), *rest))


def adds_noise_of_its_own_whatever_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    """As published (P1): the Ledger is paid for noise on a sum that nobody uses."""

    class Constant(Handle):
        def release(self, clipped: Any, add_noise: Any) -> Any:
            super().release(torch.zeros_like(clipped), add_noise)
            return clipped + self.clip_norm * torch.randn(clipped.shape, generator=torch.Generator().manual_seed(0))

    through(Constant, monkeypatch)


def learns_from_every_trajectory_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As published (P2), where it is fifty times: each copy is clipped on its own."""

    class Replicated(Handle):
        def include(self) -> Index:
            return np.repeat(super().include(), 2)

    through(Replicated, monkeypatch)


def clips_each_window_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(self: WindowDenoiser, windows: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        return _losses(self, windows.flatten(0, -2), normals.flatten(0, -2))[:, None]

    monkeypatch.setattr(WindowDenoiser, "losses", losses)


def cuts_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As published (P4), where they are 1,024 rows long: a trajectory lies in more than one of them."""

    def cut(data: Transitions, *rest: Any) -> Any:
        blocks = np.linspace(0, len(data), len(data.require_trajectories())).astype(np.int64)
        return _cut(replace(data, trajectories=blocks), *rest)

    monkeypatch.setattr(window_models, "cut", cut)


def shuffles_batches_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As published (P3): of the Ledger's batch the size alone is used."""
    shuffled = np.random.default_rng(0).permutation(UNITS)

    class Shuffled(Handle):
        def include(self) -> Index:
            return shuffled[: len(super().include())]

    through(Shuffled, monkeypatch)


def scales_by_private_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As published (P5)."""

    def run(self: TrajectorySGD, architecture: Any, horizon: int, start: State, data: Transitions, *rest: Any) -> State:
        return _run(self, architecture, horizon, {**start, **Scaling.of_histograms(exact_columns(data, 1024, 16)).state()}, data, *rest)

    monkeypatch.setattr(TrajectorySGD, "run", run)


def copies_the_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(data: Transitions, answer: Any) -> Any:
        _learn(data, answer)
        return exact_lengths(data)

    monkeypatch.setattr(trajectory_method, "learn_lengths", learn)


def counts_rows_in_the_histogram_of_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long trajectory moves it by as much as it has rows."""
    monkeypatch.setattr(trajectory_method, "learn_lengths", lambda data, answer: _learn(each_as_often_as_it_has_rows(data), answer))


def counts_rows_in_the_histograms_that_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trajectory_method, "_learned_scaling", lambda data, answer: _scale(each_as_often_as_it_has_rows(data), answer))


def each_as_often_as_it_has_rows(data: Transitions) -> Transitions:
    offsets = data.require_trajectories()
    return data.joined(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)))


def asks_for_a_scaling_and_takes_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(data: Transitions, answer: Any) -> Scaling:
        _scale(data, answer)
        return Scaling.of_histograms(exact_columns(data, 1024, 16))

    monkeypatch.setattr(trajectory_method, "_learned_scaling", learn)


def counts_the_trajectories(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(self: PrivORLJ, data: Transitions, *rest: Any, **kwargs: Any) -> Any:
        schema = replace(data.schema, nominal_trajectories=data.units(Unit.TRAJECTORY))
        return _fit(self, replace(data, schema=schema), *rest, **kwargs)

    monkeypatch.setattr(PrivORLJ, "fit", fit)


def reports_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(self: WindowDenoiser, *arguments: Any) -> torch.Tensor:
        print("loss", (found := _losses(self, *arguments)).mean())
        return found

    monkeypatch.setattr(WindowDenoiser, "losses", losses)


def weights_carry_noise(case: Case) -> None:
    """Two seeds of the Ledger, whose lengths differ anyway, give two models."""
    one, other = (weights_of(case.fit(case.data, ledger_seed=seed)) for seed in range(2))
    conformance.require(not np.array_equal(one, other), "the noise of the gradients went nowhere")


MUTANTS: Sequence[Mutant] = [
    (adds_noise_of_its_own_whatever_epsilon, conformance.replay, "depends on rows past the Ledger"),
    (learns_from_every_trajectory_twice, conformance.sensitivity, "gradients: one unit moved the question"),
    (clips_each_window_on_its_own, conformance.sensitivity, "gradients: one unit moved the question"),
    (clips_the_batch_as_one, conformance.sensitivity, "gradients: one unit moved the question"),
    (cuts_blocks_of_rows, conformance.inclusion, "changed with units that were not included"),
    (shuffles_batches_of_its_own, conformance.inclusion, "changed with units that were not included"),
    (divides_by_the_realised_batch(window_models), conformance.replay, "depends on rows past the Ledger"),
    (scales_by_private_rows, conformance.replay, "the state's mean, scale depends on rows past the Ledger"),
    (copies_the_lengths, conformance.replay, "the state's lengths depends on rows past the Ledger"),
    (counts_rows_in_the_histogram_of_lengths, conformance.sensitivity, "lengths: one unit moved the question"),
    (counts_the_trajectories, conformance.nominal_size, "is not the plan for N units"),
    (forgets_to_average, weights_carry_noise, "the noise of the gradients went nowhere"),
    (reports_its_loss, conformance.replay, "logs or prints depends on the rows"),
]


MUTANTS_WITHOUT_PUBLIC_ROWS: Sequence[Mutant] = [
    (counts_rows_in_the_histograms_that_scale, conformance.sensitivity, "one_way: one unit moved the question"),
    (asks_for_a_scaling_and_takes_another, conformance.replay, "the state's mean, scale depends on rows past the Ledger"),
]


@each(MUTANTS)
def test_a_spoiled_method_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    require_caught(mutant, METHOD, TOY, monkeypatch)


@each(MUTANTS_WITHOUT_PUBLIC_ROWS)
def test_a_spoiled_scaling_of_sensitive_trajectories_alone_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    require_caught(mutant, replace(METHOD, pretraining_steps=0), TOY, monkeypatch)


def test_the_method_that_the_mutants_spoil_is_sound() -> None:
    assert all(finding.ok for finding in check_synthesizer(METHOD, TOY))
    weights_carry_noise(Case(METHOD, TOY, Unit.TRAJECTORY))
