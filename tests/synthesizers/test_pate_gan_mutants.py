"""PATE-GAN spoiled as published implementations are, each caught by a check that says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from mutant_support import Mutant, each, require_caught
from numpy.typing import NDArray
from pate_gan_support import TINY, TOY, case_of, differing_rows, weights_of_teachers
from torch import Tensor

from bench.conformance import synthesizers as conformance
from bench.conformance.synthesizers import Case, check_synthesizer
from bench.core.data import Float, Transitions
from synthesizers import pate_gan
from synthesizers._parts.discretize import exact_columns, histograms
from synthesizers._parts.teachers import Shards, Teachers
from synthesizers.pate_gan import PateGAN

# --- spoiled methods ------------------------------------------------------------------------------------------------------------------------------

_of, _draw, _learn, _votes, _play = Shards.of, Shards.draw, Teachers.learn, Teachers.votes, PateGAN.play


def draws_the_partition_again_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """synthcity: each record reaches every teacher in the end."""

    def draw(self: Shards, places: NDArray) -> Tensor:
        shuffled = np.random.default_rng(int(places[0, 0] * 2**32)).permutation(len(self.rows) - 1)
        return _draw(Shards(np.concatenate([self.rows[:-1][shuffled], self.rows[-1:]]), self.offsets), places)

    monkeypatch.setattr(Shards, "draw", draw)


def splits_rows_by_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row less moves all that come after it."""

    def of(rows: Float, hashes: NDArray, count: int) -> Shards:
        return Shards(np.concatenate([rows, np.zeros_like(rows[:1])]), np.linspace(0, len(rows), count + 1).astype(np.int64))

    monkeypatch.setattr(Shards, "of", of)


def clips_the_teachers_gradients_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: torch.optim.Adam, *arguments: Any) -> None:
        torch.nn.utils.clip_grad_norm_([weights for group in self.param_groups for weights in group["params"]], 1.0)
        _step(self, *arguments)

    _step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", step)


def gives_each_teacher_two_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Teachers, "votes", lambda self, generated: 2 * _votes(self, generated).astype(np.int64))


def shows_the_student_real_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published comparison: the critic's real batch is real."""
    shown: list[Tensor] = []
    monkeypatch.setattr(Teachers, "learn", lambda self, own, generated: (shown.append(own[0]), _learn(self, own, generated))[1])
    student_learns = pate_gan._Players.student_learns

    def learns(self: Any, rows: Tensor, shares: Tensor) -> None:
        student_learns(self, torch.cat([rows, shown[-1]]), torch.cat([shares, torch.ones(len(shown[-1]))]))

    monkeypatch.setattr(pate_gan._Players, "student_learns", learns)


def labels_some_batches_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """synthcity: a row that most take for generated is labelled so without being charged."""

    def play(self: PateGAN, start: Any, shards: Shards, ask: Any, *rest: Any) -> Any:
        return _play(self, start, shards, lambda counts: np.where(2 * counts < self.teachers, 0.0, ask(counts)), *rest)

    monkeypatch.setattr(PateGAN, "play", play)


def uses_the_true_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(self: PateGAN, start: Any, shards: Shards, ask: Any, *rest: Any) -> Any:
        return _play(self, start, shards, lambda counts: (ask(counts), counts.astype(np.float64))[1], *rest)

    monkeypatch.setattr(PateGAN, "play", play)


def stops_when_the_teachers_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    class Agreed(Exception):
        pass

    def play(self: PateGAN, start: Any, shards: Shards, ask: Any, rounds: int, *rest: Any) -> Any:
        def ask_or_stop(counts: NDArray) -> NDArray:
            if np.abs(2 * counts - self.teachers).mean() > 0.4875 * self.teachers:
                raise Agreed
            return ask(counts)

        try:
            return _play(self, start, shards, ask_or_stop, rounds, *rest)
        except Agreed:
            return start

    monkeypatch.setattr(PateGAN, "play", play)


def fits_its_encoder_on_private_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(data: Transitions, answer: Any, cells: int, bins: int) -> Any:
        answer(histograms(data, cells))
        return exact_columns(data, cells, bins), []

    monkeypatch.setattr(pate_gan, "learn_columns", learn)


def takes_teachers_for_the_rows_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their number, and with it the share of a vote, follows the private number of rows."""

    def play(self: PateGAN, start: Any, shards: Shards, ask: Any, *rest: Any) -> Any:
        return _play(self, start, shards, lambda counts: ask(counts) * len(shards.rows) / 2000, *rest)

    monkeypatch.setattr(PateGAN, "play", play)


# --- checks ---------------------------------------------------------------------------------------------------------------------------------------


def one_row_moves_one_teacher(case: Case) -> None:
    """A row less leaves all teachers but one as they were, to the last bit."""
    with pytest.MonkeyPatch.context() as patch:
        whole, fewer = weights_of_teachers(case, [case.data, case.data.without([1000])], patch)
    moved = len(differing_rows(whole, fewer))
    conformance.require(moved == 1, f"one row moved {moved} teachers")


def one_teacher_moves_a_count_by_one(case: Case) -> None:
    """Counts of a fit without any row, against those of fits with one."""
    nothing = Transitions.empty(case.schema)
    tape = case.fit(nothing).ledger.tape  # type: ignore[union-attr]
    for row in range(20):
        asked = zip(case.replay(nothing, tape).ledger.questions, case.replay(case.data.rows([row]), tape).ledger.questions, strict=True)
        largest = max(np.abs(one - other).max() for (name, one), (_, other) in asked if name == "votes")
        conformance.require(largest <= 1, f"a count moved by {largest:g}")


MUTANTS: Sequence[Mutant] = [
    (draws_the_partition_again_in_every_round, one_row_moves_one_teacher, "one row moved 20 teachers"),
    (splits_rows_by_their_place, one_row_moves_one_teacher, "one row moved"),
    (clips_the_teachers_gradients_together, one_row_moves_one_teacher, "one row moved 20 teachers"),
    (gives_each_teacher_two_votes, one_teacher_moves_a_count_by_one, "a count moved by 2"),
    (shows_the_student_real_rows, conformance.replay, "the state's generator depends on rows"),
    (labels_some_batches_for_nothing, conformance.replay, "the state's generator depends on rows"),
    (uses_the_true_counts, conformance.replay, "the state's generator depends on rows"),
    (stops_when_the_teachers_agree, conformance.replay, "the state's generator depends on rows"),
    (fits_its_encoder_on_private_rows, conformance.replay, "the state's cells"),
    (takes_teachers_for_the_rows_there_are, conformance.replay, "the state's generator depends on rows"),
]


@each(MUTANTS)
def test_a_spoiled_method_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    require_caught(mutant, TINY, TOY, monkeypatch)


def test_the_method_that_the_mutants_spoil_is_sound() -> None:
    assert all(finding.ok for finding in check_synthesizer(TINY, TOY))
    for check in (one_row_moves_one_teacher, one_teacher_moves_a_count_by_one):
        check(case_of(TINY))
