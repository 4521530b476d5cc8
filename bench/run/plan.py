"""From a sweep to a plan: cells, expanded into one deduplicated DAG of nodes.

Whatever two cells have in common (a dataset, a pre-training, a fit) is one node. The leaves are the scores; each carries the labels under
which the table will show it, so that a table needs the plan and the records, and no plugin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.core import registry
from bench.core.data import Unit, View
from bench.core.errors import InputError
from bench.core.privacy import check_delta, default_delta
from bench.core.protocols import Guarantee
from bench.core.registry import Plugin
from bench.core.roles import shortcoming
from bench.run.secret import Secret
from bench.run.spec import OVER_GOALS, REFERENCES, Cell, Node, Sweep
from bench.run.stages import STAGES
from bench.run.store import Store


@dataclass(frozen=True)
class Leaf:
    """One score that the table shows: its labels, its key, and the key of the fit behind it."""

    env: str
    source: str
    preset: str
    rows: int
    released: int
    synth: str
    unit: str
    guarantee: str
    epsilon: float | None
    delta: float | None
    kind: str
    plugin: str
    better: dict[str, str]
    seeds: dict[str, int]
    key: str
    fit: str


@dataclass
class Plan:
    """The nodes in an order in which every input comes first, the leaves, the anchors of each environment, and the agents that none can score."""

    sweep: Sweep
    secret: Secret | None = None
    cells: tuple[Cell, ...] = ()
    nodes: dict[str, Node] = field(default_factory=dict)
    leaves: list[Leaf] = field(default_factory=list)
    environments: list[dict[str, Any]] = field(default_factory=list)
    unscored: tuple[str, ...] = ()

    def add(self, stage: str, parameters: dict[str, Any], inputs: Mapping[str, str], plugins: Iterable[Plugin]) -> str:
        """Add a node unless it is there already; return its key."""
        labels = {plugin.group: plugin.label for plugin in plugins}
        secret = self.secret if "secret" in parameters else None
        node = Node(stage, STAGES[stage].version, registry.jsonable(parameters), dict(inputs), labels, self.sweep.minutes, secret)
        return self.nodes.setdefault(node.key, node).key

    def manifest(self, started: str) -> dict[str, Any]:
        """What the store keeps of a sweep: enough to print its table on any machine."""
        return {
            "sweep": registry.jsonable(self.sweep),
            **({"secret": self.secret.fingerprint} if self.secret else {}),
            "toml": self.sweep.to_toml(),
            "started": started,
            "leaves": [registry.jsonable(leaf) for leaf in self.leaves],
            "environments": self.environments,
        }


def make_plan(sweep: Sweep, secret: Secret | None = None) -> Plan:
    """Expand a sweep; a secret makes its fits, but for `real`, those of a release: it is mixed into their noise, and rows
    that are public too are left out.

    Raises:
        InputError: an unknown name, a plugin that lacks what its kind offers, a delta that is too large, or a sweep without any cell.
    """
    plan = Plan(sweep, secret)
    synthesizers = chosen("synthesizers", sweep.synth)
    scorers = {group: chosen(group, names) for group, names in (("metrics", sweep.metrics), ("attacks", sweep.attacks))}
    utilities = [*_utilities("goals", sweep.agents), *_utilities("utility", sweep.agents)]
    units = _units(synthesizers, sweep)
    for environment, rows in _blocks(sweep):
        block = Block(plan, environment, rows, scorers, utilities)
        block.add_anchors(units)
        for plugin in _by_guarantee(synthesizers):
            for row in block.rows_of(plugin, units):
                block.add_row(plugin, row)
                plan.cells += tuple(row)
    if not plan.cells:
        unit = sweep.unit.value if sweep.unit else "any unit"
        raise InputError(f"unit: none of the methods {', '.join(p.label for p in synthesizers)} protects {unit}; drop --unit or name others")
    asked = ", ".join((*sweep.agents, *sweep.metrics, *sweep.attacks))
    if asked and not plan.leaves:
        raise InputError(f"agents: none of {', '.join(sweep.env)} has the goal set or simulator that {asked} needs; ask for metrics or attacks")
    scored = {(leaf.kind, leaf.plugin) for leaf in plan.leaves}
    plan.unscored = tuple(utility.name for utility in utilities if (utility.kind, utility.agent.label) not in scored)
    return plan


def chosen(group: str, texts: tuple[str, ...]) -> list[Plugin]:
    """The plugins of these names, each once and complete; `all` stands for every registered one."""
    texts = tuple(name for text in texts for name in (registry.names(group) if text == registry.ALL else (text,)))
    plugins = {plugin.label: plugin for plugin in (registry.resolve(group, text) for text in texts)}
    for plugin in plugins.values():
        if found := shortcoming(group, plugin.instance):
            raise InputError(f"{group}: {plugin.label} of {plugin.owner} cannot be planned with: {found}")
    return list(plugins.values())


@dataclass(frozen=True)
class _Utility:
    """An agent, and what it is scored on: the environment's own task, or its goal set."""

    kind: Literal["goals", "utility"]
    agent: Plugin

    @property
    def name(self) -> str:
        """As it is asked for."""
        return f"{OVER_GOALS if self.kind == 'goals' else ''}{self.agent.label}"


def _utilities(kind: Literal["goals", "utility"], texts: tuple[str, ...]) -> list[_Utility]:
    over_goals = kind == "goals"
    names = tuple(text.removeprefix(OVER_GOALS) for text in texts if text.startswith(OVER_GOALS) == over_goals)
    return [_Utility(kind, agent) for agent in chosen("agents", names)]


def _blocks(sweep: Sweep) -> list[tuple[Plugin, int]]:
    """Each environment with each number of rows, once: 0 and the nominal number are the same."""
    environments = chosen("environments", sweep.env)
    numbers = {plugin.label: dict.fromkeys(rows or plugin.instance.schema.nominal_rows for rows in sweep.rows) for plugin in environments}
    for label, own in numbers.items():
        if len(own) < max(map(len, numbers.values())):  # tables set environments side by side by the place of a number in this list
            raise InputError(f"rows: 0 stands for a number that is named too, for {label} alone; name one of the two, or run {label} by itself")
    return [(plugin, rows) for plugin in environments for rows in numbers[plugin.label]]


def _by_guarantee(plugins: list[Plugin]) -> list[Plugin]:
    """Floors first, then the reference, then the methods: cheap rows first."""
    order = [Guarantee.DATA_FREE, Guarantee.NONE, Guarantee.DP]
    return sorted(plugins, key=lambda plugin: order.index(plugin.instance.guarantee))


def _units(synthesizers: list[Plugin], sweep: Sweep) -> tuple[Unit, ...]:
    """The blocks of the table: the units that some DP method of the sweep protects; transitions where there is none."""
    protected = {unit for plugin in synthesizers if plugin.instance.guarantee is Guarantee.DP for unit in plugin.instance.units}
    wanted = tuple(unit for unit in Unit if unit in (protected or {Unit.TRANSITION}))
    return wanted if sweep.unit is None else (sweep.unit,)


@dataclass(frozen=True)
class Block:
    """The cells of one environment at one number of rows, and the nodes that they share."""

    plan: Plan
    environment: Plugin
    rows: int
    scorers: Mapping[str, list[Plugin]]
    asked_utilities: Sequence[_Utility]

    @property
    def common(self) -> dict[str, Any]:
        return {"environment": self.environment.identity, "rows": self.rows}

    def rows_of(self, plugin: Plugin, units: tuple[Unit, ...]) -> Iterator[list[Cell]]:
        """One row for each unit and budget, methods without a budget have one; its cells differ in the seed."""
        sweep = self.plan.sweep
        for unit in units:
            if unit not in plugin.instance.units:
                continue
            private = plugin.instance.guarantee is Guarantee.DP
            epsilons, delta = (sweep.epsilon, self._delta(unit)) if private else ((None,), None)
            for epsilon in dict.fromkeys(epsilons):
                names = (self.environment.label, plugin.label, self.rows, unit, epsilon, delta)
                yield [Cell(*names, seed) for seed in range(sweep.seeds.synthesizer)]

    def _delta(self, unit: Unit) -> float:
        units = self.environment.instance.schema.with_rows(self.rows).nominal_units(unit)
        if self.plan.sweep.delta is None:
            return default_delta(units)
        check_delta(self.plan.sweep.delta, units)
        return self.plan.sweep.delta

    def view(self, part: str) -> View:
        rows = self.rows if part == "train" else self.plan.sweep.evaluated
        return View(self.environment.label, part, rows, self.plan.sweep.dataset_seed)

    def dataset(self, view: View) -> str:
        fields = {key: value for key, value in dataclasses.asdict(view).items() if key != "environment"}
        environment = registry.resolve("environments", view.environment)
        return self.plan.add("dataset", {"environment": environment.identity, "view": fields}, {}, [environment])

    def public(self) -> dict[str, str]:
        """Each sibling's nominal dataset, by role."""
        siblings = [registry.resolve("environments", name) for name in self.environment.instance.siblings]
        views = {p.label: View(p.label, "train", p.instance.schema.nominal_rows, self.plan.sweep.dataset_seed) for p in siblings}
        return {f"public/{name}": self.dataset(view) for name, view in views.items()}

    def metrics(self, units: Collection[Unit]) -> list[Plugin]:
        """Those that are scored in blocks of these units: a metric of rows in all, a metric of trajectories in blocks of that unit."""
        return [metric for metric in self.scorers["metrics"] if metric.instance.unit is Unit.TRANSITION or Unit.TRAJECTORY in units]

    def add_anchors(self, units: Collection[Unit]) -> None:
        """Reference policies, and each metric between two real parts: the ceiling."""
        instance = self.environment.instance
        kinds = dict.fromkeys(utility.kind for utility in self.utilities)
        references = {REFERENCES["utility"]: None, **{REFERENCES[kind]: self.references(kind) for kind in kinds}}
        ceilings = {metric.label: self.ceiling(metric) for metric in self.metrics(units)}
        names = {"env": self.environment.label, "rows": self.rows, "source": instance.source}
        longest = {"max_trajectory_length": instance.schema.max_trajectory_length}
        self.plan.environments.append({**names, **longest, **references, "ceilings": ceilings})

    def references(self, kind: str) -> str:
        return self.plan.add("references", {"environment": self.environment.identity, **self.goals(kind)}, {}, [self.environment])

    @property
    def utilities(self) -> list[_Utility]:
        """Those that this environment offers: without a simulator none, without a goal set those on its own task."""
        offered = [kind for kind, attribute in (("goals", "goals"), ("utility", "rollout")) if hasattr(self.environment.instance, attribute)]
        return [utility for utility in self.asked_utilities if utility.kind in offered]

    def goals(self, kind: str) -> dict[str, Any]:
        """What names the goal set in a key; nothing for the own task."""
        if kind != "goals":
            return {}
        goals = self.environment.instance.goals
        return {"goals": {"version": goals.version, **dataclasses.asdict(goals)}}

    def ceiling(self, metric: Plugin) -> str:
        """A metric between two real parts."""
        return self.fidelity(metric, self.dataset(self.view("reference")), None)

    def fidelity(self, metric: Plugin, sample: str, ceiling: str | None) -> str:
        """A metric on no more rows than are released, so that the ceiling, a dataset of its own, has no more than a row."""
        parameters = {**self.common, "metric": metric.identity, "evaluated": min(self.plan.sweep.evaluated, self.plan.sweep.released)}
        inputs = {"sample": sample, "holdout": self.dataset(self.view("holdout")), **({"ceiling": ceiling} if ceiling else {})}
        return self.plan.add("fidelity", parameters, inputs, [metric, self.environment])

    def add_row(self, plugin: Plugin, row: list[Cell]) -> None:
        """Fits before all else: most of a row's time goes into them, and a last one that began late would keep a single process busy."""
        for cell in row:
            self.fit(plugin, cell, self.view("train"))
        for cell in row:
            self.add_cell(plugin, cell)

    def add_cell(self, plugin: Plugin, cell: Cell) -> None:
        """The fit of a cell and every score on top of it."""
        fit = self.fit(plugin, cell, self.view("train"))
        for seed in range(self.plan.sweep.seeds.sampling):
            seeds = {"synthesizer": cell.seed, "sampling": seed, "agent": 0}
            sample = self.sample(plugin, fit, self.plan.sweep.released, seed)
            for utility in self.utilities:
                for agent_seed in range(self.plan.sweep.seeds.agent):
                    own = {**seeds, "agent": agent_seed}
                    self.leaf(cell, plugin, utility.kind, utility.agent, {"score": "higher"}, own, self.train(utility, sample, own), fit)
            for metric in self.metrics([cell.unit]):
                key = self.fidelity(metric, sample, self.ceiling(metric))
                self.leaf(cell, plugin, "fidelity", metric, metric.instance.better, seeds, key, fit)
            for attack in self.scorers["attacks"]:
                key = self.attack(attack, plugin, cell, seed)
                self.leaf(cell, plugin, "attack", attack, attack.instance.better, seeds, key, fit)

    def fit(self, plugin: Plugin, cell: Cell, view: View) -> str:
        instance, inputs = plugin.instance, self.public_inputs(plugin, cell.seed)
        checked = instance.needs_public and self.environment.declared == self.environment.identity
        if checked or instance.guarantee is not Guarantee.DATA_FREE:
            inputs["data"] = self.dataset(view)
        parameters = {**self.seen_by(plugin), "synthesizer": plugin.identity, "budget": self.budget(cell), "seed": cell.seed}
        if self.plan.secret and "data" in inputs and instance.guarantee is not Guarantee.NONE:
            parameters["secret"] = self.plan.secret.fingerprint
        return self.plan.add("fit", parameters, inputs, [plugin, self.environment])

    def seen_by(self, plugin: Plugin) -> dict[str, Any]:
        """What fits and samples of a method share. Keys name random streams, which may not follow from a file whose rows the method is not handed."""
        free = plugin.instance.guarantee is Guarantee.DATA_FREE
        return {**self.common, "environment": self.environment.declared} if free else self.common

    def budget(self, cell: Cell) -> dict[str, Any] | None:
        if cell.epsilon is None:
            return None
        return {"epsilon": cell.epsilon, "delta": cell.delta, "unit": cell.unit, "accountant": self.plan.sweep.accountant}

    def public_inputs(self, plugin: Plugin, seed: int) -> dict[str, str]:
        """The siblings, and what a method learned from them: all that a fit may know before it sees the first sensitive row.

        The public phase is part of the method, so each synthesizer seed has its own: it serves all budgets, and the methods that share it.
        """
        inputs = self.public() if plugin.instance.needs_public else {}
        if plugin.pretraining is not None:
            inputs["pretrained"] = self.plan.add("pretrain", {"pretraining": plugin.pretraining, "seed": seed}, inputs, [plugin])
        return inputs

    def sample(self, plugin: Plugin, fit: str, released: int, seed: int) -> str:
        parameters = {**self.seen_by(plugin), "synthesizer": plugin.identity, "released": released, "seed": seed}
        return self.plan.add("sample", parameters, {"fit": fit}, [plugin, self.environment])

    def train(self, utility: _Utility, sample: str, seeds: Mapping[str, int]) -> str:
        """All three seeds are named: runs of different methods at equal seeds are scored from the same start states."""
        run = {"agent": utility.agent.identity, "schedule": self.plan.sweep.schedule, "seeds": seeds}
        return self.plan.add("train", {**self.common, **run, **self.goals(utility.kind)}, {"sample": sample}, [utility.agent, self.environment])

    def attack(self, attack: Plugin, plugin: Plugin, cell: Cell, seed: int) -> str:
        """The attack on this cell's fit, and on the further fits that it asks for: same method, same budget, other rows.

        The attacker's reference is asked for as many rows as were fitted: what fewer leave to chance hides members.
        """
        train = self.view("train")
        views = {"target": train, **{f"shadow/{name}": view for name, view in attack.instance.views(train).items()}}
        inputs = {role: self.attacked(attack, plugin, cell, view, seed) for role, view in views.items()}
        inputs |= {f"rows of {role}": self.dataset(view) for role, view in views.items() if role != "target"}
        seen = {"data": train, "holdout": self.view("holdout"), "reference": dataclasses.replace(train, part="reference")}
        inputs |= {role: self.dataset(view) for role, view in seen.items()}
        parameters = {**self.common, "attack": attack.identity}
        return self.plan.add("attack", parameters, inputs, [attack, plugin, self.environment])

    def attacked(self, attack: Plugin, plugin: Plugin, cell: Cell, view: View, seed: int) -> str:
        """What an attacker holds. `real` is the positive control: there the whole training part is released, not a sample of it."""
        fit = self.fit(plugin, cell, view)
        if attack.instance.needs == "sampler":
            return fit
        whole = plugin.instance.guarantee is Guarantee.NONE
        return self.sample(plugin, fit, self.rows if whole else self.plan.sweep.released, seed)

    def leaf(
        self, cell: Cell, plugin: Plugin, kind: str, scorer: Plugin, better: Mapping[str, str], seeds: dict[str, int], key: str, fit: str
    ) -> None:
        self.plan.leaves.append(
            Leaf(
                env=cell.environment,
                source=self.environment.instance.source,
                preset=self.plan.sweep.preset,
                rows=cell.rows,
                released=self.plan.sweep.released,
                synth=cell.synthesizer,
                unit=cell.unit.value,
                guarantee=plugin.instance.guarantee.value,
                epsilon=cell.epsilon,
                delta=cell.delta,
                kind=kind,
                plugin=scorer.label,
                better=dict(better),
                seeds=seeds,
                key=key,
                fit=fit,
            )
        )


def anchor_keys(environments: Iterable[Mapping[str, Any]]) -> list[str]:
    """The records of the reference policies and of the ceilings, which stand beside the rows of a table."""
    return [key for block in environments for key in (*map(block.get, REFERENCES.values()), *block["ceilings"].values()) if key]


def pending(plan: Plan, store: Store) -> list[Node]:
    """The nodes to run, inputs first: scores and fits (without scores, samples) that are shown and missing, and what is needed to compute them."""
    samples = [] if plan.leaves else [key for key, node in plan.nodes.items() if node.stage == "sample"]
    scores = [key for leaf in plan.leaves for key in (leaf.fit, leaf.key)]
    shown = dict.fromkeys([*samples, *anchor_keys(plan.environments), *scores])
    stack = [key for key in shown if not store.has(key)]
    needed: set[str] = set()
    while stack:
        key = stack.pop()
        if key not in needed:
            needed.add(key)
            stack.extend(source for source in plan.nodes[key].inputs.values() if not store.has(source))
    return [node for key, node in plan.nodes.items() if key in needed]
