"""A table as a page of HTML that opens from disk; each score tells the keys of its records where the mouse rests on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from bench.tables.leaderboard import Cell, Group, Notes, Row, Table
from bench.tables.render import words
from bench.tables.render.markup import BEGIN, Marks, dressed
from bench.tables.render.words import LEFT, heading

_MARKS: Marks = {"best": ("<b>", "</b>"), "tie": ("<u>", "</u>"), "struck": ("<s>", "</s>")}
_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem; color-scheme: light dark }
h2 { font-size: 1rem; margin: 2rem 0 .5rem }
div { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .15rem .6rem; text-align: right; white-space: nowrap; font-weight: normal }
.words { text-align: left }
thead { border-top: 1.5px solid; border-bottom: 1px solid }
thead th { vertical-align: bottom; white-space: normal }
tbody { border-bottom: 1px solid }
dl { display: grid; grid-template-columns: max-content minmax(0, 80ch); gap: .1rem 1rem }
dd { margin: 0 }
"""


def html(table: Table) -> str:
    """A whole document; a group or its notes can be taken out of it."""
    title = escape(BEGIN.format(table.name, table.sweep))
    groups = "".join(f"<h2>{escape(heading(group))}</h2>\n{_group(group)}\n{_notes(group.notes)}" for group in table.groups)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{groups}{_notes(table.legend)}</body></html>\n'


def _group(group: Group) -> str:
    """A body for the references, the ranked rows and the rest."""
    identity, texts = list(words.identity(group)), words.lines(group)
    head = "".join(_tagged("th", escape(name), name in LEFT) for name in [*identity, *words.headers(group)])
    bodies = ("".join(_line(group.body[i], texts[i], identity) for i in section) for section in words.sections(group))
    body = "".join(f"<tbody>{lines}</tbody>" for lines in bodies)
    return f"<div><table>\n<thead><tr>{head}</tr></thead>\n{body}</table></div>"


def _line(row: Row, texts: Sequence[str], identity: Sequence[str]) -> str:
    known = (_tagged("td", dressed(_MARKS, row, None, escape(text)), name in LEFT) for name, text in zip(identity, texts, strict=False))
    scores = (_score(row, cell, text) for cell, text in zip(row.cells, texts[len(identity) :], strict=True))
    return f"<tr>{''.join((*known, *scores))}</tr>\n"


def _tagged(tag: str, content: str, left: bool) -> str:
    return f"<{tag}{' class=words' if left else ''}>{content}</{tag}>"


def _score(row: Row, cell: Cell | None, text: str) -> str:
    keys = f' title="{escape(" ".join(cell.keys))}"' if cell and cell.keys else ""
    return f"<td{keys}>{dressed(_MARKS, row, cell, escape(text))}</td>"


def _notes(notes: Notes) -> str:
    told = "".join(f"<dt>{escape(term)}</dt><dd>{_prose(text)}</dd>\n" for term, text in notes.items())
    return f"<dl>\n{told}</dl>\n" if notes else ""


def _prose(text: str) -> str:
    """What stands between backticks is code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
