"""What a fit asked and what it was told: the noise between the two, and how far a question moves when the rows change."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bench.conformance.findings import require
from bench.conformance.probes import Recorder
from bench.core.accounting import Charge
from bench.core.privacy import RecordingLedger, ReplayLedger, Tape, on_the_host

_SURPRISE = 5.0
"""Standard deviations by which an estimate from noise may miss: once in two million."""
_UNLIKELY = _SURPRISE**2 / 2
"""Minus the logarithm of about that chance, for bounds of the form exp(-t)."""


def uncharged(ledger: Recorder) -> list[str]:
    """Names under which a fit was told more than was charged for: beyond the planned count, without a question, or as a key that nobody drew."""
    asked = Counter(name for name, _ in ledger.questions)
    charged = {"secret_key": ledger.keys_drawn}
    for charge in ledger.charges:
        charged[charge.name] = min(charge.count, asked[charge.name])
        charged[f"{charge.name}.include"] = asked[charge.name] if charge.mechanism == "dp-sgd" else 0
    told = Counter(name for name, _ in ledger.tape)
    return sorted(name for name, answers in told.items() if answers > charged.get(name, 0))


def standard_noise(ledger: RecordingLedger) -> dict[str, NDArray[np.float64]]:
    """What was answered less what was asked, in standard deviations as charged: all that a mechanism added, (n,), in the order of its answers."""
    charges = {charge.name: charge for charge in ledger.charges if charge.noise_multiplier is not None}
    answers = [on_the_host(answer) for name, answer in ledger.tape if name in charges]
    questions = [(name, exact) for name, exact in ledger.questions if name in charges]
    added: dict[str, list[NDArray[np.float64]]] = {name: [np.zeros(0)] for name in charges}
    for answer, (name, exact) in zip(answers, questions, strict=True):
        added[name].append((answer - exact).ravel() / ((charges[name].noise_multiplier or 0.0) * charges[name].sensitivity))
    return {name: np.concatenate(parts) for name, parts in added.items()}


def require_standard_normals(name: str, values: NDArray[np.float64]) -> None:
    """Violated where `values` (n,) miss, by more than chance does, unit variance, independence of each other, or the normal distribution function."""
    n = len(values)
    if not n:
        return
    ratio = float(np.sqrt(np.mean(values**2)))
    require(abs(ratio - 1) <= _SURPRISE / math.sqrt(2 * n), f"{name}: its noise has {ratio:.3g} times the standard deviation that was charged for")
    repeated = _repetition(values)
    require(repeated is None, f"{name}: its noise repeats itself after {repeated} values; seed it with what the Ledger hands to add_noise alone")
    ranks, below = np.arange(n + 1) / n, ndtr(np.sort(values))
    gap = float(max(np.abs(ranks[1:] - below).max(), np.abs(ranks[:-1] - below).max()))
    likely = math.sqrt(_UNLIKELY / (2 * n))  # Massart 1990
    require(gap <= likely, f"{name}: its noise is not Gaussian; the distribution function is off by {gap:.2g}, by chance {likely:.2g} at most")


def _repetition(values: NDArray[np.float64]) -> int | None:
    """The lag at which standard normals (n,) are correlated beyond chance, if there is one.

    The sum of n - k products of normals k apart exceeds sqrt(2 (n - k) t) + 2 t with chance exp(-t) at most (Laurent and Massart 2000, lemma 1).
    """
    n = len(values)
    sums = np.fft.irfft(np.abs(np.fft.rfft(values, 2 * n)) ** 2, 2 * n)[1:n]
    unlikely = _UNLIKELY + math.log(2 * n)  # for all lags together
    excess = np.abs(sums) / (np.sqrt(2 * np.arange(n - 1, 0, -1) * unlikely) + 2 * unlikely)
    return int(np.argmax(excess)) + 1 if excess.max(initial=0.0) > 1 else None


def without_unit(tape: Tape, unit: int) -> Tape:
    """The tape as it were if the unit had never been there: no batch has it, and those behind it have moved up."""

    def less(included: NDArray[np.int64]) -> NDArray[np.int64]:
        return included[included != unit] - (included[included != unit] > unit)

    return [(name, less(answer) if name.endswith(".include") else answer) for name, answer in tape]


def pairs(
    one: RecordingLedger | ReplayLedger, other: RecordingLedger | ReplayLedger
) -> Iterator[tuple[Charge, NDArray[np.float64], NDArray[np.float64]]]:
    """The questions of two fits side by side, each with its charge; violated where their number, names or shapes differ."""
    charges = {charge.name: charge for charge in one.charges}
    shapes = [[(name, value.shape) for name, value in ledger.questions] for ledger in (one, other)]
    require(shapes[0] == shapes[1], "the number or shape of its questions depends on the rows; take both from the schema")
    for (name, value), (_, changed) in zip(one.questions, other.questions, strict=True):
        yield charges[name], value, changed


def distance(charge: Charge, one: NDArray[Any], other: NDArray[Any]) -> float:
    """Largest difference of a score for a pick, Euclidean distance otherwise."""
    gap = np.subtract(one, other, out=np.zeros_like(one), where=one != other)  # two scores of minus infinity are equal
    return float(np.abs(gap).max(initial=0.0) if charge.mechanism == "exponential" else np.linalg.norm(gap))
