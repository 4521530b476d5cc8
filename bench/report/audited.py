"""The audits of a store that fit a row: same method at its audit size, same budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.auditing import verdict
from bench.core import registry
from bench.core.errors import InputError
from bench.report.evidence import Evidence, Method, Section
from bench.store import Record


@dataclass(frozen=True)
class Audited:
    """One audit of one row: what was claimed, found, and could have been found."""

    method: str
    audit: str
    where: str
    claimed: float
    recomputed: float
    found: float
    ceiling: float
    p_value: float
    verdict: str
    key: str


def audits_of(section: Section, evidence: Evidence) -> list[Audited]:
    """Every audit that is about a method and epsilon of this section. The chance of a false refutation is shared among them."""
    pairs = [(method, record) for method in section.methods for record in _fitting(method, section, evidence.audits)]
    return [_audited(method, record, len(pairs)) for method, record in pairs]


def _fitting(method: Method, section: Section, audits: Sequence[Record]) -> Iterator[Record]:
    if method.leaves[0]["epsilon"] is None or not audits:
        return
    try:
        identity = registry.jsonable(registry.at_audit_size(registry.resolve("synthesizers", method.row.synth)).identity)
    except InputError:  # not installed here: nobody can say that the audited method is the same
        return
    for record in audits:
        budget = record.parameters["budget"]
        same_budget = float(budget["epsilon"]) == method.row.epsilon and budget["unit"] == section.group.unit
        if same_budget and record.parameters["synthesizer"] == identity:
            yield record


def _audited(method: Method, record: Record, audits: int) -> Audited:
    headline = next(iter(record.result["bounds"].values()))
    return Audited(
        method=method.title,
        audit=record.plugins["audits"],
        where=f"{record.plugins['environments']}, {record.result['rows']:,} rows",
        claimed=method.row.epsilon,
        recomputed=record.result["epsilon_spent"],
        found=headline["epsilon"],
        ceiling=headline["ceiling"],
        p_value=headline["p_value"],
        verdict=verdict(method.row.epsilon, headline, audits),
        key=record.key,
    )
