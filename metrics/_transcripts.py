"""What a fit told: the transcript of its Ledger, read by one who knows every row but the audited ones, and the method with all its public draws.

The released model is post-processing of the transcript, so an attack on the transcript is at least as strong as any on the model. What a method would
have asked of other rows, had it been told the same, needs no look into the method: the recorded answers are replayed on those rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from bench.core.accounting import Accountant, Charge
from bench.core.data import View
from bench.core.privacy import Budget, Ledger, RecordingLedger, ReplayLedger, Tape, on_the_host
from bench.core.protocols import AuditSubject, MakeLedger

Vector = NDArray[np.float64]
INCLUDE = ".include"
"""What the Ledger adds to the name of a DP-SGD question where it answers who is in the batch."""


@dataclass(frozen=True, eq=False)
class Transcript:
    """A finished fit of the rows of `view`: its charges, what it was asked, and all that it was told."""

    view: View
    seed: int
    charges: Mapping[str, Charge]
    questions: Tape
    tape: Tape

    @property
    def answers(self) -> list[tuple[Charge, Vector]]:
        """The answer of every mechanism with its charge, in the order of `questions`."""
        return [(self.charges[name], on_the_host(answer)) for name, answer in self.tape if name in self.charges]


def record(subject: AuditSubject, view: View, seed: int, make: MakeLedger = RecordingLedger) -> Transcript:
    """Fit the rows of a view and keep the transcript; `make` may be another kind of `RecordingLedger`."""
    ledger = cast(RecordingLedger, _lent(subject, view, seed, make))
    return Transcript(view, seed, {charge.name: charge for charge in ledger.charges}, ledger.questions, ledger.tape)


def replay(subject: AuditSubject, transcript: Transcript, view: View, tape: Tape | None = None) -> list[Vector]:
    """What the same fit would have been asked of the rows of another view, had it been told the same, or `tape`."""

    def told(budget: Budget, units: int, rng: np.random.Generator, accountant: Accountant) -> Ledger:
        return ReplayLedger(budget, transcript.tape if tape is None else tape, accountant)

    return [exact for _, exact in cast(ReplayLedger, _lent(subject, view, transcript.seed, told)).questions]


def _lent(subject: AuditSubject, view: View, seed: int, make: MakeLedger) -> Ledger:
    """The ledger that was lent to a fit."""
    lent: list[Ledger] = []

    def keep(budget: Budget, units: int, rng: np.random.Generator, accountant: Accountant) -> Ledger:
        lent.append(make(budget, units, rng, accountant))
        return lent[0]

    subject.refit(view, seed, keep)
    return lent[0]


def deviation(charge: Charge) -> float:
    """Standard deviation of the noise that was charged for."""
    return (charge.noise_multiplier or 0.0) * charge.sensitivity


def is_gaussian(transcript: Transcript) -> bool:
    """Whether all of it is Gaussian noise on every unit: then it composes to one Gaussian mechanism."""
    return all(charge.mechanism != "exponential" and charge.rate == 1 for charge in transcript.charges.values())


def in_full_batches(subject: AuditSubject, transcript: Transcript) -> View:
    """The view of fewer rows at which a DP-SGD method has each unit in each batch, so that it is a Gaussian mechanism; others keep theirs."""
    rate = min(charge.rate for charge in transcript.charges.values())
    return View(subject.view.environment, subject.view.part, max(1, int(subject.view.rows * rate)), subject.view.dataset_seed)


def log_likelihood_ratio(subject: AuditSubject, transcript: Transcript, without: View, with_unit: View) -> float:
    """log of p(transcript | the last unit of `with_unit` is in) / p(transcript | it is not), the best score there is.

    Answer by answer, given the earlier ones: both sides are asked what they would have been asked. Neither noise nor coins of batches are known; in a
    DP-SGD step of rate q the unit is in the batch with that chance.
    """
    unit = subject.data(without).units(subject.budget.unit)
    every_batch_is_full = all(charge.rate == 1 for charge in transcript.charges.values())

    def asked_of(view: View, included: bool) -> list[Vector]:
        if view == transcript.view and every_batch_is_full:
            return [exact for _, exact in transcript.questions]  # what a replay would give
        return replay(subject, transcript, view, _told(transcript.tape, unit, included))

    absent, present = asked_of(without, False), asked_of(with_unit, True)
    return sum(_log_ratio(*answer, *exact) for answer, *exact in zip(transcript.answers, absent, present, strict=True))


def _told(tape: Tape, unit: int, included: bool) -> Tape:
    """The same answers with `unit` in every batch, or in none."""

    def batch(indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.union1d(indices, [unit]) if included else indices[indices != unit]

    return [(name, batch(answer) if name.endswith(INCLUDE) else answer) for name, answer in tape]


def _log_ratio(charge: Charge, answer: Vector, absent: Vector, present: Vector) -> float:
    """For one answer, and what it answered on either side."""
    if charge.mechanism == "exponential":
        assert charge.pick_epsilon is not None
        scale, pick = charge.pick_epsilon / (2 * charge.sensitivity), int(answer)
        return float(log_softmax(scale * present)[pick] - log_softmax(scale * absent)[pick])
    moved = present - absent
    ratio = float(((answer - absent) * moved).sum() - (moved * moved).sum() / 2) / deviation(charge) ** 2
    return ratio if charge.rate == 1 else float(np.logaddexp(np.log1p(-charge.rate), np.log(charge.rate) + ratio))
