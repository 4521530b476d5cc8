"""Tables for pages: Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate, groupby, pairwise

from bench.leaderboard import Group, Notes, Row, Table
from bench.render import words
from bench.render.words import LEFT, MINUS, heading

# --- markdown ---------------------------------------------------------------------------------------------------------


def markdown(table: Table) -> str:
    blocks = [block for group in table.groups for block in (f"### {heading(group)}", _markdown_group(group), _markdown_notes(group.notes))]
    return "\n\n".join(block for block in (*blocks, _markdown_notes(table.legend)) if block) + "\n"


def _markdown_group(group: Group) -> str:
    identity = words.identity(group)
    rules = [":---" if header in LEFT else "---:" for header in identity] + ["---:"] * len(group.columns)
    body = [[_crossed("~~{}~~", row, cell.replace("|", r"\|")) for cell in line] for row, line in zip(group.body, words.lines(group), strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [[*identity, *words.headers(group)], rules, *body])


def _crossed(struck: str, row: Row, cell: str) -> str:
    """A cell as it stands in a row, crossed out if the row's claim does not hold."""
    return struck.format(cell) if row.verdict and cell else cell


def _markdown_notes(notes: Notes) -> str:
    return "\n".join(f"- **{term}** {text.replace('|', chr(92) + '|').replace('<', '&lt;')}" for term, text in notes.items())


# --- latex ------------------------------------------------------------------------------------------------------------

_TEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "—": "---", "·": r"$\cdot$", "ᵗ": r"$^{t}$"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$", MINUS: "$-$", "∞": r"$\infty$", "†": r"$\dagger$", "✗": r"$\times$", "≥": r"$\geq$"}
    | {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "ε": r"$\varepsilon$", "δ": r"$\delta$"}
)


def _tex(text: str) -> str:
    """Escaped, in plain ASCII: what LaTeX could not set becomes a question mark."""
    return text.translate(_TEX).encode("ascii", "replace").decode()


def latex(table: Table) -> str:
    groups = [line for group in table.groups for line in _latex_group(group)]
    return "\n".join(["% needs \\usepackage{booktabs,graphicx} and \\usepackage[normalem]{ulem}", *groups, *_latex_notes(table.legend)]) + "\n"


def _latex_group(group: Group) -> Iterator[str]:
    yield from (r"\begin{table*}", r"\centering", rf"\caption{{{_tex(heading(group))}}}", r"\resizebox{\textwidth}{!}{%")
    identity = words.identity(group)
    yield rf"\begin{{tabular}}{{{''.join('l' if header in LEFT else 'r' for header in identity)}{'r' * len(group.columns)}}}"
    yield r"\toprule"
    yield from _latex_spans(group, len(identity))
    yield _latex_line(map(_tex, [*identity, *words.headers(group)]))
    lines = words.lines(group)
    for rows in words.sections(group):
        yield r"\midrule"
        yield from (_latex_line(_crossed(r"\sout{{{}}}", group.body[i], _tex(cell)) for cell in lines[i]) for i in rows)
    yield from (r"\bottomrule", r"\end{tabular}}", *_latex_notes(group.notes), r"\end{table*}")


def _latex_spans(group: Group, before: int) -> Iterator[str]:
    """The kinds of score above their columns, each with a rule; so many columns stand before them."""
    spans = [(title, len(list(same))) for title, same in groupby(words.titles(group))]
    ends = list(accumulate((size for _, size in spans), initial=before))
    yield " & ".join([*[""] * before, *(rf"\multicolumn{{{size}}}{{c}}{{{title}}}" for title, size in spans)]) + r" \\"
    yield " ".join(rf"\cmidrule(lr){{{start + 1}-{stop}}}" for start, stop in pairwise(ends))


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_notes(notes: Notes) -> list[str]:
    return [rf"\par\noindent{{\footnotesize\textbf{{{_tex(term)}}} {_tex(text)}\par}}" for term, text in notes.items()]
