"""Published numbers beside our own: each with its source, and how it was computed where that differs.

presets/published.json -> columns of a Group, and a note that tells where each number comes from
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from bench.tables.leaderboard import Cell, Column, Group, Row, method_names
from bench.tables.stats import Summary


@dataclass(frozen=True)
class Published:
    """One number of a paper.

    Attributes:
        table: of the paper, as `bench table --paper` names it.
        environments: ours that stand for its dataset.
        synth, epsilon: the row that it belongs to; epsilon is None where the paper gives one number for all.
        scorer, score: what the paper calls it.
    """

    table: str
    environments: tuple[str, ...]
    unit: str
    synth: str
    epsilon: float | None
    scorer: str
    score: str
    value: float
    computed: str
    source: str

    def belongs_to(self, method: str, row: Row) -> bool:
        """Whether it is the number of a row that stands for a method."""
        return self.synth == method and self.epsilon in (None, row.epsilon)


@cache
def published() -> tuple[Published, ...]:
    """Every published number that is known, in the order of the file."""
    entries = json.loads(resources.files("bench").joinpath("presets", "published.json").read_text(encoding="utf-8"))
    return tuple(Published(**{**entry, "environments": tuple(entry["environments"]), "epsilon": _epsilon(entry["epsilon"])}) for entry in entries)


def _epsilon(value: str | float | None) -> float | None:
    return None if value is None else float(value)


def with_published(group: Group, table: str) -> Group:
    """The group with the published numbers of its rows behind the columns of their environment, and with a note on them."""
    columns: list[Column] = []
    cells: list[list[Cell | None]] = [[] for _ in group.body]
    told: list[Published] = []
    methods = method_names(group.body)
    for env in dict.fromkeys(column.env for column in group.columns):
        known = [entry for entry in published() if entry.table == table and entry.unit == group.unit and (env or group.env) in entry.environments]
        shown = [entry for entry in known if any(entry.belongs_to(methods[row.synth], row) for row in group.body)]
        own = [i for i, column in enumerate(group.columns) if column.env == env]
        theirs = list(dict.fromkeys(Column("published", entry.scorer, entry.score, None, env) for entry in shown))
        columns += [*(group.columns[i] for i in own), *theirs]
        for line, row in zip(cells, group.body, strict=True):
            belonging = [entry for entry in shown if entry.belongs_to(methods[row.synth], row)]
            line += [*(row.cells[i] for i in own), *(_cell(column, belonging) for column in theirs)]
        told += shown
    body = tuple(replace(row, cells=tuple(line)) for row, line in zip(group.body, cells, strict=True))
    notes = {**group.notes, "published": _sources(told)} if told else group.notes
    return replace(group, columns=tuple(columns), body=body, notes=notes)


def _cell(column: Column, entries: Iterable[Published]) -> Cell | None:
    names = (column.scorer, column.score)
    printed = next((entry for entry in entries if (entry.scorer, entry.score) == names), None)
    return None if printed is None else Cell(Summary(printed.value), 0, 0, sources=(f"{printed.source}: {printed.computed}",))


def _sources(entries: Sequence[Published]) -> str:
    """Where the numbers come from and how they were computed, each reason once."""
    together: dict[tuple[str, str], list[Published]] = {}
    for entry in dict.fromkeys(entries):
        together.setdefault((entry.source, entry.computed), []).append(entry)
    return "; ".join(f"{_rows(own)}: {computed} ({source})" for (source, computed), own in together.items())


def _rows(entries: Iterable[Published]) -> str:
    return ", ".join(dict.fromkeys(entry.synth if entry.epsilon is None else f"{entry.synth} at ε = {entry.epsilon:g}" for entry in entries))
