"""What the stages refuse, and what they hand on: a release is whole and inside its bounds, a budget is kept, the best checkpoint is not reported."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from shell_support import BARE, PLUGINS, TINY, Log, nodes_of, record_of, run_here
from stubs import STUBS

from bench import Guarantee, InputError, LearningCurve, Transitions, Unit, register
from bench.core import registry
from bench.core.data import Column, View
from bench.core.privacy import Budget, Ledger
from bench.core.protocols import AuditSubject
from bench.envs.toy import TOY, TOY_EAST, Toy
from bench.run.plan import Plan, make_plan, pending
from bench.run.secret import Secret
from bench.run.spec import Schedule, Seeds
from bench.run.stages import normalized_score, without_shared_rows
from bench.run.store import Record, Store
from bench.tables.build import build_table

FAULTS = {
    "raises": "RuntimeError: this fit always raises",
    "no-plan": "a DP method asks through ledger.plan",
    "two-plans": "a fit declares one plan",
    "asks-twice": "'count' was planned for 1 answers",
    "objects": "the result cannot be stored (Object arrays",
    "nan": "column 'x' of the release holds NaN or infinity",
    "infinite": "column 'x' of the release holds NaN or infinity",
    "outside": "column 'x' of the release leaves its declared bounds [-1.0, 1.0]",
    "widened": "column 'x' of the release leaves its declared bounds [-1.0, 1.0]",
    "too-few": "returned 199 rows where 200 were asked for",
    "too-many": "returned 201 rows where 200 were asked for",
}
"""What can be wrong with a method, and what its record says then."""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plan, Store, Log]]:
    """One sweep over every fault, with a sound method among them."""
    synth = ("faulty", *(f"faulty[fault={fault}]" for fault in FAULTS), "uniform")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_declared", dict(registry._declared))
        registry.load_file(PLUGINS / "faulty.py")
        yield run_here(replace(BARE, synth=synth), tmp_path_factory.mktemp("faulty"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_method_gets_a_failed_record_with_the_reason(fault: str, faulty: tuple[Plan, Store, Log]) -> None:
    plan, store, _ = faulty
    label = f"faulty[fault={fault}]"
    (fit,), (sample,) = (nodes_of(plan, stage, synthesizers=label) for stage in ("fit", "sample"))
    (score,) = (plan.nodes[leaf.key] for leaf in plan.leaves if leaf.synth == label)
    broken = [node for node in (fit, sample) if not record_of(store, node).ok]
    first = record_of(store, broken[0])
    assert FAULTS[fault] in (first.reason or "")
    for node in (*broken[1:], score):
        record = record_of(store, node)
        assert not record.ok
        assert (record.reason or "").startswith("an input failed: ")
        assert FAULTS[fault] in (record.reason or "")
        assert (record.reason or "").count("an input failed") == 1


def test_the_sweep_finishes_around_them(faulty: tuple[Plan, Store, Log]) -> None:
    plan, store, log = faulty
    assert log.records.keys() == plan.nodes.keys()
    sound = [leaf for leaf in plan.leaves if leaf.synth in ("faulty", "uniform")]
    assert len(sound) == 2
    assert all(store.has(leaf.key) for leaf in sound)


def test_the_next_run_tries_them_again_and_nothing_else(faulty: tuple[Plan, Store, Log]) -> None:
    plan, store, _ = faulty
    failed = {key for key in plan.nodes if not store.has(key)}
    assert {node.key for node in pending(plan, store)} == failed


def test_what_a_dp_fit_spent_is_recorded_and_within_its_budget(tmp_path: Path) -> None:
    for name, stub in STUBS.items():
        register("synthesizers", f"{name}-stub")(stub)
    synth = ("independent", *(f"{name}-stub" for name in STUBS))
    plan, store, _ = run_here(replace(BARE, synth=synth, epsilon=(0.5, math.inf)), tmp_path)
    fits = nodes_of(plan, "fit")
    assert len(fits) >= 2 * len(synth)
    for fit in fits:
        result, budget = record_of(store, fit).result, float(fit.parameters["budget"]["epsilon"])
        assert 0 < float(result["epsilon_spent"]) <= budget
        assert math.isinf(budget) or float(result["epsilon_spent"]) > 0.95 * budget
        assert result["charges"]
        assert result["accountant"] in ("pld", "rdp")


@dataclass(frozen=True)
class Spy:
    """Keeps in its state how many rows and public datasets it was handed, and whether the ledger would lend it a budget."""

    version: ClassVar[int] = 1
    guarantee: ClassVar[Guarantee] = Guarantee.DATA_FREE
    units: ClassVar[frozenset[Unit]] = frozenset({Unit.TRANSITION})
    needs_public: ClassVar[bool] = True

    def fit(self, data: Transitions, ledger: Any, rng: Any, *, public: Any, pretrained: Any, runtime: Any) -> SpySampler:
        return SpySampler({"rows": np.array(len(data)), "public": np.array(len(public)), "closed": np.array(ledger.budget is None)})

    def restore(self, schema: Any, state: Any) -> SpySampler:
        return SpySampler(state)


@dataclass(frozen=True)
class SpySampler:
    seen: dict[str, np.ndarray]

    def state(self) -> dict[str, np.ndarray]:
        return self.seen


def test_a_data_free_method_is_handed_no_row_and_no_budget(tmp_path: Path) -> None:
    register("synthesizers", "spy")(Spy)
    plan, store, _ = run_here(replace(BARE, synth=("spy",)), tmp_path)
    (fit,) = nodes_of(plan, "fit")
    assert "data" in fit.inputs, "the rows are read, to compare them with the public ones"
    assert {name: int(value) for name, value in store.arrays(fit.key).items()} == {"rows": 0, "public": 2, "closed": 1}
    assert record_of(store, fit).result == {"epsilon_spent": 0.0, "accountant": None, "charges": []}


@dataclass(frozen=True)
class Witness:
    """A metric that remembers what it was handed."""

    unit: Unit

    version: ClassVar[int] = 1
    better: ClassVar[dict[str, str]] = {"trajectories": "higher"}
    seen: ClassVar[dict[Unit, tuple[Transitions, Transitions]]] = {}

    def score(self, synthetic: Transitions, target: Transitions, environment: Any, rng: Any) -> dict[str, float]:
        self.seen[self.unit] = synthetic, target
        return {}


def test_a_metric_is_handed_what_it_compares_about_as_much_of_either_side(tmp_path: Path) -> None:
    for unit in Unit:
        register("metrics", f"witness-of-{unit.value}")(Witness(unit))
    metrics = ("witness-of-transition", "witness-of-trajectory")
    sweep = replace(BARE, synth=("real",), metrics=metrics, unit=Unit.TRAJECTORY, rows=(1_000,), released=330, evaluated=210)
    plan, store, _ = run_here(sweep, tmp_path)
    (sample,) = nodes_of(plan, "sample")
    for data in Witness.seen[Unit.TRANSITION]:
        assert data.trajectories is None
        assert len(data) == 210
    released = store.arrays(sample.key)
    whole = {released["rewards"][start:end].tobytes() for start, end in pairwise(released["trajectories"])}
    for data in Witness.seen[Unit.TRAJECTORY]:
        lengths = np.diff(data.require_trajectories())
        assert 210 - TOY.horizon < len(data) <= 210
        assert set(lengths) <= {20, 10}, "whole episodes, and the one that the release or the part cut itself"
    ours = Witness.seen[Unit.TRAJECTORY][0]
    assert {ours.rewards[start:end].tobytes() for start, end in pairwise(ours.require_trajectories())} <= whole
    assert all(record_of(store, node).result["scores"] == {} for node in nodes_of(plan, "fidelity"))


def test_a_release_without_trajectories_has_no_score_of_trajectories(tmp_path: Path) -> None:
    sweep = replace(BARE, synth=("real", "uniform"), metrics=("one-way", "continuity"), unit=Unit.TRAJECTORY)
    plan, store, _ = run_here(sweep, tmp_path)
    results = {(leaf.synth, leaf.plugin): store.get(leaf.key).result for leaf in plan.leaves}  # type: ignore[union-attr]
    assert results["real", "continuity"]["scores"] == results["uniform", "continuity"]["ceiling"] == {"continuity": 1.0}
    assert results["uniform", "continuity"]["scores"] == {}
    assert results["uniform", "one-way"]["scores"]
    (group,) = build_table(plan.manifest("today"), store).groups
    printed = {row.synth: row.cells[[column.score for column in group.columns].index("continuity")] for row in group.body}
    assert {synth: cell and cell.summary and cell.summary.mean for synth, cell in printed.items()} == {"real vs real": 1, "real": 1, "uniform": None}


@dataclass(frozen=True)
class PeakAgent:
    """Its policies come close to that of the data and go away again; it learns nothing. `boasts` makes it report its best so far."""

    boasts: bool = False
    version: ClassVar[int] = 1

    def train(self, data: Any, rngs: Any, *, steps: int, evaluate_every: int, evaluate: Any, runtime: Any) -> list[LearningCurve]:
        marks, straight = tuple(range(evaluate_every, steps + 1, evaluate_every)), TOY.reference_policies["straight to the origin"]
        shares = [1 - 2 * abs(mark / steps - 0.5) for mark in marks]
        returns = [float(evaluate([lambda seen, share=share: share * straight(seen)])[0]) for share in shares]
        return [LearningCurve(marks, tuple(np.maximum.accumulate(returns) if self.boasts else returns))]


def peaked(agent: str, folder: Path) -> Record:
    register("agents", "peak")(PeakAgent)
    sweep = replace(BARE, agents=(agent,), metrics=(), schedule=Schedule(steps=8, evaluate_every=1, episodes=20, last=3))
    plan, store, _ = run_here(sweep, folder)
    return record_of(store, nodes_of(plan, "train")[0])


def test_a_score_is_the_mean_of_the_last_evaluations_and_never_the_best(tmp_path: Path) -> None:
    result = peaked("peak", tmp_path).result
    scores = result["curve"]["scores"]
    assert result["curve"]["steps"] == list(range(1, 9))
    assert max(scores) > max(scores[-3:])
    assert result["score"] == pytest.approx(np.mean(scores[-3:]))


def test_an_agent_cannot_report_another_curve_than_was_measured(tmp_path: Path) -> None:
    record = peaked("peak[boasts=true]", tmp_path)
    assert not record.ok
    assert "the agent reports a curve of 8 returns that is not what its 8 evaluations gave" in str(record.reason)


@dataclass(frozen=True)
class StandingAgent:
    """Does nothing, so its scores tell where episodes start."""

    version: ClassVar[int] = 1

    def train(self, data: Any, rngs: Any, *, steps: int, evaluate_every: int, evaluate: Any, runtime: Any) -> list[LearningCurve]:
        marks = tuple(range(evaluate_every, steps + 1, evaluate_every))
        return [LearningCurve(marks, tuple(float(evaluate([stand])[0]) for _ in marks)) for _ in rngs]


def stand(observations: np.ndarray) -> np.ndarray:
    return np.zeros((len(observations), len(TOY.schema.actions)), np.float32)


def test_methods_share_start_states_at_equal_seeds_and_no_two_evaluations_or_seeds_do(tmp_path: Path) -> None:
    register("agents", "standing")(StandingAgent)
    seeds = Seeds(synthesizer=2, sampling=2, agent=2)
    sweep = replace(BARE, synth=("uniform", "public-data"), agents=("standing",), metrics=(), seeds=seeds, schedule=Schedule(2, 1, 2, 1))
    plan, store, _ = run_here(sweep, tmp_path)
    curves: dict[tuple[int, ...], list[list[float]]] = {}
    for leaf in plan.leaves:
        curves.setdefault(tuple(leaf.seeds.values()), []).append(record_of(store, plan.nodes[leaf.key]).result["curve"]["scores"])
    assert len(curves) == 8
    assert all(ours == theirs for ours, theirs in curves.values())
    scores = [score for ours, _ in curves.values() for score in ours]
    assert len(set(scores)) == len(scores) == 16


def test_the_reference_scores_stand_for_0_and_100() -> None:
    assert normalized_score(-15.43, TOY.reference_scores) == 0
    assert normalized_score(-2.50, TOY.reference_scores) == 100
    assert normalized_score(10.0, (20.0, 40.0)) == -50


def test_public_data_that_holds_one_sensitive_row_is_refused() -> None:
    data, sibling = TOY.dataset(400, 0, "train"), TOY_EAST.dataset(400, 0, "train")
    without_shared_rows(data, sibling, "toy-east", refuse=True)
    table = sibling.table()
    table[7] = data.table()[300]
    with pytest.raises(InputError, match="siblings: the public dataset 'toy-east' holds sensitive rows; remove it"):
        without_shared_rows(data, Transitions.from_table(sibling.schema, table), "toy-east", refuse=True)
    table[7, 0] = np.nextafter(table[7, 0], 1, dtype=np.float32)
    without_shared_rows(data, Transitions.from_table(sibling.schema, table), "toy-east", refuse=True)


def test_a_release_leaves_shared_rows_out_one_by_one() -> None:
    """A refusal is an answer: of two neighbours, one with the shared row, one fit would end and the other would not."""
    data, sibling = TOY.dataset(400, 0, "train"), TOY_EAST.dataset(400, 0, "train")
    table = sibling.table()
    table[[7, 9]] = data.table()[[300, 20]]
    spoiled = Transitions.from_table(sibling.schema, table)
    whole, fewer = (without_shared_rows(rows, spoiled, "toy-east", refuse=False) for rows in (data, data.without([300])))
    assert np.array_equal(whole.table(), data.without([20, 300]).table())
    assert np.array_equal(whole.table(), fewer.table())


def with_goal(rows: Transitions, goal: float) -> Transitions:
    """The rows with one column more in s and s', a declared constant."""
    schema, constant = rows.schema, np.full(len(rows), goal, np.float32)
    observations, differences = (*schema.observations, Column("goal", goal, goal)), (*schema.differences, Column("dgoal", 0.0, 0.0))
    states, reached = (np.column_stack([states, constant]) for states in (rows.observations, rows.next_observations))
    return replace(rows, schema=replace(schema, observations=observations, differences=differences), observations=states, next_observations=reached)


def test_sensitive_rows_with_another_reward_or_goal_are_no_public_data() -> None:
    rows = TOY.dataset(400, 0, "train")
    sparse = replace(rows, rewards=np.zeros_like(rows.rewards))
    for data, sibling in ((rows, sparse), (with_goal(rows, 0), with_goal(rows, 1))):
        with pytest.raises(InputError, match="'relabelled' holds sensitive rows"):
            without_shared_rows(data, sibling, "relabelled", refuse=True)


@pytest.mark.parametrize("constant", ["here", "there"])
def test_sensitive_rows_are_no_public_data_where_one_side_alone_declares_the_goal_constant(constant: str) -> None:
    """A sibling with several goals may hold the rows of one with a single goal, under another of them."""
    fixed, varied = (with_goal(TOY.dataset(400, 0, "train"), goal) for goal in (0, 1))
    schema = replace(varied.schema, observations=(*TOY.schema.observations, Column("goal", 0, 1)))
    varied = replace(varied, schema=schema)
    with pytest.raises(InputError, match="holds sensitive rows"):
        without_shared_rows(*((fixed, varied) if constant == "here" else (varied, fixed)), "relabelled", refuse=True)


@pytest.mark.parametrize("narrow", ["here", "there"])
def test_sensitive_rows_are_no_public_data_where_one_side_alone_was_clipped(narrow: str) -> None:
    """One file read under two schemas."""
    whole = TOY.dataset(400, 0, "train")
    schema = replace(TOY.schema, observations=(Column("x", 0.0, 0.5), Column("y", -1.0, 0.0)))
    states, reached = (np.clip(values, (0.0, -1.0), (0.5, 0.0)).astype(np.float32) for values in (whole.observations, whole.next_observations))
    clipped = replace(whole, schema=schema, observations=states, next_observations=reached)
    data, sibling = (clipped, whole) if narrow == "here" else (whole, clipped)
    assert len(without_shared_rows(data, sibling, "relabelled", refuse=False)) == 0


@dataclass(frozen=True)
class SelfSibling(Toy):
    """An environment that declares its own data public, under another name."""

    siblings: ClassVar[tuple[str, ...]] = ("toy",)


def test_a_fit_is_refused_before_it_begins_where_public_rows_are_sensitive(tmp_path: Path) -> None:
    register("environments", "self-sibling")(SelfSibling)
    register("synthesizers", "spy")(Spy)
    plan, store, _ = run_here(replace(BARE, env=("self-sibling",), synth=("spy", "uniform"), rows=(0,)), tmp_path)
    (spied,) = nodes_of(plan, "fit", synthesizers="spy")
    assert "the public dataset 'toy' holds sensitive rows" in (record_of(store, spied).reason or "")
    assert record_of(store, nodes_of(plan, "fit", synthesizers="uniform")[0]).ok


def test_no_fit_of_a_release_is_refused(tmp_path: Path) -> None:
    register("environments", "self-sibling")(SelfSibling)
    register("synthesizers", "spy")(Spy)
    plan, store, _ = run_here(replace(BARE, env=("self-sibling",), synth=("spy", "uniform"), rows=(0,)), tmp_path, Secret(bytes(range(32))))
    assert all(record_of(store, node).ok for node in nodes_of(plan, "fit"))


class Wild(Toy):
    """The toy environment, with a step that has no length and one that overflows."""

    def dataset(self, rows: int, seed: int, part: str) -> Transitions:
        data = super().dataset(rows, seed, part)
        data.observations[7], data.next_observations[7] = np.inf, np.inf
        data.observations[8], data.next_observations[8] = 3e38, -3e38
        return data


def test_a_row_that_no_arithmetic_bears_leaves_no_trace_in_a_log(tmp_path: Path) -> None:
    """A fit that warns, or dies where warnings are errors, would tell whether the row is there; so would an audit's."""
    register("environments", "wild")(Wild)
    plan, store, _ = run_here(replace(BARE, env=("wild",), synth=("independent",)), tmp_path)  # pytest turns warnings into errors
    (fit,) = nodes_of(plan, "fit")
    assert record_of(store, fit).ok
    assert all(np.isfinite(array).all() for array in store.arrays(fit.key).values())
    method, view, budget = registry.resolve("synthesizers", "independent").instance, View("wild", "train", 200), Budget(1.0, 1e-5, Unit.TRANSITION)
    assert AuditSubject(method, Wild(), budget, "rdp", view, {}, None, "wild").refit(view, 0, Ledger).state()


def test_the_same_node_gives_the_same_result_and_another_seed_another(tmp_path: Path) -> None:
    sweep = replace(TINY, synth=("independent",), agents=(), attacks=(), seeds=Seeds(synthesizer=2))
    plan, store, _ = run_here(sweep, tmp_path / "first")
    _, again, _ = run_here(sweep, tmp_path / "second")
    for node in plan.nodes.values():
        assert record_of(store, node).result == record_of(again, node).result
    first, second = (store.arrays(node.key)["observations"] for node in nodes_of(plan, "sample"))
    assert not np.array_equal(first, second)


def test_utility_and_dynamics_are_left_out_where_there_is_no_simulator(tmp_path: Path) -> None:
    file = tmp_path / "kitchen.hdf5"
    file.write_bytes(b"a plan needs its checksum alone")
    plan = make_plan(replace(TINY, env=(f"kitchen-partial[path={file}]",)))
    assert not nodes_of(plan, "train")
    assert not nodes_of(plan, "references")
    assert {leaf.kind for leaf in plan.leaves} == {"fidelity", "attack"}


def test_a_dataset_is_what_the_environment_gave_trajectories_included(tmp_path: Path) -> None:
    plan, store, _ = run_here(BARE, tmp_path)
    for node in nodes_of(plan, "dataset"):
        arrays = store.arrays(node.key)
        rows = TOY.dataset(node.parameters["view"]["rows"], 0, node.parameters["view"]["part"])
        assert np.array_equal(arrays["observations"], rows.observations)
        assert np.array_equal(arrays["trajectories"], rows.require_trajectories())
