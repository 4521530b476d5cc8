"""A table in Markdown, as wide as it is."""

from __future__ import annotations

from bench.tables.leaderboard import Group, Notes, Row, Table
from bench.tables.render import words
from bench.tables.render.markup import BEGIN, END, Marks, dressed
from bench.tables.render.words import LEFT, heading

_MARKS: Marks = {"best": ("**", "**"), "tie": ("<u>", "</u>"), "struck": ("~~", "~~")}


def markdown(table: Table) -> str:
    blocks = [block for group in table.groups for block in (f"### {heading(group)}", _group(group), _notes(group.notes))]
    begin, end = (f"<!-- {text} -->" for text in (BEGIN.format(table.name, table.sweep), END))
    return "\n\n".join(block for block in (begin, *blocks, _notes(table.legend), end) if block) + "\n"


def markdown_rows(group: Group) -> list[tuple[str, list[str]]]:
    """Every line of cells that a page has of a group: what it is called, and its columns; a header and a rule come first."""
    columns = [*words.identity(group), *words.headers(group)]
    return [(words.HEADERS, columns)] * 2 + [(row.name, columns) for row in group.body]


def _escaped(text: str) -> str:
    """With bars that do not end a cell, and brackets that begin no tag."""
    return text.replace("|", r"\|").replace("<", "&lt;")


def _group(group: Group) -> str:
    """A row's keys stand in its last cell: a comment on a line of its own would end the table."""
    identity = words.identity(group)
    rules = [":---" if header in LEFT else "---:" for header in identity] + ["---:"] * len(group.columns)
    lines = [[*identity, *map(_escaped, words.headers(group))], rules]
    for row, texts in zip(group.body, words.lines(group), strict=True):
        scores = [*[None] * len(identity), *row.cells]
        *cells, last = (dressed(_MARKS, row, cell, _escaped(text)) for cell, text in zip(scores, texts, strict=True))
        lines.append([*cells, f"{last} <!-- {_keys(row)} -->"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _keys(row: Row) -> str:
    """Those of each score, scores separated by semicolons."""
    return "; ".join(" ".join(cell.keys) if cell else "" for cell in row.cells)


def _notes(notes: Notes) -> str:
    return "\n".join(f"- **{term}** {_escaped(text)}" for term, text in notes.items())
