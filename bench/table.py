"""From records to the leaderboard: a sweep and its records in, a `Table` out.

    manifest + store -> Table -> bench.render -> text | markdown | latex | csv | json

Private rows are ranked by the headline utility; real data and fits without a budget stand above them as references. A cell with a failed run shows no
mean at all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bench.core.accounting import Charge
from bench.core.data import Unit
from bench.core.groups import NO_PROTECTION, group_epsilon
from bench.core.protocols import Guarantee
from bench.leaderboard import KINDS, UTILITIES, Cell, Column, Group, Kind, Notes, Reference, Row, Table
from bench.spec import OVER_GOALS
from bench.stats import FEW, Float, private_gain, rank_sets, summarize, summarize_estimates
from bench.store import Record, Store

FLOORS = ("public-data", "public-only")
"""Methods that see public data alone; the better one is the zero of the private gain."""
REAL = "real"
REFERENCES: Mapping[Kind, str] = {"goals": "goal_references", "utility": "references"}
"""Where the manifest keeps the record of the reference policies on each scale."""
CEILING = "real vs real"

Leaf = Mapping[str, Any]
"""One score of the manifest: its labels, the key of its record and the key of the fit behind it."""


def build_table(manifest: Mapping[str, Any], store: Store, stale: Collection[str] = ()) -> Table:
    """The table of a sweep, from the manifest that the store keeps of it.

    Args:
        stale: keys of records made by source code that differs from today's.

    Raises:
        InputError: a record that cannot be read.
    """
    evidence = _Evidence(store, frozenset(stale))
    blocks = _by(_HEADING, manifest["leaves"]).values()
    groups = tuple(_group(leaves, _anchors(manifest, leaves[0]), evidence) for leaves in blocks)
    return Table(groups, _legend(groups, manifest["sweep"]["seeds"]))


_HEADING = ("env", "source", "preset", "rows", "released", "unit")
_ROW = ("synth", "guarantee", "epsilon", "delta")


def _by(names: tuple[str, ...], leaves: Iterable[Leaf]) -> dict[tuple[Any, ...], list[Leaf]]:
    """Leaves with equal labels together, in the order of the sweep."""
    together: dict[tuple[Any, ...], list[Leaf]] = {}
    for leaf in leaves:
        together.setdefault(tuple(leaf[name] for name in names), []).append(leaf)
    return together


@dataclass(frozen=True)
class _Evidence:
    store: Store
    stale: frozenset[str]


def _anchors(manifest: Mapping[str, Any], leaf: Leaf) -> Mapping[str, Any]:
    """The reference policies and ceilings of a group's environment."""
    return next(block for block in manifest["environments"] if all(block[name] == leaf[name] for name in ("env", "rows", "source")))


def _group(leaves: list[Leaf], anchors: Mapping[str, Any], evidence: _Evidence) -> Group:
    columns = _columns(leaves)
    headline = _headline(columns)
    longest = anchors.get("max_trajectory_length") if leaves[0]["unit"] == Unit.TRANSITION.value else None
    body = [_row(own, columns, longest, evidence) for own in _by(_ROW, leaves).values()]
    if headline is not None and columns[headline].kind in UTILITIES:
        columns, body = _with_gain(columns, body, headline)
    body = [*_ceiling(anchors["ceilings"], columns, evidence), *_ranked(body, headline, columns)]
    references = tuple(policy for kind in UTILITIES for policy in _references(kind, anchors.get(REFERENCES[kind]), evidence.store))
    heading = {name: leaves[0][name] for name in _HEADING}
    notes = _group_notes(heading["unit"], longest, columns, body, references)
    return Group(**heading, max_trajectory_length=longest, columns=columns, body=tuple(body), headline=headline, references=references, notes=notes)


def _by_scorer(leaves: Iterable[Leaf]) -> dict[tuple[Kind, str], list[Leaf]]:
    """Leaves of one kind and scorer together; an agent that is scored over the goals goes by the name that asks for it."""
    return {(kind, f"{OVER_GOALS}{plugin}" if kind == "goals" else plugin): own for (kind, plugin), own in _by(("kind", "plugin"), leaves).items()}


# --- columns and rows -------------------------------------------------------------------------------------------------


def _columns(leaves: Iterable[Leaf]) -> tuple[Column, ...]:
    """Every score that was planned: utility, fidelity, attacks, each in the order of the sweep."""
    scorers = _by_scorer(leaves).items()
    columns = [Column(kind, scorer, score, better) for (kind, scorer), own in scorers for score, better in own[0]["better"].items()]
    return tuple(sorted(columns, key=lambda column: KINDS.index(column.kind)))


def _headline(columns: tuple[Column, ...]) -> int | None:
    """The first agent's score, over the goals if there is one, else one-way similarity."""
    utility = (index for index, column in enumerate(columns) if column.kind in UTILITIES)
    one_way = (index for index, column in enumerate(columns) if column.score == "one_way")
    return next(utility, next(one_way, None))


def _row(leaves: list[Leaf], columns: tuple[Column, ...], longest: int | None, evidence: _Evidence) -> Row:
    outcomes = {scorer: _Outcomes.read(own, evidence) for scorer, own in _by_scorer(leaves).items()}
    cells = (outcomes.get((column.kind, column.scorer)) for column in columns)
    fits = [record for key in dict.fromkeys(leaf["fit"] for leaf in leaves) if (record := evidence.store.get(key)) and record.ok]
    return Row(
        synth=leaves[0]["synth"],
        guarantee=leaves[0]["guarantee"],
        epsilon=_claimed(leaves[0]),
        delta=leaves[0]["delta"],
        epsilon_spent=max((float(fit.result["epsilon_spent"]) for fit in fits), default=None),
        epsilon_trajectory=None if longest is None else max((_trajectory_epsilon(leaves[0], fit, longest) for fit in fits), default=None),
        accountant=next((fit.result["accountant"] for fit in fits), None),
        cells=tuple(own.cell(column) if own else None for own, column in zip(cells, columns, strict=True)),
    )


def _trajectory_epsilon(leaf: Leaf, fit: Record, longest: int) -> float:
    """What the charges of a fit bound for whole trajectories of at most `longest` rows; a row that claims 0 or infinity claims it for them too."""
    claimed = _claimed(leaf)
    if not 0 < claimed < math.inf:
        return claimed
    charges = [Charge(**charge) for charge in fit.result["charges"]]
    return group_epsilon(charges, leaf["delta"], fit.result["accountant"], longest)


def _claimed(leaf: Leaf) -> float:
    without_budget = {Guarantee.DATA_FREE.value: 0.0, Guarantee.NONE.value: math.inf}
    return without_budget[leaf["guarantee"]] if leaf["epsilon"] is None else float(leaf["epsilon"])


# --- cells ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Outcomes:
    """What became of the runs that one scorer was to make for one row."""

    keys: tuple[str, ...]
    seeds: tuple[tuple[int, int, int], ...]
    records: tuple[Record | None, ...]
    stale: bool

    @classmethod
    def read(cls, leaves: list[Leaf], evidence: _Evidence) -> _Outcomes:
        seeds = [(leaf["seeds"]["synthesizer"], leaf["seeds"]["sampling"], leaf["seeds"]["agent"]) for leaf in leaves]
        keys = tuple(leaf["key"] for leaf in leaves)
        records = tuple(evidence.store.get(key) for key in keys)
        stale = not evidence.stale.isdisjoint([*keys, *(leaf["fit"] for leaf in leaves)])
        return cls(keys, tuple(seeds), records, stale)

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(record.reason or "failed" for record in self.records if record and not record.ok))

    def cell(self, column: Column) -> Cell:
        """Pool the runs of one of the scorer's scores; a run that succeeded without that score counts as missing, unless none has it."""
        scores = {seeds: score for seeds, record in zip(self.seeds, self.records, strict=True) if (score := _score(record, column))}
        layers = tuple(max(layer) + 1 for layer in zip(*self.seeds, strict=True))
        planned, finished = math.prod(layers), sum(record is not None and record.ok for record in self.records)
        cell = Cell(None, len(scores) or finished, planned, self.stale, self.keys, self.reasons)
        if not scores:
            return cell
        values, lows, highs = grid = np.full((3, *layers), np.nan)
        for seeds, score in scores.items():
            grid[:, *seeds] = score
        if len(scores) < planned:
            return replace(cell, runs=values)
        summary = summarize_estimates(values, lows, highs).within(*_range(column)) if column.kind == "attack" else summarize(values)
        return replace(cell, runs=values, summary=summary)


def _range(column: Column) -> tuple[float, float]:
    """What an attack can score: a rate, or the difference of two."""
    return (-1, 1) if column.score == "advantage" else (0, 1)


def _score(record: Record | None, column: Column) -> tuple[float, float, float] | None:
    """A run's score with the interval that it brought along, if any."""
    if record is None or not record.ok:
        return None
    scores = {"score": record.result["score"]} if column.kind in UTILITIES else record.result["scores"]
    score = scores.get(column.score)
    if score is None:
        return None
    return (score["value"], score["low"], score["high"]) if column.kind == "attack" else (score, math.nan, math.nan)


# --- what rows say about each other -----------------------------------------------------------------------------------


def _with_gain(columns: tuple[Column, ...], body: list[Row], headline: int) -> tuple[tuple[Column, ...], list[Row]]:
    """A column more, behind those of the headline's kind: the private gain under the headline agent."""
    place = sum(column.kind == columns[headline].kind for column in columns)
    gain = Column("gain", columns[headline].scorer, "private_gain", "higher")
    cells = [_gain_cell(row.cells[headline], body, headline) for row in body]
    rows = [replace(row, cells=(*row.cells[:place], cell, *row.cells[place:])) for row, cell in zip(body, cells, strict=True)]
    return (*columns[:place], gain, *columns[place:]), rows


def _gain_cell(cell: Cell | None, body: list[Row], headline: int) -> Cell | None:
    real = _runs_of(body, headline, (REAL,))
    public = _runs_of(body, headline, FLOORS)
    if cell is None or cell.summary is None or cell.runs is None or not real or not public:
        return cell and replace(cell, summary=None, runs=None)
    floor = max(public, key=lambda runs: float(runs.mean()))
    return replace(cell, summary=private_gain(cell.runs, floor, real[0]), runs=None)


def _runs_of(body: list[Row], headline: int, names: tuple[str, ...]) -> list[Float]:
    """The complete headline runs of rows with these names, variants left out."""
    cells = [row.cells[headline] for row in body if row.synth in names]
    return [cell.runs for cell in cells if cell and cell.summary and cell.runs is not None]


def _ranked(body: list[Row], headline: int | None, columns: tuple[Column, ...]) -> list[Row]:
    """References first, then private rows best first, then private rows whose headline score is missing."""
    unranked = sorted((row for row in body if not row.private), key=lambda row: row.guarantee != Guarantee.NONE.value)
    private = [row for row in body if row.private]
    if headline is None:
        return [*unranked, *private]
    sign = -1 if columns[headline].better == "higher" else 1
    scored = [(cell.summary.mean, cell.runs, row) for row in private if (cell := row.cells[headline]) and cell.summary and cell.runs is not None]
    scored.sort(key=lambda entry: (sign * entry[0], entry[2].synth, entry[2].epsilon))
    sets = rank_sets([-sign * runs for _, runs, _ in scored])
    ranked = [replace(row, ranks=ranks) for (_, _, row), ranks in zip(scored, sets, strict=True)]
    names = {(row.synth, row.epsilon) for row in ranked}
    return [*unranked, *ranked, *(row for row in private if (row.synth, row.epsilon) not in names)]


# --- anchors ----------------------------------------------------------------------------------------------------------


def _ceiling(ceilings: Mapping[str, str], columns: tuple[Column, ...], evidence: _Evidence) -> tuple[Row, ...]:
    """Each metric between two real samples of equal size: what a perfect synthesizer scores."""
    outcomes = {scorer: _Outcomes((key,), ((0, 0, 0),), (evidence.store.get(key),), key in evidence.stale) for scorer, key in ceilings.items()}
    cells = tuple(outcomes[c.scorer].cell(c) if c.kind == "fidelity" and c.scorer in outcomes else None for c in columns)
    return (Row(CEILING, Guarantee.NONE.value, math.inf, None, None, None, None, cells),) if any(cells) else ()


def _references(kind: Kind, key: str | None, store: Store) -> tuple[Reference, ...]:
    record = store.get(key) if key else None
    if record is None or not record.ok:
        return ()
    return tuple(Reference(kind, name, policy["score"], policy["low"], policy["high"]) for name, policy in record.result["policies"].items())


# --- footnotes --------------------------------------------------------------------------------------------------------


def _group_notes(unit: str, longest: int | None, columns: tuple[Column, ...], body: list[Row], references: tuple[Reference, ...]) -> Notes:
    """The policies that need no data, the budget behind epsilon, and why runs failed."""
    deltas = ", ".join(f"{delta:g}" for delta in sorted({row.delta for row in body if row.delta is not None}))
    accountants = ", ".join(sorted({row.accountant for row in body if row.accountant}))
    too_much = f"> {NO_PROTECTION:g}: no protection"
    notes = {
        "policies": "; ".join(_policies(kind, own) for kind in UTILITIES if (own := [policy for policy in references if policy.kind == kind])),
        "budget": f"ε bounds what adding or removing one {unit} can change; δ = {deltas}; accounting: {accountants}" if accountants else "",
        "ε/traj": f"bounds what adding or removing one whole trajectory of at most {longest} rows can change; {too_much}" if longest else "",
        "failed": "; ".join(failure for row in body for failure in _failures(columns, row)),
    }
    return {term: text for term, text in notes.items() if text}


def _policies(kind: Kind, references: list[Reference]) -> str:
    scale = {"goals": "over the goals", "utility": "on the own task"}[kind]
    return f"{scale} {', '.join(f'{policy.name} {policy.score:.1f}' for policy in references)}"


def _failures(columns: tuple[Column, ...], row: Row) -> Iterator[str]:
    """Why runs of a row failed, each reason once, with the scores that it cost."""
    lost = [(reason, column.scorer) for column, cell in zip(columns, row.cells, strict=True) if cell for reason in cell.reasons]
    for reason in dict.fromkeys(reason for reason, _ in lost):
        scorers = dict.fromkeys(scorer for why, scorer in lost if why == reason)
        yield f"{row.synth} at ε = {row.epsilon:g} ({', '.join(scorers)}): {' '.join(reason.split())}"


def _legend(groups: tuple[Group, ...], seeds: Mapping[str, int]) -> Notes:
    """How to read the scores and the marks that occur."""
    rows = [row for group in groups for row in group.body]
    cells = [cell for row in rows for cell in row.cells if cell]
    intervals = {cell.summary.interval for cell in cells if cell.summary}
    occurs: dict[str, bool] = {
        **{str(kind): any(column.kind == kind for group in groups for column in group.columns) for kind in KINDS},
        "#": any(row.ranks for row in rows),
        "runs": True,
        "ᵗ": bool(intervals & {"t", "run+t"}),
        "— (k/n)": any(cell.failed for cell in cells),
        "†": any(cell.stale for cell in cells),
    }
    headlines = dict.fromkeys(group.columns[group.headline].scorer for group in groups if group.headline is not None)
    values = {**seeds, "headlines": ", ".join(headlines), "few": FEW}
    names = OWN_TASK if occurs["goals"] else {}
    return {names.get(term, term): text.format(**values) for term, text in _LEGEND.items() if occurs[term]}


OWN_TASK = {"goals": "utility", "utility": "own task"}
"""What the two utilities are called where both may stand: the first ranks, and the other is then the environment's own task alone."""
_LEGEND = {
    "goals": "how soon an agent that saw the synthetic rows alone reaches each of several goals (0 random actions, 100 the shortest path), the mean "
    "of its last evaluations, never the best. `bench list` tells how it falls as real rows are corrupted.",
    "utility": "D4RL normalised return (0 and 100: reference returns) of such an agent on the environment's own task. It can be deaf to fidelity: on "
    "maze2d-medium IQL scores near 50 on real rows, no more than the best constant action and half of what it scores on smoothed copies of them.",
    "gain": "(J - J_public) / (J_real - J_public), the share of what private data can add to public data; J_public is the better of public-data and "
    "public-only. — where the interval of the denominator includes 0 or one of them is missing.",
    "fidelity": "against held-out real rows. real vs real, two real samples of equal size, is what a perfect synthesizer scores.",
    "attack": "what these attacks find, which bounds no ε (members are the positive class; AUC .5 and advantage 0 are chance). ± joins the spread of "
    "runs and their own errors.",
    "#": "private rows by {headlines}, best first, with the ranks that their runs leave open: from 1 + the rows that are surely better to all rows "
    "less those that are surely worse. Sure is a pair whose difference on common seeds has a 95 % interval without 0. What claims no finite ε stands "
    "above them, unranked.",
    "runs": "{synthesizer} synthesizer x {sampling} sampling x {agent} agent seeds. ± is the wider side of their 95 % interval, a hierarchical "
    "bootstrap from {few} synthesizer runs on; a single run has none.",
    "ᵗ": "Student's t over the means of fewer than {few} synthesizer runs.",
    "— (k/n)": "k of n runs have a result; their mean would hide the others.",
    "†": "rests on a record made by source code that differs from today's.",
}
