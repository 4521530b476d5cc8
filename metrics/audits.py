"""Audits: empirical lower bounds on the epsilon of a method, in which every unit that counts was included by its own coin.

The auditor is the strongest that differential privacy speaks of: it knows every row but the audited units, the method and its public draws, and it
reads the transcript of the Ledger. A bound above the claimed epsilon refutes the claim; a bound below proves nothing, and its `ceiling` tells how far
it could have come. DP-SGD methods are audited at as many nominal rows as one batch holds, where each unit is in each batch: there they are Gaussian
mechanisms, which can be told apart best.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bench.core.protocols import AuditReport, AuditSubject, LowerBound, Runtime
from metrics._bounds import Errors, bounds_of_errors, bounds_of_guesses, guess
from metrics._canaries import corner_row, gradient_scores, row_scores
from metrics._parts import auc
from metrics._transcripts import Transcript, in_full_batches, is_gaussian, log_likelihood_ratio, record

# --- one run --------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneRun:
    """One fit with many canaries, each in by its own coin, and the guesses about those coins (Steinke et al. 2023; Mahloujifar et al. 2025).

    In a DP-SGD method a canary is a gradient: a random direction of the clip norm, added to the sums of its batches before they are released. In any
    other it is a row, drawn at random inside the declared box. Either way what a canary adds to the released sums is known, and its score is the
    linear estimate of its coin. Gradient canaries test noise and composition; what becomes of rows before they are summed, only row canaries test.
    Canaries hide each other where they are more than the numbers that are released: then the bound is low.
    """

    rows: int = 1_000
    """Rows beside the canaries, which stand for nobody; and the nominal number of rows."""
    canaries: int = 500

    version: ClassVar[int] = 2

    def audit(self, subject: AuditSubject, rng: np.random.Generator, *, runtime: Runtime) -> AuditReport:
        """The bounds `one-run f-dp`, where the method is a Gaussian mechanism, and `one-run`.

        Raises:
            ValueError: the method releases no noisy sum.
        """
        first = record(subject, subject.view, 0)
        view = in_full_batches(subject, first)
        coins = rng.random(self.canaries) < 0.5
        sgd = any(charge.mechanism == "dp-sgd" for charge in first.charges.values())
        audited, scores = (gradient_scores if sgd else row_scores)(subject, view, coins, rng, runtime)
        guesses = guess(scores, coins, subject.budget.delta)
        correct = {f"correct of {each.guesses}": float(each.correct) for each in guesses}
        facts = {"canaries": float(self.canaries), "auc": auc(scores[coins], scores[~coins]), **correct}
        return _report(audited, bounds_of_guesses(guesses, subject.budget.epsilon, is_gaussian(audited)), facts)


# --- many runs ------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ManyRun:
    """Many fits with and as many without one worst-case unit, and how often the transcript tells wrongly which it was (Nasr et al. 2023).

    The unit is a row at the top corner of the declared box. The score of a fit is the log-likelihood ratio of its transcript, and where that is
    positive the unit is taken to be in: neither threshold nor direction is chosen by looking at a run. The fits follow each other: they run the
    method as it is, which no method does for several datasets at once.
    """

    rows: int = 1_000
    """Rows beside the unit, and the nominal number."""
    runs: int = 200
    """Fits with the unit, and as many without."""

    version: ClassVar[int] = 2

    def audit(self, subject: AuditSubject, rng: np.random.Generator, *, runtime: Runtime) -> AuditReport:
        """The bounds `gaussian dp`, where the method is a Gaussian mechanism, and `clopper-pearson`."""
        first = record(subject, subject.view, 0)
        without = in_full_batches(subject, first)
        sides = (without, replace(without, canaries=(corner_row(subject.data(without).schema),)))
        positives = [0, 0]
        for done in range(self.runs):
            for side, view in enumerate(sides):
                last = record(subject, view, 2 * done + side)
                positives[side] += log_likelihood_ratio(subject, last, *sides) > 0
            runtime.progress(done + 1, self.runs)
        errors = Errors(self.runs, positives[0], self.runs - positives[1], subject.budget.delta)
        facts = {"runs": float(self.runs), "false positives": float(positives[0]), "false negatives": float(self.runs - positives[1])}
        return _report(last, bounds_of_errors(errors, subject.budget.epsilon, is_gaussian(last)), facts)


def _report(audited: Transcript, bounds: dict[str, LowerBound], facts: dict[str, float]) -> AuditReport:
    return AuditReport(bounds, audited.view.rows, tuple(audited.charges.values()), facts)
