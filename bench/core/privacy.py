"""The Ledger: the only door between sensitive rows and a fitted model.

A fit declares a plan, once, before it learns anything: every question it will ask, with its sensitivity, its count and its share of the
budget. The Ledger finds one common noise factor at which the composed bound meets the budget, charges it, and only then answers. Poisson
inclusion, picks, secret keys and the noise of Gaussian answers come from the Ledger's own generator. A method may add the noise of DP-SGD itself,
where its gradients live, from a seed of that generator: that it does, conformance measures and the Ledger does not enforce. Whatever depends on
data passes through `_answer`: a `RecordingLedger` tapes it, and a `ReplayLedger` that plays the tape on unrelated rows must rebuild the
same model (`bench.conformance`). What a mechanism is about to answer passes through `asked`: audits and conformance watch it there.

    plan = ledger.plan(one_way=Gaussian(l2=1.0, count=11, weight=0.5), tree=Exponential(sensitivity=1.0, count=10, weight=0.5))
    noisy = plan.one_way(counts)
    edge = plan.tree(scores)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.accounting import Accountant, Charge, accountant_for, epsilon_spent, noise_factor
from bench.core.data import Unit
from bench.core.errors import InputError


class PlanError(RuntimeError):
    """A question outside the plan. Raised before any noise is drawn."""


@dataclass(frozen=True)
class Budget:
    """(epsilon, delta) differential privacy for add/remove neighbours of one `unit`; epsilon may be infinite (the non-private ceiling)."""

    epsilon: float
    delta: float
    unit: Unit

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise InputError(f"epsilon: {self.epsilon} is not positive; give a number above 0, or inf for the non-private ceiling")
        if not 0 < self.delta < 1:
            raise InputError(f"delta: {self.delta} is outside (0, 1); a usual choice is the largest power of ten below 1 / (10 N)")


def default_delta(units: int) -> float:
    """The largest power of ten that is at most 1 / (10 N) for N nominal units."""
    return 10.0 ** -math.ceil(math.log10(10 * units) - 1e-9)


def check_delta(delta: float, units: int) -> None:
    """Refuse delta >= 1/N: it would allow the release of one whole record."""
    if delta * units >= 1:
        raise InputError(f"delta: {delta:g} is not below 1/N for N = {units} units; {default_delta(units):g} works")


@dataclass(frozen=True)
class Gaussian:
    """`count` answers, each a scalar or array of L2 sensitivity `l2`; `weight` is its share of the zCDP budget.

    `saturation`, if given, bounds what many units do: together they move an answer by at most that many times `l2`.
    """

    l2: float
    weight: float
    count: int = 1
    saturation: int | None = None

    def charge(self, name: str, factor: float) -> Charge:
        noise_multiplier = factor * math.sqrt(self.count / (2 * self.weight))
        return Charge(name, "gaussian", float(self.l2), int(self.count), noise_multiplier, saturation=self.saturation and int(self.saturation))


@dataclass(frozen=True)
class Exponential:
    """`count` picks from score vectors in which every score has sensitivity `sensitivity` (McSherry and Talwar 2007)."""

    sensitivity: float
    weight: float
    count: int = 1

    def charge(self, name: str, factor: float) -> Charge:
        epsilon = math.sqrt(8 * self.weight / self.count) / factor if factor else math.inf
        return Charge(name, "exponential", float(self.sensitivity), int(self.count), pick_epsilon=epsilon)


@dataclass(frozen=True)
class DPSGD:
    """`steps` sums of per-unit gradients clipped to `clip_norm`, over Poisson batches of sampling rate `rate` (Abadi et al. 2016)."""

    rate: float
    steps: int
    clip_norm: float
    weight: float = 1.0

    def charge(self, name: str, factor: float) -> Charge:
        rate = float(self.rate)
        noise = factor * rate * math.sqrt(self.steps / (2 * self.weight))
        return Charge(name, "dp-sgd", float(self.clip_norm), int(self.steps), noise_multiplier=noise, rate=rate)


Request = Gaussian | Exponential | DPSGD
Tape = list[tuple[str, Any]]
"""Names of mechanisms with what each was asked, or answered, in order."""


class Ledger:
    """The privacy budget of one fit. Made by the bench, lent to `fit`, read back afterwards.

    Args:
        budget: what may be spent; None closes the ledger (data-free methods, the real data): it then refuses every plan.
        units: the true number of privacy units, known to nobody else; Poisson inclusion draws from it.
        rng: the Ledger's own generator.
        accountant: `pld`, or `rdp` for the published choice.
    """

    def __init__(self, budget: Budget | None, units: int, rng: np.random.Generator, accountant: Accountant = "pld") -> None:
        self.budget = budget
        self.charges: tuple[Charge, ...] = ()
        self.accountant: Accountant = accountant
        self._units = units
        self._rng = rng

    def plan(self, **requests: Request) -> Plan:
        """Declare every question of this fit; the weights sum to one. Charged here, before the first answer.

        Raises:
            PlanError: a second plan, an empty one, or a ledger that lends no budget.
            InputError: weights that do not sum to one, or a request that is not positive.
        """
        if self.budget is None:
            raise PlanError("this method promised to be data-free or non-private, so the ledger lends it no budget; declare guarantee = DP")
        if self.charges:
            raise PlanError("a fit declares one plan; merge the questions of both into it")
        _check_requests(requests)

        def charges_at(factor: float) -> tuple[Charge, ...]:
            return tuple(request.charge(name, factor) for name, request in requests.items())

        self.accountant = accountant_for(charges_at(1.0), self.accountant)
        factor = noise_factor(charges_at, self.budget.epsilon, self.budget.delta, self.accountant)
        self.charges = charges_at(factor)
        return Plan(self, self.charges)

    def spent(self) -> float:
        """Epsilon at the budget's delta, recomputed from the charges."""
        return 0.0 if self.budget is None else epsilon_spent(self.charges, self.budget.delta, self.accountant)

    def secret_key(self) -> int:
        """63 secret bits: to assign units to shards, or to draw for each what nobody may know. Costs nothing, since it does not depend on data.

        Derive what is drawn for a unit from the key and the unit's own values, or from its place in a batch; never from its row number. That shifts
        when an earlier unit is removed, and `bench check`, which compares neighbours under one key, would report a question that is more sensitive
        than declared.
        """
        return self._answer("secret_key", lambda: int(self._rng.integers(2**63)))

    def asked(self, name: str, exact: Any) -> Any:
        """What a mechanism is to answer, before noise: an array, or the torch tensor of a DP-SGD sum. Audits watch it, and may add canaries."""
        return exact

    def _answer(self, name: str, compute: Callable[[], Any]) -> Any:
        """Run one mechanism: the one place where anything that depends on data comes out. Recording and replay override it.

        For the questions of the plan, which charged them, and for secret keys: conformance refuses whatever else comes this way.
        """
        return compute()

    def standard_normal(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        return self._rng.standard_normal(shape)

    def gumbel(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        return self._rng.gumbel(size=shape)

    def noise_seed(self) -> int:
        """Seeds the noise of one DP-SGD step, which is drawn where the gradients live."""
        return int(self._rng.integers(2**63))

    def poisson_inclusion(self, rate: float) -> NDArray[np.int64]:
        """Each unit by its own coin: a binomial number of distinct units, in rising order."""
        size = self._rng.binomial(self._units, rate)
        return np.sort(self._rng.choice(self._units, size=size, replace=False, shuffle=False))


class Plan:
    """The declared questions, by name. `plan.NAME(...)` answers; anything else raises `PlanError`."""

    def __init__(self, ledger: Ledger, charges: tuple[Charge, ...]) -> None:
        makers: dict[str, type[_Question]] = {"gaussian": GaussianAnswers, "exponential": ExponentialPicks, "dp-sgd": SgdHandle}
        self._questions = {charge.name: makers[charge.mechanism](ledger, charge) for charge in charges}

    def __getattr__(self, name: str) -> Any:
        questions = self.__dict__.get("_questions", {})
        if name not in questions:
            raise PlanError(f"question {name!r} is not in the plan ({', '.join(questions)}); declare it in ledger.plan")
        return questions[name]


class _Question:
    """One charge and how much of it is used up."""

    def __init__(self, ledger: Ledger, charge: Charge) -> None:
        self._ledger, self._charge, self._asked = ledger, charge, 0

    def _use(self) -> None:
        if self._asked >= self._charge.count:
            raise PlanError(f"question {self._charge.name!r} was planned for {self._charge.count} answers; raise its count in ledger.plan")
        self._asked += 1

    def _require(self, sound: NDArray[np.bool_]) -> None:
        """NaN and infinity come through any noise as they are."""
        if not sound.all():
            raise PlanError(f"question {self._charge.name!r} holds NaN or infinity, which no noise hides; mend what computes it")


class GaussianAnswers(_Question):
    """Answers with Gaussian noise of standard deviation `scale`."""

    @property
    def scale(self) -> float:
        """Standard deviation of the noise: public, for post-processing."""
        return float((self._charge.noise_multiplier or 0.0) * self._charge.sensitivity)

    def __call__(self, value: Any) -> NDArray[np.float64]:
        """`value` plus noise, as float64; the caller proves that its L2 sensitivity is at most the declared one."""
        self._use()
        question = np.asarray(value, np.float64)
        self._require(np.isfinite(question))
        exact = self._ledger.asked(self._charge.name, question)
        return self._ledger._answer(self._charge.name, lambda: np.asarray(exact + self.scale * self._ledger.standard_normal(exact.shape)))


class ExponentialPicks(_Question):
    """Picks index i with probability proportional to exp(epsilon score_i / (2 sensitivity)), by Gumbel noise."""

    def __call__(self, scores: Any) -> int:
        """The picked index; a score of -inf is never picked."""
        self._use()
        question = np.asarray(scores, np.float64)
        self._require(question < np.inf)
        exact = self._ledger.asked(self._charge.name, question)
        epsilon = self._charge.pick_epsilon
        assert epsilon is not None

        def pick() -> int:
            if math.isinf(epsilon):
                return int(np.argmax(exact))
            return int(np.argmax(exact * (epsilon / (2 * self._charge.sensitivity)) + self._ledger.gumbel(exact.shape)))

        return self._ledger._answer(self._charge.name, pick)


class SgdHandle(_Question):
    """DP-SGD, one step at a time: `include()` the batch, then `release()` its clipped sum."""

    _CLIP_TOLERANCE = 1.01
    """Room for low-precision rounding in the check that a sum was clipped at all."""

    def __init__(self, ledger: Ledger, charge: Charge) -> None:
        super().__init__(ledger, charge)
        self._batch: int | None = None

    @property
    def noise_multiplier(self) -> float:
        return float(self._charge.noise_multiplier or 0.0)

    @property
    def clip_norm(self) -> float:
        """The norm that was charged for, and so the one to clip to."""
        return self._charge.sensitivity

    def include(self) -> NDArray[np.int64]:
        """Indices of the units in the next batch, by Poisson sampling; may be empty, and an empty batch is released too."""
        if self._batch is not None:
            raise PlanError(f"question {self._charge.name!r}: the last batch was not released; call release before the next include")
        self._use()
        indices = self._ledger._answer(f"{self._charge.name}.include", lambda: self._ledger.poisson_inclusion(self._charge.rate))
        self._batch = len(indices)
        return indices

    def release(self, clipped_sum: Any, add_noise: Callable[[Any, int, float], Any] | None = None) -> Any:
        """`clipped_sum` plus Gaussian noise of standard deviation noise multiplier x clip norm.

        Args:
            clipped_sum: the sum over the included units of gradients of norm at most the clip norm; a numpy array or torch tensor.
            add_noise: adds normals of a seed of the Ledger times a scale to the sum, where that lives and perhaps in place; by numpy if not given.
        """
        if self._batch is None:
            raise PlanError(f"question {self._charge.name!r}: nothing was included; call include before release")
        flat, bound = clipped_sum.reshape(-1), self._batch * self.clip_norm
        norm = float(flat @ flat) ** 0.5
        if not norm <= bound * self._CLIP_TOLERANCE:
            raise PlanError(f"question {self._charge.name!r}: a sum exceeds the clip norms of its units together; clip each unit")
        self._batch = None
        exact = self._ledger.asked(self._charge.name, clipped_sum)

        def noisy() -> Any:
            if not self.noise_multiplier:
                return exact
            return (add_noise or _add_normals)(exact, self._ledger.noise_seed(), self.noise_multiplier * self.clip_norm)

        return self._ledger._answer(self._charge.name, noisy)


def _add_normals(values: NDArray, seed: int, scale: float) -> NDArray:
    return values + scale * np.random.default_rng(seed).standard_normal(values.shape).astype(values.dtype)


def _check_requests(requests: dict[str, Request]) -> None:
    if not requests:
        raise PlanError("the plan is empty; declare each question, or declare guarantee = DATA_FREE")
    total = sum(request.weight for request in requests.values())
    if not abs(total - 1) <= 1e-9 or not min(request.weight for request in requests.values()) > 0:
        raise InputError(f"weight: the weights of a plan are positive and sum to one, these sum to {total:g}")
    for name, request in requests.items():
        for number in ("l2", "sensitivity", "clip_norm", "count", "steps", "rate", "saturation"):
            value = getattr(request, number, None)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name}: {number} is {value}; give a positive number")
            if value is not None and number in ("count", "steps", "saturation") and value % 1:
                raise InputError(f"{name}: {number} is {value}; part of an answer cannot be charged for, give a whole number")
        if isinstance(request, DPSGD) and request.rate > 1:
            raise InputError(f"{name}: rate is {request.rate}; a sampling rate is at most 1")


class _WatchedLedger(Ledger):
    """Keeps the exact value of every question on `questions`, in order."""

    def __init__(self, budget: Budget | None, units: int, rng: np.random.Generator, accountant: Accountant) -> None:
        super().__init__(budget, units, rng, accountant)
        self.questions: Tape = []

    def asked(self, name: str, exact: Any) -> Any:
        self.questions.append((name, on_the_host(exact)))
        return exact


class RecordingLedger(_WatchedLedger):
    """Keeps every question, and every answer on `tape`; copies, since a fit may go on to change either in place."""

    def __init__(self, budget: Budget | None, units: int, rng: np.random.Generator, accountant: Accountant = "pld") -> None:
        super().__init__(budget, units, rng, accountant)
        self.tape: Tape = []

    def _answer(self, name: str, compute: Callable[[], Any]) -> Any:
        value = compute()
        self.tape.append((name, copy.deepcopy(value)))
        return value


class ReplayLedger(_WatchedLedger):
    """Keeps every question, and answers with the recorded tape of another fit instead of the truth: the instrument of the replay test."""

    def __init__(self, budget: Budget | None, tape: Tape, accountant: Accountant = "pld") -> None:
        super().__init__(budget, 0, np.random.default_rng(0), accountant)
        self._script = list(tape)

    def _answer(self, name: str, compute: Callable[[], Any]) -> Any:
        recorded = self._script.pop(0) if self._script else ("nothing", None)
        if recorded[0] != name:
            raise PlanError(f"replay: asked {name!r} where the recorded fit was told {recorded[0]!r}; the questions depend on the data")
        return copy.deepcopy(recorded[1])


def on_the_host(values: Any) -> NDArray[np.float64]:
    """A copy of an array or of a torch tensor, wherever that lives."""
    here = values.cpu() if hasattr(values, "cpu") else values
    return np.asarray(here).astype(np.float64)
