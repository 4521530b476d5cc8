"""The utility over a goal set, from the plan to the table: beside the own task, never mixed with it, and above it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from shell_support import TINY, bench, nodes_of, record_of, run_here

from bench import LearningCurve, Transitions, register
from bench.core.errors import InputError
from bench.core.rng import rng_for
from bench.envs.maze2d import OPEN
from bench.run.plan import Plan, make_plan
from bench.run.spec import Seeds, load_sweep
from bench.run.stages import normalized_score
from bench.run.store import Store
from bench.tables.build import build_table
from bench.tables.render import render

SWEEP = replace(TINY, env=("maze2d-open",), synth=("real", "uniform"), agents=("bc", "goals/bc"), metrics=(), attacks=(), seeds=Seeds(synthesizer=1))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    """One agent on both scales."""
    folder = tmp_path_factory.mktemp("goals")
    plan, store, _ = run_here(SWEEP, folder)
    store.put_sweep("goals", plan.manifest("today"))
    return plan, store


def over_goals(plan: Plan, stage: str) -> tuple[set[str], set[str]]:
    """Keys of the nodes of a stage that name a goal set, and of those that do not."""
    nodes = nodes_of(plan, stage)
    return {node.key for node in nodes if "goals" in node.parameters}, {node.key for node in nodes if "goals" not in node.parameters}


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_goals_are_planned_where_the_environment_has_some() -> None:
    plan = make_plan(replace(SWEEP, env=("toy", "maze2d-open")))
    assert {(leaf.env, leaf.kind) for leaf in plan.leaves} == {("toy", "utility"), ("maze2d-open", "utility"), ("maze2d-open", "goals")}
    assert {block["env"]: "goal_references" in block for block in plan.environments} == {"toy": False, "maze2d-open": True}
    with pytest.raises(InputError, match="agents: none of toy has the goal set or simulator that goals/bc needs"):
        make_plan(replace(SWEEP, env=("toy",), agents=("goals/bc",)))


def test_all_agents_can_be_asked_for_over_the_goals() -> None:
    both = make_plan(replace(SWEEP, agents=("all", "goals/all"), synth=("real",)))
    agents = {kind: {leaf.plugin for leaf in both.leaves if leaf.kind == kind} for kind in ("goals", "utility")}
    assert agents["goals"] == agents["utility"] >= {"bc", "iql"}


def test_scores_on_the_own_task_keep_their_keys_beside_those_over_the_goals() -> None:
    both, own, goals = (make_plan(replace(SWEEP, agents=agents)) for agents in (SWEEP.agents, ("bc",), ("goals/bc",)))
    for stage in ("train", "references"):
        with_goals, without = over_goals(both, stage)
        assert with_goals == over_goals(goals, stage)[0]
        assert without == over_goals(own, stage)[1]
        assert len(with_goals) == len(without)
        assert over_goals(own, stage)[0] == over_goals(goals, stage)[1] == set()
    assert {leaf.kind: leaf.key in over_goals(both, "train")[0] for leaf in both.leaves} == {"goals": True, "utility": False}


def test_the_goal_set_is_in_the_keys_of_its_scores_and_of_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_plan(SWEEP)
    monkeypatch.setattr(type(OPEN.goals), "version", OPEN.goals.version + 1)
    after = make_plan(SWEEP)
    changed = before.nodes.keys() - after.nodes.keys()
    assert changed == over_goals(before, "train")[0] | over_goals(before, "references")[0]


# --- the stages -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Witness:
    """An agent that keeps what it is handed, and has the controller evaluated instead of what it learned."""

    version: ClassVar[int] = 1
    seen: ClassVar[list[Transitions]] = []

    def train(self, data: Transitions, rngs: Sequence[Any], *, steps: int, evaluate_every: int, evaluate: Any, runtime: Any) -> list[LearningCurve]:
        self.seen.append(data)
        over_goals = data.observations.shape[1] > len(OPEN.schema.observations)
        policies = (OPEN.goals if over_goals else OPEN).reference_policies
        scores = evaluate([policies["breadth-first controller"]])
        assert scores.shape == (1,)
        return [LearningCurve((steps,), (float(scores[0]),))]


def test_an_agent_is_trained_on_relabelled_rows_and_scored_by_its_mean_over_the_goals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Witness, "seen", [])
    register("agents", "witness")(Witness)
    sweep = replace(SWEEP, agents=("goals/witness",), synth=("real",), schedule=replace(SWEEP.schedule, episodes=100, last=1))
    plan, store, _ = run_here(sweep, tmp_path)
    (data,) = Witness.seen
    (sample,), (train,) = nodes_of(plan, "sample"), nodes_of(plan, "train")
    goals = OPEN.goals
    assert len(data) == len(goals.names) * sweep.released
    released = store.arrays(sample.key)
    expected = goals.relabel(Transitions(OPEN.schema.with_rows(400), **released), rng_for(train.key, "relabel"))
    np.testing.assert_array_equal(data.table(), expected.table())
    assert record_of(store, train).result["score"] == pytest.approx(100, abs=5)


def test_an_agent_for_the_own_task_is_handed_the_released_rows_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the real rows nor a statistic of them: all that it may normalise by is synthetic."""
    monkeypatch.setattr(Witness, "seen", [])
    register("agents", "witness")(Witness)
    plan, store, _ = run_here(replace(SWEEP, agents=("witness",), synth=("uniform",)), tmp_path)
    (data,) = Witness.seen
    (sample,), (train,) = nodes_of(plan, "sample"), nodes_of(plan, "train")
    assert train.inputs == {"sample": sample.key}
    released = store.arrays(sample.key)
    for name, array in released.items():
        np.testing.assert_array_equal(getattr(data, name), array)


def test_reference_policies_are_recorded_on_both_scales(ran: tuple[Plan, Store]) -> None:
    plan, store = ran
    (with_goals,), (without,) = over_goals(plan, "references")
    records = {kind: store.get(key) for kind, key in (("goals", with_goals), ("utility", without))}
    policies = {kind: record.result["policies"] for kind, record in records.items() if record}
    assert list(policies["goals"]) == list(OPEN.goals.reference_policies)
    assert list(policies["utility"]) == list(OPEN.reference_policies)
    assert all(own["low"] < own["score"] < own["high"] for scale in policies.values() for own in scale.values())
    assert policies["goals"]["breadth-first controller"]["score"] == pytest.approx(100, abs=10)
    pd = OPEN.rollout([OPEN.reference_policies["wall-blind PD"]], 500, np.random.default_rng(0)).mean()
    assert policies["utility"]["wall-blind PD"]["score"] == pytest.approx(float(normalized_score(pd, OPEN.reference_scores)), rel=0.1)


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_goals_are_the_headline_whatever_was_asked_for_first(ran: tuple[Plan, Store]) -> None:
    plan, store = ran
    table = build_table(plan.manifest("today"), store)
    (group,) = table.groups
    assert [column.kind for column in group.columns] == ["goals", "gain", "utility"]
    assert group.headline == 0
    assert "over the goals" in group.notes["policies"]
    assert "on the own task" in group.notes["policies"]
    assert group.notes["policies"].count("breadth-first controller") == 2
    agents = {line["agent"] for line in csv.DictReader(io.StringIO(render(table, "csv")))}
    assert agents == {"goals/bc", "bc"}, "one agent on two scales has two names"
    text = render(table, "text")
    assert "─ utility ─" in text
    assert "own task ─" in text
    assert "each of several goals" in table.legend["utility"]
    assert "normalised return" in table.legend["own task"]


def test_only_the_scale_that_was_asked_for_is_printed(tmp_path: Path) -> None:
    plan, store, _ = run_here(replace(SWEEP, agents=("bc",), synth=("uniform",)), tmp_path)
    text = render(build_table(plan.manifest("today"), store), "text")
    assert "goals" not in text
    assert "─ utility ─" in text
    assert "own task ─" not in text


@pytest.mark.parametrize("kind", ["goals", "utility"])
def test_show_reproduces_a_score_on_its_own_scale(kind: str, ran: tuple[Plan, Store], tmp_path: Path) -> None:
    plan, store = ran
    leaf = next(leaf for leaf in plan.leaves if (leaf.kind, leaf.synth) == (kind, "uniform"))
    result = bench("show", leaf.key[:12], "--results", store.root)
    assert result.code == 0
    toml = re.split(r"FILE\.toml holds\n", result.out)[1]
    (tmp_path / "again.toml").write_text(toml)
    (again,) = make_plan(load_sweep(str(tmp_path / "again.toml"), {})).leaves
    assert (again.kind, again.key) == (kind, leaf.key)
