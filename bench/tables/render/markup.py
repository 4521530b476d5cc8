"""What Markdown, LaTeX and HTML share: the words that frame a table and name it and its sweep, and the marks of cells.

In Markdown and LaTeX these words are comments, and each score carries the keys of its records in one too: `bench verify` reads them all.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.tables.leaderboard import Cell, Row

BEGIN, END = "bench table {} of sweep {}", "end of the bench table"

Marks = Mapping[str, tuple[str, str]]
"""What stands before and behind a cell that is the best, a tie with it, or struck out."""


def dressed(marks: Marks, row: Row, cell: Cell | None, text: str) -> str:
    """A cell as it stands in its row: crossed out if the row's claim does not hold."""
    how = "struck" if row.verdict else cell.mark if cell else None
    before, behind = marks[how] if how and text else ("", "")
    return f"{before}{text}{behind}"
