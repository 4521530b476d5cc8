"""The contract of an audit: it finds nothing against a sound mechanism, and refutes one that adds no noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from bench.conformance.findings import Finding, findings, require
from bench.conformance.probes import ACCOUNTANT
from bench.core.data import Schema, Transitions, Unit, View
from bench.core.privacy import Budget, Gaussian, Ledger, Plan
from bench.core.protocols import Audit, AuditReport, AuditSubject, Environment, Guarantee, Runtime, State
from bench.core.rng import rng_for

CLAIM = Budget(epsilon=1.0, delta=1e-6, unit=Unit.TRANSITION)
"""What both mechanisms claim."""
SURPRISE = 1e-3
"""A p-value below this counts as a refutation."""
_CELLS = 1_000


@dataclass(frozen=True)
class Counts:
    """Counts of rows in cells of their first column, with `noise` times what was charged for: the mechanism that audits are tried on."""

    noise: float = 1.0

    version: ClassVar[int] = 1
    guarantee: ClassVar[Guarantee] = Guarantee.DP
    units: ClassVar[frozenset[Unit]] = frozenset({Unit.TRANSITION})
    needs_public: ClassVar[bool] = False

    def fit(
        self,
        data: Transitions,
        ledger: Ledger,
        rng: np.random.Generator,
        *,
        public: Mapping[str, Transitions],
        pretrained: State | None,
        runtime: Runtime,
    ) -> CountsSampler:
        ledger.plan(counts=Gaussian(l2=1.0, weight=1.0))
        charges = tuple(replace(charge, noise_multiplier=self.noise * (charge.noise_multiplier or 0.0)) for charge in ledger.charges)
        column = data.schema.observations[0]
        counts, _ = np.histogram(data.observations[:, 0], _CELLS, (column.low, column.high))
        return CountsSampler(data.schema, Plan(ledger, charges).counts(counts))

    def restore(self, schema: Schema, state: State) -> CountsSampler:
        return CountsSampler(schema, state["counts"])


@dataclass(frozen=True, eq=False)
class CountsSampler:
    """The noisy counts; what is sampled from them matters to nobody."""

    schema: Schema
    counts: np.ndarray

    def state(self) -> State:
        return {"counts": self.counts}

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        return Transitions.empty(self.schema)


@dataclass(frozen=True, eq=False)
class Case:
    """An audit, and the environment whose rows the mechanisms count."""

    audit: Audit
    environment: Environment

    @cached_property
    def sound(self) -> AuditReport:
        return self.run(Counts())

    @cached_property
    def noiseless(self) -> AuditReport:
        return self.run(Counts(noise=0.0))

    def run(self, mechanism: Counts) -> AuditReport:
        view = View("conformance", "train", self.audit.rows)
        subject = AuditSubject(mechanism, self.environment, CLAIM, ACCOUNTANT, view, {}, None, "conformance")
        return self.audit.audit(subject, rng_for("conformance", "audit"), runtime=Runtime())


def check_audit(audit: Audit, environment: Environment) -> Iterator[Finding]:
    """All checks."""
    checks = (reports_bounds, finds_nothing_against_a_sound_mechanism, refutes_one_without_noise, repeats_itself)
    yield from findings(checks, Case(audit, environment))


def reports_bounds(case: Case) -> None:
    """Reports at least one bound, each finite and no stronger than that of a perfect attack, and the charges of what it fitted."""
    for report in (case.sound, case.noiseless):
        require(bool(report.bounds) and bool(report.charges), f"{len(report.bounds)} bounds and {len(report.charges)} charges")
        for name, bound in report.bounds.items():
            require(0 <= bound.epsilon <= bound.ceiling < math.inf and 0 <= bound.least_p <= bound.p_value <= 1, f"{name}: {bound}")


def finds_nothing_against_a_sound_mechanism(case: Case) -> None:
    """No bound refutes a Gaussian mechanism with the noise that it claims."""
    for name, bound in case.sound.bounds.items():
        require(bound.p_value >= SURPRISE, f"{name}: {bound.epsilon:.3g} of a true {CLAIM.epsilon:g}, p = {bound.p_value:.2g}")


def refutes_one_without_noise(case: Case) -> None:
    """The headline refutes the same mechanism without its noise."""
    name, bound = next(iter(case.noiseless.bounds.items()))
    refuted = bound.epsilon > CLAIM.epsilon and bound.p_value < SURPRISE
    require(refuted, f"{name}: {bound.epsilon:.3g} of an infinite epsilon, p = {bound.p_value:.2g}")


def repeats_itself(case: Case) -> None:
    """The same seed gives the same report."""
    require(case.run(Counts()) == case.sound, "two audits with equal seeds differ")
