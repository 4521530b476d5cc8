"""A table for a terminal: aligned columns, in as many panels as the width asks for."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from bench.tables.leaderboard import Group, Notes, Table
from bench.tables.render import words
from bench.tables.render.panels import SPANS, PageColumn, Ruler, columns_of, filled, header_lines, panels, same, span_lines
from bench.tables.render.words import Printed, heading


def text(table: Table, width: int) -> str:
    blocks = [block for group in table.groups for block in (_group(group, width), footnotes(group.notes, width))]
    return "\n\n".join([*(block for block in blocks if block), footnotes(table.legend, width)]) + "\n"


def footnotes(notes: Notes, width: int) -> str:
    """Each term with its text, wrapped to the width and at most 130 characters."""
    margin = max(map(len, notes), default=0) + 2
    wrapped = (textwrap.wrap(text, min(width, 130) - margin, break_on_hyphens=False) for text in notes.values())
    return "\n".join(f"{term:<{margin}}" + f"\n{' ' * margin}".join(lines) for term, lines in zip(notes, wrapped, strict=True))


def _group(group: Group, width: int) -> str:
    ruler = Ruler(len, width, gap=2, frame=4, header=9, name=28)
    cells = [*words.identity(group).values(), *map(_aligned, words.printed_columns(group))]
    return "\n\n".join([heading(group), *(_panel(panel, group, ruler) for panel in panels(columns_of(group, cells, ruler), ruler))])


def _aligned(cells: Sequence[Printed]) -> list[str]:
    """Points stand below points, half-widths below half-widths."""
    decimals = [len(cell.value.partition(".")[2]) for cell in cells]
    values = [cell.value + " " * (max(decimals) - own if own else 0) for cell, own in zip(cells, decimals, strict=True)]
    value, rest = max(map(len, values)), max(len(cell.rest) for cell in cells)
    return [f"{text:>{value}}{cell.rest:<{rest}}" for text, cell in zip(values, cells, strict=True)]


def _panel(columns: Sequence[PageColumn], group: Group, ruler: Ruler) -> str:
    _make_room(columns, ruler)
    rule = "─" * int(ruler.columns(columns) - ruler.gap)
    spans = [line for span in SPANS for line in _spans(columns, span, ruler)]
    header = [_line(columns, line) for line in header_lines(columns)]
    body = ["\n".join(_line(columns, [column.cells[i] for column in columns]) for i in rows) for rows in filled(columns, group)]
    return "\n".join([*spans, *header, rule, f"\n{rule}\n".join(body), rule])


def _line(columns: Sequence[PageColumn], texts: Sequence[str]) -> str:
    padded = (f"{text:{'<' if column.left else '>'}{column.width}}" for column, text in zip(columns, texts, strict=True))
    return "  ".join(padded).rstrip()


def _make_room(columns: Sequence[PageColumn], ruler: Ruler) -> None:
    """Widen the last of the columns below a name that is longer than they are."""
    for span in reversed(SPANS):
        for name, own in same(columns, span):
            own[-1].width += max(0, ruler.above(name, own) - ruler.columns(own, ()))


def _spans(columns: Sequence[PageColumn], span: str, ruler: Ruler) -> Iterator[str]:
    """The names above their columns, the last line of each between dashes."""
    lines = span_lines(columns, span, ruler)
    for line in lines:
        names = ((f" {name} " if name else "", int(ruler.columns(own, ()) - ruler.gap)) for name, own in line)
        yield "  ".join(name.center(width, "─" if name and line is lines[-1] else " ") for name, width in names).rstrip()
