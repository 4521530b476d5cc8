"""Whether the records of a store agree with themselves: what a hand that changed one of them may have overlooked.

    record -> is its key that of its parameters and inputs, and do its charges cost what it says it spent?
    sweep  -> does each row claim the budget under which its fits and audits were made?

A result that was changed and nothing else agrees with itself: only computing it again tells (`bench show`, then `bench merge`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from bench.core.accounting import AGREEMENT
from bench.run.spec import Node
from bench.run.stages import STAGES
from bench.run.store import Record, Store


def contradictions(store: Store) -> Iterator[str]:
    """One sentence for each record, or claim of a row, that contradicts a record.

    Raises:
        InputError: a file that cannot be read.
    """
    for path in store.files("records"):
        record = store.get(path.stem)
        if record is not None:
            yield from (f"{record.stage} {path.stem}: {what}" for what in _of_record(record, path.stem))
    for sweep in store.sweeps():
        leaves = (*sweep["leaves"], *sweep.get("audits", ()))
        for key, leaf in {leaf["fit"]: leaf for leaf in leaves}.items():
            record = store.get(key)
            if record is not None and _budget(record.parameters["budget"]) != _budget(leaf):
                yield f"{record.stage} {key}: made under {_told(record.parameters['budget'])}, but {leaf['synth']} claims {_told(leaf)}"


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
