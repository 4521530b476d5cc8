"""A wide table as several panels, one below the other: which columns stand in which, on a page whose widths a `Ruler` knows.

Group, its cells as they are printed -> columns -> panels -> text, latex
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from bench.tables.leaderboard import Group
from bench.tables.render import words

SPANS = ("title", "scorer")
"""What stands above several columns at once, from the top."""
REPEATED = ("#", "synthesizer", "ε")
"""The columns that tell which row it is, in every panel but the first, which has all that is known of a row."""


@dataclass
class PageColumn:
    """Cells of a column with the lines of its header; neighbours share `title` and `scorer`.

    `place` is that of a score among those of its group, None for a column that names the rows: it has no title either. `width` is in the unit of a
    `Ruler`.
    """

    title: str
    scorer: str
    header: list[str]
    cells: Sequence[str]
    left: bool
    width: float
    place: int | None


@dataclass(frozen=True)
class Ruler:
    """How wide things are on a page, in its own unit.

    Attributes:
        measure: the width of a text.
        room: of a line.
        gap: between two columns.
        frame: what is drawn around a name above several columns.
        header: up to which the header of a column is not broken, however narrow its cells are.
        name: up to which one above several columns is not.
    """

    measure: Callable[[str], float]
    room: float
    gap: float
    frame: float
    header: float
    name: float

    def columns(self, columns: Sequence[PageColumn], spans: Sequence[str] = SPANS) -> float:
        """Of columns side by side, each with its gap, or of the names above them where these are wider."""
        if not spans:
            return sum(column.width + self.gap for column in columns)
        return sum(max(self.above(name, own), self.columns(own, spans[1:])) for name, own in same(columns, spans[0]))

    def above(self, name: str, columns: Sequence[PageColumn]) -> float:
        """Of a name above columns, in as many lines as it takes there."""
        return max((self.measure(line) + self.frame + self.gap for line in self.lines(name, columns)), default=0)

    def lines(self, name: str, columns: Sequence[PageColumn]) -> list[str]:
        """The lines of a name above columns; a short one is never broken."""
        return self.broken(name, max(self.name, self.columns(columns, ()) - self.gap - self.frame)) if name else []

    def broken(self, name: str, width: float) -> list[str]:
        """Lines for a name, which may end at a blank, a hyphen or a comma and before a bracket or an @; an arrow stays with its word."""
        lines: list[str] = []
        for part in re.split(r"(?<=[-,])|(?<= )(?![↑↓])|(?=[\[@])", name):
            if lines and self.measure(f"{lines[-1]}{part}".strip()) <= width:
                lines[-1] += part
            else:
                lines.append(part)
        return [line.strip() for line in lines]


def columns_of(group: Group, cells: Sequence[Sequence[str]], ruler: Ruler) -> list[PageColumn]:
    """Every column of a group with its printed cells, top to bottom: those that name its rows, then those of its scores."""
    names = words.identity(group)
    columns = [
        PageColumn("", "", [header], own, header in words.LEFT, max(map(ruler.measure, (header, *own))), None)
        for header, own in zip(names, cells, strict=False)
    ]
    heads = zip(words.titles(group), group.columns, words.alone(group), cells[len(names) :], strict=True)
    for place, (title, column, alone, own) in enumerate(heads):
        widest = max(map(ruler.measure, own))
        header = ruler.broken(words.label(column, alone), max(ruler.header, widest))
        scorer = "" if alone or column.kind in words.DERIVED else column.scorer
        columns.append(PageColumn(title, scorer, header, own, False, max(widest, *map(ruler.measure, header)), place))
    return columns


def same(columns: Sequence[PageColumn], span: str) -> Iterator[tuple[str, list[PageColumn]]]:
    """Neighbours below one name: a title, or a scorer of one title."""
    for (_, name), own in groupby(columns, key=lambda column: (column.title, getattr(column, span))):
        yield name, list(own)


def panels(columns: Sequence[PageColumn], ruler: Ruler) -> list[list[PageColumn]]:
    """The columns in as few panels as fit, each with names of the rows before it.

    What shares a title is broken only if it is too wide for a panel of its own, and then between scorers; so is what shares a scorer.
    """
    names = [column for column in columns if column.place is None]
    found = [[*names]]
    repeated = [column for column in names if column.header[0] in REPEATED]
    for _, own in same(columns[len(names) :], SPANS[0]):
        _add(found, own, repeated, ruler)
    return found


def _add(found: list[list[PageColumn]], columns: list[PageColumn], repeated: list[PageColumn], ruler: Ruler) -> None:
    """Puts columns into the last panel, into one of their own, or part by part where they fit in neither."""
    begun = found[-1][-1].place is not None
    if ruler.columns([*found[-1], *columns]) <= ruler.room or (not begun and len(columns) == 1):
        found[-1] += columns
    elif begun and (len(columns) == 1 or ruler.columns([*repeated, *columns]) <= ruler.room):
        found.append([*repeated, *columns])
    else:
        scorers = [own for _, own in same(columns, SPANS[1])]
        for part in scorers if len(scorers) > 1 else [[column] for column in columns]:
            _add(found, part, repeated, ruler)


def filled(panel: Sequence[PageColumn], group: Group) -> list[list[int]]:
    """Row numbers of each section of a group, of the rows that have a score in a panel."""
    scores = [column for column in panel if column.place is not None]
    sections = ([i for i in rows if any(column.cells[i].strip() for column in scores)] for rows in words.sections(group))
    return [rows for rows in sections if rows]


def header_lines(panel: Sequence[PageColumn]) -> list[list[str]]:
    """The headers of the columns, line by line; short ones begin further down."""
    depth = max(len(column.header) for column in panel)
    padded = [[""] * (depth - len(column.header)) + column.header for column in panel]
    return [list(line) for line in zip(*padded, strict=True)]


def span_lines(panel: Sequence[PageColumn], span: str, ruler: Ruler) -> list[list[tuple[str, list[PageColumn]]]]:
    """The names above the columns, line by line, each with those that it stands above; none where no column has one."""
    names = [(ruler.lines(name, own), own) for name, own in same(panel, span)]
    depth = max(len(lines) for lines, _ in names)
    return [[(lines[i - depth] if i >= depth - len(lines) else "", own) for lines, own in names] for i in range(depth)]
