"""A table for a terminal: aligned columns, in as many panels as the width asks for."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from bench.tables.leaderboard import Column, Group, Notes, Table
from bench.tables.render import words
from bench.tables.render.words import ARROWS, DERIVED, LEFT, Printed, heading


def text(table: Table, width: int) -> str:
    blocks = [block for group in table.groups for block in (_text_group(group, width), _text_notes(group.notes, width))]
    return "\n\n".join([*(block for block in blocks if block), _text_notes(table.legend, width)]) + "\n"


def _text_group(group: Group, width: int) -> str:
    columns = [
        _TextColumn.of_scores(*parts)
        for parts in zip(words.titles(group), group.columns, words.alone(group), words.printed_columns(group), strict=True)
    ]
    identity = {header: _TextColumn.of_names(header, cells) for header, cells in words.identity(group).items()}
    panels, first = [], list(identity.values())
    for panel in _packed(columns, width - _width(first)):
        panels.append(_text_panel([*first, *panel], words.sections(group)))
        first = [identity[header] for header in ("#", "synthesizer", "ε") if header in identity]
    return "\n\n".join([heading(group), *panels])


@dataclass
class _TextColumn:
    """Equally wide cells under a header; `title` and `scorer` are shared by neighbours and printed once above them."""

    title: str
    scorer: str
    header: list[str]
    cells: list[str]
    left: bool
    width: int

    @classmethod
    def of_names(cls, header: str, cells: Sequence[str]) -> _TextColumn:
        return cls("", "", [header], list(cells), header in LEFT, max(map(len, (header, *cells))))

    @classmethod
    def of_scores(cls, title: str, column: Column, alone: bool, cells: Sequence[Printed]) -> _TextColumn:
        """Points stand below points, half-widths below half-widths."""
        decimals = [len(cell.value.partition(".")[2]) for cell in cells]
        values = [cell.value + " " * (max(decimals) - own if own else 0) for cell, own in zip(cells, decimals, strict=True)]
        value, rest = max(map(len, values)), max(len(cell.rest) for cell in cells)
        lines = [f"{text:>{value}}{cell.rest:<{rest}}" for text, cell in zip(values, cells, strict=True)]
        label = re.sub(rf" (?=[{''.join(ARROWS.values())}])", "\xa0", words.label(column, alone))
        header = _broken(label, max(9, value + rest))
        width = max(map(len, (*header, lines[0])))
        return cls(title, "" if alone or column.kind in DERIVED else column.scorer, header, lines, False, width)

    def line(self, text: str) -> str:
        return text.ljust(self.width) if self.left else text.rjust(self.width)


def _width(columns: Sequence[_TextColumn]) -> int:
    return sum(column.width + 2 for column in columns)


def _packed(columns: list[_TextColumn], width: int) -> list[list[_TextColumn]]:
    """Columns in as few panels as fit; a kind of score is broken only if it is too wide for a panel of its own."""
    panels: list[list[_TextColumn]] = [[]]
    for _, same in groupby(columns, key=lambda column: column.title):
        kind = list(same)
        _make_room(kind)
        pieces = [kind] if _width(kind) <= width else [[column] for column in kind]
        for piece in pieces:
            if panels[-1] and _width([*panels[-1], *piece]) > width:
                panels.append([])
            panels[-1].extend(piece)
    return panels


def _text_panel(columns: list[_TextColumn], sections: list[list[int]]) -> str:
    _make_room(columns)
    rule = "─" * (_width(columns) - 2)
    depth = max(len(column.header) for column in columns)
    spans = [line for attribute in ("title", "scorer") for line in _spans(columns, attribute)]
    padded = [[""] * (depth - len(column.header)) + column.header for column in columns]
    header = ["  ".join(column.line(lines[i]) for column, lines in zip(columns, padded, strict=True)) for i in range(depth)]
    filled = [[i for i in rows if any(column.cells[i].strip() for column in columns if column.title)] for rows in sections]
    body = ["\n".join("  ".join(column.line(column.cells[i]) for column in columns).rstrip() for i in rows) for rows in filled if rows]
    return "\n".join([*(span for span in spans if span), *(line.rstrip() for line in header), rule, f"\n{rule}\n".join(body), rule])


def _same(columns: Sequence[_TextColumn], attribute: str) -> Iterator[tuple[str, list[_TextColumn]]]:
    """Neighbours that share a title, or a title and a scorer."""
    for (_, name), same in groupby(columns, key=lambda column: (column.title, getattr(column, attribute))):
        yield name, list(same)


def _make_room(columns: Sequence[_TextColumn]) -> None:
    """Widen the last of the columns below a title or scorer that is longer than they are, with a blank and a dash at its ends."""
    for attribute in ("title", "scorer"):
        for name, same in _same(columns, attribute):
            longest = max(map(len, _broken(name, SPAN)), default=-4)
            same[-1].width += max(0, longest + 4 - (_width(same) - 2))


SPAN = 28
"""Characters of a title or scorer that are never broken."""


def _broken(name: str, width: int) -> list[str]:
    """Lines for a name that may be broken before a bracket and behind a comma, if it is too long for one."""
    breakable = re.sub(r",(?=\S)", ", ", name.replace("[", " ["))
    return [name] if 0 < len(name) <= width else textwrap.wrap(breakable, width, break_long_words=False)


def _spans(columns: Sequence[_TextColumn], attribute: str) -> Iterator[str]:
    """The names above their columns, the last line of each between dashes."""
    names = [(_broken(name, max(SPAN, _width(same) - 6)), _width(same) - 2) for name, same in _same(columns, attribute)]
    depth = max(len(lines) for lines, _ in names)
    for i in range(depth):
        line = [(lines[i - depth] if i >= depth - len(lines) else "", width) for lines, width in names]
        yield "  ".join(f" {text} ".center(width, "─" if i == depth - 1 else " ") if text else " " * width for text, width in line).rstrip()


def _text_notes(notes: Notes, width: int) -> str:
    margin = max(map(len, notes), default=0) + 2
    wrapped = (textwrap.wrap(text, min(width, 130) - margin, break_on_hyphens=False) for text in notes.values())
    return "\n".join(f"{term:<{margin}}" + f"\n{' ' * margin}".join(lines) for term, lines in zip(notes, wrapped, strict=True))
