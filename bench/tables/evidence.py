"""What speaks for or against the epsilon that a row claims: the audits of its method, and the best attack on what it released.

    audits of the manifest + their records -> the cell `audited ≥`, and the verdict on the row
    attacks of the row -> the cells of `best-attack`

The best of several attacks flatters the attacker if it is chosen by the score that is then printed: at each synthesizer seed it is chosen by the
same score at the other seeds alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.tables.leaderboard import Cell, Column, Row, Verdict
from bench.tables.pooling import LeafFields, Outcomes, Records, grouped_by, pool
from bench.tables.stats import Float64, Summary

REFUTED = 0.001
"""The chance that a table calls any true claim refuted: shared out among its audits."""
AUDITED = Column("evidence", "audited", "audited", None)
BEST = "best-attack"
LEVELS = ("tpr_at_20", "tpr_at_10", "tpr_at_1", "tpr_at_01")
"""True positives at the published false positive rates: 20, 10, 1 and 0.1 %."""
BEST_SCORES = ("auc", *LEVELS)
"""What is known of the best attack, each of the one that is best in it."""
BRIEFLY = ("auc", "tpr_at_1", "tpr_at_01")
"""What is shown of it beside other scores: it is the attacker who is rarely wrong that does harm."""


# --- audits -----------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Audits:
    """The audits that belong to a sweep, whether or not they have run; `planned` of them share the chance of a false `refuted`."""

    by_row: Mapping[tuple[Any, ...], list[LeafFields]]
    planned: int

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Audits:
        """Of a manifest; older ones name none."""
        leaves = manifest.get("audits", [])
        return cls(grouped_by(_ROW, leaves), len(leaves))

    def of_row(self, leaf: LeafFields) -> list[LeafFields]:
        """Those of the row that a score belongs to."""
        return self.by_row.get(tuple(leaf[name] for name in _ROW), [])


_ROW = ("env", "source", "rows", "unit", "synth", "epsilon", "delta")


def chosen_bound(result: Mapping[str, Any]) -> Mapping[str, float]:
    """The bound of an audit that was chosen before any number was seen."""
    bound: Mapping[str, float] = next(iter(result["bounds"].values()))
    return bound


def of_any_noise(result: Mapping[str, Any]) -> Mapping[str, float]:
    """The bound of an audit that does not take the charges' word for it that noise is Gaussian."""
    bound: Mapping[str, float] = list(result["bounds"].values())[-1]
    return bound


def verdict(bound: Mapping[str, float], audits: int) -> str:
    """`refuted` if the bound exceeds the claim at confidence 1 - 0.001 / audits; `blind` if that of a perfect attack would not.

    Audits of version 1 do not tell what a perfect attack would have shown of their claim.
    """
    if bound["p_value"] < REFUTED / audits:
        return "refuted"
    return "blind" if bound.get("least_p", 0.0) >= REFUTED / audits else "not refuted"


def audited_cell(audits: Sequence[LeafFields], records: Records) -> Cell | None:
    """The largest lower bound of the audits that have run, with the ceiling of that audit; None where none was planned."""
    ran = [(leaf, record) for leaf, record in zip(audits, records.of(audits), strict=True) if record]
    found = [(leaf, chosen_bound(record.result)) for leaf, record in ran if record.ok]
    reasons = tuple(dict.fromkeys(record.reason or "failed" for _, record in ran if not record.ok))
    keys = tuple(leaf["key"] for leaf in audits)
    cell = Cell(None, len(found), len(ran), records.any_stale(leaf for leaf, _ in ran), keys, reasons)
    if cell.failed or not found:
        return cell if audits else None
    largest, bound = max(found, key=lambda each: (each[1]["epsilon"], each[1]["ceiling"]))
    return replace(cell, summary=Summary(bound["epsilon"]), ceiling=bound["ceiling"], sources=(largest["plugin"],))


def disproof(row: Row, audits: Sequence[LeafFields], records: Records, planned: int) -> Verdict | None:
    """What disproves the claim of a row, if anything: its own charges, or an audit."""
    if row.private and row.epsilon_spent is not None and row.epsilon_spent > row.epsilon:
        return "overspent"
    found = (chosen_bound(record.result) for record in records.of(audits) if record and record.ok)
    return "refuted" if any(verdict(bound, planned) == "refuted" for bound in found) else None


# --- the best attack --------------------------------------------------------------------------------------------------------------------------------


def evidence_columns(columns: Sequence[Column], audits: bool) -> tuple[Column, ...]:
    """What a group can show: the audits if it has any, and of the best attack the scores that every attack with an AUC has."""
    attacks = [{column.score for column in columns if column.scorer == scorer} for scorer in attacks_with_auc(columns)]
    shared = [score for score in BEST_SCORES if attacks and all(score in scores for scores in attacks)]
    return (*((AUDITED,) if audits else ()), *(Column("evidence", BEST, score, "lower") for score in shared))


def attacks_with_auc(columns: Iterable[Column]) -> list[str]:
    return [column.scorer for column in columns if column.kind == "attack" and column.score == BEST_SCORES[0]]


def best_attack_cells(wanted: Sequence[Column], attacks: Mapping[str, Outcomes]) -> list[Cell | None]:
    """The scores of the best attack: chosen at the other synthesizer seeds, scored at this one, pooled over all.

    Args:
        wanted: columns of the best attack.
        attacks: by name, those that have an AUC.
    """
    auc = Column("attack", "", BEST_SCORES[0], "lower")
    runs = {name: own for name, own in attacks.items() if not _does_not_exist(own.cell(auc))}
    if not wanted or not runs:
        return [None] * len(wanted)
    aucs = np.stack([own.estimates(auc)[0] for own in runs.values()])
    stale, reasons = any(own.stale for own in runs.values()), tuple(dict.fromkeys(reason for own in runs.values() for reason in own.reasons))
    cell = Cell(None, int(np.isfinite(aucs).all(axis=0).sum()), aucs[0].size, stale, tuple(key for own in runs.values() for key in own.keys), reasons)
    if cell.failed or aucs.shape[1] == 1:
        return [cell] * len(wanted)
    return [_of_the_best(cell, column, {name: own.estimates(replace(auc, score=column.score)) for name, own in runs.items()}) for column in wanted]


def _does_not_exist(cell: Cell) -> bool:
    """True for an attack that ran and could say nothing of this method."""
    return cell.summary is None and not cell.failed


def _of_the_best(cell: Cell, column: Column, estimates: Mapping[str, Float64]) -> Cell:
    """One score of the attack that is best in it: one that finds the most rows need not be the one that is rarely wrong."""
    values = np.stack([own[0] for own in estimates.values()])
    if not np.isfinite(values).all():
        return cell
    names = list(estimates)
    chosen = [names[attack] for attack in chosen_elsewhere(values)]
    taken = np.stack([estimates[name][:, seed] for seed, name in enumerate(chosen)], axis=1)
    return replace(cell, summary=pool(column, taken), runs=taken[0], sources=tuple(chosen))


def chosen_elsewhere(scores: Float64) -> list[int]:
    """For each synthesizer seed the attack with the highest mean score over the other seeds; (attacks, synthesizer, ...), all finite.

    Of equals the first is taken.
    """
    means = scores.reshape(*scores.shape[:2], -1).mean(axis=2)
    return [int(np.delete(means, seed, axis=1).mean(axis=1).argmax()) for seed in range(means.shape[1])]


def chosen_attacks(columns: Sequence[Column], body: Iterable[Row]) -> str:
    """Which attacks were taken for which rows by their AUC, most often taken first."""
    scores = [i for i, column in enumerate(columns) if column.scorer == BEST]
    together: dict[str, list[str]] = {}
    for row in body:
        cell = row.cells[scores[0]] if scores else None
        if cell and cell.sources:
            names = " or ".join(name for name, _ in Counter(cell.sources).most_common())
            together.setdefault(names, []).append(row.synth if row.epsilon in (0, math.inf) else row.name)
    told = "; ".join(f"{names} for {', '.join(rows)}" for names, rows in together.items())
    return f"by AUC, {told}" if told else ""
