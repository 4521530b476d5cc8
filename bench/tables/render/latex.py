"""A table in LaTeX: booktabs tabulars that can be read on a page of a paper, one below the other, in as many floats as pages need."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

from bench.tables.leaderboard import Cell, Group, Notes, Row, Table
from bench.tables.render import words
from bench.tables.render.markup import BEGIN, END, Marks, dressed
from bench.tables.render.panels import SPANS, PageColumn, Ruler, columns_of, filled, header_lines, panels, span_lines
from bench.tables.render.words import MINUS, heading

_WIDTHS = {
    **dict.fromkeys(".,:;|[]'il", 0.3),
    **dict.fromkeys(" -()/fjrst", 0.42),
    **dict.fromkeys(f"ABCDEFGHIJKLMNOPQRSTUVWXYZmw%@&+<>=±≥∞✗—{MINUS}", 0.83),
}
"""Of characters of Computer Modern, in em; all others, digits among them, have at most 0.55 in the mean of a word."""
_EM = 8.0
"""Points of \\footnotesize in a document of 10 pt."""


def _points(text: str) -> float:
    """How wide a text is, give or take a point."""
    return _EM * sum(_WIDTHS.get(character, 0.55) for character in text)


_RULER = Ruler(_points, room=6.5 * 72.27, gap=6.0, frame=0.0, header=44.0, name=120.0)
"""A page of US letter with margins of an inch; narrower text, and bold digits in every column, shrink a table a little."""
_LINES = 62
"""Lines of \\footnotesize in a float: a page of 9 in has 68, of which the caption and its space take six."""
_RULES = 3
"""Lines that the rules of a tabular and the space around them take."""
_MARKS: Marks = {"best": (r"\textbf{", "}"), "tie": (r"\underline{", "}"), "struck": (r"\sout{", "}")}
_TEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "—": "---", "·": r"$\cdot$", "ᵗ": r"$^{t}$"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$", MINUS: "$-$", "∞": r"$\infty$", "†": r"$\dagger$", "✗": r"$\times$", "≥": r"$\geq$"}
    | {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "ε": r"$\varepsilon$", "δ": r"$\delta$", "τ": r"$\tau$"}
)


def _tex(text: str) -> str:
    """Escaped, in plain ASCII: what LaTeX could not set becomes a question mark."""
    return text.translate(_TEX).encode("ascii", "replace").decode()


def latex(table: Table) -> str:
    begin, end = (f"% {text}" for text in (BEGIN.format(table.name, table.sweep), END))
    needs = r"% needs \usepackage{booktabs,graphicx} and \usepackage[normalem]{ulem}"
    groups = [line for group in table.groups for line in _floats(group)]
    return "\n".join([begin, needs, *groups, *_notes(table.legend), end]) + "\n"


def latex_rows(group: Group) -> Iterator[tuple[str, list[str]]]:
    """Every line of cells that a page has of a group: what it is called, and its columns; headers come first in each panel."""
    headers = words.headers(group)
    for panel in _panels(group):
        columns = [column.header[0] if column.place is None else headers[column.place] for column in panel]
        yield from ((row, columns) for row in [words.HEADERS] * _rows(_headers(panel)))
        yield from ((group.body[i].name, columns) for rows in filled(panel, group) for i in rows)


# --- floats -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Block:
    """What is not broken over pages: source, and how many lines it takes in print."""

    source: Sequence[str]
    lines: int


def _floats(group: Group) -> Iterator[str]:
    """Each as long as a page at most, unless a single panel is longer."""
    blocks = [*(_tabular(panel, group) for panel in _panels(group)), _below(group.notes)]
    pages: list[list[_Block]] = []
    for block in blocks:
        if not pages or sum(each.lines for each in pages[-1]) + block.lines > _LINES:
            pages.append([])
        pages[-1].append(block)
    for number, page in enumerate(pages):
        yield from (r"\begin{table*}", r"\centering", *([r"\addtocounter{table}{-1}"] if number else []))
        yield rf"\caption{{{_tex(heading(group))}{' (continued)' if number else ''}}}"
        yield r"\footnotesize\setlength{\tabcolsep}{3pt}"
        yield from (line for block in page for line in (r"\par\medskip", *block.source))
        yield r"\end{table*}"


def _below(notes: Notes) -> _Block:
    lines = (math.ceil(_points(f"{term} {text}") / _RULER.room) for term, text in notes.items())
    return _Block([r"\raggedright", *_notes(notes)], sum(lines))


def _notes(notes: Notes) -> list[str]:
    """One paragraph each."""
    return [rf"\par\noindent{{\footnotesize\textbf{{{_tex(term)}}} {_prose(text)}\par}}" for term, text in notes.items()]


def _prose(text: str) -> str:
    """With commands as they are typed, and lists of settings that may be broken behind their commas."""
    return re.sub(r",(?=[a-z])", r",\\allowbreak{}", re.sub(r"`([^`]*)`", r"\\texttt{\1}", _tex(text)))


# --- panels -----------------------------------------------------------------------------------------------------------


def _panels(group: Group) -> list[list[PageColumn]]:
    scores = ([f"{cell.value}{cell.rest}".strip() for cell in column] for column in words.printed_columns(group))
    return panels(columns_of(group, [*words.identity(group).values(), *scores], _RULER), _RULER)


def _cell(row: Row, column: PageColumn) -> Cell | None:
    return None if column.place is None else row.cells[column.place]


def _tabular(panel: Sequence[PageColumn], group: Group) -> _Block:
    headers, sections = list(_headers(panel)), filled(panel, group)
    alignment = "".join("l" if column.left else "r" for column in panel)
    source = [r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"]
    source += [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", *headers]
    for rows in sections:
        source += [r"\midrule", *(line for i in rows for line in _row(panel, group.body[i], i))]
    return _Block([*source, r"\bottomrule", r"\end{tabular}}"], _rows(headers) + sum(map(len, sections)) + _RULES)


def _headers(panel: Sequence[PageColumn]) -> Iterator[str]:
    for span in SPANS:
        yield from _spans(panel, span)
    yield from (_line(map(_tex, line)) for line in header_lines(panel))


def _rows(headers: Iterable[str]) -> int:
    """How many of the lines are rows of cells; the others are rules."""
    return sum(line.endswith(r"\\") for line in headers)


def _spans(panel: Sequence[PageColumn], span: str) -> Iterator[str]:
    """The names above their columns, each with a rule."""
    lines = span_lines(panel, span, _RULER)
    for line in lines:
        yield _line(chain.from_iterable([rf"\multicolumn{{{len(own)}}}{{c}}{{{_tex(name)}}}"] if name else [""] * len(own) for name, own in line))
    for line in lines[-1:]:
        ends = accumulate((len(own) for _, own in line), initial=0)
        yield " ".join(rf"\cmidrule(lr){{{start + 1}-{stop}}}" for (start, stop), (name, _) in zip(pairwise(ends), line, strict=True) if name)


def _row(panel: Sequence[PageColumn], row: Row, number: int) -> Iterator[str]:
    """A line for each score, which ends in its keys; the cells before them share the first."""
    texts = [dressed(_MARKS, row, _cell(row, column), _tex(column.cells[number])) for column in panel]
    before = sum(column.place is None for column in panel)
    yield " & ".join(texts[:before]) + " &"
    ends = [*["&"] * (len(panel) - before - 1), r"\\"]
    for text, end, column in zip(texts[before:], ends, panel[before:], strict=True):
        cell = _cell(row, column)
        yield " ".join(filter(None, (text, end, f"% {' '.join(cell.keys)}" if cell and cell.keys else "")))


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
