"""The roles of the benchmark: what a plugin of each kind must offer.

A plugin is a frozen dataclass whose fields are its hyper-parameters; they make its bracketed name, its key and its help. Nothing here is a base
class: a plugin that offers the attributes is one (`bench check NAME` tells). `version` is raised whenever results change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bench.core.accounting import Accountant, Charge
from bench.core.data import Schema, Transitions, Unit, View
from bench.core.privacy import Budget, Ledger
from bench.core.rng import rng_for

State = dict[str, NDArray]
Policy = Callable[[NDArray], NDArray]
"""Observations (n, S) to actions (n, A)."""


class Guarantee(Enum):
    """What a synthesizer promises; the bench checks it."""

    DP = "DP"
    """At least one event in the Ledger and 0 < spent <= budget."""
    DATA_FREE = "data-free"
    """Handed no private rows, so epsilon is 0 by construction."""
    NONE = "none"
    """Releases private rows: an unranked reference and the positive control of every attack."""


def _silent(done: int, total: int) -> None:
    """The progress callback of a run that nobody watches."""


@dataclass(frozen=True)
class Runtime:
    """Where a stage runs. Never part of a key; `progress` carries step counts only, never a private value.

    `bench run` uses one thread of the CPU for each process; another device is for callers of the Python interface.
    """

    device: str = "cpu"
    threads: int = 1
    progress: Callable[[int, int], None] = _silent


@runtime_checkable
class Sampler(Protocol):
    """The release boundary: a fitted model that holds only what DP lets out.

    Optional, for white-box attacks: `loss(data, rows, rng, *, runtime)`, how badly the model explains the rows of `data` at the indices `rows` (n,):
    finite features (n, k), lower for a row that is explained better. Of a diffusion model each feature is a noise level and a noise, drawn from `rng`
    and the same for all rows; of a marginal model each is a released marginal. A row's features depend on no other row that is asked for. A model of
    trajectories looks at what surrounds a row in its own; a row that stands alone is a trajectory.
    Optional, for attacks on marginals: `cells(data)`, the cell (n, k) of each row in the marginals, whose -log probabilities are then the features.
    """

    def state(self) -> State:
        """Everything the sampler holds; stored as .npz, this is the released model."""
        ...

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        """Exactly n rows inside the schema; a trajectory sampler cuts its last trajectory and marks a timeout."""
        ...


@runtime_checkable
class Pretraining(Protocol):
    """The public phase of a synthesizer: a frozen dataclass of the hyper-parameters that it depends on.

    It is a node of its own, blind to private data, and shared by budgets and all variants of a method whose phases are equal.
    """

    version: ClassVar[int]

    def run(self, public: Mapping[str, Transitions], rng: np.random.Generator, *, runtime: Runtime) -> State:
        """What `fit` is handed as `pretrained`."""
        ...


@runtime_checkable
class Synthesizer(Protocol):
    """A method that turns sensitive transitions into a `Sampler` under a privacy budget.

    `needs_public` asks for the sibling datasets. Optional: `pretraining`, the public phase or None; `audit_size()`, a copy of itself small enough for
    hundreds of fits. Attributes may be properties that depend on the fields.
    """

    version: ClassVar[int]
    guarantee: ClassVar[Guarantee]
    units: ClassVar[frozenset[Unit]]
    needs_public: ClassVar[bool]

    def fit(
        self,
        data: Transitions,
        ledger: Ledger,
        rng: np.random.Generator,
        *,
        public: Mapping[str, Transitions],
        pretrained: State | None,
        runtime: Runtime,
    ) -> Sampler:
        """Learn from `data` through `ledger` alone; `rng` is for initialisation and public randomness."""
        ...

    def restore(self, schema: Schema, state: State) -> Sampler:
        """The sampler whose `state()` this is; it samples the same rows."""
        ...


@runtime_checkable
class Environment(Protocol):
    """A task: its public schema, its data, its simulator and the scores that calibrate them.

    Optional: `rollout(policies, episodes, rng) -> returns (policies, episodes)`; without it utility is n/a.
    Optional: `goals`, a `GoalSet`, for a utility that is more telling than the environment's own task.
    Optional: `content() -> str`, the digest of the files that its rows come from; part of every key.
    Optional: `stream`, true where trajectories are consecutive pieces of one stream, so that the last s' of one is the first s of the next.
    Optional: `step(observations, actions) -> next_observations` with NaN rows where s is no valid state; without it the dynamics error is n/a.
    """

    version: ClassVar[int]

    @property
    def schema(self) -> Schema: ...
    @property
    def horizon(self) -> int: ...
    @property
    def reference_scores(self) -> tuple[float, float]:
        """Mean returns (minimum, maximum) that stand for 0 and 100."""
        ...

    @property
    def reference_policies(self) -> Mapping[str, Policy]: ...
    @property
    def siblings(self) -> tuple[str, ...]:
        """Names of the environments whose data is public beside this one."""
        ...

    @property
    def source(self) -> str:
        """Where the rows come from, as tables name it: `local-simulator`, `d4rl-hdf5`, or the word of an environment of one's own."""
        ...

    def dataset(self, rows: int, seed: int, part: str) -> Transitions:
        """`rows` rows of the part `train`, `holdout` or `reference`; parts and seeds share no stream or episode."""
        ...


@runtime_checkable
class GoalSet(Protocol):
    """A utility over several goals: one policy, which is told its goal in the state, is trained on the same rows and scored on each.

    A frozen dataclass like the plugins; its fields and version are part of the key of every score. It is an evaluation, and no synthesizer sees it.
    """

    version: ClassVar[int]

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def reference_policies(self) -> Mapping[str, Policy]: ...

    def relabel(self, data: Transitions, rng: np.random.Generator) -> Transitions:
        """The rows once for each goal, with that goal's rewards and terminals, and with states that tell it; `rng` is for augmentation."""
        ...

    def rollout(self, policies: Sequence[Policy], episodes: int, rng: np.random.Generator) -> NDArray:
        """Scores (policies, goals), each on a scale of its own; `episodes` are those of all goals together."""
        ...


@runtime_checkable
class Metric(Protocol):
    """A fidelity score of synthetic data against held-out real data. An evaluation: it sees real rows, and its results are never released."""

    version: ClassVar[int]
    unit: ClassVar[Unit]
    """What it compares: single transitions, in every block of the table, or whole trajectories, in blocks of that unit. A metric of trajectories has
    no score, {}, where a side holds none."""
    better: ClassVar[Mapping[str, Literal["higher", "lower"]]]
    """The scores it returns, each with its good direction."""

    def score(self, synthetic: Transitions, target: Transitions, environment: Environment, rng: np.random.Generator) -> dict[str, float]: ...


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Target:
    """What an attack is given of one fit: the released rows, or the released model, as its `needs` says.

    `rows` are those that the fit saw: known of shadow models alone, which are the attacker's own.
    """

    samples: Transitions | None
    sampler: Sampler | None
    rows: Transitions | None = None


@runtime_checkable
class Attack(Protocol):
    """Membership inference, where a member is the positive class, or an attack on rows whose success on non-members is subtracted.

    `views` names further fits that the attack needs (shadow models): the planner makes them with the row's own synthesizer and budget.
    """

    version: ClassVar[int]
    needs: ClassVar[Literal["samples", "sampler"]]
    better: ClassVar[Mapping[str, Literal["higher", "lower"]]]

    def views(self, target: View) -> Mapping[str, View]: ...

    def attack(
        self,
        target: Target,
        shadows: Mapping[str, Target],
        members: Transitions,
        non_members: Transitions,
        reference: Transitions,
        rng: np.random.Generator,
        *,
        runtime: Runtime,
    ) -> dict[str, Estimate]:
        """Rates, or differences of two rates (`advantage`), with their intervals, by the names in `better`.

        {} where the released model lacks what the attack asks it for.
        """
        ...


MakeLedger = Callable[[Budget, int, np.random.Generator, Accountant], Ledger]
"""(budget, true number of units, generator, accountant) to the ledger that a fit is lent: one that watches, replays, or adds canaries."""


@dataclass(frozen=True, eq=False)
class AuditSubject:
    """What an audit is lent: a row's own synthesizer at its declared audit size, under the row's own budget, to be fitted as often as it takes.

    Attributes:
        budget: finite; an infinite one claims nothing.
        view: the rows to start from; fewer of them, and canaries, are views beside it.
        key: names the random streams of the fits.
    """

    synthesizer: Synthesizer
    environment: Environment
    budget: Budget
    accountant: Accountant
    view: View
    public: Mapping[str, Transitions]
    pretrained: State | None
    key: str
    runtime: Runtime = field(default_factory=Runtime)
    _parts: dict[View, Transitions] = field(default_factory=dict, repr=False)

    def refit(self, view: View, seed: int, make: MakeLedger) -> Sampler:
        """A fit of the rows of `view`, whose number is the nominal one; fits of one seed draw alike."""
        data, seed_key = self.data(view).inside(), f"{self.key}/{seed}"
        ledger = make(self.budget, data.units(self.budget.unit), rng_for(seed_key, "ledger"), self.accountant)
        rng = rng_for(seed_key, "fit")
        return self.synthesizer.fit(data, ledger, rng, public=self.public, pretrained=self.pretrained, runtime=self.runtime)

    def data(self, view: View) -> Transitions:
        """The rows of a view, under a schema whose nominal number is that of its part."""
        part = replace(view, drop=(), canaries=())
        if part not in self._parts:
            rows = self.environment.dataset(view.rows, view.dataset_seed, view.part)
            self._parts[part] = replace(rows, schema=self.environment.schema.with_rows(view.rows))
        return view.apply(self._parts[part])


@dataclass(frozen=True)
class LowerBound:
    """An empirical lower bound on epsilon.

    Attributes:
        epsilon: with 95 % confidence.
        ceiling: what a perfect attack in its place would have shown.
        p_value: the smallest chance of error at which the bound exceeds the claimed epsilon; 1 if it never does.
        least_p: that of a perfect attack: no audit of this size could refute the claim at a smaller one.
    """

    epsilon: float
    ceiling: float
    p_value: float
    least_p: float


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Attributes:
        bounds: by name; the first is the headline, chosen before any number was seen, and its p-value alone can refute a claim. The last holds for
            any mechanism; those before it may take from the charges that all noise is Gaussian.
        rows: nominal rows of the audited fits.
        charges: of the audited fits, from which the bench recomputes epsilon.
        facts: numbers behind the bounds, such as guesses and errors.
    """

    bounds: Mapping[str, LowerBound]
    rows: int
    charges: tuple[Charge, ...]
    facts: Mapping[str, float]


@runtime_checkable
class Audit(Protocol):
    """An empirical lower bound on epsilon, in which every unit that counts was included by its own coin; `rows` are those it starts from."""

    version: ClassVar[int]

    @property
    def rows(self) -> int: ...

    def audit(self, subject: AuditSubject, rng: np.random.Generator, *, runtime: Runtime) -> AuditReport: ...


@dataclass(frozen=True)
class LearningCurve:
    """Mean returns of one agent seed, one entry for each evaluation.

    `notes` tell, by field, what the agent could not do as asked on these rows; they belong in the record.
    """

    steps: tuple[int, ...]
    returns: tuple[float, ...]
    notes: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Agent(Protocol):
    """An offline-RL agent. It sees the rows it is given and nothing else: every statistic it needs comes from them."""

    version: ClassVar[int]

    def train(
        self,
        data: Transitions,
        rngs: Sequence[np.random.Generator],
        *,
        steps: int,
        evaluate_every: int,
        evaluate: Callable[[Sequence[Policy]], NDArray],
        runtime: Runtime,
    ) -> list[LearningCurve]:
        """Train one policy for each generator; `evaluate` turns policies into mean returns (policies,).

        A seed's result does not depend on its companions.
        """
        ...
