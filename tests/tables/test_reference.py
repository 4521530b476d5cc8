"""The tables of `results/reference/`, and the verdicts that the package takes from there, are what its records say, byte for byte.

Where their form changes, write the files anew and let the diff be reviewed:

    python tests/tables/test_reference.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.run.plan import Leaf, Plan
from bench.run.spec import Node, Sweep
from bench.run.store import Store
from bench.tables.auditing import audit_table
from bench.tables.build import build_table
from bench.tables.catalogue import NAMES, finished_table
from bench.tables.render import render
from bench.tables.validation import Validity, render_validities, shipped_validities, validities

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"
SHIPPED = REFERENCE.parents[1] / "bench" / "presets" / "validation.json"
SUFFIXES = {".txt": "text", ".csv": "csv"}


def golden_files() -> Iterator[Path]:
    """`table.txt` and `table.csv`, the leaderboard; `NAME.txt`, another table by its name; `validity.txt` and `audits.txt`, what commands print."""
    names = ("table", "validity", "audits", *NAMES)
    yield from (path for path in sorted(REFERENCE.glob("*/*")) if path.stem in names and path.suffix in SUFFIXES)


def printed(path: Path) -> str:
    """The table that belongs into a file, of records as they were made: no source counts as changed since."""
    store = Store(path.parent)
    manifest = store.newest_sweep()
    if path.stem == "validity":
        return render_validities(validities(build_table(manifest, store))) + "\n"
    if path.stem == "audits":
        return audit_table(planned(manifest, store), store) + "\n"
    table = finished_table("leaderboard" if path.stem == "table" else path.stem, manifest, store, stale=())
    return render(table, SUFFIXES[path.suffix]).rstrip("\n") + "\n"


def verdicts() -> list[Validity]:
    """Those of all validations: what `bench list` shows."""
    stores = [Store(path.parent) for path in golden_files() if path.stem == "validity"]
    return [found for store in stores for found in validities(build_table(store.newest_sweep(), store))]


def planned(manifest: dict[str, Any], store: Store) -> Plan:
    """The audits that a sweep names, as they were run."""
    leaves = [Leaf(**leaf) for leaf in manifest["audits"]]
    records = [record for leaf in leaves if (record := store.get(leaf.key))]
    nodes = {record.key: Node(record.stage, 0, record.parameters, record.inputs, record.plugins) for record in records}
    return Plan(Sweep(env=tuple(manifest["sweep"]["env"])), nodes=nodes, leaves=leaves)


@pytest.mark.parametrize("path", list(golden_files()), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_committed_table_is_what_its_records_say(path: Path) -> None:
    assert printed(path) == path.read_text(encoding="utf-8"), "see the head of this file"


def test_the_verdicts_that_come_with_the_package_are_what_the_records_say() -> None:
    assert shipped_validities() == verdicts(), "see the head of this file"


def test_every_reference_has_a_table() -> None:
    with_table = {path.parent for path in golden_files()}
    assert with_table == {folder for folder in REFERENCE.iterdir() if folder.is_dir()}


if __name__ == "__main__":
    for file in golden_files():
        file.write_text(printed(file), encoding="utf-8")
    Store(REFERENCE).put_json(SHIPPED, verdicts())
