"""From what an attacker got right to a lower bound on epsilon: the statistics of audits.

Evidence is a count: how many guesses about canaries were correct in one run, or how often the presence of one unit was misjudged in many. Each kind
tells whether it *refutes* a claim of (epsilon, delta) at a chance of error alpha: if the claim were true, evidence as strong would turn up with
probability alpha at most. The lower bound is the largest epsilon that is refuted at 5 %, the p-value of a claim the least alpha that refutes it, the
ceiling the bound of evidence without one wrong guess.

    one-run          Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023, theorem 5.2
    one-run f-DP     Mahloujifar, Melis and Chaudhuri, "Auditing f-Differential Privacy in One Run", ICML 2025, for Gaussian DP
    Clopper-Pearson  Nasr et al., "Adversary Instantiation", IEEE S&P 2021: exact intervals of the two error rates
    Gaussian DP      Nasr et al., "Tight Auditing of Differentially Private Machine Learning", USENIX Security 2023

Both Gaussian forms hold a mechanism that claims (epsilon, delta) to the trade-off curve of the Gaussian mechanism with that (epsilon, delta), and are
valid where all it does is add Gaussian noise to every unit alike (sampling rate 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betaincinv, log_ndtr, ndtr, ndtri
from scipy.stats import binom

from bench.core.protocols import LowerBound

Refutes = Callable[[float, float], bool]
"""(epsilon, alpha) to whether the claim of epsilon is refuted at that chance of error."""

ALPHA = 0.05
_LARGEST_EPSILON, _LEAST_ALPHA = 100.0, 1e-12
_HALVINGS = 30


def bounded(evidence: Refutes, perfect: Refutes, claim: float) -> LowerBound:
    """The bound of `evidence` and the p-value of the `claim`, each also for a `perfect` attack in its place."""
    return LowerBound(lower_bound(evidence), lower_bound(perfect), p_value(evidence, claim), p_value(perfect, claim))


def lower_bound(refutes: Refutes, alpha: float = ALPHA) -> float:
    """The largest epsilon, rounded down, that is refuted at `alpha`; 0 if not even perfect privacy is."""
    low, high = 0.0, _LARGEST_EPSILON
    if not refutes(low, alpha):
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if refutes(middle, alpha) else (low, middle)
    return low


def p_value(refutes: Refutes, epsilon: float) -> float:
    """The least alpha, rounded up, at which `epsilon` is refuted; 1 if it is at none. What lies below 1e-12 counts as that."""
    low, high = math.log(_LEAST_ALPHA), 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if refutes(epsilon, math.exp(middle)) else (middle, high)
    return math.exp(high)


# --- one run ------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Guesses:
    """`correct` of `guesses` about the coins of `canaries`, one fair coin each; about the other canaries nothing was said.

    >>> public = Guesses(canaries=500, guesses=100, correct=100, delta=1e-5)
    >>> round(lower_bound(public.refute), 3)
    3.479
    """

    canaries: int
    guesses: int
    correct: int
    delta: float

    def refute(self, epsilon: float, alpha: float) -> bool:
        """The one-run bound, for any mechanism."""
        return self._chance(epsilon) < alpha

    def refute_gaussian(self, epsilon: float, alpha: float) -> bool:
        """The f-DP form, for a Gaussian mechanism.

        With g(x) = Phi(Phi^-1(x) - mu) no more than a share r + h of the canaries can have been guessed about if the claim held. r and h are the
        paper's r[i] and h[i], from i = v down to 0; once h does not grow neither does r, and nothing changes any more.
        """
        m, n, v = self.canaries, self.guesses, self.correct
        mu = mu_of_gaussian(epsilon, self.delta)
        r, h = alpha * v / m, alpha * (n - v) / m
        for i in range(v - 1, -1, -1):
            raised = max(h, float(ndtr(ndtri(r) - mu)))
            if raised == h:
                break
            r, h = min(1.0, r + i / (n - i) * (raised - h)), raised
        return v > 0 and r + h > n / m

    def _chance(self, epsilon: float) -> float:
        """At most the chance of so many correct guesses under (epsilon, delta)-DP."""
        if not self.correct:
            return 1.0
        right = binom(self.guesses, 1 / (1 + math.exp(-epsilon)))
        i = np.arange(1, self.correct + 1)
        slack = (right.cdf(self.correct - 1) - right.cdf(self.correct - 1 - i)) / i
        return min(1.0, float(right.sf(self.correct - 1) + 2 * self.canaries * self.delta * slack.max()))


GUESSED_SHARES = (1.0, 0.5, 0.2, 0.1)
"""Shares of the canaries that are guessed about, all of them candidates: fewer guesses are surer ones."""


def guess(scores: NDArray, coins: NDArray[np.bool_], delta: float) -> list[Guesses]:
    """For each of `GUESSED_SHARES`: the top half is guessed to be in, the bottom half to be out.

    Args:
        scores: (m,), larger for canaries that are likelier in. Ties are broken by position, which the coins know nothing of.
        coins: (m,), which canaries were in.
    """
    rank = np.argsort(-scores, kind="stable")
    found = []
    for share in GUESSED_SHARES:
        half = int(share * len(scores)) // 2
        correct = coins[rank[:half]].sum() + (~coins[rank[len(rank) - half :]]).sum()
        found.append(Guesses(len(scores), 2 * half, int(correct), delta))
    return found


def bounds_of_guesses(guesses: Sequence[Guesses], claim: float, gaussian: bool) -> dict[str, LowerBound]:
    """`one-run f-dp`, if the mechanism is Gaussian, and `one-run`: each candidate is judged at its share of alpha (Bonferroni)."""
    ideal = [replace(each, correct=each.guesses) for each in guesses]

    def any_of(candidates: Sequence[Guesses], refute: Callable[[Guesses, float, float], bool]) -> Refutes:
        return lambda epsilon, alpha: any(refute(each, epsilon, alpha / len(candidates)) for each in candidates)

    forms = {**({"one-run f-dp": Guesses.refute_gaussian} if gaussian else {}), "one-run": Guesses.refute}
    return {name: bounded(any_of(guesses, refute), any_of(ideal, refute), claim) for name, refute in forms.items()}


# --- many runs ----------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Errors:
    """How often a unit was taken to be in, `false_positives` of `runs` without it, or to be out, `false_negatives` of `runs` with it.

    >>> round(lower_bound(Errors(runs=500, false_positives=0, false_negatives=0, delta=1e-6).refute), 1)
    4.9
    """

    runs: int
    false_positives: int
    false_negatives: int
    delta: float

    def refute(self, epsilon: float, alpha: float) -> bool:
        """By Clopper-Pearson bounds on both rates, for any mechanism."""
        fpr, fnr = self._rates(alpha)
        odds = max((1 - self.delta - fpr) / fnr, (1 - self.delta - fnr) / fpr)
        return odds > math.exp(epsilon)

    def refute_gaussian(self, epsilon: float, alpha: float) -> bool:
        """By the same bounds, for a Gaussian mechanism: mu is at least Phi^-1(1 - FPR) - Phi^-1(FNR)."""
        fpr, fnr = self._rates(alpha)
        return float(ndtri(1 - fpr) - ndtri(fnr)) > mu_of_gaussian(epsilon, self.delta)

    def _rates(self, alpha: float) -> tuple[float, float]:
        """Upper bounds on false positive and false negative rate that hold together with probability 1 - alpha."""
        counts = (self.false_positives, self.false_negatives)
        fpr, fnr = (1.0 if k == self.runs else float(betaincinv(k + 1, self.runs - k, 1 - alpha / 2)) for k in counts)
        return fpr, fnr


def bounds_of_errors(errors: Errors, claim: float, gaussian: bool) -> dict[str, LowerBound]:
    """`gaussian dp`, if the mechanism is Gaussian, and `clopper-pearson`."""
    ideal = replace(errors, false_positives=0, false_negatives=0)
    found = {"gaussian dp": bounded(errors.refute_gaussian, ideal.refute_gaussian, claim)} if gaussian else {}
    return {**found, "clopper-pearson": bounded(errors.refute, ideal.refute, claim)}


# --- the Gaussian mechanism ---------------------------------------------------------------------------------------------------------------------


def mu_of_gaussian(epsilon: float, delta: float) -> float:
    """The mu of the Gaussian mechanism (a shift of mu standard deviations) that is (epsilon, delta)-DP and no better.

    It is more than delta, since at epsilon 0 it is sqrt(2 pi) delta.
    """
    return float(brentq(lambda mu: _log_delta(mu, epsilon) - math.log(delta), delta, 100.0, xtol=1e-6 * delta))


def epsilon_of_gaussian(mu: float, delta: float) -> float:
    """The least epsilon of that mechanism at `delta`; 0 where delta alone pays for it."""
    if _log_delta(mu, 0.0) <= math.log(delta):
        return 0.0
    return float(brentq(lambda epsilon: _log_delta(mu, epsilon) - math.log(delta), 0.0, mu * mu / 2 + 40 * mu, xtol=1e-12))


def _log_delta(mu: float, epsilon: float) -> float:
    """Log of delta(epsilon) = Phi(mu / 2 - epsilon / mu) - e^epsilon Phi(-mu / 2 - epsilon / mu) (Balle and Wang 2018)."""
    first, second = float(log_ndtr(mu / 2 - epsilon / mu)), epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    return first + math.log1p(-min(math.exp(second - first), 1 - 1e-16))
