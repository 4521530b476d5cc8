"""Conformance catches an audit that refutes what is sound, one that sees nothing, and one that does not repeat itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from stubs import as_plugin

from bench import AuditReport, AuditSubject, LowerBound, Runtime
from bench.conformance import check
from metrics.audits import ManyRun


@dataclass(frozen=True)
class Spoiled(ManyRun):
    """Twenty runs, whose report goes through `spoil`."""

    rows: int = 100
    runs: int = 20

    def audit(self, subject: AuditSubject, rng: np.random.Generator, *, runtime: Runtime) -> AuditReport:
        report = super().audit(subject, rng, runtime=runtime)
        return replace(report, bounds={name: self.spoil(bound) for name, bound in report.bounds.items()})

    def spoil(self, bound: LowerBound) -> LowerBound:
        return bound


class Blind(Spoiled):
    def spoil(self, bound: LowerBound) -> LowerBound:
        return replace(bound, epsilon=0.0, p_value=1.0)


class Alarmist(Spoiled):
    def spoil(self, bound: LowerBound) -> LowerBound:
        return replace(bound, epsilon=bound.ceiling, p_value=1e-9)


class Unbounded(Spoiled):
    def spoil(self, bound: LowerBound) -> LowerBound:
        return replace(bound, ceiling=bound.epsilon / 2 - 1)


class Restless(Spoiled):
    def spoil(self, bound: LowerBound) -> LowerBound:
        return replace(bound, p_value=min(1.0, bound.p_value + 1e-6 * np.random.default_rng().random()))


@pytest.mark.parametrize(
    ("audit", "guards"),
    [
        (Spoiled(), set()),
        (Blind(), {"refutes-one-without-noise"}),
        (Alarmist(), {"finds-nothing-against-a-sound-mechanism", "reports-bounds"}),  # no perfect attack has so small a p-value
        (Unbounded(), {"reports-bounds"}),
        (Restless(), {"repeats-itself"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_spoiled_audit_is_caught_by_its_guards_alone(audit: Any, guards: set[str]) -> None:
    assert {finding.check for finding in check(as_plugin(audit, "audits")) if not finding.ok} == guards
