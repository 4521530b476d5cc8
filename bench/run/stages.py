"""The stages: pure functions from a node and what it reads to what it computed.

The only place where environment, synthesizer, metric, attack and agent meet. A stage reads the arrays of its inputs from the store, draws
its randomness from its own key (start states from environment and seeds, so that all methods have the same), and returns a small JSON result
and, if need be, arrays. Data moves one way:

    dataset -> (pretrain) -> fit -> sample -> { fidelity, attack, train }
               (pretrain) -> audit, which fits many times and keeps none of it
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from bench.core import registry
from bench.core.accounting import Accountant, accountant_for, epsilon_spent
from bench.core.data import ROW_ARRAYS, Schema, Transitions, Unit, View, rows_shared
from bench.core.errors import InputError
from bench.core.privacy import Budget, Ledger
from bench.core.protocols import AuditSubject, Guarantee, Policy, Runtime, Synthesizer, Target
from bench.core.rng import rng_for
from bench.run.secret import ReleaseLedger
from bench.run.spec import Node
from bench.run.store import Store

REFERENCE_EPISODES, REFERENCE_BATCHES = 2_000, 10
"""Of the reference policies, however many an agent gets: in the mazes a hundred leave 30 points open. Intervals are taken over the batches."""


@dataclass(frozen=True)
class Outcome:
    """What a stage computed: a result for the record, arrays for the blob."""

    result: dict[str, Any]
    arrays: dict[str, NDArray] | None = None


@dataclass(frozen=True)
class Stage:
    """A stage function; `version` is raised whenever its results change."""

    version: int
    run: Callable[[Node, Store, Runtime], Outcome]


def dataset(node: Node, store: Store, runtime: Runtime) -> Outcome:
    """The rows that a view names."""
    environment = _plugin(node, "environments")
    fields = node.parameters["view"]
    rows = {"drop": tuple(fields["drop"]), "canaries": tuple(tuple(row) for row in fields["canaries"])}
    view = View(**{**fields, **rows, "environment": node.plugins["environments"]})
    data = view.apply(environment.dataset(view.rows, view.dataset_seed, view.part))
    return Outcome({"rows": len(data), "trajectories": data.units(Unit.TRAJECTORY)}, _pack(data))


def pretrain(node: Node, store: Store, runtime: Runtime) -> Outcome:
    """The public phase of a method: it sees the siblings and nothing else."""
    synthesizer = _plugin(node, "synthesizers")
    state = synthesizer.pretraining.run(_public(node, store), rng_for(node.key, "pretrain"), runtime=runtime)
    return Outcome({}, state)


def fit(node: Node, store: Store, runtime: Runtime) -> Outcome:
    """One fit under its budget; what is stored is the released model."""
    synthesizer: Synthesizer = _plugin(node, "synthesizers")
    schema = _schema(node)
    empty = Transitions.empty(schema)
    sensitive = _transitions(store, node.inputs["data"], schema) if "data" in node.inputs else empty
    public = _public(node, store)
    releasing = "secret" in node.parameters
    for name, sibling in public.items():
        sensitive = without_shared_rows(sensitive, sibling, name, refuse=not releasing)
    data = empty if synthesizer.guarantee is Guarantee.DATA_FREE else sensitive.inside()
    ledger = _ledger(node, data, store, runtime)
    pretrained = store.arrays(node.inputs["pretrained"]) if "pretrained" in node.inputs else None
    sampler = synthesizer.fit(data, ledger, rng_for(node.key, "fit"), public=public, pretrained=pretrained, runtime=runtime)
    spent = _checked_spending(synthesizer, ledger)
    state = sampler.state()
    if not isinstance(state, Mapping):
        raise ValueError(f"state() returned {type(state).__name__}; return a dict of numpy arrays")
    charges = [dataclasses.asdict(charge) for charge in ledger.charges]
    return Outcome({"epsilon_spent": spent, "accountant": ledger.accountant if charges else None, "charges": charges}, dict(state))


def sample(node: Node, store: Store, runtime: Runtime) -> Outcome:
    """The released rows, refused if they are not what was asked for."""
    synthesizer: Synthesizer = _plugin(node, "synthesizers")
    schema = _schema(node)
    sampler = synthesizer.restore(schema, store.arrays(node.inputs["fit"]))
    released = node.parameters["released"]
    rows = sampler.sample(released, rng_for(node.key, "sample"), runtime=runtime)
    _check_release(rows, schema, released, clipped=synthesizer.guarantee is not Guarantee.NONE)
    return Outcome({"rows": len(rows)}, _pack(rows))


def fidelity(node: Node, store: Store, runtime: Runtime) -> Outcome:
    """A metric on equally many synthetic and held-out rows, or on whole trajectories of about as many."""
    metric, environment, schema = _plugin(node, "metrics"), _plugin(node, "environments"), _schema(node)
    synthetic, target = (_transitions(store, node.inputs[role], schema) for role in ("sample", "holdout"))
    rows = min(node.parameters["evaluated"], len(synthetic), len(target))
    rng = rng_for(node.key, "rows")
    chosen = [_drawn(data, metric.unit, rows, rng) for data in (synthetic, target)]
    scores = metric.score(chosen[0], chosen[1], environment, rng_for(node.key, "score"))
    return Outcome({"rows": rows, "scores": _finite(scores), "ceiling": _scores_of(store, node.inputs.get("ceiling"))})


def attack(node: Node, store: Store, runtime: Runtime) -> Outcome:
    """An attack; members come from the fitted part, non-members from the holdout."""
    method, schema = _plugin(node, "attacks"), _schema(node)
    roles = {role: key for role, key in node.inputs.items() if role.startswith("shadow/")}
    shadows = {role.removeprefix("shadow/"): _shadow(node, store, role, key) for role, key in roles.items()}
    members, non_members, reference = (_transitions(store, node.inputs[role], schema) for role in ("data", "holdout", "reference"))
    estimates = method.attack(
        _target(node, store, node.inputs["target"]), shadows, members, non_members, reference, rng_for(node.key, "attack"), runtime=runtime
    )
    _finite({name: estimate.value for name, estimate in estimates.items()})
    for name, estimate in estimates.items():
        if not (np.isfinite(estimate.low).all() and np.isfinite(estimate.high).all()):
            raise ValueError(f"the interval of score {name!r} is not finite")
    return Outcome({"scores": {name: dataclasses.asdict(estimate) for name, estimate in estimates.items()}})


def audit(node: Node, store: Store, runtime: Runtime) -> Outcome:
    """A lower bound on the epsilon of a method at its audit size, under the row's own budget. Nothing that it fits is released or scored."""
    method, fields, budget = _plugin(node, "audits"), node.parameters["view"], _budget(node)
    assert budget is not None
    subject = AuditSubject(
        _plugin(node, "synthesizers"),
        _plugin(node, "environments"),
        budget,
        node.parameters["budget"]["accountant"],
        View(node.plugins["environments"], **fields),
        _public(node, store),
        store.arrays(node.inputs["pretrained"]) if "pretrained" in node.inputs else None,
        node.key,
        Runtime(runtime.device, runtime.threads),
    )
    report = method.audit(subject, rng_for(node.key, "audit"), runtime=runtime)
    accountant = accountant_for(report.charges, subject.accountant)
    spent = {"epsilon_spent": epsilon_spent(report.charges, budget.delta, accountant), "accountant": accountant}
    found = {name: dataclasses.asdict(bound) for name, bound in report.bounds.items()}
    charges = [dataclasses.asdict(charge) for charge in report.charges]
    return Outcome({**spent, "charges": charges, "rows": report.rows, "bounds": found, "facts": dict(report.facts)})


def train(node: Node, store: Store, runtime: Runtime) -> Outcome:
    """One agent on the synthetic rows alone; its score is the mean of the last evaluations, never the best.

    Raises:
        ValueError: the curve that the agent reports is not what its evaluations gave.
    """
    agent, task, schedule, starts = _plugin(node, "agents"), _task(node), node.parameters["schedule"], _starts(node)
    data = task.relabel(_transitions(store, node.inputs["sample"], _schema(node)), rng_for(node.key, "relabel"))
    measured: list[float] = []

    def evaluate(policies: Sequence[Policy]) -> NDArray:
        returns: NDArray = task.rollout(policies, schedule["episodes"], starts.spawn(1)[0]).mean(axis=1)
        measured.extend(map(float, returns))
        return returns

    lengths = {name: schedule[name] for name in ("steps", "evaluate_every")}
    (curve,) = agent.train(data, [rng_for(node.key, "train")], **lengths, evaluate=evaluate, runtime=runtime)
    if list(curve.returns) != measured:
        raise ValueError(f"the agent reports a curve of {len(curve.returns)} returns that is not what its {len(measured)} evaluations gave")
    score = float(np.mean(curve.returns[-schedule["last"] :]))
    _finite({"score": score})
    return Outcome({"score": score, "curve": {"steps": list(curve.steps), "scores": list(curve.returns)}, "notes": dict(curve.notes)})


def references(node: Node, store: Store, runtime: Runtime) -> Outcome:
    """The reference policies of an environment on the scale of its scores, with 95 % intervals over batches of episodes (Student's t)."""
    task = _task(node)
    policies = task.reference_policies
    rngs = rng_for(node.parameters["environment"]["plugin"], "references").spawn(REFERENCE_BATCHES)
    scores = np.array([task.rollout(list(policies.values()), REFERENCE_EPISODES // len(rngs), rng).mean(axis=1) for rng in rngs])
    means, halves = scores.mean(axis=0), stdtrit(len(rngs) - 1, 0.975) * scores.std(axis=0, ddof=1) / math.sqrt(len(rngs))
    rows = zip(policies, means, halves, strict=True)
    return Outcome({"policies": {name: {"score": mean, "low": mean - half, "high": mean + half} for name, mean, half in rows}})


@dataclass(frozen=True)
class _OwnTask:
    """The environment's own task as a goal set of one goal."""

    environment: Any

    @property
    def reference_policies(self) -> Mapping[str, Policy]:
        policies: Mapping[str, Policy] = self.environment.reference_policies
        return policies

    def relabel(self, data: Transitions, rng: np.random.Generator) -> Transitions:
        return data

    def rollout(self, policies: Sequence[Policy], episodes: int, rng: np.random.Generator) -> NDArray:
        """D4RL's normalised scores, (policies, 1)."""
        returns = self.environment.rollout(policies, episodes, rng).mean(axis=1, keepdims=True)
        return normalized_score(returns, self.environment.reference_scores)


def _task(node: Node) -> Any:
    """What agents of this node are trained for: the goal set, where the node names one, or the environment's own task."""
    environment = _plugin(node, "environments")
    return environment.goals if "goals" in node.parameters else _OwnTask(environment)


def _starts(node: Node) -> np.random.Generator:
    """Draws start states: others at each evaluation and at other seeds, the same for every method and agent at equal seeds.

    So differences on common seeds are of common starts, and what the choice of starts adds to a score is in its spread over seeds.
    """
    seeds = node.parameters["seeds"]
    return rng_for("/".join([node.parameters["environment"]["plugin"], *(f"{name} {seeds[name]}" for name in sorted(seeds))]), "evaluation")


STAGES: Mapping[str, Stage] = {
    "dataset": Stage(1, dataset),
    "pretrain": Stage(2, pretrain),
    "fit": Stage(1, fit),
    "sample": Stage(1, sample),
    "fidelity": Stage(1, fidelity),
    "attack": Stage(2, attack),
    "audit": Stage(1, audit),
    "train": Stage(3, train),
    "references": Stage(3, references),
}


def normalized_score(returns: NDArray, reference_scores: tuple[float, float]) -> NDArray:
    """D4RL's scale: 0 at the minimum reference return, 100 at the maximum (Fu et al. 2020)."""
    low, high = reference_scores
    return 100 * (returns - low) / (high - low)


def without_shared_rows(data: Transitions, sibling: Transitions, name: str, *, refuse: bool) -> Transitions:
    """The sensitive rows that no public dataset holds: pre-training on rows that are fitted too would make epsilon void.

    A refusal tells that there are such rows. So it is for stand-in data alone, where it tells the author; in a release they are left out one by one,
    which keeps neighbouring datasets neighbours.

    Raises:
        InputError: a row is shared, and `refuse`.
    """
    shared = rows_shared(data, sibling)
    if refuse and shared.any():
        raise InputError(f"siblings: the public dataset {name!r} holds sensitive rows; remove it from the environment's siblings")
    return data.without(np.flatnonzero(shared)) if shared.any() else data


def sources(node: Node) -> dict[str, str]:
    """The source digests of its plugins, by group."""
    return {group: registry.resolve(group, label).digest for group, label in node.plugins.items()}


def _plugin(node: Node, group: str) -> Any:
    return registry.resolve(group, node.plugins[group]).instance


def _schema(node: Node) -> Schema:
    return _plugin(node, "environments").schema.with_rows(node.parameters["rows"])


def _pack(data: Transitions) -> dict[str, NDArray]:
    arrays: dict[str, NDArray] = {name: getattr(data, name) for name in ROW_ARRAYS}
    return arrays if data.trajectories is None else {**arrays, "trajectories": data.trajectories}


def _transitions(store: Store, key: str, schema: Schema) -> Transitions:
    return Transitions(schema, **store.arrays(key))


def _public(node: Node, store: Store) -> dict[str, Transitions]:
    """The sibling datasets by name, each with its own schema."""
    siblings = [role.removeprefix("public/") for role in node.inputs if role.startswith("public/")]
    schemas = {name: registry.resolve("environments", name).instance.schema for name in siblings}
    return {name: _transitions(store, node.inputs[f"public/{name}"], schema) for name, schema in schemas.items()}


def _target(node: Node, store: Store, key: str) -> Target:
    """The released rows or the released model, as the attack needs."""
    if _plugin(node, "attacks").needs == "samples":
        return Target(_transitions(store, key, _schema(node)), None)
    synthesizer: Synthesizer = _plugin(node, "synthesizers")
    return Target(None, synthesizer.restore(_schema(node), store.arrays(key)))


def _shadow(node: Node, store: Store, role: str, key: str) -> Target:
    """The same of a shadow model, with the rows that it was fitted on."""
    return dataclasses.replace(_target(node, store, key), rows=_transitions(store, node.inputs[f"rows of {role}"], _schema(node)))


def _ledger(node: Node, data: Transitions, store: Store, runtime: Runtime) -> Ledger:
    """Its noise follows from the key, or from the secret and all that decides what the fit will ask."""
    budget = _budget(node)
    units = 0 if budget is None else data.units(budget.unit)
    accountant: Accountant = "pld" if budget is None else node.parameters["budget"]["accountant"]
    if node.secret is None:
        return Ledger(budget, units, rng_for(node.key, "ledger"), accountant)
    read = [store.blob_path(node.inputs[role]) for role in sorted(node.inputs)]
    return ReleaseLedger(budget, units, node.secret.stream(node.key, read, sources(node), runtime.device), accountant)


def _budget(node: Node) -> Budget | None:
    fields = node.parameters["budget"]
    return fields and Budget(float(fields["epsilon"]), fields["delta"], Unit(fields["unit"]))


def _checked_spending(synthesizer: Synthesizer, ledger: Ledger) -> float:
    """Epsilon recomputed by the bench from the recorded charges, held against the promise."""
    if synthesizer.guarantee is Guarantee.DATA_FREE:
        return 0.0
    if synthesizer.guarantee is Guarantee.NONE:
        return math.inf
    spent = ledger.spent()
    budget = ledger.budget.epsilon if ledger.budget else 0.0
    if not 0 < spent <= budget:
        raise ValueError(f"the ledger records epsilon {spent:g} under a budget of {budget:g}; a DP method asks through ledger.plan")
    return spent


def _check_release(rows: Transitions, schema: Schema, n: int, clipped: bool) -> None:
    """Hold a release against the environment's schema, whatever schema the rows came with."""
    if not isinstance(rows, Transitions):
        raise ValueError(f"the sampler returned {type(rows).__name__}, not Transitions")
    if len(rows) != n:
        raise ValueError(f"the sampler returned {len(rows)} rows where {n} were asked for")
    for column, values in zip(schema.columns, rows.table().T, strict=True):
        if not np.isfinite(values).all():
            raise ValueError(f"column {column.name!r} of the release holds NaN or infinity")
        if clipped and (values.min() < np.float32(column.low) or values.max() > np.float32(column.high)):
            raise ValueError(f"column {column.name!r} of the release leaves its declared bounds [{column.low}, {column.high}]")


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    broken = [name for name, value in scores.items() if not np.isfinite(value)]
    if broken:
        raise ValueError(f"score {broken[0]!r} is not finite")
    return {name: float(value) for name, value in scores.items()}


def _drawn(data: Transitions, unit: Unit, rows: int, rng: np.random.Generator) -> Transitions:
    """What a metric of `unit` sees: `rows` rows, or as many whole trajectories as fit into them and at least one; data without them gives rows."""
    if unit is Unit.TRANSITION or data.trajectories is None:
        return data.rows(np.sort(rng.choice(len(data), rows, replace=False)))
    order = rng.permutation(data.units(unit))
    filled = np.cumsum(np.diff(data.trajectories)[order])
    return data.joined(np.sort(order[: max(1, np.searchsorted(filled, rows, side="right"))]))


def _scores_of(store: Store, key: str | None) -> dict[str, float] | None:
    record = store.get(key) if key else None
    return record.result["scores"] if record else None
