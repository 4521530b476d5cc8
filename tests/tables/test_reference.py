"""The tables of `results/reference/` are what its records say, byte for byte.

Where the form of a table changes, write the files anew and let the diff be reviewed:

    python tests/tables/test_reference.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.run.store import Store
from bench.tables.build import build_table
from bench.tables.catalogue import NAMES, finished_table
from bench.tables.render import render
from bench.tables.validation import render_validities, validities

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"
SUFFIXES = {".txt": "text", ".csv": "csv"}


def golden_files() -> Iterator[Path]:
    """`table.txt` and `table.csv`, the leaderboard; `NAME.txt`, another table by its name; `validity.txt`, what `bench validate` prints."""
    names = ("table", "validity", *NAMES)
    yield from (path for path in sorted(REFERENCE.glob("*/*")) if path.stem in names and path.suffix in SUFFIXES)


def printed(path: Path) -> str:
    """The table that belongs into a file, of records as they were made: no source counts as changed since."""
    store = Store(path.parent)
    manifest = store.newest_sweep()
    if path.stem == "validity":
        return render_validities(validities(build_table(manifest, store))) + "\n"
    table = finished_table("leaderboard" if path.stem == "table" else path.stem, manifest, store, stale=())
    return render(table, SUFFIXES[path.suffix]).rstrip("\n") + "\n"


@pytest.mark.parametrize("path", list(golden_files()), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_committed_table_is_what_its_records_say(path: Path) -> None:
    assert printed(path) == path.read_text(encoding="utf-8"), "see the head of this file"


def test_every_reference_has_a_table() -> None:
    with_table = {path.parent for path in golden_files()}
    assert with_table == {folder for folder in REFERENCE.iterdir() if folder.is_dir()}


if __name__ == "__main__":
    for file in golden_files():
        file.write_text(printed(file), encoding="utf-8")
