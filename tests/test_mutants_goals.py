"""Goal sets that each break one promise, and the check that must see it (and no other)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from stubs import Array
from test_mutants import failed, spoiled

from bench import Transitions
from bench.core.data import Column, Schema, concatenate
from bench.core.protocols import Policy
from bench.core.registry import resolve

RELABELS, ROLLS_OUT = "relabels-for-its-goals", "rolls-out-to-its-goals"


@dataclass(frozen=True)
class ToyGoals:
    """Two sides of the toy's square, reached where x has the goal's sign; a column tells which."""

    version: ClassVar[int] = 1
    names: tuple[str, ...] = ("west", "east")

    @property
    def reference_policies(self) -> Mapping[str, Policy]:
        return {"straight": lambda observations: np.column_stack([2 * observations[:, 2] - 1, 0 * observations[:, 2]])}

    def relabel(self, data: Transitions, rng: np.random.Generator) -> Transitions:
        return concatenate([self.towards(goal, data) for goal in range(len(self.names))])

    def towards(self, goal: int, data: Transitions) -> Transitions:
        reached = (2 * goal - 1) * data.next_observations[:, 0] > 0
        states = {name: self.told(getattr(data, name), goal) for name in ("observations", "next_observations")}
        rest = {"actions": data.actions, "rewards": reached.astype(np.float32), "terminals": data.terminals | reached, "timeouts": data.timeouts}
        return Transitions(self.schema(data.schema), **states, **rest)

    def schema(self, schema: Schema) -> Schema:
        told, change = Column("goal", 0, 1, levels=(0.0, 1.0)), Column("dgoal", -1, 1)
        return replace(schema, observations=(*schema.observations, told), differences=(*schema.differences, change))

    def told(self, states: Array, goal: int) -> Array:
        return np.column_stack([states, np.full(len(states), goal, np.float32)])

    def rollout(self, policies: Sequence[Policy], episodes: int, rng: np.random.Generator) -> Array:
        starts = self.starts(policies, episodes, rng)
        return np.array([[self.score(policy, goal, own) for goal in range(len(self.names))] for policy, own in zip(policies, starts, strict=True)])

    def starts(self, policies: Sequence[Policy], episodes: int, rng: np.random.Generator) -> list[Array]:
        return [rng.uniform(-1, 1, (episodes, 2)).astype(np.float32)] * len(policies)

    def score(self, policy: Policy, goal: int, states: Array) -> float:
        return float(((2 * goal - 1) * (states + 0.1 * policy(self.told(states, goal)))[:, 0]).mean())


class Namesakes(ToyGoals):
    def __init__(self) -> None:
        super().__init__(("west", "west"))


class Nameless(ToyGoals):
    def told(self, states: Array, goal: int) -> Array:
        return super().told(states, 0)


class OneGoalOnly(ToyGoals):
    def relabel(self, data: Transitions, rng: np.random.Generator) -> Transitions:
        return self.towards(0, data)


class Vandal(ToyGoals):
    def relabel(self, data: Transitions, rng: np.random.Generator) -> Transitions:
        data.rewards[:] += 1
        return super().relabel(data, rng)


class Moody(ToyGoals):
    def relabel(self, data: Transitions, rng: np.random.Generator) -> Transitions:
        return super().relabel(replace(data, timeouts=np.random.default_rng().random(len(data)) < 0.5), rng)


class Blank(ToyGoals):
    def towards(self, goal: int, data: Transitions) -> Transitions:
        return replace(super().towards(goal, data), rewards=np.full(len(data), np.nan, np.float32))


class OtherActions(ToyGoals):
    def towards(self, goal: int, data: Transitions) -> Transitions:
        return replace(super().towards(goal, data), actions=-data.actions)


class Endless(ToyGoals):
    """No row is ever terminal, also where the environment's own is."""

    def towards(self, goal: int, data: Transitions) -> Transitions:
        return replace(super().towards(goal, data), terminals=np.zeros(len(data), bool))


class MeanOnly(ToyGoals):
    def rollout(self, policies: Sequence[Policy], episodes: int, rng: np.random.Generator) -> Array:
        return super().rollout(policies, episodes, rng).mean(1)


class PrivateStarts(ToyGoals):
    def starts(self, policies: Sequence[Policy], episodes: int, rng: np.random.Generator) -> list[Array]:
        return [super(PrivateStarts, self).starts([policy], episodes, rng)[0] for policy in policies]


class Sociable(ToyGoals):
    def rollout(self, policies: Sequence[Policy], episodes: int, rng: np.random.Generator) -> Array:
        return super().rollout(policies, episodes, rng) / len(policies)


class Unbounded(ToyGoals):
    def score(self, policy: Policy, goal: int, states: Array) -> float:
        return float(np.divide(super().score(policy, goal, states), 0.0)) if goal else 0.0


class NoDataclass:
    version = 1
    names = ToyGoals().names
    reference_policies = ToyGoals().reference_policies
    relabel = staticmethod(ToyGoals().relabel)
    rollout = staticmethod(ToyGoals().rollout)


@pytest.mark.parametrize(
    ("goals", "guards"),
    [
        (ToyGoals(), set()),
        (Namesakes(), {RELABELS}),
        (Nameless(), {RELABELS}),
        (OneGoalOnly(), {RELABELS}),
        (Vandal(), {RELABELS}),
        (Moody(), {RELABELS}),
        (Blank(), {RELABELS}),
        (OtherActions(), {RELABELS}),
        (MeanOnly(), {ROLLS_OUT}),
        (PrivateStarts(), {ROLLS_OUT}),
        (Sociable(), {ROLLS_OUT}),
        (Unbounded(), {ROLLS_OUT}),
        (NoDataclass(), {RELABELS, ROLLS_OUT}),
        (object(), {RELABELS, ROLLS_OUT}),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_spoiled_goal_set_is_caught_by_its_guards_alone(goals: Any, guards: set[str]) -> None:
    assert failed(spoiled(resolve("environments", "toy").instance, goals=goals), "environments") == guards


def test_a_goal_set_that_forgets_terminals_is_caught() -> None:
    toy = resolve("environments", "toy").instance

    def dataset(rows: int, seed: int, part: str) -> Transitions:
        data = toy.dataset(rows, seed, part)
        return replace(data, schema=spoiled_toy.schema, terminals=np.arange(rows) % 20 == 19)

    ends = replace(toy.schema, terminal=Column("terminal", 0.0, 1.0, levels=(0.0, 1.0)))
    for goals, guards in ((ToyGoals(), set()), (Endless(), {RELABELS})):
        spoiled_toy = spoiled(toy, goals=goals, schema=ends, dataset=dataset)
        assert failed(spoiled_toy, "environments") == guards
