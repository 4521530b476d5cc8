"""From the runs of one scorer to one cell: what became of each, and what they say together.

leaves of a manifest + their records -> Outcomes -> Cell
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bench.core.errors import InputError
from bench.run.store import Record, Store
from bench.tables.leaderboard import UTILITIES, Cell, Column
from bench.tables.stats import Float64, Summary, summarize, summarize_estimates

LeafFields = Mapping[str, Any]
"""One score of the manifest: its labels, the key of its record and the key of the fit behind it."""


def grouped_by(names: tuple[str, ...], leaves: Iterable[LeafFields]) -> dict[tuple[Any, ...], list[LeafFields]]:
    """Leaves with equal labels together, in the order of the sweep."""
    groups: dict[tuple[Any, ...], list[LeafFields]] = {}
    for leaf in leaves:
        groups.setdefault(tuple(leaf[name] for name in names), []).append(leaf)
    return groups


@dataclass(frozen=True)
class Records:
    """The store, and the keys of those of its records that are stale."""

    store: Store
    stale: frozenset[str]

    def of(self, leaves: Iterable[LeafFields]) -> list[Record | None]:
        """The record of each score; where its fit failed, so has the score."""
        return [self._of(leaf) for leaf in leaves]

    def _of(self, leaf: LeafFields) -> Record | None:
        record, fit = self.store.get(leaf["key"]), self.store.get(leaf["fit"])
        if record is None or fit is None or fit.ok:
            return record
        return replace(record, status=fit.status, reason=fit.reason)

    def any_stale(self, leaves: Iterable[LeafFields]) -> bool:
        return not self.stale.isdisjoint(key for leaf in leaves for key in (leaf["key"], leaf["fit"]))


@dataclass(frozen=True)
class Outcomes:
    """What became of the runs that one scorer was to make for one row; `seeds` are (synthesizer, sampling, agent) of each."""

    keys: tuple[str, ...]
    seeds: tuple[tuple[int, int, int], ...]
    records: tuple[Record | None, ...]
    stale: bool

    @classmethod
    def read(cls, leaves: list[LeafFields], records: Records) -> Outcomes:
        seeds = [(leaf["seeds"]["synthesizer"], leaf["seeds"]["sampling"], leaf["seeds"]["agent"]) for leaf in leaves]
        return cls(tuple(leaf["key"] for leaf in leaves), tuple(seeds), tuple(records.of(leaves)), records.any_stale(leaves))

    @property
    def layers(self) -> tuple[int, ...]:
        """How many seeds each random layer has."""
        return tuple(max(layer) + 1 for layer in zip(*self.seeds, strict=True))

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(record.reason or "failed" for record in self.records if record and not record.ok))

    @cached_property
    def lacking(self) -> tuple[str, ...]:
        """What an agent's record notes of the rows that it was trained on."""
        noted = [record.result.get("notes", {}) for record in self.records if record and record.ok]
        return tuple(dict.fromkeys(f"{name} {text}" for notes in noted for name, text in notes.items()))

    def estimates(self, column: Column) -> Float64:
        """Value and both ends of each run's own interval, (3, synthesizer, sampling, agent); NaN where there is none."""
        grid = np.full((3, *self.layers), np.nan)
        for seeds, record in zip(self.seeds, self.records, strict=True):
            score = _score(record, column)
            if score is not None:
                grid[:, *seeds] = score
        return grid

    def cell(self, column: Column) -> Cell:
        """Pool the runs of one of the scorer's scores; a run that succeeded without that score counts as missing, unless none has it."""
        estimates = self.estimates(column)
        values = estimates[0]
        scored, finished = int(np.isfinite(values).sum()), sum(record is not None and record.ok for record in self.records)
        cell = Cell(None, scored or finished, values.size, self.stale, self.keys, self.reasons, self.lacking)
        if not scored:
            return cell
        return replace(cell, runs=values, summary=pool(column, estimates) if scored == values.size else None)


def pool(column: Column, estimates: Float64) -> Summary:
    """What complete runs say together; an attack's join the intervals that they brought along."""
    if column.kind in ("attack", "evidence"):
        return summarize_estimates(*estimates).within(*_range(column))
    return summarize(estimates[0])


def _range(column: Column) -> tuple[float, float]:
    """What an attack can score: a rate, or the difference of two."""
    return (-1, 1) if column.score == "advantage" else (0, 1)


def _score(record: Record | None, column: Column) -> tuple[float, float, float] | None:
    """A run's score with the interval that it brought along, if any."""
    if record is None or not record.ok:
        return None
    scores = {"score": record.result["score"]} if column.kind in UTILITIES else record.result["scores"]
    try:
        score = scores.get(column.score)
        if score is None:
            return None
        return (float(score["value"]), float(score["low"]), float(score["high"])) if column.kind == "attack" else (float(score), math.nan, math.nan)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"record {record.key} has no {column.score} that is a number; run the same sweep again with --fresh") from error
