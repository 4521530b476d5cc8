"""One table, every form: text for a terminal, Markdown and LaTeX for pages, tidy CSV and nested JSON for programs.

    words (what people read) -> text, markup
    data (what programs read)

People read rounded numbers with one half-width, the wider side of the interval; programs get six digits and both ends. Nothing here computes a score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.core.errors import InputError
from bench.leaderboard import Table
from bench.render.data import CSV_COLUMNS, csv_of, json_of
from bench.render.markup import latex, markdown
from bench.render.text import text
from bench.render.words import MINUS, heading

__all__ = ["CSV_COLUMNS", "FORMATS", "MINUS", "WIDTH", "heading", "render"]

WIDTH = 160
"""Characters of a line of text; scores that do not fit move, kind by kind, to a block of their own below."""
_RENDERERS: Mapping[str, Callable[[Table], str]] = {"markdown": markdown, "latex": latex, "csv": csv_of, "json": json_of}
FORMATS = ("text", *_RENDERERS)


def render(table: Table, form: str, width: int = WIDTH) -> str:
    """The table in one of `FORMATS`; `width` matters to text alone.

    Raises:
        InputError: an unknown format.
    """
    if form not in FORMATS:
        raise InputError(f"--format: {form!r} is unknown; choose from {', '.join(FORMATS)}")
    return text(table, width) if form == "text" else _RENDERERS[form](table)
