"""What a sweep took: minutes and memory of each phase of each method, from the provenance of the records, beside the published ones.

manifest + store + Table -> Table -> bench.tables.render
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.core.errors import InputError
from bench.run.store import Record, Store
from bench.tables.build import HEADING, claimed
from bench.tables.leaderboard import Cell, Column, Group, Row, Table
from bench.tables.pooling import Leaf, by
from bench.tables.published import with_published
from bench.tables.stats import summarize

PHASES = ("pretrain", "fit", "sample")
MEASURES: Mapping[str, Callable[[Mapping[str, Any]], float]] = {
    "minutes": lambda provenance: provenance["seconds"] / 60,
    "GB": lambda provenance: provenance.get("peak_bytes", math.nan) / 1e9,
}

Runs = dict[tuple[int, int, int], str | None]
"""Key of a phase's record for each seed (synthesizer, sampling, agent), None where it is not known: nothing that rests on it has run."""


def resources_table(table: Table, manifest: Mapping[str, Any], store: Store) -> Table:
    """Minutes and gigabytes of pre-training, fit and sample, for each method and epsilon.

    Raises:
        InputError: nothing was fitted yet.
    """
    blocks = by(HEADING, manifest["leaves"])
    groups = [_group(group, blocks[tuple(getattr(group, name) for name in HEADING)], store) for group in table.groups]
    if not any(group.body for group in groups):
        raise InputError("--paper resources: nothing of the newest sweep was fitted yet; run it first")
    shared = {term: table.legend[term] for term in ("runs", "ᵗ", "— (k/n)", "†") if term in table.legend}
    return Table(tuple(with_published(group, "resources") for group in groups if group.body), {**_LEGEND, **shared})


def _group(group: Group, leaves: Sequence[Leaf], store: Store) -> Group:
    columns = tuple(Column("resources", phase, measure, "lower") for phase in PHASES for measure in MEASURES)
    own = {name: [leaf for leaf in leaves if (leaf["synth"], claimed(leaf)) == name] for name in {(row.synth, row.epsilon) for row in group.body}}
    body = (replace(row, cells=_cells(row, own[row.synth, row.epsilon], store), ranks=None) for row in group.body)
    notes = {term: text for term, text in group.notes.items() if term == "budget"}
    return replace(group, columns=columns, body=tuple(row for row in body if any(row.cells)), headline=None, references=(), notes=notes)


def _cells(row: Row, leaves: Sequence[Leaf], store: Store) -> tuple[Cell | None, ...]:
    phases = phase_runs(leaves, store)
    return tuple(_cell(phases[phase], measure, row.stale, store) for phase in PHASES for measure in MEASURES.values())


def phase_runs(leaves: Sequence[Leaf], store: Store) -> dict[str, Runs]:
    """The records of each phase, found from the scores that rest on them; pre-training is one for all seeds."""
    phases: dict[str, Runs] = {phase: {} for phase in PHASES}
    for leaf in leaves:
        synthesizer, sampling = leaf["seeds"]["synthesizer"], leaf["seeds"]["sampling"]
        fit, score = store.get(leaf["fit"]), store.get(leaf["key"])
        phases["fit"][synthesizer, 0, 0] = leaf["fit"]
        if fit and "pretrained" in fit.inputs:
            phases["pretrain"][0, 0, 0] = fit.inputs["pretrained"]
        known = phases["sample"].get((synthesizer, sampling, 0))
        phases["sample"][synthesizer, sampling, 0] = known or (score.inputs.get("sample") if score else None)
    return phases


def _cell(runs: Runs, measure: Callable[[Mapping[str, Any]], float], stale: bool, store: Store) -> Cell | None:
    if not runs:
        return None
    records: dict[tuple[int, int, int], Record | None] = {seeds: store.get(key) if key else None for seeds, key in runs.items()}
    values = np.full(tuple(max(layer) + 1 for layer in zip(*records, strict=True)), np.nan)
    for seeds, record in records.items():
        if record and record.ok:
            values[seeds] = measure(record.provenance)
    finished = sum(record is not None and record.ok for record in records.values())
    cell = Cell(None, finished, values.size, stale, tuple(key for key in runs.values() if key))
    return replace(cell, summary=summarize(values), runs=values) if np.isfinite(values).all() else cell


_LEGEND = {
    "minutes": "of one process, as recorded when the phase ran; pre-training is shared by all budgets and seeds. Published: as the note says.",
    "GB": "10^9 bytes, the largest resident memory of the process until the phase ended: what it ran before counts too, so this is an upper bound.",
}
