"""One table, every form: text for a terminal, Markdown and LaTeX for pages, tidy CSV and nested JSON for programs.

People read rounded numbers with one half-width, the wider side of the interval; programs get six digits and both ends. Nothing here computes a score.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Any

import numpy as np

from bench.core.errors import InputError
from bench.core.groups import NO_PROTECTION
from bench.leaderboard import UTILITIES, Cell, Column, Group, Notes, Row, Table

WIDTH = 160
"""Characters of a line of text; scores that do not fit move, kind by kind, to a block of their own below."""

TITLES = {
    **{"goals": "utility", "gain": "utility", "utility": "utility", "aggregate": "utility", "variance": "standard deviation"},
    **{"retest": "utility, half the seeds", "fidelity": "fidelity", "attack": "privacy attacks"},
}
OF_AGENTS = (*UTILITIES, "gain", "aggregate", "variance", "retest")
"""Kinds of score whose scorers are agents."""
LEFT = ("synthesizer", "guarantee")
"""Columns of words, aligned to the left."""
MINUS = "\N{MINUS SIGN}"
ARROWS = {"higher": "↑", "lower": "↓"}
LABELS = {"auc": "AUC", "tpr_at_1": "TPR@1%", "tpr_at_01": "TPR@.1%", "private_gain": "gain", "iqm": "IQM", "first_better": "P(first better)"}
CSV_COLUMNS = (
    *("env", "source", "preset", "rows", "synth", "unit", "guarantee", "epsilon", "delta", "epsilon_spent", "epsilon_trajectory", "accountant"),
    *("metric", "agent", "mean", "low", "high", "interval", "n", "failed", "stale", "better"),
)


def render(table: Table, form: str, width: int = WIDTH) -> str:
    """The table in one of `FORMATS`; `width` matters to text alone.

    Raises:
        InputError: an unknown format.
    """
    if form not in FORMATS:
        raise InputError(f"--format: {form!r} is unknown; choose from {', '.join(FORMATS)}")
    return _text(table, width) if form == "text" else _RENDERERS[form](table)


# --- what people read -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Printed:
    """A cell for the eye: the value, and behind it the half-width with the mark of its interval, or how many runs succeeded."""

    value: str = ""
    rest: str = ""

    def __str__(self) -> str:
        return f"{self.value} {self.rest.strip()}".strip()


def _printed(cell: Cell | None, column: Column) -> _Printed:
    if cell is None:
        return _Printed()
    if cell.failed:
        return _Printed("—", f" ({cell.n}/{cell.planned})")
    if cell.summary is None:
        return _Printed("—" if column.kind == "gain" else "n/a")
    decimals, half = _decimals(column, cell.summary.mean), cell.summary.half_width
    mark = "ᵗ" if cell.summary.interval in ("t", "run+t") else ""
    return _Printed(_rounded(cell.summary.mean, decimals, column), "" if half is None else f"±{_rounded(half, decimals, column)}{mark}")


def _decimals(column: Column, value: float) -> int:
    """Points of return have one decimal, gains two, and everything else three below ten and one less with each further digit."""
    if _in_points(column) or column.kind == "gain":
        return 1 if _in_points(column) else 2
    return 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1


def _in_points(column: Column) -> bool:
    return column.kind in (*UTILITIES, "variance", "retest") or column.score == "iqm"


def _rounded(value: float, decimals: int, column: Column) -> str:
    """A number with a true minus; shares and distances lose the zero before the point."""
    text = f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", MINUS)
    return text if _in_points(column) or column.kind == "gain" else re.sub(rf"^({MINUS}?)0\.", r"\1.", text)


def _printed_columns(group: Group) -> list[list[_Printed]]:
    """Every score column of a group, top to bottom."""
    return [[_printed(row.cells[i], column) for row in group.body] for i, column in enumerate(group.columns)]


def _identity(group: Group) -> dict[str, list[str]]:
    """Rank, synthesizer, guarantee, epsilon claimed, of a whole trajectory, and spent: top to bottom, by header."""
    return {
        **({"#": [_ranks(row) for row in group.body]} if any(row.ranks for row in group.body) else {}),
        "synthesizer": [f"{row.synth}{' †' if row.stale else ''}" for row in group.body],
        "guarantee": [row.guarantee for row in group.body],
        "ε": [_epsilon(row.epsilon) for row in group.body],
        **({"ε/traj": [_trajectory_epsilon(row) for row in group.body]} if group.max_trajectory_length else {}),
        "spent": [_epsilon(row.epsilon_spent) for row in group.body],
    }


def _ranks(row: Row) -> str:
    return "" if row.ranks is None else "-".join(str(rank) for rank in dict.fromkeys(row.ranks))


def _epsilon(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if math.isfinite(value) else "∞"


def _trajectory_epsilon(row: Row) -> str:
    """An infinity that stands for "too much" says how much that is."""
    return f"> {NO_PROTECTION:g}" if row.private and row.epsilon_trajectory == math.inf else _epsilon(row.epsilon_trajectory)


def _label(column: Column, alone: bool) -> str:
    """Header of a score; a scorer's only score goes by the scorer's name."""
    own = column.score.removeprefix(f"{column.scorer.partition('[')[0]}_").replace("_", " ")
    name = column.scorer if alone and column.kind != "gain" else LABELS.get(column.score, own)
    return f"{name} {ARROWS[column.better]}"


def _alone(group: Group) -> list[bool]:
    """Whether each column is its scorer's only one."""
    scorers = [(column.kind, column.scorer) for column in group.columns]
    return [scorers.count(scorer) == 1 for scorer in scorers]


def _titles(group: Group) -> list[str]:
    """What stands above each column; beside a utility over goals, that on the environment's own task is called by it."""
    names = {**TITLES, "utility": "own task"} if any(column.kind == "goals" for column in group.columns) else TITLES
    return [names[column.kind] for column in group.columns]


def _headers(group: Group) -> list[str]:
    """One line of headers for forms without spans over single scorers."""
    pairs = zip(group.columns, _alone(group), strict=True)
    return [_label(c, alone) if alone or c.kind == "gain" else f"{c.scorer} {_label(c, alone)}" for c, alone in pairs]


def heading(group: Group) -> str:
    """What the rows of a group have in common."""
    rows = f"{group.rows:,}" if group.rows else "nominal"
    return f"{group.env} · {group.unit}-level privacy · {rows} rows fitted, {group.released:,} released · {group.preset} · {group.source}"


def _lines(group: Group) -> list[tuple[str, ...]]:
    """Every cell of every row, for forms that do not align numbers."""
    scores = ([str(cell) for cell in column] for column in _printed_columns(group))
    return list(zip(*_identity(group).values(), *scores, strict=True))


def _sections(group: Group) -> list[list[int]]:
    """Row numbers of the references, the ranked rows and the rest."""
    kinds = groupby(range(len(group.body)), key=lambda i: (group.body[i].private, group.body[i].ranks is None))
    return [list(rows) for _, rows in kinds]


# --- text -------------------------------------------------------------------------------------------------------------


def _text(table: Table, width: int) -> str:
    blocks = [block for group in table.groups for block in (_text_group(group, width), _text_notes(group.notes, width))]
    return "\n\n".join([*(block for block in blocks if block), _text_notes(table.legend, width)]) + "\n"


def _text_group(group: Group, width: int) -> str:
    columns = [_TextColumn.of_scores(*parts) for parts in zip(_titles(group), group.columns, _alone(group), _printed_columns(group), strict=True)]
    identity = {header: _TextColumn.of_names(header, cells) for header, cells in _identity(group).items()}
    panels, first = [], list(identity.values())
    for panel in _packed(columns, width - _width(first)):
        panels.append(_text_panel([*first, *panel], _sections(group)))
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
    def of_scores(cls, title: str, column: Column, alone: bool, cells: Sequence[_Printed]) -> _TextColumn:
        """Points stand below points, half-widths below half-widths."""
        decimals = [len(cell.value.partition(".")[2]) for cell in cells]
        values = [cell.value + " " * (max(decimals) - own if own else 0) for cell, own in zip(cells, decimals, strict=True)]
        value, rest = max(map(len, values)), max(len(cell.rest) for cell in cells)
        lines = [f"{text:>{value}}{cell.rest:<{rest}}" for text, cell in zip(values, cells, strict=True)]
        label = _label(column, alone).replace(" " + ARROWS[column.better], "\xa0" + ARROWS[column.better])
        header = textwrap.wrap(label.replace("[", " [").replace(",", ", "), max(9, value + rest), break_long_words=False)
        width = max(map(len, (*header, lines[0])))
        return cls(title, "" if alone or column.kind == "gain" else column.scorer, header, lines, False, width)

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
    spans = [_spans(columns, attribute) for attribute in ("title", "scorer")]
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
            same[-1].width += max(0, len(name) + 4 - (_width(same) - 2)) if name else 0


def _spans(columns: Sequence[_TextColumn], attribute: str) -> str:
    pieces = [f" {name} ".center(_width(same) - 2, "─") if name else " " * (_width(same) - 2) for name, same in _same(columns, attribute)]
    return "  ".join(pieces).rstrip()


def _text_notes(notes: Notes, width: int) -> str:
    margin = max(map(len, notes), default=0) + 2
    wrapped = (textwrap.wrap(text, min(width, 130) - margin, break_on_hyphens=False) for text in notes.values())
    return "\n".join(f"{term:<{margin}}" + f"\n{' ' * margin}".join(lines) for term, lines in zip(notes, wrapped, strict=True))


# --- markdown ---------------------------------------------------------------------------------------------------------


def _markdown(table: Table) -> str:
    blocks = [block for group in table.groups for block in (f"### {heading(group)}", _markdown_group(group), _markdown_notes(group.notes))]
    return "\n\n".join(block for block in (*blocks, _markdown_notes(table.legend)) if block) + "\n"


def _markdown_group(group: Group) -> str:
    identity = _identity(group)
    rules = [":---" if header in LEFT else "---:" for header in identity] + ["---:"] * len(group.columns)
    lines = [[*identity, *_headers(group)], rules, *_lines(group)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _markdown_notes(notes: Notes) -> str:
    return "\n".join(f"- **{term}** {text.replace('|', chr(92) + '|').replace('<', '&lt;')}" for term, text in notes.items())


# --- latex ------------------------------------------------------------------------------------------------------------

_TEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "—": "---", "·": r"$\cdot$", "ᵗ": r"$^{t}$"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$", MINUS: "$-$", "∞": r"$\infty$", "†": r"$\dagger$"}
    | {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "ε": r"$\varepsilon$", "δ": r"$\delta$"}
)


def _tex(text: str) -> str:
    """Escaped, in plain ASCII: what LaTeX could not set becomes a question mark."""
    return text.translate(_TEX).encode("ascii", "replace").decode()


def _latex(table: Table) -> str:
    groups = [line for group in table.groups for line in _latex_group(group)]
    return "\n".join(["% needs \\usepackage{booktabs,graphicx}", *groups, *_latex_notes(table.legend)]) + "\n"


def _latex_group(group: Group) -> Iterator[str]:
    yield from (r"\begin{table*}", r"\centering", rf"\caption{{{_tex(heading(group))}}}", r"\resizebox{\textwidth}{!}{%")
    identity = _identity(group)
    yield rf"\begin{{tabular}}{{{''.join('l' if header in LEFT else 'r' for header in identity)}{'r' * len(group.columns)}}}"
    yield r"\toprule"
    yield from _latex_spans(group, len(identity))
    yield _latex_line([*identity, *_headers(group)])
    lines = _lines(group)
    for rows in _sections(group):
        yield r"\midrule"
        yield from (_latex_line(lines[i]) for i in rows)
    yield from (r"\bottomrule", r"\end{tabular}}", *_latex_notes(group.notes), r"\end{table*}")


def _latex_spans(group: Group, before: int) -> Iterator[str]:
    """The kinds of score above their columns, each with a rule; so many columns stand before them."""
    spans = [(title, len(list(same))) for title, same in groupby(_titles(group))]
    ends = list(accumulate((size for _, size in spans), initial=before))
    yield " & ".join([*[""] * before, *(rf"\multicolumn{{{size}}}{{c}}{{{title}}}" for title, size in spans)]) + r" \\"
    yield " ".join(rf"\cmidrule(lr){{{start + 1}-{stop}}}" for start, stop in pairwise(ends))


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join(map(_tex, cells)) + r" \\"


def _latex_notes(notes: Notes) -> list[str]:
    return [rf"\par\noindent{{\footnotesize\textbf{{{_tex(term)}}} {_tex(text)}\par}}" for term, text in notes.items()]


# --- csv and json -----------------------------------------------------------------------------------------------------


def _csv(table: Table) -> str:
    """One line for each row and score that was planned; no timings, so that equal runs give equal bytes."""
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for group in table.groups:
        for row in group.body:
            scores = ((column, cell) for column, cell in zip(group.columns, row.cells, strict=True) if cell)
            writer.writerows(_csv_line(group, row, column, cell) for column, cell in scores)
    return file.getvalue()


def _csv_line(group: Group, row: Row, column: Column, cell: Cell) -> dict[str, str]:
    """`metric` is the score's name, with its scorer in front where that says more; `failed` counts every planned run without a result."""
    of_agents = column.kind in OF_AGENTS
    name = column.score if of_agents or column.score.replace("_", "-") == column.scorer else f"{column.scorer}/{column.score}"
    agent = column.scorer if of_agents else ""
    values = {name: getattr(group, name) for name in ("env", "source", "preset", "rows", "unit")}
    values |= {name: getattr(row, name) for name in ("synth", "guarantee", "epsilon", "delta", "epsilon_spent", "epsilon_trajectory", "accountant")}
    values |= {name: getattr(cell.summary, name, None) for name in ("mean", "low", "high", "interval")}
    values |= {"metric": name, "agent": agent, "n": cell.n, "failed": cell.failed, "stale": cell.stale, "better": column.better}
    return {name: _csv_value(values[name]) for name in CSV_COLUMNS}


def _csv_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _json(table: Table) -> str:
    return json.dumps(_plain(table), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Plain JSON, floats with six digits; infinity is a string, a missing score null."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None if math.isnan(value) else str(value)
    return value


_RENDERERS: Mapping[str, Callable[[Table], str]] = {"markdown": _markdown, "latex": _latex, "csv": _csv, "json": _json}
FORMATS = ("text", *_RENDERERS)
