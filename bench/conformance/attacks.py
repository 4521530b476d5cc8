"""The contract of an attack: it finds nothing in a release that ignores its data, and something in one that is its data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bench.conformance.findings import Finding, findings, require
from bench.conformance.rows import ROWS, own_rows, unrelated_rows
from bench.core.data import PARTS, Index, Schema, Transitions, Unit, View
from bench.core.protocols import Attack, Environment, Estimate, Runtime, State, Target
from bench.core.rng import rng_for

CHANCE = {"auc": 0.5, "advantage": 0.0}
"""What an attack scores that learns nothing."""
MARGIN = 0.1
"""How far from chance a blind attack may fall: three standard deviations for rows in a hundred trajectories."""


@dataclass(frozen=True)
class Parrot:
    """A release that hands out given rows, and whose loss is 0 on them and 1 elsewhere; as a marginal it has one cell for all."""

    rows: Transitions

    def state(self) -> State:
        return {"table": self.rows.table()}

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        return self.rows.rows(rng.integers(len(self.rows), size=n))

    def loss(self, data: Transitions, rows: Index, rng: np.random.Generator, *, runtime: Runtime) -> NDArray:
        known = {row.tobytes() for row in self.rows.table()}
        return np.array([[float(row.tobytes() not in known)] for row in data.rows(rows).table()])

    def cells(self, data: Transitions) -> Index:
        return np.zeros((len(data), 1), np.int64)


@dataclass(frozen=True, eq=False)
class Case:
    """An attack, and members, non-members and a reference population that differ by chance alone: trajectories of one part, dealt in turn."""

    attack: Attack
    environment: Environment

    @cached_property
    def roles(self) -> tuple[Transitions, Transitions, Transitions]:
        everyone = own_rows(self.environment, "train", 3 * ROWS)
        dealt = [everyone.joined(np.arange(role, everyone.units(Unit.TRAJECTORY), 3)) for role in range(3)]
        members, non_members, reference = (replace(role, schema=self._schema) for role in dealt)
        return members, non_members, reference

    @property
    def members(self) -> Transitions:
        return self.roles[0]

    @cached_property
    def blind(self) -> dict[str, Estimate]:
        """On a release that no member has touched."""
        return self.run(unrelated_rows(self._schema, ROWS, "blind release"))

    @cached_property
    def leaking(self) -> dict[str, Estimate]:
        """On a release of the members themselves."""
        return self.run(self.members)

    def run(self, released: Transitions) -> dict[str, Estimate]:
        views = self.attack.views(View("conformance", "train", ROWS))
        parts = dict(zip(PARTS, self.roles, strict=True))
        shadows = {name: self._shadow(view.apply(parts[view.part])) for name, view in views.items()}
        return self.attack.attack(self._target(released), shadows, *self.roles, rng_for("conformance", "attack"), runtime=Runtime())

    @property
    def _schema(self) -> Schema:
        return self.environment.schema.with_rows(ROWS)

    def _shadow(self, rows: Transitions) -> Target:
        return replace(self._target(rows), rows=rows)

    def _target(self, rows: Transitions) -> Target:
        return Target(rows, None) if self.attack.needs == "samples" else Target(None, Parrot(rows))


def check_attack(attack: Attack, environment: Environment) -> Iterator[Finding]:
    """All checks."""
    yield from findings((names_its_estimates, gives_intervals, is_blind_to_a_blind_release, sees_a_leak, repeats_itself), Case(attack, environment))


def names_its_estimates(case: Case) -> None:
    """Returns exactly the estimates that `better` names as higher or lower."""
    require(set(case.attack.better.values()) <= {"higher", "lower"}, f"better says {sorted(set(case.attack.better.values()))}, not higher or lower")
    require(set(case.blind) == set(case.attack.better), f"returned {sorted(case.blind)} where better names {sorted(case.attack.better)}")


def gives_intervals(case: Case) -> None:
    """Every value is finite and inside its interval."""
    for name, estimate in (*case.blind.items(), *case.leaking.items()):
        finite = all(map(math.isfinite, (estimate.value, estimate.low, estimate.high)))
        require(finite and estimate.low <= estimate.value <= estimate.high, f"{name}: {estimate}")


def is_blind_to_a_blind_release(case: Case) -> None:
    """A release that ignores its data leaves the attack at chance."""
    for name, chance in CHANCE.items():
        if name in case.blind:
            value = case.blind[name].value
            require(abs(value - chance) <= MARGIN, f"{name} {value:.3f} on a release that ignores its data; chance is {chance}")


def sees_a_leak(case: Case) -> None:
    """A release of the members themselves scores worse than a blind one, AUC and advantage with intervals above chance: members are positive."""
    leads = []
    for name, better in case.attack.better.items():
        leaking, blind = case.leaking[name], case.blind[name]
        if name in CHANCE:
            require(leaking.low > CHANCE[name], f"{name} {leaking.value:.3f} on the members themselves; chance is {CHANCE[name]}")
        leads.append(leaking.value - blind.value if better == "lower" else blind.value - leaking.value)
    require(max(leads) > 0, "no score tells the members themselves from a release that ignores its data")


def repeats_itself(case: Case) -> None:
    """The same seed gives the same estimates."""
    require(case.run(case.members) == case.leaking, "two attacks with equal seeds differ")
