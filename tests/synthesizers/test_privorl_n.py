"""PrivORL-n: sensitive rows enter through clipped sums alone, the average that is released follows the training, and only its fields make a phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from privorl_n_support import LARGER, TINY, TOY, VARIANTS, case_of, distance, private_loss
from sgd_support import gradients_of, tape_of

from bench.conformance import synthesizers as conformance
from bench.conformance.rows import differing_arrays, extreme_unit, faults, first_units
from bench.conformance.synthesizers import Case, Fit
from bench.core.data import Transitions, Unit, concatenate
from bench.core.errors import InputError
from bench.core.protocols import Runtime, State
from bench.core.registry import resolve
from synthesizers import privorl_n
from synthesizers._parts.training import Training

# --- privacy --------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [conformance.replay, conformance.sensitivity, conformance.inclusion, conformance.restores])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_contract_holds_beyond_the_size_of_audits(variant: str, check: Callable[[Case], None]) -> None:
    check(case_of(VARIANTS[variant]))


def movements(case: Case, data: Transitions, extra: Transitions) -> dict[str, list[float]]:
    """How far each question moves when the `extra` rows leave every batch and the data, by name."""
    whole, added = concatenate([data, extra]), len(data) + np.arange(len(extra))
    first = case.fit(whole, inclusion=lambda included: np.union1d(included, added))
    told = [(name, np.setdiff1d(answer, added) if name.endswith(".include") else answer) for name, answer in tape_of(first)]
    moved: dict[str, list[float]] = {}
    for (name, one), (_, other) in zip(first.ledger.questions, case.replay(data, told).ledger.questions, strict=True):
        moved.setdefault(name, []).append(distance(one, other))
    return moved


def row_of(value: float) -> Callable[[Transitions], Transitions]:
    """A row that holds one value in all its columns, whatever the schema says of them."""
    return lambda data: Transitions.from_table(data.schema, np.full((1, len(data.schema.columns)), value, np.float32))


ADVERSARIES: Mapping[str, Callable[[Transitions], Transitions]] = {
    "the bottom corner of the box": lambda data: extreme_unit(data.schema, Unit.TRANSITION, top=False),
    "the top corner of the box": lambda data: extreme_unit(data.schema, Unit.TRANSITION, top=True),
    "far outside": row_of(1e6),
    "so far outside that its loss overflows": row_of(1e30),
    "a row that is there already": lambda data: first_units(data, 1, Unit.TRANSITION),
}


@pytest.mark.parametrize("adversary", ADVERSARIES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_row_moves_a_question_further_than_declared(variant: str, adversary: str) -> None:
    case = case_of(replace(VARIANTS[variant], clip_norm=0.05))
    declared = {charge.name: charge.sensitivity for charge in case.recorded.ledger.charges}
    moved = movements(case, case.data, ADVERSARIES[adversary](case.data))
    assert moved.keys() == declared.keys()
    assert all(max(moves) <= declared[name] * conformance.ROUNDING for name, moves in moved.items())


@pytest.mark.parametrize("adversary", ["the bottom corner of the box", "the top corner of the box", "far outside"])
def test_a_row_of_a_large_gradient_moves_every_sum_as_far_as_declared(adversary: str) -> None:
    case = case_of(replace(LARGER, clip_norm=0.01))
    assert movements(case, case.data, ADVERSARIES[adversary](case.data))["gradients"] == pytest.approx([0.01] * LARGER.steps, rel=1e-3)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # an infinite s' less an infinite s
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("variant", ["float32", "bfloat16"])
def test_a_row_that_is_not_finite_moves_nothing(variant: str, value: float) -> None:
    case = case_of(VARIANTS[variant])
    assert movements(case, case.data, row_of(value)(case.data))["gradients"] == pytest.approx([0.0] * LARGER.steps, abs=1e-5)


def test_every_copy_of_a_row_is_clipped_on_its_own() -> None:
    """One of fifty moves the sums by no more than its clip norm, all fifty by more than that."""
    case = case_of(LARGER)
    row = first_units(case.data, 1, Unit.TRANSITION)
    copies = row.rows(np.zeros(50, np.int64))
    assert max(movements(case, concatenate([case.data, copies]), row)["gradients"]) <= LARGER.clip_norm * conformance.ROUNDING
    assert LARGER.clip_norm < min(movements(case, case.data, copies)["gradients"])


def test_micro_batches_change_nothing_but_the_memory() -> None:
    one, many = (case_of(replace(TINY, physical_batch=physical)).recorded for physical in (1000, 15))
    assert np.allclose(one.sampler.state()["weights"], many.sampler.state()["weights"], atol=1e-5)
    assert all(np.allclose(a, b, atol=1e-5) for (_, a), (_, b) in zip(one.ledger.questions, many.ledger.questions, strict=True))


# --- fine-tuning ----------------------------------------------------------------------------------------------------------------------------------

LEARNS = replace(TINY, pretraining_steps=40, steps=40, learning_rate=1e-2)
"""Enough steps for the weights to go somewhere."""


def weights_of(fit: Fit) -> NDArray:
    return fit.sampler.state()["weights"]


def pretrained_of(case: Case) -> State:
    assert case.pretrained is not None
    return case.pretrained


def test_fine_tuning_starts_at_the_pretrained_model() -> None:
    case = case_of(TINY)
    still = Case(replace(TINY, learning_rate=1e-9), TOY, Unit.TRANSITION)
    still.__dict__["pretrained"] = case.pretrained
    assert 0 < distance(weights_of(still.recorded), pretrained_of(case)["weights"]) < 1e-5


def test_what_is_not_trained_is_what_pretraining_left() -> None:
    case = case_of(LEARNS)
    assert differing_arrays(case.recorded.sampler.state(), pretrained_of(case)) == ["mean", "scale", "weights"]


@pytest.mark.parametrize("epsilon", [1.0, np.inf])
def test_the_released_weights_left_the_pretrained_ones_and_follow_the_online_ones(epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    case, trainings = case_of(LEARNS), []
    assert case.pretrained is not None

    class Watched(Training):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            trainings.append(self)

    monkeypatch.setattr(privorl_n, "Training", Watched)
    released, start = weights_of(case.fit(case.data, epsilon=epsilon)), pretrained_of(case)["weights"]
    (training,) = trainings
    online = training.weights.numpy()
    assert 0 < distance(released, online) < 0.2 * distance(start, online)


def test_fine_tuning_without_noise_learns_the_sensitive_rows() -> None:
    case = case_of(LEARNS)
    learned = case.fit(case.data, epsilon=np.inf).sampler.state()
    assert private_loss(LEARNS, case.data, learned) < 0.95 * private_loss(LEARNS, case.data, pretrained_of(case))


def test_a_model_of_sensitive_rows_alone_learns_them() -> None:
    method = replace(LEARNS, pretraining_steps=0)
    case = case_of(method)
    untrained, learned = (Case(m, TOY, Unit.TRANSITION).fit(case.data, epsilon=np.inf).sampler.state() for m in (replace(method, steps=1), method))
    assert private_loss(method, case.data, learned) < 0.9 * private_loss(method, case.data, untrained)


def test_more_budget_is_less_noise_and_another_model() -> None:
    case = case_of(TINY)
    fits = [case.fit(case.data, epsilon=epsilon) for epsilon in (1.0, 10.0, np.inf)]
    (one, ten, infinite) = (gradients_of(fit).noise_multiplier or 0.0 for fit in fits)
    assert one > 2 * ten > 0 == infinite
    assert len({weights_of(fit).tobytes() for fit in fits}) == 3


@pytest.mark.parametrize(("variant", "epsilon"), [("float32", 1.0), ("sensitive rows alone", 10.0)])
def test_the_charges_add_up_to_the_budget(variant: str, epsilon: float) -> None:
    case = case_of(VARIANTS[variant])
    assert 0.999 * epsilon < case.fit(case.data, epsilon=epsilon).ledger.spent() <= epsilon


@pytest.mark.parametrize("batch", [2_000, 2_001, 10**6])
def test_a_batch_of_at_least_the_nominal_rows_is_all_rows_in_every_step(batch: int) -> None:
    case = case_of(replace(TINY, batch=batch, steps=2))
    assert gradients_of(case.recorded).rate == 1.0
    assert [len(answer) for name, answer in tape_of(case.recorded) if name == "gradients.include"] == [2_000] * 2


def test_the_rate_is_the_batch_over_the_nominal_rows_whatever_rows_there_are() -> None:
    case = case_of(TINY)
    rates = {gradients_of(case.fit(data)).rate for data in (case.data, case.data.rows(slice(500)), case.unrelated)}
    assert rates == {TINY.batch / 2_000}


# --- the public phase -----------------------------------------------------------------------------------------------------------------------------


def test_public_only_is_the_pretraining_of_privorl_n_without_candidates_of_its_own() -> None:
    """A floor is as good as it can be: what rows of its own add is coverage, a start for fine-tuning, and outliers."""
    method, floor = (resolve("synthesizers", name).instance for name in ("privorl-n", "public-only"))
    assert floor == replace(method, fine_tune=False, curiosity="off")


def test_the_scaling_is_bought_with_a_small_part_of_the_budget() -> None:
    """Shares of it by zCDP: 1 / (2 sigma^2) for an answer, and in proportion to rate^2 / (2 sigma^2) for a step."""
    one_way, gradients = case_of(TINY).recorded.ledger.charges
    assert (one_way.name, one_way.mechanism, one_way.count) == ("one_way", "gaussian", 1)
    assert (gradients.name, gradients.mechanism, gradients.count) == ("gradients", "dp-sgd", TINY.steps)
    assert one_way.noise_multiplier is not None
    assert gradients.noise_multiplier is not None
    parts = np.array([1 / one_way.noise_multiplier**2, gradients.count * gradients.rate**2 / gradients.noise_multiplier**2])
    assert 0 < parts[0] / parts.sum() < 0.1


def test_pretraining_repeats_itself_and_another_seed_differs() -> None:
    phase, public = replace(TINY, pretraining_steps=2, curiosity="paper").pretraining, case_of(LARGER).public
    assert phase is not None
    once, again, other = (phase.run(public, np.random.default_rng(seed), runtime=Runtime()) for seed in (0, 0, 1))
    assert not differing_arrays(once, again)
    assert differing_arrays(once, other) == ["frequencies", "weights"]


# --- sampling -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 99, 100, 101, 200, 250])
def test_any_number_of_rows_is_drawn_whatever_is_drawn_at_once(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privorl_n, "_AT_ONCE", 100)
    case = case_of(TINY)
    rows = case.sample(case.recorded.sampler, n)
    assert len(rows) == n
    assert not n or not faults(rows)
    assert len(np.unique(rows.actions, axis=0)) >= n / 2, "a chunk is not the one before it"


@pytest.mark.parametrize("variant", [{"sampler": "published"}, {"precision": "bfloat16"}, {"sampling_steps": 1}], ids=str)
@pytest.mark.parametrize("epsilon", [0.1, np.inf])
def test_every_sampler_stays_inside_the_schema(variant: dict[str, Any], epsilon: float) -> None:
    case = case_of(replace(TINY, **variant))
    rows = case.sample(case.fit(case.data, epsilon=epsilon).sampler, 300)
    assert len(rows) == 300
    assert not faults(rows)


def test_the_same_row_has_the_same_loss_wherever_it_stands() -> None:
    case = case_of(TINY)
    twice = case.data.rows(np.tile(np.arange(5), 2))
    losses = case.recorded.sampler.loss(twice, np.arange(10), np.random.default_rng(0), runtime=Runtime())
    assert losses[:5] == pytest.approx(losses[5:], rel=1e-4), "noise is shared by all rows"
    assert len(np.unique(losses.round(6))) == losses[:5].size, "features differ from each other and between rows"


# --- refusals -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("width", "blocks", "pretraining_batch", "steps", "batch", "sampling_steps", "physical_batch")),
        *((name, -1) for name in ("pretraining_steps", "share", "beta", "decay")),
        ("share", np.nan),
    ],
)
def test_a_hyper_parameter_out_of_range_is_refused_by_name_and_value(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"^{name}: {value} "):
        replace(TINY, **{name: value})


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, np.nan])
def test_a_clip_norm_that_is_not_positive_is_refused(clip_norm: float) -> None:
    with pytest.raises(InputError, match=f"clip_norm.*{clip_norm}"):
        Case(replace(TINY, clip_norm=clip_norm), TOY, Unit.TRANSITION).recorded  # noqa: B018


def test_pretraining_without_siblings_is_refused() -> None:
    assert TINY.pretraining is not None
    with pytest.raises(InputError, match="public: there are no sibling datasets"):
        TINY.pretraining.run({}, np.random.default_rng(0), runtime=Runtime())


def test_siblings_of_other_columns_are_refused() -> None:
    case = case_of(TINY)
    fewer = {**pretrained_of(case), "mean": pretrained_of(case)["mean"][1:]}
    with pytest.raises(InputError, match="public: the siblings have 6 varying columns, the sensitive rows 7"):
        TINY.restore(case.schema, fewer).sample(1, np.random.default_rng(0), runtime=Runtime())
