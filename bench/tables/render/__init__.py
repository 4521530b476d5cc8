"""One table, every form: text for a terminal, Markdown, LaTeX and HTML for pages, tidy CSV and nested JSON for programs.

    words (what people read) -> markdown, html
                             -> panels (what fits beside each other) -> text, latex
    data (what programs read)

People read rounded numbers with one half-width, the wider side of the interval; programs get six digits and both ends. Nothing here computes a score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from bench.core.errors import InputError
from bench.tables.leaderboard import Group, Table
from bench.tables.render.data import CSV_COLUMNS, csv_of, json_of
from bench.tables.render.html import html
from bench.tables.render.latex import latex, latex_rows
from bench.tables.render.markdown import markdown, markdown_rows
from bench.tables.render.text import text
from bench.tables.render.words import HEADERS, MINUS, heading, shortened

__all__ = ["CSV_COLUMNS", "FORMATS", "HEADERS", "MINUS", "WIDTH", "heading", "named_rows", "render"]

WIDTH = 160
"""Characters of a line of text; scores that do not fit move, kind by kind, to a block of their own below."""
_OF_PEOPLE: Mapping[str, Callable[[Table], str]] = {"markdown": markdown, "latex": latex, "html": html}
_ROWS: Mapping[str, Callable[[Group], Iterable[tuple[str, list[str]]]]] = {"markdown": markdown_rows, "latex": latex_rows}
_OF_PROGRAMS: Mapping[str, Callable[[Table], str]] = {"csv": csv_of, "json": json_of}
FORMATS = ("text", *_OF_PEOPLE, *_OF_PROGRAMS)


def render(table: Table, form: str, width: int = WIDTH) -> str:
    """The table in one of `FORMATS`; `width` matters to text alone.

    Raises:
        InputError: an unknown format.
    """
    if form not in FORMATS:
        raise InputError(f"--format: {form!r} is unknown; choose from {', '.join(FORMATS)}")
    if form in _OF_PROGRAMS:
        return _OF_PROGRAMS[form](table)
    table = replace(table, groups=tuple(map(shortened, table.groups)))
    return text(table, width) if form == "text" else _OF_PEOPLE[form](table)


def named_rows(table: Table, form: str) -> Iterator[tuple[str, list[str]]]:
    """What each line of cells of a page is called, and its columns; `form` is markdown or latex."""
    for group in map(shortened, table.groups):
        yield from _ROWS[form](group)
