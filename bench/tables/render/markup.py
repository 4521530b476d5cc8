"""Tables for pages: Markdown and LaTeX.

Both are framed by comments that name the table and its sweep, and each score carries the keys of its records in one: `bench verify` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate, groupby, pairwise

from bench.tables.leaderboard import Cell, Group, Notes, Row, Table
from bench.tables.render import words
from bench.tables.render.words import LEFT, MINUS, heading

BEGIN, END = "bench table {} of sweep {}", "end of the bench table"

Marks = Mapping[str, tuple[str, str]]
"""What stands before and behind a cell that is the best, a tie with it, or struck out."""


def _dressed(marks: Marks, row: Row, cell: Cell | None, text: str) -> str:
    """A cell as it stands in its row: crossed out if the row's claim does not hold."""
    how = "struck" if row.verdict else cell.mark if cell else None
    before, behind = marks[how] if how and text else ("", "")
    return f"{before}{text}{behind}"


def _dressed_rows(marks: Marks, group: Group, escaped: Callable[[str], str]) -> list[list[str]]:
    """Every cell of every row, identity first."""
    before = len(words.identity(group))
    return [
        [_dressed(marks, row, cell, escaped(text)) for cell, text in zip((*[None] * before, *row.cells), line, strict=True)]
        for row, line in zip(group.body, words.lines(group), strict=True)
    ]


# --- markdown ---------------------------------------------------------------------------------------------------------

_MARKDOWN: Marks = {"best": ("**", "**"), "tie": ("<u>", "</u>"), "struck": ("~~", "~~")}


def _piped(text: str) -> str:
    """With bars that do not end a cell."""
    return text.replace("|", r"\|")


def markdown(table: Table) -> str:
    blocks = [block for group in table.groups for block in (f"### {heading(group)}", _markdown_group(group), _markdown_notes(group.notes))]
    begin, end = (f"<!-- {text} -->" for text in (BEGIN.format(table.name, table.sweep), END))
    return "\n\n".join(block for block in (begin, *blocks, _markdown_notes(table.legend), end) if block) + "\n"


def _markdown_group(group: Group) -> str:
    """A row's keys stand in its last cell: a comment on a line of its own would end the table."""
    identity = words.identity(group)
    rules = [":---" if header in LEFT else "---:" for header in identity] + ["---:"] * len(group.columns)
    rows = zip(_dressed_rows(_MARKDOWN, group, _piped), map(_keys_of_row, group.body), strict=True)
    body = [[*cells[:-1], f"{cells[-1]} <!-- {keys} -->"] for cells, keys in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [[*identity, *words.headers(group, titled=False)], rules, *body])


def _keys_of_row(row: Row) -> str:
    """Those of each score, scores separated by semicolons."""
    return "; ".join(" ".join(cell.keys) if cell else "" for cell in row.cells)


def _markdown_notes(notes: Notes) -> str:
    return "\n".join(f"- **{term}** {_piped(text).replace('<', '&lt;')}" for term, text in notes.items())


# --- latex ------------------------------------------------------------------------------------------------------------

_LATEX: Marks = {"best": (r"\textbf{", "}"), "tie": (r"\underline{", "}"), "struck": (r"\sout{", "}")}
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
    groups = [line for group in table.groups for line in _latex_group(group)]
    return "\n".join([begin, needs, *groups, *_latex_notes(table.legend), end]) + "\n"


def _latex_group(group: Group) -> Iterator[str]:
    yield from (r"\begin{table*}", r"\centering", rf"\caption{{{_tex(heading(group))}}}")
    yield r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"  # wide tables shrink, narrow ones stay
    identity = words.identity(group)
    yield rf"\begin{{tabular}}{{{''.join('l' if header in LEFT else 'r' for header in identity)}{'r' * len(group.columns)}}}"
    yield r"\toprule"
    yield from _latex_spans(group, len(identity))
    yield _latex_line(map(_tex, [*identity, *words.headers(group, titled=True)]))
    lines = _dressed_rows(_LATEX, group, _tex)
    for rows in words.sections(group):
        yield r"\midrule"
        for i in rows:
            yield from _latex_row(lines[i], group.body[i])
    yield from (r"\bottomrule", r"\end{tabular}}", *_latex_notes(group.notes), r"\end{table*}")


def _latex_spans(group: Group, before: int) -> Iterator[str]:
    """The kinds of score above their columns, each with a rule; so many columns stand before them."""
    spans = [(title, len(list(same))) for title, same in groupby(words.titles(group))]
    ends = list(accumulate((size for _, size in spans), initial=before))
    yield _latex_line([*[""] * before, *(rf"\multicolumn{{{size}}}{{c}}{{{_tex(title)}}}" for title, size in spans)])
    yield " ".join(rf"\cmidrule(lr){{{start + 1}-{stop}}}" for start, stop in pairwise(ends))


def _latex_row(cells: list[str], row: Row) -> Iterator[str]:
    """A line for each score, which ends in its keys; the cells before them share the first."""
    before = len(cells) - len(row.cells)
    yield " & ".join(cells[:before]) + " &"
    ends = [*["&"] * (len(row.cells) - 1), r"\\"]
    for text, end, cell in zip(cells[before:], ends, row.cells, strict=True):
        yield " ".join(filter(None, (text, end, f"% {' '.join(cell.keys)}" if cell and cell.keys else "")))


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_notes(notes: Notes) -> list[str]:
    return [rf"\par\noindent{{\footnotesize\textbf{{{_tex(term)}}} {_tex(text)}\par}}" for term, text in notes.items()]
