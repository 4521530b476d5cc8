"""PATE-GAN: one row moves one teacher and each count by at most one, every vote is charged, and the second phase starts where the first ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pate_gan_support import TINY, case_of, differing_rows, weights_of_teachers
from scipy.stats import kstest, spearmanr

from bench.conformance import synthesizers as conformance
from bench.conformance.rows import extreme_unit, faults
from bench.conformance.synthesizers import Case
from bench.core.data import Transitions, Unit, concatenate
from bench.core.errors import InputError
from bench.core.privacy import Ledger
from bench.core.protocols import Guarantee, Runtime, State
from bench.core.registry import resolve
from synthesizers import pate_gan
from synthesizers.pate_gan import PateGAN

PRETRAINED = replace(TINY, pretraining_rounds=5)
VARIANTS = {"sensitive rows alone": TINY, "pre-trained": PRETRAINED, "more teachers than rows": replace(TINY, teachers=5000)}

# --- privacy --------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [conformance.replay, conformance.sensitivity, conformance.restores, conformance.no_row_in_state])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_contract_holds_beyond_the_size_of_audits(variant: str, check: Callable[[Case], None]) -> None:
    check(case_of(VARIANTS[variant]))


def row_of(value: float) -> Callable[[Transitions], Transitions]:
    return lambda data: Transitions.from_table(data.schema, np.full((1, len(data.schema.columns)), value, np.float32))


ADVERSARIES: Mapping[str, Callable[[Transitions], Transitions]] = {
    "the bottom corner of the box": lambda data: extreme_unit(data.schema, Unit.TRANSITION, top=False),
    "the top corner of the box": lambda data: extreme_unit(data.schema, Unit.TRANSITION, top=True),
    "far outside": row_of(1e6),
    "no number": row_of(np.nan),
    "a row that is there already": lambda data: data.rows(slice(1)),
}


@pytest.mark.parametrize("adversary", ADVERSARIES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_row_more_moves_each_count_by_at_most_one(variant: str, adversary: str) -> None:
    """All generated rows are the same in both fits, since both are told the same answers."""
    case = case_of(VARIANTS[variant])
    tape = case.recorded.ledger.tape
    more = case.replay(concatenate([case.data, ADVERSARIES[adversary](case.data)]), tape).ledger.questions
    for (name, one), (_, other) in zip(case.recorded.ledger.questions, more, strict=True):
        assert np.abs(one - other).max() <= 1
        assert name == "one_way" or set(np.unique(one % 1)) == {0.0}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_row_less_is_one_shard_and_all_other_teachers_are_the_same_to_the_last_bit(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(VARIANTS[variant])
    whole, *fewer = weights_of_teachers(case, [case.data, *(case.data.without([place]) for place in (0, 500, 1999))], monkeypatch)
    for weights in fewer:
        assert len(differing_rows(whole, weights)) == 1


@pytest.mark.parametrize("dropped", [3, 10, 2000])
def test_many_rows_move_each_count_by_no_more_than_there_are_rows_or_teachers(dropped: int) -> None:
    """What the charge says of whole trajectories: it saturates at the teachers."""
    case = case_of(TINY)
    votes = next(charge for charge in case.recorded.ledger.charges if charge.name == "votes")
    fewer = case.replay(case.data.without(range(dropped)), case.recorded.ledger.tape).ledger.questions
    moved = [np.abs(one - other).max() for (name, one), (_, other) in zip(case.recorded.ledger.questions, fewer, strict=True) if name == "votes"]
    assert votes.saturation == TINY.teachers
    assert 0 < max(moved) <= min(dropped, votes.saturation)


def test_a_teacher_without_rows_votes_as_it_always_would() -> None:
    """The counts of no rows at all: those of fixed coins, the same in every round and for every row."""
    case = case_of(TINY)
    nothing = case.replay(Transitions.empty(case.schema), case.recorded.ledger.tape).ledger.questions
    counts = np.array([count for name, count in nothing if name == "votes"])
    assert 0 < counts[0, 0] < TINY.teachers
    assert (counts == counts[0, 0]).all()


def test_every_vote_is_charged_with_a_noise_of_its_own() -> None:
    case = case_of(replace(TINY, rounds=60))
    charge = next(charge for charge in case.recorded.ledger.charges if charge.name == "votes")
    asked, told = (
        [np.asarray(value) for name, value in tape if name == "votes"] for tape in (case.recorded.ledger.questions, case.recorded.ledger.tape)
    )
    assert charge.count == len(asked) == 60
    assert charge.sensitivity == pytest.approx(TINY.queries**0.5)
    noise = np.subtract(told, asked)
    assert noise.shape == (60, TINY.queries)
    assert noise.std() == pytest.approx(charge.noise_multiplier * charge.sensitivity, rel=4 / (2 * noise.size) ** 0.5)
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 4 / 60**0.5


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
@pytest.mark.parametrize("variant", ["sensitive rows alone", "pre-trained"])
def test_the_charges_add_up_to_the_budget(variant: str, epsilon: float) -> None:
    case = case_of(VARIANTS[variant])
    assert 0.999 * epsilon < case.fit(case.data, epsilon=epsilon).ledger.spent() <= epsilon


def test_the_model_depends_on_what_was_told_about_the_votes() -> None:
    """And not on the bought columns alone."""
    case = case_of(TINY)
    tape = [(name, value + 1 if name == "votes" else value) for name, value in case.recorded.ledger.tape]
    other = case.replay(case.data, tape).sampler.state()
    assert not np.array_equal(other["generator"], case.recorded.sampler.state()["generator"])


# --- what it learns -------------------------------------------------------------------------------------------------------------------------------


def test_without_noise_it_learns_how_columns_go_together() -> None:
    """Rank correlations on the toy environment come much nearer than those of independent columns, which it begins with."""
    learner = replace(TINY, teacher_width=16, teacher_batch=16, teacher_rate=0.01, queries=256, width=32, generator_batch=64, student_rate=0.01)
    case = case_of(replace(learner, generator_rate=4e-4, decay=0.99, rounds=800))
    rows = case.sample(case.fit(case.data, epsilon=np.inf).sampler, 2000)
    wanted, found = (spearmanr(data.table()[:, case.data.table().std(0) > 0]).statistic for data in (case.data, rows))
    assert np.abs(found - wanted).mean() < 0.7 * np.abs(np.eye(len(wanted)) - wanted).mean()


def test_the_game_begins_at_independent_standard_normal_columns() -> None:
    z = TINY.generator(4, torch.Generator().manual_seed(0)).generated(20_000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(torch.cov(z.T), torch.eye(4), atol=0.05, rtol=0)
    assert kstest(z.flatten().detach(), "norm").pvalue > 1e-3


def test_each_column_is_distributed_as_it_was_bought_whatever_the_generator_learned() -> None:
    """Without noise, that is as in the data; a generator that runs away still says how columns go together at best."""
    case = case_of(replace(TINY, generator_rate=0.1))
    rows = case.sample(case.fit(case.data, epsilon=np.inf).sampler, 2000)
    for own, wanted in ((rows.observations, case.data.observations), (rows.actions, case.data.actions), (rows.rewards, case.data.rewards)):
        assert np.min(kstest(own, wanted).pvalue) > 1e-3


def test_rows_are_inside_the_schema_after_any_training() -> None:
    case = case_of(replace(TINY, generator_rate=10.0))
    assert not faults(case.sample(case.recorded.sampler, 500))


# --- the public phase -----------------------------------------------------------------------------------------------------------------------------

PLAYERS = ("generator", "student", "teachers")
OF_FINE_TUNING: Mapping[str, Any] = {"rounds": 7, "fine_tune": False}


def pretrained_of(case: Case) -> State:
    assert case.pretrained is not None
    return case.pretrained


@pytest.mark.parametrize("player", PLAYERS)
def test_the_second_phase_starts_where_the_first_ended(player: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, starts = case_of(PRETRAINED), []
    play = PateGAN.play

    def watched(self: PateGAN, start: State, *rest: Any) -> State:
        starts.append({name: np.array(values) for name, values in start.items()})
        return play(self, start, *rest)

    monkeypatch.setattr(PateGAN, "play", watched)
    end: NDArray = case.fit(case.data).sampler.state()["generator"]
    (start,) = starts
    assert np.array_equal(start[player], pretrained_of(case)[player])
    assert not np.array_equal(end, start["generator"])


def test_players_begin_as_the_state_they_are_given() -> None:
    case = case_of(PRETRAINED)
    state = pate_gan._Players(PRETRAINED, pretrained_of(case), len(case.recorded.sampler.scores.columns.grids)).state()
    assert all(np.array_equal(state[player], pretrained_of(case)[player]) for player in PLAYERS)


@pytest.mark.parametrize("name", [field.name for field in fields(PateGAN)])
def test_only_rounds_and_fine_tuning_leave_the_public_phase_as_it_is(name: str) -> None:
    value = getattr(PRETRAINED, name)
    variant = replace(PRETRAINED, **{name: OF_FINE_TUNING.get(name, 0.25 if name == "decay" else value * 2)})
    assert (variant.pretraining == PRETRAINED.pretraining) == (name in OF_FINE_TUNING)


def test_the_two_entries_are_one_method_and_one_more_phase() -> None:
    scratch, pretrained = (resolve("synthesizers", name).instance for name in ("pate-gan", "pate-gan-pretrained"))
    assert replace(pretrained, pretraining_rounds=0) == scratch
    assert not scratch.needs_public
    assert scratch.pretraining is None
    assert pretrained.needs_public


def test_without_fine_tuning_no_row_is_seen_and_no_budget_asked_for() -> None:
    case = case_of(replace(PRETRAINED, fine_tune=False))
    assert case.synthesizer.guarantee is Guarantee.DATA_FREE
    closed = Ledger(None, 0, np.random.default_rng(0))
    nothing = Transitions.empty(case.schema)
    sampler = case.synthesizer.fit(nothing, closed, np.random.default_rng(0), public={}, pretrained=case.pretrained, runtime=Runtime())
    assert np.array_equal(sampler.state()["generator"], pretrained_of(case)["generator"])
    assert not faults(case.sample(sampler, 100))


def test_pretraining_needs_siblings_and_says_so() -> None:
    assert PRETRAINED.pretraining is not None
    with pytest.raises(InputError, match="public: there are no sibling datasets"):
        PRETRAINED.pretraining.run({}, np.random.default_rng(0), runtime=Runtime())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("teachers", 0),
        ("rounds", 0),
        ("queries", 0),
        ("student_rate", -1.0),
        ("decay", 1.5),
        ("pretraining_rounds", -1),
    ],
)
def test_a_hyper_parameter_that_makes_no_sense_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{field}: {value}"):
        replace(TINY, **{field: value})


def test_a_generator_trained_on_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="fine_tune: false with pretraining_rounds=0"):
        replace(TINY, fine_tune=False)


# --- where it differs from the paper ----------------------------------------------------------------------------------------------------------------


def test_the_generator_that_is_released_is_an_average_over_the_rounds() -> None:
    """Without a memory it would be the last one."""
    last, average = (case_of(replace(TINY, decay=decay)).recorded.sampler.state()["generator"] for decay in (0.0, 0.9))
    assert not np.array_equal(last, average)


def test_the_student_learns_from_the_labels_of_the_last_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    learns = pate_gan._Players.student_learns
    monkeypatch.setattr(pate_gan._Players, "student_learns", lambda self, rows, shares: shown.append(len(rows)) or learns(self, rows, shares))
    case = case_of(TINY)
    case.fit(case.data)
    assert shown == [TINY.queries * min(done + 1, TINY.memory) for done in range(TINY.rounds)]


def test_no_sibling_counts_more_than_another_in_the_columns_that_pretraining_leaves() -> None:
    method = replace(TINY, pretraining_rounds=1)
    public = list(case_of(method).public.items())
    assert method.pretraining
    there, back = (method.pretraining.run(dict(order), np.random.default_rng(0), runtime=Runtime()) for order in (public, public[::-1]))
    for name in there.keys() - {"generator", "student", "teachers"}:
        np.testing.assert_allclose(there[name], back[name], atol=1e-6)
