"""PrivORL-j: sensitive trajectories enter through one histogram and clipped sums alone, each as one unit, and what was fine-tuned is released."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from privorl_j_support import (
    TINY,
    TOY,
    UNITS,
    VARIANTS,
    case_of,
    distance,
    ending_case,
    first_trajectory,
    flat,
    pretrained_of,
    private_loss,
    weights_of,
)
from sgd_support import gradients_of, tape_of

from bench.conformance import synthesizers as conformance
from bench.conformance.rows import differing_arrays, extreme_unit
from bench.conformance.synthesizers import Case, Fit
from bench.core.accounting import Charge, epsilon_spent
from bench.core.data import Transitions, Unit, concatenate
from bench.core.privacy import Budget, Ledger, Plan, Request
from bench.core.protocols import Runtime, State
from bench.core.registry import resolve
from synthesizers._parts import trajectory_method, window_models
from synthesizers._parts.training import Training
from synthesizers._parts.window_models import Trained
from synthesizers.privorl_j import PrivORLJ

EVERY_VARIANT = pytest.mark.parametrize("variant", VARIANTS)

# --- privacy --------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [conformance.replay, conformance.inclusion, conformance.restores])
@EVERY_VARIANT
def test_the_contract_holds_beyond_the_size_of_audits(variant: str, check: Callable[[Case], None]) -> None:
    check(case_of(VARIANTS[variant]))


@pytest.mark.parametrize("check", [conformance.replay, conformance.sensitivity, conformance.inclusion, conformance.restores, conformance.samples])
def test_the_contract_holds_for_trajectories_that_end_in_terminals(check: Callable[[Case], None]) -> None:
    check(ending_case())


def test_the_contract_is_checked_for_whole_trajectories(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[tuple[Unit, Any]] = []
    monkeypatch.setattr(conformance, "in_order", lambda gates, checks, case, suffix: checked.append((case.unit, checks)) or ())
    list(conformance.check_synthesizer(resolve("synthesizers", "privorl-j").instance, TOY))
    ((unit, checks),) = checked
    assert unit is Unit.TRAJECTORY
    assert {conformance.replay, conformance.sensitivity, conformance.inclusion, conformance.nominal_size} <= set(checks)


def movements(case: Case, data: Transitions, extra: Transitions) -> dict[str, list[float]]:
    """How far each question moves when the `extra` trajectories leave every batch and the data, by name."""
    whole, here = concatenate([data, extra]), data.units(Unit.TRAJECTORY)
    first = case.fit(whole, inclusion=lambda included: np.union1d(included, np.arange(here, whole.units(Unit.TRAJECTORY))))
    told = [(name, answer[answer < here] if name.endswith(".include") else answer) for name, answer in tape_of(first)]
    return moved_between(first, case.replay(data, told))


def moved_between(first: Fit, second: Fit) -> dict[str, list[float]]:
    moved: dict[str, list[float]] = {}
    for (name, one), (_, other) in zip(first.ledger.questions, second.ledger.questions, strict=True):
        moved.setdefault(name, []).append(distance(one, other))
    return moved


def trajectory_of(value: float, rows: int) -> Callable[[Transitions], Transitions]:
    """A trajectory that holds one value in all its columns, whatever the schema says of them."""

    def made(data: Transitions) -> Transitions:
        table = np.full((rows, len(data.schema.columns)), value, np.float32)
        return Transitions.from_table(data.schema, table, np.arange(rows) == rows - 1, np.array([0, rows]))

    return made


ADVERSARIES: Mapping[str, Callable[[Transitions], Transitions]] = {
    "the bottom corner of the box": lambda data: extreme_unit(data.schema, Unit.TRAJECTORY, top=False),
    "the top corner of the box": lambda data: extreme_unit(data.schema, Unit.TRAJECTORY, top=True),
    "far outside": trajectory_of(1e6, 20),
    "so far outside that its loss overflows": trajectory_of(1e30, 20),
    "longer than the schema allows": trajectory_of(0.7, 500),
    "a single row": trajectory_of(-0.9, 1),
    "one that is there already": first_trajectory,
}
EVERY_ADVERSARY = pytest.mark.parametrize("adversary", ADVERSARIES)


@EVERY_ADVERSARY
@pytest.mark.parametrize("variant", ["adapters", "convolutions"])
def test_no_trajectory_moves_a_question_further_than_declared(variant: str, adversary: str) -> None:
    case = case_of(replace(VARIANTS[variant], clip_norm=0.05))
    declared = {charge.name: charge.sensitivity for charge in case.recorded.ledger.charges}
    moved = movements(case, case.data, ADVERSARIES[adversary](case.data))
    assert moved.keys() == declared.keys()
    assert all(max(moves) <= declared[name] * conformance.ROUNDING for name, moves in moved.items())
    assert moved["lengths"] == [1.0]


@pytest.mark.parametrize("windows", [1, 40])
@pytest.mark.parametrize("variant", ["adapters", "all weights"])
def test_a_trajectory_of_large_gradients_moves_every_sum_as_far_as_declared_however_many_windows_are_cut(variant: str, windows: int) -> None:
    case = case_of(replace(VARIANTS[variant], clip_norm=1e-4, windows=windows))
    moved = movements(case, case.data, extreme_unit(case.schema, Unit.TRAJECTORY, top=True))
    assert moved["gradients"] == pytest.approx([1e-4] * TINY.steps, rel=0.01)


def test_a_trajectory_that_takes_the_place_of_another_moves_a_sum_by_twice_as_much_at_most() -> None:
    case = case_of(replace(TINY, clip_norm=1e-4))
    one, other = (concatenate([case.data, extreme_unit(case.schema, Unit.TRAJECTORY, top)]) for top in (False, True))
    first = case.fit(one, inclusion=lambda included: np.union1d(included, [UNITS]))
    moved = moved_between(first, case.replay(other, tape_of(first)))["gradients"]
    assert 1e-4 < max(moved) <= 2e-4 * conformance.ROUNDING


def test_every_copy_of_a_trajectory_is_clipped_on_its_own() -> None:
    """One of thirty moves the sums by no more than its clip norm, all thirty by more than that: a copy would be a unit of its own."""
    case = case_of(replace(TINY, clip_norm=1e-4))
    copies = case.data.joined(np.zeros(30, np.int64))
    assert max(movements(case, concatenate([case.data, copies]), first_trajectory(case.data))["gradients"]) <= 1e-4 * conformance.ROUNDING
    assert min(movements(case, case.data, copies)["gradients"]) > 1e-4 * 5


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # an infinite s' less an infinite s
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("variant", ["adapters", "all weights"])
def test_a_trajectory_that_is_not_finite_moves_no_sum(variant: str, value: float) -> None:
    case = case_of(VARIANTS[variant])
    assert movements(case, case.data, trajectory_of(value, 20)(case.data))["gradients"] == pytest.approx([0.0] * TINY.steps, abs=1e-5)


@EVERY_VARIANT
def test_micro_batches_change_nothing_but_the_memory(variant: str) -> None:
    one, many = (case_of(replace(VARIANTS[variant], physical_batch=physical)).recorded for physical in (1000, 6))
    assert np.allclose(weights_of(one), weights_of(many), atol=1e-5)
    assert all(np.allclose(a, b, atol=1e-5) for (_, a), (_, b) in zip(one.ledger.questions, many.ledger.questions, strict=True))


def test_what_a_loss_draws_is_the_secret_of_the_ledger() -> None:
    """The public generator is the same in both fits, and so are the first weights and the batch: all trajectories."""
    case = case_of(replace(TINY, batch=UNITS, steps=1))
    one, other = (next(asked for name, asked in case.fit(case.data, ledger_seed=seed).ledger.questions if name == "gradients") for seed in (0, 1))
    assert distance(one, other) > 0.01 * float(np.linalg.norm(one))


# --- the budget -----------------------------------------------------------------------------------------------------------------------------------


class Planned(Exception):
    """The plan is made, and nothing else is wanted."""


class Planner(Ledger):
    """Goes no further than the plan."""

    def plan(self, **requests: Request) -> Plan:
        super().plan(**requests)
        raise Planned


def plan_of(method: PrivORLJ, trajectories: int, budget: Budget, pretrained: State | None = None) -> tuple[Charge, ...]:
    """What a fit of so many nominal trajectories declares, judged as in a real fit."""
    schema = replace(TOY.schema, nominal_trajectories=trajectories)
    ledger = Planner(budget, trajectories, np.random.default_rng(0))
    with pytest.raises(Planned):
        method.fit(Transitions.empty(schema), ledger, np.random.default_rng(0), public={}, pretrained=pretrained, runtime=Runtime())
    return ledger.charges


PRETRAINED: State = {"mean": np.zeros(1)}
"""Stands for what public rows taught: a plan asks only whether there is any."""
SLOW = pytest.mark.slow
"""Seconds of calibration."""
CHEETAH, MAZE = replace(TINY, batch=64, steps=500), replace(TINY, batch=512, steps=1000)
NOISE = [
    (CHEETAH, 202, 1e-4, 1.0, 22.6),
    (CHEETAH, 202, 1e-4, 5.0, 5.71),
    pytest.param(CHEETAH, 202, 1e-4, 10.0, 3.31, marks=SLOW),
    pytest.param(MAZE, 5950, 1e-5, 1.0, 10.2, marks=SLOW),
    pytest.param(MAZE, 5950, 1e-5, 5.0, 2.57, marks=SLOW),
    pytest.param(MAZE, 5950, 1e-5, 10.0, 1.55, marks=SLOW),
]


@pytest.mark.parametrize(("method", "trajectories", "delta", "epsilon", "alone"), NOISE)
def test_the_noise_follows_from_epsilon(method: PrivORLJ, trajectories: int, delta: float, epsilon: float, alone: float) -> None:
    """`alone` is the noise multiplier of DP-SGD with all of the budget; it has all but the share of the lengths."""
    lengths, gradients = plan_of(method, trajectories, Budget(epsilon, delta, Unit.TRAJECTORY), PRETRAINED)
    assert (gradients.rate, gradients.count, lengths.count) == (method.batch / trajectories, method.steps, 1)
    assert gradients.noise_multiplier == pytest.approx(alone / (1 - trajectory_method._LENGTHS_WEIGHT) ** 0.5, rel=0.02)


@pytest.mark.parametrize("pretrained", [PRETRAINED, None])
@pytest.mark.parametrize("epsilon", [1.0, pytest.param(5.0, marks=SLOW), pytest.param(10.0, marks=SLOW)])
def test_the_plan_of_the_defaults_spends_the_budget_on_a_maze_and_no_more(epsilon: float, pretrained: State | None) -> None:
    charges = plan_of(PrivORLJ(), 6260, Budget(epsilon, 1e-5, Unit.TRAJECTORY), pretrained)
    assert len(charges) == (2 if pretrained else 3), "where no public rows scale the columns, their histograms are bought"
    assert 0.97 * epsilon < epsilon_spent(charges, 1e-5, "pld") <= epsilon


def test_more_budget_is_less_noise_and_another_model() -> None:
    case = case_of(TINY)
    fits = [case.fit(case.data, epsilon=epsilon) for epsilon in (1.0, 10.0, np.inf)]
    (one, ten, infinite) = (gradients_of(fit).noise_multiplier or 0.0 for fit in fits)
    assert one > 2 * ten > 0 == infinite
    assert len({weights_of(fit).tobytes() for fit in fits}) == 3
    assert len({fit.sampler.state()["lengths"].tobytes() for fit in fits}) == 3


def test_the_rate_is_the_batch_over_the_nominal_trajectories_whatever_there_are_and_one_at_most() -> None:
    case = case_of(TINY)
    fewer = case.data.joined(np.arange(30))
    assert {gradients_of(case.fit(data)).rate for data in (case.data, fewer, case.unrelated)} == {TINY.batch / UNITS}
    everyone = case_of(replace(TINY, batch=10**6, steps=2))
    assert gradients_of(everyone.recorded).rate == 1.0
    assert [len(answer) for name, answer in tape_of(everyone.recorded) if name == "gradients.include"] == [UNITS] * 2


# --- fine-tuning ----------------------------------------------------------------------------------------------------------------------------------

LEARNS = replace(TINY, pretraining_steps=30, steps=30, batch=UNITS, windows=1, learning_rate=1e-2, physical_batch=1000)
"""Enough steps for the weights to go somewhere."""


def test_fine_tuning_starts_at_the_pretrained_model() -> None:
    case = case_of(TINY)
    still = Case(replace(TINY, learning_rate=1e-9), TOY, Unit.TRAJECTORY)
    still.__dict__["pretrained"] = case.pretrained
    assert 0 < distance(weights_of(still.recorded), flat(pretrained_of(case))) < 1e-5


def test_what_is_not_trained_is_what_pretraining_left() -> None:
    """Adapters correct the matrices; biases, normalisations, frequencies and scaling stay."""
    case = case_of(LEARNS)
    changed = differing_arrays(case.recorded.sampler.state(), pretrained_of(case))
    matrices = [name for name, values in pretrained_of(case).items() if name.startswith("model.") and values.ndim == 2]
    assert changed == sorted(["lengths", *matrices])


@pytest.mark.parametrize("epsilon", [1.0, np.inf])
def test_the_released_weights_left_the_pretrained_ones_and_follow_the_online_ones(epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the published code they never do."""
    case, online = case_of(replace(LEARNS, trained="all")), []
    start = flat(pretrained_of(case))

    class Watched(Training):
        def step(self, gradient: Any) -> None:
            super().step(gradient)
            online.append(self.weights.clone())

    monkeypatch.setattr(window_models, "Training", Watched)
    released = case.fit(case.data, epsilon=epsilon).sampler.state()
    model = window_models.rebuilt(LEARNS.architecture, case.schema, LEARNS.horizon, released)[1]
    trained = np.concatenate([parameter.detach().numpy().ravel() for parameter in model.parameters()])
    assert len(online) == LEARNS.steps
    assert 0 < distance(trained, online[-1].numpy()) < 0.2 * distance(flat(released), start)


@pytest.mark.parametrize(("trained", "rate"), [("all", 0.01), ("adapters", 0.05), ("ends", 0.02)])
def test_fine_tuning_without_noise_learns_the_sensitive_trajectories(trained: Trained, rate: float) -> None:
    method = replace(LEARNS, trained=trained, learning_rate=rate)
    case = case_of(method)
    learned = case.fit(case.data, epsilon=np.inf).sampler.state()
    assert private_loss(method, case.data, learned) < 0.97 * private_loss(method, case.data, pretrained_of(case))


def test_single_transitions_are_refused() -> None:
    case = case_of(TINY)
    alone, ledger = case.data.rows(slice(None)), Ledger(Budget(1.0, 1e-4, Unit.TRAJECTORY), UNITS, np.random.default_rng(0), "rdp")
    with pytest.raises(ValueError, match="trajectories: this dataset holds single transitions"):
        TINY.fit(alone, ledger, np.random.default_rng(0), public={}, pretrained=case.pretrained, runtime=Runtime())
