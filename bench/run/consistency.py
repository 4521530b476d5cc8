"""Whether the records of a store agree with themselves: what a hand that changed one of them may have overlooked.

    record -> is its key that of its parameters and inputs, and do its charges cost what it says it spent?
    sweep  -> does each row claim the method and the budget with which its fits and audits were made, and do its scores rest on these fits, which are
              here?

A result that was changed and nothing else agrees with itself: only computing it again tells (`bench show`, then `bench merge`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from bench.core.accounting import AGREEMENT
from bench.core.errors import InputError
from bench.run.spec import Node
from bench.run.stages import STAGES
from bench.run.store import Record, Store


def contradictions(store: Store) -> Iterator[str]:
    """One sentence for each record that cannot be read or contradicts itself, and each claim of a row that contradicts a record.

    Raises:
        InputError: a sweep that cannot be read.
    """
    unreadable = set()
    for path in store.files("records"):
        try:
            if record := store.get(path.stem):
                yield from (f"{record.stage} {path.stem}: {what}" for what in _of_record(record, path.stem))
        except InputError as error:
            unreadable.add(path.stem)
            yield str(error)
    kept = store.remembering(without=unreadable)
    for sweep in store.sweeps():
        yield from _of_sweep(sweep, kept)


def _of_sweep(sweep: Mapping[str, Any], store: Store) -> Iterator[str]:
    """What its rows say of each fit and audit, once, and what each of its scores rests on."""
    leaves = (*sweep["leaves"], *sweep.get("audits", ()))
    for leaf in {(leaf["fit"], leaf["synth"], _budget(leaf)): leaf for leaf in leaves}.values():
        record = store.get(leaf["fit"])
        if record is not None and (_method(record), _budget(record.parameters["budget"])) != (leaf["synth"].partition("[")[0], _budget(leaf)):
            made = f"{_method(record)} under {_told(record.parameters['budget'])}"
            yield f"{record.stage} {record.key}: made by {made}, but {leaf['synth']} claims {_told(leaf)}"
    lost = {}
    for leaf in leaves:
        score = store.get(leaf["key"])
        if score is None or score.key == leaf["fit"]:
            continue
        behind = fit_behind(score, store)
        if behind is None or store.get(behind) is None:
            lost[leaf["fit"]] = leaf["synth"]
        elif behind != leaf["fit"]:
            yield f"{leaf['kind']} {leaf['key']}: rests on fit {behind}, but {leaf['synth']} claims it for fit {leaf['fit']}"
    for fit, synth in lost.items():
        yield f"fit {fit}: {synth} has scores of it, but the records that tell what it was charged are missing; merge a store that has them"


def _method(record: Record) -> str:
    name: str = record.parameters["synthesizer"]["plugin"]
    return name


def fit_behind(record: Record, store: Store) -> str | None:
    """The key of the fit whose rows or model a record is, or scores, as far as the store can tell."""
    if record.stage == "fit":
        return record.key
    if record.stage == "sample":
        return record.inputs.get("fit")
    source = store.get(record.inputs.get("sample") or record.inputs.get("target", ""))
    return None if source is None else fit_behind(source, store)


def _of_record(record: Record, name: str) -> Iterator[str]:
    versions = range(1, max(stage.version for stage in STAGES.values()) + 1)
    if name not in {Node(record.stage, version, record.parameters, record.inputs, {}).key for version in versions}:
        yield "its name is not the key of its parameters and inputs"
    if record.ok and "charges" in record.result:
        recorded = float(record.result["epsilon_spent"])
        if not math.isclose(record.epsilon, recorded, rel_tol=AGREEMENT):
            yield f"it says that it spent epsilon {recorded:.4g}, but its charges cost {record.epsilon:.4g}"


def _budget(values: Mapping[str, Any] | None) -> tuple[float, float, str] | None:
    """Epsilon, delta and unit of a record's budget or of a row's claim; None without a budget."""
    if values is None or values["epsilon"] is None:
        return None
    return float(values["epsilon"]), values["delta"], values["unit"]


def _told(values: Mapping[str, Any] | None) -> str:
    budget = _budget(values)
    return "no budget" if budget is None else f"epsilon {budget[0]:g} at delta {budget[1]:g} for a {budget[2]}"
