"""Two rows of the leaderboard side by side: score by score their paired difference, how sure it is, and what it rests on.

It fits one screen: of each environment the scores of agents and of fidelity. What attacks find bounds no epsilon, so that "better" would mislead
there.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bench.tables.build import CEILING
from bench.tables.leaderboard import STALE, UTILITIES, Cell, Column, Group, Row, Table
from bench.tables.naming import Pair, row_label, rows_named
from bench.tables.render.text import footnotes
from bench.tables.render.words import ARROWS, MINUS, heading, shortened
from bench.tables.stats import CONFIDENCE, FEW, Float64, Summary, common_seeds, paired_difference, probability_of_improvement

WIDTH = 120
"""Characters of a line."""
COMPARED = (*UTILITIES, "fidelity")
LABEL = 26
"""Characters for the name of a score; longer ones are broken."""
HEADERS = ("first", "second", "diff.", "interval", "P(better)", "seeds", "")


def comparison(table: Table, names: Pair) -> str:
    """A block of lines for each environment that has both rows, and how to read them.

    Args:
        names: of rows as the table prints them, a synthesizer or "SYNTHESIZER at EPSILON".

    Raises:
        InputError: a name fits several rows of an environment, or no environment has such scores of both rows.
    """
    pairs = rows_named([_comparable(group) for group in table.groups], names, "compare", "no agent and no metric scored")
    return "\n\n".join([*("\n".join(_block(*pair)) for pair in pairs), footnotes(_LEGEND, WIDTH)])


def _comparable(group: Group) -> Group:
    """The scores that are compared and the rows that have some, less the ceiling: two real samples share no seed with a row."""
    scores = group.only([i for i, column in enumerate(group.columns) if column.kind in COMPARED])
    return replace(scores, body=tuple(row for row in scores.body if row.synth != CEILING and any(row.cells)))


def _block(group: Group, first: Row, second: Row) -> Iterator[str]:
    """The heading, then a table with one line for each score that both rows were to have."""
    yield from textwrap.wrap(heading(group), WIDTH)
    yield from textwrap.wrap(f"first: {_claiming(first)}; second: {_claiming(second)}", WIDTH)
    short = shortened(replace(group, notes={}))
    lines = [line for cells in zip(short.columns, first.cells, second.cells, strict=True) if (line := _line(short, *cells))]
    yield from _aligned([("", *HEADERS), *lines])
    yield from ["", footnotes(short.notes, WIDTH)] if short.notes else []


def _claiming(row: Row) -> str:
    """Its full name, and whether its epsilon holds."""
    return f"{row_label(row)}{f', whose claim is {row.verdict}' if row.verdict else ''}"


def _line(group: Group, column: Column, first: Cell | None, second: Cell | None) -> tuple[str, ...] | None:
    """Name, both means, difference, interval, probability, seeds, conclusion; None where there is nothing to compare."""
    if first is None or second is None:
        return None
    if first.failed or second.failed:
        runs = (f"— ({cell.n}/{cell.planned})" if cell.failed else "" for cell in (first, second))
        return (_name(group, column), *runs, "", "", "", "", "a run failed or is missing")
    if first.runs is None or second.runs is None:
        return None
    versus = _Versus.of(first.runs, second.runs, column)
    dagger = " †" if first.stale or second.stale else ""
    return (f"{_name(group, column)}{dagger}", *versus.numbers(column), versus.conclusion)


def _name(group: Group, column: Column) -> str:
    """The scorer, or the score where its scorer has several, with the direction that is better."""
    alone = sum(column.scorer == other.scorer and column.kind == other.kind for other in group.columns) == 1
    arrow = ARROWS[column.better] if column.better else ""
    return f"{column.scorer if alone else column.score.replace('_', ' ')} {arrow}"


@dataclass(frozen=True)
class _Versus:
    """The runs (synthesizer, sampling, agent) of both rows on the seeds that both have, and what they say."""

    first: Float64
    second: Float64
    difference: Summary
    better: Summary
    """How probably the first row is."""
    higher_is_better: bool

    @classmethod
    def of(cls, first: Float64, second: Float64, column: Column) -> _Versus:
        ours, theirs = common_seeds(first, second)
        sign = 1 if column.better == "higher" else -1
        better = probability_of_improvement([sign * ours], [sign * theirs])
        return cls(ours, theirs, paired_difference(ours, theirs), better, column.better == "higher")

    @property
    def conclusion(self) -> str:
        if not self.difference.excludes_zero:
            return "cannot be told apart"
        return "first is better" if (self.difference.mean > 0) == self.higher_is_better else "second is better"

    def numbers(self, column: Column) -> tuple[str, ...]:
        decimals = self._decimals(column)
        low, high = self.difference.low, self.difference.high
        interval = "" if low is None or high is None else f"{_number(low, decimals)} to {_number(high, decimals)}"
        return (
            *(_number(float(runs.mean()), decimals) for runs in (self.first, self.second)),
            _number(self.difference.mean, decimals, sign="+"),
            interval,
            _probability(self.better),
            "x".join(map(str, self.first.shape)),
        )

    def _decimals(self, column: Column) -> int:
        """Points of return have one; other numbers show two digits of half the interval, or of the difference, in at most four."""
        size = self.difference.half_width or abs(self.difference.mean)
        return 1 if column.kind in UTILITIES or not size else min(4, max(1, 1 - math.floor(math.log10(size))))


def _number(value: float, decimals: int, sign: str = "-") -> str:
    """A true minus, and none before a zero."""
    return f"{round(value, decimals) + 0.0:{sign}.{decimals}f}".replace("-", MINUS)


def _probability(better: Summary) -> str:
    interval = [better.low, better.high] if better.low is not None and better.high is not None else []
    mean, *ends = (f"{value:.2f}".removeprefix("0") for value in (better.mean, *interval))
    return f"{mean} ({'-'.join(ends)})" if ends else mean


def _aligned(lines: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Names and conclusions to the left, numbers to the right; a name that is too long stands above its numbers in part."""
    widths = [max(map(len, column)) for column in zip(*(line[1:] for line in lines), strict=True)]
    for name, *cells in lines:
        spaced = name.replace(" ", "\xa0").replace("[", " [").replace(",", ", ")
        *above, last = [part.replace("\xa0", " ") for part in textwrap.wrap(spaced, LABEL, break_long_words=False)] or [""]
        yield from above
        numbers = (cell.rjust(width) for cell, width in zip(cells[:-1], widths[:-1], strict=True))
        yield "  ".join([last.ljust(LABEL), *numbers, cells[-1]]).rstrip()


_LEGEND = {
    "interval": f"{CONFIDENCE:.0%}, of the mean difference over common seeds; where it holds 0, this score cannot tell the rows apart. Each line is "
    "judged by itself: of twenty scores that do not differ, one is expected to look as if it did",
    "P(better)": f"how probably a run of the first beats one of the second, .5 by chance; with its interval from {FEW} seeds on, where not all runs "
    "of one are better",
    "seeds": "synthesizer x sampling x agent seeds that both rows have; the first count as independent, one has no spread",
    "↑ ↓": f"higher or lower is better; † {STALE}",
}
