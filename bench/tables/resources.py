"""What a sweep took: minutes and memory of each phase of each method, from the provenance of the records, beside the published ones.

manifest + store + Table -> Table -> bench.tables.render
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.core.errors import InputError
from bench.run.store import Record, Store
from bench.tables.analysis import notes_of_rows
from bench.tables.build import claimed
from bench.tables.leaderboard import HEADING, STRUCK, Cell, Column, Group, Row, Table
from bench.tables.pooling import LeafFields, grouped_by
from bench.tables.published import with_published
from bench.tables.stats import Summary, summarize

PHASES = ("pretrain", "fit", "sample")
MEASURES = ("minutes", "GB")
MEMORY = (
    "the largest resident memory of the process that ran the phase, the smallest over seeds. What earlier phases left there counts too, so that the "
    "phase may need less."
)
"""How to read `peak_memory`."""

Runs = dict[tuple[int, int, int], str | None]
"""Key of a phase's record for each seed (synthesizer, sampling, agent), None where it is not known: nothing that rests on it has run."""


def resources_table(table: Table, manifest: Mapping[str, Any], store: Store) -> Table:
    """Minutes and gigabytes of pre-training, fit and sample, for each method and epsilon.

    Raises:
        InputError: nothing was fitted yet.
    """
    blocks = grouped_by(HEADING, manifest["leaves"])
    groups = [_group(group, blocks[group.heading], store) for group in table.groups]
    if not any(group.body for group in groups):
        raise InputError("--paper resources: nothing of the newest sweep was fitted yet; run it first")
    shared = {term: table.legend[term] for term in (STRUCK, "runs", "ᵗ", "— (k/n)", "†") if term in table.legend}
    return Table(tuple(with_published(group, "resources") for group in groups if group.body), {**_LEGEND, **shared})


def _group(group: Group, leaves: Sequence[LeafFields], store: Store) -> Group:
    columns = tuple(Column("resources", phase, measure, "lower") for phase in PHASES for measure in MEASURES)
    own = {name: [leaf for leaf in leaves if (leaf["synth"], claimed(leaf)) == name] for name in {(row.synth, row.epsilon) for row in group.body}}
    body = (replace(row, cells=_cells(row, own[row.synth, row.epsilon], store), ranks=None) for row in group.body)
    kept = tuple(row for row in body if any(row.cells))
    return replace(group, columns=columns, body=kept, headline=None, references=(), notes=notes_of_rows(group))


def _cells(row: Row, leaves: Sequence[LeafFields], store: Store) -> tuple[Cell | None, ...]:
    phases = phase_runs(leaves, store)
    return tuple(_cell(phases[phase], measure, row.stale, store) for phase in PHASES for measure in MEASURES)


def phase_runs(leaves: Sequence[LeafFields], store: Store) -> dict[str, Runs]:
    """The records of each phase, found from the scores that rest on them; a pre-training serves all budgets of its seed."""
    phases: dict[str, Runs] = {phase: {} for phase in PHASES}
    for leaf in leaves:
        synthesizer, sampling = leaf["seeds"]["synthesizer"], leaf["seeds"]["sampling"]
        fit, score = store.get(leaf["fit"]), store.get(leaf["key"])
        phases["fit"][synthesizer, 0, 0] = leaf["fit"]
        if fit and "pretrained" in fit.inputs:
            phases["pretrain"][synthesizer, 0, 0] = fit.inputs["pretrained"]
        known = phases["sample"].get((synthesizer, sampling, 0))
        phases["sample"][synthesizer, sampling, 0] = known or (score.inputs.get("sample") if score else None)
    return phases


def peak_memory(records: Iterable[Record]) -> int | None:
    """Bytes that runs of one phase need at most; None where no record tells.

    A record holds the largest resident memory of its process while the phase ran. In older records, and off Linux, that is until it ended, so that an
    earlier, larger stage may have set it. Runs that differ in seeds alone need about the same, and the smallest of their records is nearest.
    """
    return min((int(record.provenance["peak_bytes"]) for record in records if "peak_bytes" in record.provenance), default=None)


def _cell(runs: Runs, measure: str, stale: bool, store: Store) -> Cell | None:
    if not runs:
        return None
    records = {seeds: record for seeds, key in runs.items() if key and (record := store.get(key)) and record.ok}
    shape = tuple(max(layer) + 1 for layer in zip(*runs, strict=True))
    cell = Cell(None, len(records), math.prod(shape), stale, tuple(key for key in runs.values() if key))
    if cell.failed:
        return cell
    if measure == "GB":
        peak = peak_memory(records.values())
        return cell if peak is None else replace(cell, summary=Summary(peak / 1e9))
    minutes = np.empty(shape)
    for seeds, record in records.items():
        minutes[seeds] = record.provenance["seconds"] / 60
    return replace(cell, summary=summarize(minutes), runs=minutes)


_LEGEND = {
    "minutes": "of one process, as recorded when the phase ran; pre-training is shared by all budgets of its seed. "
    "Published: with networks of the published sizes, which the presets laptop and smoke cut down, on the machine that the note names.",
    "GB": f"at most so many billion bytes: {MEMORY}",
}
