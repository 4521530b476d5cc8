"""One table, every form: text for a terminal, Markdown and LaTeX for pages, tidy CSV and nested JSON for programs.

    words (what people read) -> text, markup
    data (what programs read)

People read rounded numbers with one half-width, the wider side of the interval; programs get six digits and both ends. Nothing here computes a score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bench.core.errors import InputError
from bench.tables.leaderboard import Table
from bench.tables.render.data import CSV_COLUMNS, csv_of, json_of
from bench.tables.render.markup import latex, markdown
from bench.tables.render.text import text
from bench.tables.render.words import MINUS, heading, shortened

__all__ = ["CSV_COLUMNS", "FORMATS", "MINUS", "WIDTH", "heading", "render"]

WIDTH = 160
"""Characters of a line of text; scores that do not fit move, kind by kind, to a block of their own below."""
_OF_PEOPLE: Mapping[str, Callable[[Table], str]] = {"markdown": markdown, "latex": latex}
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
