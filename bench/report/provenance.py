"""What stands behind every number of a page: claims, each with the keys of its records, and the records themselves in short.

A page carries this as JSON; a click on a number shows it. `bench show KEY` tells everything about one record.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.report.evidence import Evidence
from bench.run.staleness import stale_keys
from bench.run.store import Record
from bench.tables.leaderboard import Cell, Column


@dataclass
class Claims:
    """The numbers of a page in the order in which they were written, each known by its place."""

    evidence: Evidence
    claims: list[dict[str, Any]] = field(default_factory=list)
    _keys: dict[str, None] = field(default_factory=dict)

    def add(self, title: str, keys: Iterable[str], score: str = "", **facts: Any) -> int:
        """Remember a number; `score` is its name in the records, where each run has one of its own."""
        own = list(keys)
        self._keys.update(dict.fromkeys(own))
        self.claims.append({"title": title, "score": score, "keys": own, **_plain(facts)})
        return len(self.claims) - 1

    def add_cell(self, title: str, cell: Cell, column: Column, **facts: Any) -> int:
        """Remember a cell of the table."""
        summary = cell.summary
        interval = {} if summary is None else {"mean": summary.mean, "low": summary.low, "high": summary.high, "interval": summary.interval}
        score = "" if column.kind in ("gain", "evidence") else column.score
        told = {"why": cell.reasons, "sources": cell.sources, "ceiling": cell.ceiling}
        known = {name: value for name, value in told.items() if value}
        return self.add(title, cell.keys, score, n=cell.n, planned=cell.planned, **interval, **known, **facts)

    def data(self) -> dict[str, Any]:
        """All claims, the records that they rest on with the fits behind those, and who made them."""
        leaves = {leaf["key"]: leaf for leaf in self.evidence.manifest["leaves"]}
        fits = {key: leaves[key]["fit"] for key in self._keys if key in leaves}
        keys = list(dict.fromkeys([*self._keys, *fits.values()]))
        stale = stale_keys(((key, key) for key in keys), self.evidence.store)
        makers: dict[str, int] = {}
        made: list[dict[str, Any]] = []
        records: dict[str, dict[str, Any] | None] = {}
        for key in keys:
            record = self.evidence.store.get(key)
            if record is None:
                records[key] = None
                continue
            maker = {name: record.provenance.get(name) for name in ("commit", "versions", "hardware")}
            place = makers.setdefault(repr(maker), len(makers))
            if place == len(made):
                made.append(maker)
            seeds = leaves[key]["seeds"] if key in leaves else None
            records[key] = _short(record, place, seeds=seeds, fit=fits.get(key), stale=key in stale)
        return {"claims": self.claims, "records": records, "makers": made}


def _short(record: Record, maker: int, **facts: Any) -> dict[str, Any]:
    """A record without parameters and curves; what does not apply is left out."""
    told = {
        "stage": record.stage,
        "status": record.status,
        "reason": record.reason,
        "scores": _scores(record.result),
        "plugins": record.plugins,
        "budget": record.parameters.get("budget"),
        "spent": record.result.get("epsilon_spent"),
        "accountant": record.result.get("accountant"),
        "charges": record.result.get("charges"),
        "seconds": record.provenance.get("seconds"),
        "peak": record.provenance.get("peak_bytes"),
        "finished": record.provenance.get("finished"),
        "sources": record.provenance.get("sources"),
        "maker": maker,
        **facts,
    }
    return {name: value for name, value in _plain(told).items() if value is not None and value is not False and value not in ([], {})}


def _scores(result: Mapping[str, Any]) -> Any:
    """The scores of a record by name; those of an attack with their intervals."""
    return {"score": result["score"]} if "score" in result else result.get("scores")


def _plain(value: Any) -> Any:
    """JSON without infinities, which browsers do not read; six digits."""
    if isinstance(value, dict):  # a Mapping would be asked a million times what it is
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value).replace("inf", "∞")
    return value
