"""What a report rests on: the newest sweep of a store, its table, and the records behind every row of it.

    store -> Evidence -> Section for each group of the table -> Method for each of its rows -> Cost

Nothing here draws or writes, and no score is computed that the table does not hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bench.core.protocols import Guarantee
from bench.run.spec import OVER_GOALS
from bench.run.store import Record, Store
from bench.tables.catalogue import LEADERBOARD, make_table
from bench.tables.leaderboard import HEADING, UTILITIES, Column, Group, Row, Table, epsilon_name
from bench.tables.pooling import LeafFields, grouped_by
from bench.tables.render.words import shortened
from bench.tables.resources import peak_memory, phase_runs

PHASES = ("public pre-training", "fit", "sample", "agents", "metrics", "attacks")
_PHASE_OF = {"train": "agents", "fidelity": "metrics", "attack": "attacks"}


@dataclass(frozen=True)
class Cost:
    """What one row took: seconds of one core by phase, per synthesizer seed; the public pre-training serves all budgets of its seed.

    Attributes:
        memory: bytes that fit and sample need at most (`peak_memory`), the larger of the two; None where nothing finished.
        keys: of every record that was timed.
    """

    seconds: Mapping[str, float]
    memory: int | None
    keys: tuple[str, ...]

    @property
    def release(self) -> float:
        """Seconds until one dataset is there: fit and sample, without the public pre-training and without scores."""
        return self.seconds["fit"] + self.seconds["sample"]


@dataclass(frozen=True)
class Method:
    """A row of the table with the scores of the manifest that are behind it."""

    row: Row
    leaves: tuple[LeafFields, ...]
    store: Store = field(repr=False)

    @property
    def budgeted(self) -> bool:
        """True where an epsilon was asked for: neither real rows nor what sees no private data."""
        return self.leaves[0]["epsilon"] is not None

    @property
    def title(self) -> str:
        """Name and claimed epsilon, where it is under a budget."""
        if not self.budgeted:
            return self.row.synth
        return f"{self.row.synth}, ε = {epsilon_name(self.row.epsilon)}"

    def finished(self, kind: str, scorer: str | None = None) -> Iterator[tuple[LeafFields, Record]]:
        """Scores of one kind, of one scorer if named, whose record is there and holds a result."""
        for leaf in self.leaves:
            if leaf["kind"] == kind and scorer in (None, leaf["plugin"]):
                record = self.store.get(leaf["key"])
                if record is not None and record.ok:
                    yield leaf, record

    @cached_property
    def first_release(self) -> str | None:
        """The key of the rows that seed 0 released; None before a score of them is there."""
        first = (leaf for leaf in self.leaves if not any(leaf["seeds"].values()))
        records = (self.store.get(leaf["key"]) for leaf in first if leaf["kind"] != "attack")
        return next((record.inputs["sample"] for record in records if record and "sample" in record.inputs), None)

    @cached_property
    def cost(self) -> Cost:
        """Means over the seeds that are there."""
        scored = {leaf["key"]: record for leaf in self.leaves if (record := self.store.get(leaf["key"])) and record.ok}
        runs = phase_runs(self.leaves, self.store)
        public, fits, samples = (self._found(runs[phase].values()) for phase in ("pretrain", "fit", "sample"))
        totals = dict.fromkeys(PHASES, 0.0)
        for phase, records in (("public pre-training", public), ("fit", fits), ("sample", samples)):
            totals[phase] = sum(_seconds(record) for record in records.values()) / max(len(records), 1)
        for record in scored.values():
            if record.stage in _PHASE_OF:
                totals[_PHASE_OF[record.stage]] += _seconds(record) / max(len(fits), 1)
        peaks = (peak for records in (fits, samples) if (peak := peak_memory(records.values())))
        return Cost(totals, max(peaks, default=None), tuple({**public, **fits, **samples, **scored}))

    def _found(self, keys: Iterable[str | None]) -> dict[str, Record]:
        return {key: record for key in dict.fromkeys(keys) if key and (record := self.store.get(key)) and record.ok}


def _seconds(record: Record) -> float:
    return float(record.provenance.get("seconds", 0.0))


@dataclass(frozen=True)
class Section:
    """A group of the table, its methods in the order of its rows, and its anchors in the manifest.

    Attributes:
        group: under the short names that tables print, with a note that gives them in full.
        plugins: the scorer of each of its columns as the manifest names it.
    """

    group: Group
    plugins: tuple[str, ...]
    methods: tuple[Method, ...]
    anchors: Mapping[str, Any]
    store: Store = field(repr=False)

    @property
    def slug(self) -> str:
        """Its name in links and file names."""
        rows = self.group.rows or "nominal"
        env = self.group.env.replace("=-", "=minus ")
        return re.sub(r"[^a-z0-9]+", "-", f"{env} {rows} {self.group.source} {self.group.unit}".lower()).strip("-")

    @property
    def headline(self) -> Column | None:
        """The score that ranks the rows."""
        return None if self.group.headline is None else self.group.columns[self.group.headline]

    @property
    def agent(self) -> tuple[str, str] | None:
        """Kind and plugin of the agent whose score is the headline; None where none was trained."""
        place, column = self.group.headline, self.headline
        return (column.kind, self.plugins[place]) if place is not None and column and column.kind in UTILITIES else None

    @property
    def real(self) -> Method | None:
        """The real rows, which no budget protects."""
        return next((method for method in self.methods if method.row.guarantee == Guarantee.NONE.value), None)

    @property
    def epsilons(self) -> list[float]:
        """The finite budgets of its rows, smallest first."""
        return sorted({method.row.epsilon for method in self.methods if 0 < method.row.epsilon < math.inf})

    @property
    def families(self) -> dict[str, list[Method]]:
        """Methods by synthesizer, each at all its epsilons, smallest first."""
        found: dict[str, list[Method]] = {}
        for method in self.methods:
            found.setdefault(method.row.synth, []).append(method)
        return {name: sorted(own, key=lambda method: method.row.epsilon) for name, own in found.items()}


@dataclass(frozen=True)
class Evidence:
    """A sweep, its table, and its sections."""

    manifest: Mapping[str, Any]
    store: Store
    table: Table
    sections: tuple[Section, ...]

    @classmethod
    def read(cls, store: Store) -> Evidence:
        """Of the newest sweep of a store, finished or not.

        Raises:
            InputError: nothing was run there, or a record cannot be read.
        """
        kept = store.remembering()
        manifest = kept.newest_sweep()
        table = make_table(LEADERBOARD, manifest, kept)
        leaves = grouped_by(HEADING, manifest["leaves"])
        sections = (_section(group, leaves[group.heading], manifest, kept) for group in table.groups)
        return cls(manifest, kept, table, tuple(sections))

    @cached_property
    def audits(self) -> tuple[Record, ...]:
        """Every finished audit in the store, whichever command made it."""
        records = (self.store.get(path.stem) for path in self.store.files("records"))
        return tuple(record for record in records if record and record.stage == "audit" and record.ok)


def _section(group: Group, leaves: Iterable[LeafFields], manifest: Mapping[str, Any], store: Store) -> Section:
    """`leaves` are those of the group."""
    own: dict[str, list[LeafFields]] = {}
    for leaf in leaves:
        own.setdefault(leaf["synth"], []).append(leaf)
    pairs = ((row, tuple(leaf for leaf in own.get(row.synth, ()) if _is_of(leaf, row))) for row in group.body)
    methods = tuple(Method(row, leaves, store) for row, leaves in pairs if leaves)
    anchors = next(block for block in manifest["environments"] if all(block[name] == getattr(group, name) for name in ("env", "rows", "source")))
    plugins = tuple(column.scorer.removeprefix(OVER_GOALS) for column in group.columns)
    return Section(shortened(group), plugins, methods, anchors, store)


def _is_of(leaf: LeafFields, row: Row) -> bool:
    return leaf["guarantee"] == row.guarantee and (leaf["epsilon"] is None or float(leaf["epsilon"]) == row.epsilon)
