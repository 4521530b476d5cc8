"""Which synthesizer at which epsilon: the row that the headline score puts first, and all that its runs cannot tell from it.

The leaderboard ranks the rows of all budgets together; whoever has a budget asks for one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.report.evidence import Method, Section
from bench.run.spec import OVER_GOALS
from bench.tables.leaderboard import Cell
from bench.tables.stats import Summary, paired_difference
from bench.tables.validation import MONOTONE, by_utility, shipped_validities


@dataclass(frozen=True)
class Candidate:
    """A row that may be the best; `behind` is how far the first is ahead, over common seeds, None for the first itself."""

    method: Method
    score: Cell
    behind: Summary | None


@dataclass(frozen=True)
class Choice:
    """At one budget: the candidates, best mean first, and the rows that are surely worse or have no complete score."""

    epsilon: float
    candidates: tuple[Candidate, ...]
    worse: tuple[str, ...]
    unknown: tuple[str, ...]


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
        found = [Candidate(method, cell, _behind(first, cell)) for method, cell, _ in complete]
        worse = {candidate.method.title for candidate in found if candidate.behind and candidate.behind.excludes_zero}
        yield Choice(
            epsilon,
            tuple(candidate for candidate in found if candidate.method.title not in worse),
            tuple(candidate.method.row.synth for candidate in found if candidate.method.title in worse),
            tuple(method.row.synth for method, cell in own if cell is None or cell.summary is None),
        )


def _behind(first: Cell, cell: Cell) -> Summary | None:
    if first is cell or first.runs is None or cell.runs is None:
        return None
    return paired_difference(first.runs, cell.runs)


def soundness(section: Section) -> str:
    """What was found out about the headline score itself: does it fall as real rows are corrupted?"""
    if section.agent is None:
        return "No agent was trained: the rows are ranked by fidelity, which says nothing about what can be learned from them."
    kind, plugin = section.agent
    label = f"{OVER_GOALS if kind == 'goals' else ''}{plugin}"
    own = by_utility(shipped_validities()).get((section.group.env, label))
    if own is None:
        return (
            f"This score has not been validated on {section.group.env}: nobody has shown that it falls as real rows get worse, "
            "so fidelity should be read beside it."
        )
    deaf = [validity for validity in own if not validity.valid]
    if not deaf:
        return f"This score is validated on {section.group.env}: it falls as real rows are corrupted, under each of {len(own)} kinds of corruption."
    named = ", ".join(validity.kind if validity.correlation is None else f"{validity.kind} ({validity.correlation:.2f})" for validity in deaf)
    return (
        f"On {section.group.env} this score falls as it should under {len(own) - len(deaf)} of {len(own)} kinds of corruption of real rows, but not "
        f"surely under {named}: rank correlations of score and level, of which at most {MONOTONE} counts. Fidelity should be read beside it."
    )
