"""Which synthesizer at which epsilon: the row that the headline score puts first, and all that its runs cannot tell from it.

The leaderboard ranks the rows of all budgets together; whoever has a budget asks for one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress

from bench.report.evidence import Method, Section
from bench.run.spec import OVER_GOALS
from bench.tables.leaderboard import Cell, Column
from bench.tables.stats import Summary, paired_difference, surely_better
from bench.tables.validation import MONOTONE, Validity, by_utility, shipped_validities


@dataclass(frozen=True)
class Candidate:
    """A row that may be the best; `behind` is how far the first is ahead, over common seeds, None for the first itself."""

    method: Method
    score: Cell
    behind: Summary | None


@dataclass(frozen=True)
class Choice:
    """At one budget: the candidates and the rows that are surely worse, best mean first, and those that have no complete score.

    `floors` are rows that need no private data and are not surely worse than the first; whether their mean is even better.
    """

    epsilon: float
    candidates: tuple[Candidate, ...]
    worse: tuple[Candidate, ...]
    unknown: tuple[str, ...]
    floors: dict[str, bool]


def choices(section: Section) -> Iterator[Choice]:
    """One for each finite budget of a section, smallest first; none where nothing ranks the rows or no row is complete."""
    if section.group.headline is None:
        return
    place, column = section.group.headline, section.group.columns[section.group.headline]
    for epsilon in section.epsilons:
        own = [(method, method.row.cells[place]) for method in section.methods if method.row.epsilon == epsilon and not method.row.verdict]
        complete = [(method, cell, cell.summary.mean) for method, cell in own if cell and cell.summary and cell.runs is not None]
        complete.sort(key=lambda entry: entry[2], reverse=column.better == "higher")
        if not complete:
            continue
        first = complete[0][1]
        assert first.runs is not None
        free = ((method.row.synth, _lead(method.row.cells[place], first, column)) for method in section.methods if method.row.epsilon == 0)
        found = [Candidate(method, cell, _behind(first, cell)) for method, cell, _ in complete]
        worse = tuple(candidate for candidate in found if candidate.behind and candidate.behind.excludes_zero)
        yield Choice(
            epsilon,
            tuple(candidate for candidate in found if candidate not in worse),
            worse,
            tuple(method.row.synth for method, cell in own if cell is None or cell.summary is None),
            {synth: lead > 0 for synth, lead in free if lead is not None},
        )


def _lead(cell: Cell | None, first: Cell, column: Column) -> float | None:
    """How far the mean of a complete score is ahead of the first; None where it is surely behind."""
    if cell is None or cell.summary is None or first.summary is None:
        return None
    lead = (cell.summary.mean - first.summary.mean) * (1 if column.better == "higher" else -1)
    behind = _behind(first, cell)
    return None if lead < 0 and behind is not None and behind.excludes_zero else lead


def _behind(first: Cell, cell: Cell) -> Summary | None:
    if first is cell or first.runs is None or cell.runs is None:
        return None
    return paired_difference(first.runs, cell.runs)


@dataclass(frozen=True)
class Standing:
    """What the runs say of a ranked row beside every other: titles of methods in the order of the table."""

    better: tuple[str, ...]
    alike: tuple[str, ...]
    worse: tuple[str, ...]


def standings(section: Section) -> dict[str, Standing]:
    """Of every ranked row, by the title of its method: what its ranks are counted from."""
    place, column = section.group.headline, section.headline
    if place is None or column is None:
        return {}
    cells = {method.title: cell for method in section.methods if method.row.ranks and (cell := method.row.cells[place])}
    sign = 1 if column.better == "higher" else -1
    better = surely_better([sign * cell.runs for cell in cells.values() if cell.runs is not None])
    titles, sure = list(cells), better | better.T
    return {
        title: Standing(
            tuple(compress(titles, better[:, i])),
            tuple(other for other, told in zip(titles, sure[i], strict=True) if not told and other != title),
            tuple(compress(titles, better[i])),
        )
        for i, title in enumerate(titles)
    }


def soundness(section: Section) -> str:
    """What was found out about the headline score itself: does it fall as real rows are corrupted?"""
    if section.agent is None:
        return "No agent was trained: the rows are ranked by fidelity, which says nothing about what can be learned from them."
    kind, plugin = section.agent
    label = f"{OVER_GOALS if kind == 'goals' else ''}{plugin}"
    own = by_utility(shipped_validities()).get((section.group.env, label, section.group.preset))
    if own is None:
        return (
            f"This score has not been validated on {section.group.env} with the agent trained as by {section.group.preset}: nobody has shown that "
            "it falls as real rows get worse, so fidelity should be read beside it."
        )
    once = " Each level was run once." if min(validity.runs for validity in own) == 1 else ""
    deaf = [validity for validity in own if not validity.valid]
    if not deaf:
        return (
            f"This score is validated on {section.group.env}: it falls as real rows are corrupted, in each of {len(own)} ways (`bench list`).{once}"
        )
    named = ", ".join(f"{validity.kind} ({_doubt(validity)})" for validity in deaf)
    return (
        f"On {section.group.env} this score falls as it should under {len(own) - len(deaf)} of {len(own)} kinds of corruption of real rows, but not "
        f"surely under {named}: in brackets the rank correlation of level and score, which should be at most {MONOTONE}, or what scores more than "
        f"real rows. Fidelity should be read beside it. `bench list` shows them all.{once}"
    )


def _doubt(validity: Validity) -> str:
    if validity.correlation is None:
        return "not run"
    return f"{validity.correlation:.2f}" if validity.above is None else f"level {validity.above:g} scores more"
