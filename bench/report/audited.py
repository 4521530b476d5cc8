"""The audits of a store that fit a row: same method at its audit size, same budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.core import registry
from bench.core.errors import InputError
from bench.report.evidence import Evidence, Method, Section
from bench.run.store import Record
from bench.tables.evidence import Audits, chosen_bound, of_any_noise, verdict


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
    any_noise: float
    p_value: float
    verdict: str
    key: str


def audits_of(section: Section, evidence: Evidence) -> list[Audited]:
    """Every audit that is about a method and epsilon of this section: those of the sweep, and any other that the store holds of the same method.

    The chance of a false refutation is shared among them all.
    """
    planned = Audits.of(evidence.manifest)
    pairs = []
    for method in section.methods:
        named = (evidence.store.get(leaf["key"]) for leaf in planned.of_row(method.leaves[0]))
        own = {record.key: record for record in named if record and record.ok}
        pairs += [(method, record) for record in (own | {record.key: record for record in _alike(method, section, evidence.audits)}).values()]
    return [_audited(method, record, max(planned.planned, len(pairs))) for method, record in pairs]


def _alike(method: Method, section: Section, audits: Sequence[Record]) -> Iterator[Record]:
    """Audits of the very method, at its audit size, under the same budget, on whatever environment."""
    if not method.budgeted or not audits:
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
    bound = chosen_bound(record.result)
    return Audited(
        method=method.title,
        audit=record.plugins["audits"],
        where=f"{record.plugins['environments']}, {record.result['rows']:,} rows",
        claimed=method.row.epsilon,
        recomputed=record.epsilon,
        found=bound["epsilon"],
        ceiling=bound["ceiling"],
        any_noise=of_any_noise(record.result)["epsilon"],
        p_value=bound["p_value"],
        verdict=verdict(bound, audits),
        key=record.key,
    )
