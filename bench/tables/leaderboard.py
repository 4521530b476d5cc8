"""The leaderboard as a value: groups of rows that may be compared, with scores as columns, and the notes that tell how to read them.

A group holds one environment, source, preset, number of rows and privacy unit. It has rows (a synthesizer at one epsilon), columns (one score of one
agent, metric or attack) and cells that pool the runs which differ in nothing but seeds. `build` makes it of records, `render` prints it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from bench.tables.stats import Float64, Summary

Kind = Literal[
    "goals", "utility", "gain", "variance", "aggregate", "retest", "difference", "fidelity", "evidence", "attack", "resources", "published"
]
UTILITIES: tuple[Kind, ...] = ("goals", "utility")
"""Scores of agents, over the goal set and on the environment's own task."""
KINDS: tuple[Kind, ...] = get_args(Kind)
Verdict = Literal["refuted", "overspent"]
"""What disproves the epsilon that a row claims: an audit, or its own charges."""

STRUCK = "✗"
"""Before the name of a row that is struck out."""
STALE = "rests on a record made by source code that differs from today's, or by a file that was not given here (--plugin FILE)"
"""What † says of a number."""

Notes = Mapping[str, str]
"""Footnotes: term to text, in the order of printing; only what applies is there."""


@dataclass(frozen=True)
class Column:
    """One score of one agent, metric or attack (`scorer`, named as a sweep asks for it); the gain belongs to the headline agent.

    `better` is None where neither is: a lower bound on epsilon proves nothing where it is low. `env` is given where several stand side by side.
    """

    kind: Kind
    scorer: str
    score: str
    better: Literal["higher", "lower"] | None
    env: str = ""


@dataclass(frozen=True)
class Cell:
    """The runs of one row and column.

    Attributes:
        summary: None if a run is missing, or if there is no such score here.
        n: runs with a result, out of `planned`; of audits, out of those that were run.
        keys: record of every planned run, in the order of the sweep.
        reasons: why runs failed, each reason once; a run that is yet to come has none.
        lacking: what an agent could not use in these rows, so that the score compares less with others.
        ceiling: beside a bound, the one that a perfect audit would have found.
        sources: the audit that a bound is of; the attack that was chosen at each synthesizer seed; the row that a difference is taken from; where
            a published number stands and how it was computed.
        mark: of the private rows at one epsilon, the best of its column, or one that cannot be told from it; in paper tables alone.
        runs: scores (synthesizer, sampling, agent), NaN where there is none.
    """

    summary: Summary | None
    n: int
    planned: int
    stale: bool = False
    keys: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    ceiling: float | None = None
    sources: tuple[str, ...] = ()
    mark: Literal["best", "tie"] | None = None
    runs: Float64 | None = field(default=None, compare=False, repr=False)

    @property
    def failed(self) -> int:
        return self.planned - self.n


@dataclass(frozen=True)
class Row:
    """A synthesizer at one epsilon; data-free methods claim 0, methods without a guarantee infinity.

    `cells` are in the order of the group's columns, None where nothing was planned. `ranks` are the best and the worst rank that the paired intervals
    leave open, None for a row that is not ranked. `epsilon_trajectory` is that of a whole trajectory, infinite where it says nothing; None in groups
    without `max_trajectory_length`. A row with a `verdict` is struck out and never ranked.
    """

    synth: str
    guarantee: str
    epsilon: float
    delta: float | None
    epsilon_spent: float | None
    epsilon_trajectory: float | None
    accountant: str | None
    cells: tuple[Cell | None, ...]
    ranks: tuple[int, int] | None = None
    verdict: Verdict | None = None

    @property
    def private(self) -> bool:
        return math.isfinite(self.epsilon)

    @property
    def name(self) -> str:
        """What tells it from the others of its group."""
        return f"{self.synth} at ε = {epsilon_name(self.epsilon)}"

    @property
    def stale(self) -> bool:
        return any(cell.stale for cell in self.cells if cell)


def epsilon_name(epsilon: float) -> str:
    """A budget in a sentence."""
    return f"{epsilon:g}" if math.isfinite(epsilon) else "∞"


def method_names(rows: Iterable[Row]) -> dict[str, str]:
    """What each row's name stands for among these: the method where all other rows of it add fields to this one's; else itself, a variant.

    A method that was asked for in one variant alone, such as a size, so goes by its own name.
    """
    named = {row.synth: _method_and_fields(row.synth) for row in rows}
    return {
        label: method if all(fields <= others for other, others in named.values() if other == method) else label
        for label, (method, fields) in named.items()
    }


def _method_and_fields(label: str) -> tuple[str, set[str]]:
    method, _, fields = label.partition("[")
    return method, set(fields.removesuffix("]").split(",")) - {""}


@dataclass(frozen=True)
class Reference:
    """A policy that needs no data, on the scale of the scores of its kind, with its interval over episodes."""

    kind: Kind
    name: str
    score: float
    low: float
    high: float
    stale: bool = False


HEADING = ("env", "source", "preset", "rows", "released", "unit")
"""The labels in which the rows of a group agree."""


@dataclass(frozen=True)
class Group:
    """Rows that may be compared. `headline` is the index of the column that ranks them, None where nothing can.

    `rows` is 0 where environments stand together, each with its own nominal number. `max_trajectory_length` is the public one where the unit is a
    transition; None where it is not, or is not known.
    """

    env: str
    source: str
    preset: str
    rows: int
    released: int
    unit: str
    max_trajectory_length: int | None
    columns: tuple[Column, ...]
    body: tuple[Row, ...]
    headline: int | None
    references: tuple[Reference, ...]
    notes: Notes

    @property
    def heading(self) -> tuple[Any, ...]:
        """What all its rows have in common."""
        return tuple(getattr(self, name) for name in HEADING)

    def only(self, kept: Sequence[int]) -> Group:
        """These columns alone, in this order."""
        return replace(
            self,
            columns=tuple(self.columns[i] for i in kept),
            body=tuple(replace(row, cells=tuple(row.cells[i] for i in kept)) for row in self.body),
            headline=kept.index(self.headline) if self.headline in kept else None,
        )


@dataclass(frozen=True)
class Table:
    """All groups of a sweep, and how to read them; the table's own name and that of the sweep are enough to make it again."""

    groups: tuple[Group, ...]
    legend: Notes
    name: str = "leaderboard"
    sweep: str = ""
