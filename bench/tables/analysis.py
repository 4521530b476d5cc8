"""The leaderboard as it is printed, and other tables of the same runs: where the variance of the agents' scores comes from, what all environments say
together, and whether half the seeds would have ranked the rows as the other half does.

    Table -> Table -> bench.tables.render

All are printed in every format of the leaderboard.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from typing import NamedTuple

from scipy.stats import kendalltau

from bench.core.errors import InputError
from bench.tables.evidence import BEST, BRIEFLY
from bench.tables.leaderboard import STRUCK, UTILITIES, Cell, Column, Group, Notes, Row, Table, Verdict
from bench.tables.naming import row_label
from bench.tables.stats import FEW, LAYERS, Float64, Summary, iqm, paired_difference, probability_of_improvement, summarize, variance_parts

# --- overview ---------------------------------------------------------------------------------------------------------


def overview(table: Table) -> Table:
    """The leaderboard with the first score of each single attack and the chief ones of `best-attack`: on one screen."""
    groups = tuple(group.only(_overviewed(group.columns)) for group in table.groups)
    shortened = any(len(short.columns) < len(group.columns) for short, group in zip(groups, table.groups, strict=True))
    more = {"attack": f"{table.legend['attack']} Their true positive rates: `bench table --paper XII`."} if shortened else {}
    return replace(table, groups=groups, legend={**table.legend, **more})


def _overviewed(columns: Sequence[Column]) -> list[int]:
    firsts = {column.scorer: column for column in reversed(columns) if column.kind == "attack"}
    briefly = {BEST: BRIEFLY, **{scorer: (column.score,) for scorer, column in firsts.items()}}
    return [i for i, column in enumerate(columns) if column.score in briefly.get(column.scorer, (column.score,))]


# --- agents alone -----------------------------------------------------------------------------------------------------


def _trained(table: Table, option: str) -> list[Group]:
    """The groups in which agents were trained, without other scores and without the rows that have none."""
    groups = [_agents_alone(group) for group in table.groups]
    if not any(group.columns for group in groups):
        raise InputError(f"{option}: the newest sweep trains no agent; run one with --agents")
    return [group for group in groups if group.columns]


def _agents_alone(group: Group) -> Group:
    alone = group.only([i for i, column in enumerate(group.columns) if column.kind in UTILITIES])
    return replace(alone, body=tuple(row for row in alone.body if any(row.cells)), notes=notes_of_rows(group))


def notes_of_rows(group: Group) -> Notes:
    """Those on what rows claim and lack, which stands in any table."""
    return {term: text for term, text in group.notes.items() if term in ("budget", "ε/traj", STRUCK, "failed", "lacking")}


def _legend(table: Table, own: tuple[str, ...], leaderboards: tuple[str, ...]) -> Notes:
    """How to read what only this table has, and what it shares with the leaderboard."""
    shared = {term: text for term, text in table.legend.items() if term in leaderboards}
    return {term: _LEGEND[term].format(few=FEW) for term in own} | shared


# --- variance ---------------------------------------------------------------------------------------------------------


def variance_table(table: Table) -> Table:
    """Every agent's score and the standard deviation that each layer of seeds adds to a run.

    Raises:
        InputError: no agent was trained.
    """
    groups = tuple(_with_deviations(group) for group in _trained(table, "--variance"))
    return Table(groups, _legend(table, ("deviation", "n/a"), (STRUCK, "#", "runs", "ᵗ", "— (k/n)", "†")))


def _with_deviations(group: Group) -> Group:
    layers = tuple(Column("variance", column.scorer, layer, "lower") for column in group.columns for layer in LAYERS)
    body = tuple(replace(row, cells=(*row.cells, *chain.from_iterable(map(_deviations, row.cells)))) for row in group.body)
    return replace(group, columns=(*group.columns, *layers), body=body)


def _deviations(cell: Cell | None) -> Iterator[Cell | None]:
    """A cell for each layer, without a summary where the layer has one seed or a run is missing."""
    runs = _complete(cell)
    parts = dict.fromkeys(LAYERS) if runs is None else variance_parts(runs)
    for part in parts.values():
        yield cell and replace(cell, summary=part and part.root, runs=None)


def _complete(cell: Cell | None) -> Float64 | None:
    """The runs of a cell, None if one is missing."""
    return cell.runs if cell and cell.summary else None


# --- all environments together ----------------------------------------------------------------------------------------


def aggregate_table(table: Table) -> Table:
    """Each agent's interquartile mean over the environments, and how probably the first private row is better than each other row.

    Environments stand together that have the same number of rows, or each its nominal number; agents are those that all of them have.

    Raises:
        InputError: no agent was trained, or none on all environments that stand together.
    """
    return Table(
        tuple(map(_aggregate, side_by_side(_trained(table, "--aggregate")))),
        _legend(table, ("IQM", "P(first better)"), (STRUCK, "runs", "— (k/n)", "†")),
    )


def side_by_side(groups: Iterable[Group]) -> list[list[Group]]:
    """Groups of one unit together, each environment once: at the same number of rows, or each at its nominal number."""
    together: dict[tuple[str, int], list[Group]] = {}
    before: Counter[tuple[str, str]] = Counter()
    for group in groups:
        together.setdefault((group.unit, before[group.env, group.unit]), []).append(group)
        before[group.env, group.unit] += 1
    return list(together.values())


def common_rows(groups: Sequence[Group]) -> int:
    """The number of rows that all have, else 0: each its nominal number."""
    sizes = {group.rows for group in groups}
    return sizes.pop() if len(sizes) == 1 else 0


def under_one_heading(groups: Sequence[Group]) -> Group:
    """The first of groups that stand together, under the heading and with the notes of all."""
    alone = len(groups) == 1
    return replace(
        groups[0],
        env=", ".join(group.env for group in groups),
        source=", ".join(dict.fromkeys(group.source for group in groups)),
        rows=common_rows(groups),
        max_trajectory_length=groups[0].max_trajectory_length if alone else None,
        headline=None,
        references=(),
        notes={term: text for term, text in _joined_notes(groups).items() if alone or term != "ε/traj"},
    )


def _joined_notes(groups: Sequence[Group]) -> Notes:
    """Each note once, or with the environment that it belongs to."""
    notes = {}
    for term in dict.fromkeys(chain(*(group.notes for group in groups))):
        texts = {group.env: group.notes[term] for group in groups if term in group.notes}
        alike = len(texts) == len(groups) and len(set(texts.values())) == 1
        notes[term] = next(iter(texts.values())) if alike else "; ".join(f"{env}: {text}" for env, text in texts.items())
    return notes


def in_one_row(rows: Sequence[Row | None], cells: Iterable[Cell | None]) -> Row:
    """A method at one epsilon, with its row on each environment or None, as one row of these cells, which is not ranked."""
    present = [row for row in rows if row]
    deltas = {row.delta for row in present}
    return replace(
        present[0],
        delta=deltas.pop() if len(deltas) == 1 else None,
        epsilon_spent=max((row.epsilon_spent for row in present if row.epsilon_spent is not None), default=None),
        epsilon_trajectory=present[0].epsilon_trajectory if len(rows) == 1 else None,
        cells=tuple(cells),
        ranks=None,
        verdict=next((row.verdict for row in present if row.verdict), None),
    )


def _aggregate(groups: list[Group]) -> Group:
    """Environments in one group, two columns for each agent; references first, then private rows in the order of the first agent's means."""
    agents, others = _shared_agents(groups)
    together = [group.only([group.columns.index(column) for column in agents]) for group in groups]
    bodies = [{(row.synth, row.epsilon): row for row in group.body} for group in together]
    methods = [_Method(tuple(body[name] for body in bodies)) for name in bodies[0] if all(name in body for body in bodies)]
    methods.sort(key=lambda method: (method.private, method.verdict is not None, -summary.mean if (summary := method.mean(0).summary) else math.inf))
    first = next((method for method in methods if method.private and not method.verdict), methods[0])
    columns = [(Column("aggregate", agent.scorer, "iqm", "higher"), Column("aggregate", agent.scorer, "first_better", "lower")) for agent in agents]
    common = under_one_heading(together)
    left_out = {"left out": f"{', '.join(others)}; scored on some of these environments alone"} if others else {}
    return replace(
        common,
        columns=tuple(chain.from_iterable(columns)),
        body=tuple(method.row(first) for method in methods),
        notes={**common.notes, **left_out},
    )


def _shared_agents(groups: Sequence[Group]) -> tuple[list[Column], list[str]]:
    """The agents' columns that all environments have, and the names of the agents that only some have: a goal set is not everywhere."""
    shared = [column for column in groups[0].columns if all(column in group.columns for group in groups)]
    if not shared:
        raise InputError(f"--aggregate: {', '.join(group.env for group in groups)} have no agent in common; run one on the own task of all of them")
    return shared, list(dict.fromkeys(column.scorer for group in groups for column in group.columns if column not in shared))


@dataclass(frozen=True)
class _Method:
    """The rows of a synthesizer at one epsilon, one for each environment; an `agent` below is the place of its column."""

    rows: tuple[Row, ...]

    @property
    def private(self) -> bool:
        return self.rows[0].private

    @property
    def verdict(self) -> Verdict | None:
        """What disproves the claim on some environment."""
        return next((row.verdict for row in self.rows if row.verdict), None)

    def tasks(self, agent: int) -> list[Float64]:
        """The runs on each environment; empty if one is missing."""
        complete = [runs for row in self.rows if (runs := _complete(row.cells[agent])) is not None]
        return complete if len(complete) == len(self.rows) else []

    def mean(self, agent: int) -> Cell:
        """The interquartile mean, and what is behind it."""
        cells = [cell for row in self.rows if (cell := row.cells[agent])]
        tasks, keys = self.tasks(agent), chain.from_iterable(cell.keys for cell in cells)
        n, planned = sum(cell.n for cell in cells), sum(cell.planned for cell in cells)
        return Cell(iqm(tasks) if tasks else None, n, planned, any(cell.stale for cell in cells), tuple(keys))

    def worse_than(self, first: _Method, agent: int) -> Cell | None:
        """How probably the first method is better; None for the first itself, and where runs of either are missing."""
        theirs, own = first.tasks(agent), self.tasks(agent)
        if first is self or not theirs or not own:
            return None
        mean = self.mean(agent)
        return replace(mean, summary=probability_of_improvement(theirs, own), stale=mean.stale or first.mean(agent).stale)

    def row(self, first: _Method) -> Row:
        """All environments in one row, which is not ranked."""
        cells = [(self.mean(agent), self.worse_than(first, agent)) for agent in range(len(self.rows[0].cells))]
        return in_one_row(self.rows, chain.from_iterable(cells))


# --- would the order come out the same again? -------------------------------------------------------------------------


def retest_table(table: Table) -> Table:
    """The headline score of the first half of the synthesizer seeds and of the second, and how far the two orders agree.

    Raises:
        InputError: no agent ranks the rows, or none of them has two complete runs.
    """
    groups = [_halved(group, column) for group in table.groups if (column := _headline(group))]
    if not any(len(group.body) > 1 for group in groups):
        raise InputError("--retest: this needs two ranked rows with two complete synthesizer seeds each; run the sweep with --agents and --seeds 6")
    return Table(tuple(groups), _legend(table, (), (STRUCK, "ᵗ", "†")))


def _headline(group: Group) -> Column | None:
    return next((column for i, column in enumerate(group.columns) if i == group.headline and column.kind in UTILITIES), None)


def _halved(group: Group, headline: Column) -> Group:
    """The complete rows with their two scores; the last of an odd number of seeds is left out."""
    place = group.columns.index(headline)
    rows = [(row, cell, runs) for row in group.body if (cell := row.cells[place]) and (runs := _complete(cell)) is not None]
    size = min((len(runs) // 2 for _, _, runs in rows), default=0)
    halves = [(runs[:size], runs[size : 2 * size]) for _, _, runs in rows]
    columns = tuple(
        Column("retest", headline.scorer, f"seeds {first} to {first + size - 1}" if size > 1 else f"seed {first}", "higher") for first in (0, size)
    )
    body = tuple(
        replace(row, cells=tuple(replace(cell, summary=summarize(half), n=half.size, planned=half.size, runs=half) for half in pair), ranks=None)
        for (row, cell, _), pair in zip(rows, halves, strict=True)
        if size
    )
    names = [row_label(row) for row in body]
    notes = {**notes_of_rows(group), **_agreement(names, halves)} if body else {}
    return replace(group, columns=columns, body=body, headline=None, references=(), notes=notes)


def _agreement(names: Sequence[str], halves: Sequence[tuple[Float64, Float64]]) -> Notes:
    """Kendall's tau of the two orders, the pairs that change theirs, and what became of the differences that the first half was sure of."""
    pairs = [_Pair(f"{names[i]} / {names[j]}", *map(paired_difference, halves[i], halves[j])) for i, j in combinations(range(len(names)), 2)]
    if not pairs:
        return {}
    sure = [pair for pair in pairs if pair.before.excludes_zero]
    upheld = sum(not pair.flips for pair in sure)
    reversed_for_sure = sum(pair.flips and pair.after.excludes_zero for pair in sure)
    order = kendalltau(*([half.mean() for half in side] for side in zip(*halves, strict=True))).statistic
    correlation = "undefined, since all rows of a half are equal," if math.isnan(order) else f"{order:.2f}"
    flips = [pair.names for pair in pairs if pair.flips]
    return {
        "τ": f"Kendall's rank correlation of the two orders is {correlation} over {len(names)} rows. "
        f"{len(flips)} of {len(pairs)} pairs change their order{': ' if flips else ''}{', '.join(flips)}.",
        "sure": f"the first half tells {len(sure)} pairs apart (paired 95 % intervals); the second has {upheld} of them in the same order, and tells "
        f"{reversed_for_sure} apart in the other.",
    }


class _Pair(NamedTuple):
    """Two rows: their difference in the first half and in the second."""

    names: str
    before: Summary
    after: Summary

    @property
    def flips(self) -> bool:
        return self.before.mean * self.after.mean < 0


_LEGEND = {
    "deviation": "the standard deviation that each layer of seeds adds to a run, in points of the score: nested random effects, estimated by an "
    "analysis of variance in which a negative variance counts as 0. In brackets its 95 % interval, for effects that are normal (Ting et al. 1990).",
    "n/a": "one seed of this layer: its part cannot be told and is counted in the next layer to the left that has several.",
    "IQM": "interquartile mean, the middle half of the runs on all these environments. Its interval is a bootstrap in which each environment is "
    "resampled by itself; there is none with fewer than {few} synthesizer runs in all, or with a single one on an environment.",
    "P(first better)": "how probably a run of the first private row scores higher than one of this row on the same environment; an interval that "
    "includes .5 tells nothing, and there is none where all runs of one are better.",
}
