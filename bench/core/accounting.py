"""From charges to epsilon, and from a budget to noise: thin glue over `dp-accounting`.

A `Charge` is one mechanism as it was run, with all that an accountant needs. Two accountants, both for add/remove neighbours:

- `pld`: the privacy-loss distribution, tight. Used when every charge has one (Gaussian, Poisson-sampled Gaussian).
- `rdp`: Renyi DP, the published choice, and the one that can hold an exponential pick (as zCDP with rho = epsilon^2 / 8 by bounded range,
  Cesar and Rogers 2021). Used when a plan picks, or on request.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, get_args

from bench.core.errors import InputError

Accountant = Literal["pld", "rdp"]
Mechanism = Literal["gaussian", "exponential", "dp-sgd"]
ACCOUNTANTS: tuple[Accountant, ...] = ("pld", "rdp")

AGREEMENT = 1e-3
"""Relative difference of two epsilons of the same charges that count as equal: versions of dp-accounting round differently."""

_LOG_FACTOR_TOLERANCE = 1e-4
"""Calibration stops within this relative distance of the exact noise, always on the side of more noise."""

_ACCOUNTING_VERSION = importlib.metadata.version("dp-accounting")
_LARGEST_NOISE = 1e100
_NOTHING_SPENT = 1e-9
"""Stands for 0 where a logarithm or a quotient is taken: enough noise makes delta alone pay for everything."""


@dataclass(frozen=True)
class Charge:
    """One mechanism of a plan with its noise: a line of the record from which anyone can recompute epsilon.

    Attributes:
        name: what the plan calls it.
        mechanism: `gaussian`, `exponential` or `dp-sgd`.
        sensitivity: L2 sensitivity of an answer, sensitivity of a score, or clip norm.
        count: how often it may be asked (answers, picks, steps).
        noise_multiplier: standard deviation of the noise over `sensitivity`; None for a pick.
        pick_epsilon: pure-DP parameter of one exponential pick; None for the others.
        rate: Poisson sampling rate of DP-SGD; 1 for the others.
        saturation: an answer moves by at most so many sensitivities, however many units change; None where there is no such number.

    Raises:
        ValueError: what no accountant can judge, as a record that was changed by hand may hold.
    """

    name: str
    mechanism: Mechanism
    sensitivity: float
    count: int
    noise_multiplier: float | None = None
    pick_epsilon: float | None = None
    rate: float = 1.0
    saturation: int | None = None

    def __post_init__(self) -> None:
        noise = self.pick_epsilon if self.mechanism == "exponential" else self.noise_multiplier
        numbers = (self.sensitivity, self.count, self.rate, noise)
        counts = (self.count, 1 if self.saturation is None else self.saturation)
        sound = all(isinstance(number, Real) and number >= 0 for number in numbers) and self._is_noise(noise)
        whole = all(isinstance(number, Integral) and number >= 1 for number in counts)
        if self.mechanism not in get_args(Mechanism) or not sound or not whole or not 0 < self.rate <= 1:
            raise ValueError(f"charge {self.name!r}: {self.mechanism!r} with the numbers {numbers} is no mechanism of the Ledger")

    def _is_noise(self, noise: Any) -> bool:
        """None at all, or so much that its square is a number."""
        none = math.inf if self.mechanism == "exponential" else 0
        return bool(noise == none or 1 / _LARGEST_NOISE <= noise <= _LARGEST_NOISE)

    @property
    def is_free_of_noise(self) -> bool:
        """True at an infinite budget."""
        return self.noise_multiplier == 0.0 or self.pick_epsilon == math.inf


def library() -> Any:
    """dp-accounting, imported when it is first asked: `import bench` then takes a fifth of a second instead of a whole one."""
    import dp_accounting

    return dp_accounting


def accountant_for(charges: Sequence[Charge], wanted: Accountant) -> Accountant:
    """The accountant that will judge these charges: `wanted`, or `rdp` where a pick has no privacy-loss distribution."""
    return "rdp" if any(charge.mechanism == "exponential" for charge in charges) else wanted


def epsilon_spent(charges: Sequence[Charge], delta: float, accountant: Accountant) -> float:
    """Upper bound on epsilon at `delta` of all charges together.

    Gaussian answers compose exactly into one with 1/sigma^2 summed; a plan of nothing else has a closed form (Balle and Wang 2018).
    """
    if not charges:
        return 0.0
    if any(charge.is_free_of_noise for charge in charges):
        return math.inf
    merged = _merge_gaussians(tuple(charges))
    if accountant == "pld" and len(merged) == 1 and merged[0].mechanism == "gaussian":
        assert merged[0].noise_multiplier is not None
        return float(library().get_epsilon_gaussian(merged[0].noise_multiplier, delta))
    return _composed_epsilon(merged, delta, accountant)


def _merge_gaussians(charges: tuple[Charge, ...]) -> tuple[Charge, ...]:
    gaussians = [charge for charge in charges if charge.mechanism == "gaussian"]
    others = tuple(charge for charge in charges if charge.mechanism != "gaussian")
    if not gaussians:
        return others
    precision = sum(charge.count / charge.noise_multiplier**2 for charge in gaussians if charge.noise_multiplier)
    return (*others, Charge("gaussian", "gaussian", 1.0, 1, noise_multiplier=precision**-0.5))


@lru_cache(maxsize=4096)
def _composed_epsilon(charges: tuple[Charge, ...], delta: float, accountant: Accountant) -> float:
    neighbours = library().NeighboringRelation.ADD_OR_REMOVE_ONE
    kind = library().pld.PLDAccountant if accountant == "pld" else library().rdp.RdpAccountant
    judge = kind(neighboring_relation=neighbours)
    for charge in charges:
        judge.compose(_event(charge), charge.count)
    return float(judge.get_epsilon(delta))


def _event(charge: Charge) -> Any:
    if charge.mechanism == "exponential":
        assert charge.pick_epsilon is not None
        return library().ZCDpEvent(charge.pick_epsilon**2 / 8)
    gaussian = library().GaussianDpEvent(charge.noise_multiplier)
    return gaussian if charge.mechanism == "gaussian" else library().PoissonSampledDpEvent(charge.rate, gaussian)


def noise_factor(charges_at: Callable[[float], tuple[Charge, ...]], epsilon: float, delta: float, accountant: Accountant) -> float:
    """The smallest common factor (to 1e-4) at which `charges_at(factor)` costs no more than `epsilon`.

    The factor multiplies every standard deviation and divides every pick's epsilon. Found once, it is kept on disk: calibrating DP-SGD takes many
    seconds. What is kept is trusted for the noise and for nothing else: what a fit has spent is recomputed from its charges.
    """
    if math.isinf(epsilon):
        return 0.0
    asked = [[value for name, value in asdict(charge).items() if name != "saturation"] for charge in charges_at(1.0)]  # one unit saturates nothing
    question = json.dumps([asked, epsilon, delta, accountant, _LOG_FACTOR_TOLERANCE, _ACCOUNTING_VERSION])
    kept = _cache_folder() / f"{hashlib.sha256(question.encode()).hexdigest()[:20]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):  # it is not there, or not whole
        return float(json.loads(kept.read_text())["factor"])
    factor = _searched_factor(charges_at, epsilon, delta, accountant)
    with suppress(OSError):  # a home that cannot be written to costs time, nothing else
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({"factor": factor, "question": question}))
        partial.replace(kept)
    return factor


def _cache_folder() -> Path:
    """`orl-bench/noise` in the user's cache: safe to delete."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orl-bench" / "noise"


def _searched_factor(charges_at: Callable[[float], tuple[Charge, ...]], epsilon: float, delta: float, accountant: Accountant) -> float:
    """The search comes from the side of more noise, where accounting is cheap, and what it returns never overspends.

    Raises:
        InputError: a delta or an epsilon that is too small for the accountant.
    """

    def excess(log_factor: float) -> float:
        spent = epsilon_spent(charges_at(math.exp(log_factor)), delta, accountant)
        if math.isinf(spent):
            raise InputError(f"delta: {delta:g} is below what the {accountant} accountant resolves; give a larger one, or the accountant rdp")
        return math.log(max(spent / epsilon, _NOTHING_SPENT))

    upper = math.log(2.0 / math.sqrt(max(_zcdp_rho(epsilon, delta), _NOTHING_SPENT**2)))
    while (at_upper := excess(upper)) > 0:
        upper += math.log(2.0)
    lower = upper - math.log(1.3)
    while (at_lower := excess(lower)) <= 0:
        upper, at_upper = lower, at_lower
        lower -= math.log(1.3)
    while upper - lower > _LOG_FACTOR_TOLERANCE:
        middle = _interpolate(lower, at_lower, upper, at_upper)
        value = excess(middle)
        if value > 0:
            lower, at_lower = middle, value
        else:
            upper, at_upper = middle, value
    if at_upper <= math.log(_NOTHING_SPENT):
        raise InputError(f"epsilon: the {accountant} accountant cannot tell {epsilon:g} from 0 at delta {delta:g}; give a larger one")
    return math.exp(upper)


def _interpolate(lower: float, at_lower: float, upper: float, at_upper: float) -> float:
    """Where the line through both ends crosses zero, moved a third of the tolerance towards the farther end.

    The next evaluation then falls just beyond the root and replaces that end, where plain regula falsi keeps one end for ever: an evaluation of a
    PLD takes seconds.
    """
    crossing = lower + (upper - lower) * at_lower / (at_lower - at_upper)
    nudge = _LOG_FACTOR_TOLERANCE / 3
    crossing += nudge if upper - crossing > crossing - lower else -nudge
    margin = (upper - lower) / 50
    return min(max(crossing, lower + margin), upper - margin)


def _zcdp_rho(epsilon: float, delta: float) -> float:
    """The rho whose classical conversion (Bun and Steinke 2016) gives (epsilon, delta): where the search starts."""
    log = math.log(1 / delta)
    return (math.sqrt(log + epsilon) - math.sqrt(log)) ** 2
