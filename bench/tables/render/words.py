"""What people read of a table, whatever the page: rounded numbers, the names of rows and columns, the lines of a group."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from itertools import groupby

from bench.core.groups import NO_PROTECTION
from bench.tables.leaderboard import STRUCK, UTILITIES, Cell, Column, Group, Row
from bench.tables.naming import short_names
from bench.tables.stats import Summary

TITLES = {
    **{"goals": "utility", "gain": "utility", "utility": "utility", "aggregate": "utility", "difference": "utility"},
    **{"variance": "standard deviation", "retest": "utility, half the seeds", "fidelity": "fidelity", "evidence": "evidence of privacy"},
    **{"attack": "privacy attacks", "resources": "time and memory", "published": "published"},
}
DERIVED = ("gain", "difference")
"""Scores that follow from others: they go by their own name, not by that of the agent."""
LEFT = ("synthesizer", "guarantee")
"""Columns of words, aligned to the left."""
HEADERS = "headers"
"""What a page's lines of headers are called, as its others are called by synthesizer and ε."""
MINUS = "\N{MINUS SIGN}"
ARROWS = {"higher": "↑", "lower": "↓"}
LABELS = {
    **{"auc": "AUC", "tpr_at_20": "TPR@20%", "tpr_at_10": "TPR@10%", "tpr_at_1": "TPR@1%", "tpr_at_01": "TPR@.1%", "audited": "audited ≥"},
    **{"private_gain": "gain", "minus_base": "minus base", "iqm": "IQM", "first_better": "P(first better)"},
}


@dataclass(frozen=True)
class Printed:
    """A cell for the eye: the value, and behind it the half-width with the mark of its interval, or how many runs succeeded."""

    value: str = ""
    rest: str = ""

    def __str__(self) -> str:
        return f"{self.value} {self.rest.strip()}".strip()


def _printed(cell: Cell | None, column: Column) -> Printed:
    if cell is None:
        return Printed()
    if cell.failed:
        return Printed("—", f" ({cell.n}/{cell.planned})")
    if cell.summary is None:
        return Printed("—" if column.kind in ("gain", "evidence") else "n/a")
    if cell.ceiling is not None:
        return Printed(f"{cell.summary.mean:.2f}", f" (of {cell.ceiling:.1f})")
    if column.kind == "published":
        return Printed(f"{cell.summary.mean:g}")
    return _with_interval(cell.summary, column)


def _with_interval(summary: Summary, column: Column) -> Printed:
    """The mean, and the wider side of its interval; both ends of that of a standard deviation, one of which is far away."""
    decimals = _decimals(column, summary.mean)
    value, half, *ends = (
        "" if number is None else _rounded(number, decimals, column) for number in (summary.mean, summary.half_width, summary.low, summary.high)
    )
    if column.kind == "variance":
        return Printed(value, f" ({' to '.join(ends)})")
    mark = "ᵗ" if summary.interval in ("t", "run+t") else ""
    return Printed(value, f"±{half}{mark}" if half else "")


def _decimals(column: Column, value: float) -> int:
    """Points of return have one decimal, gains two, and everything else three below ten and one less with each further digit."""
    if _in_points(column) or column.kind == "gain":
        return 1 if _in_points(column) else 2
    return 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1


def _in_points(column: Column) -> bool:
    return column.kind in (*UTILITIES, "variance", "retest", "difference") or column.score == "iqm"


def _rounded(value: float, decimals: int, column: Column) -> str:
    """A number with a true minus; shares and distances lose the zero before the point."""
    text = f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", MINUS)
    return text if _in_points(column) or column.kind == "gain" else re.sub(rf"^({MINUS}?)0\.", r"\1.", text)


def printed_columns(group: Group) -> list[list[Printed]]:
    """Every score column of a group, top to bottom."""
    return [[_printed(row.cells[i], column) for row in group.body] for i, column in enumerate(group.columns)]


def shortened(group: Group) -> Group:
    """The group with bare names for plugins that have settings, where these tell them apart, and a note that gives them in full."""
    names = short_names(group.columns)
    full = "; ".join(scorer for scorer, name in names.items() if name != scorer)
    columns = tuple(replace(column, scorer=names.get(column.scorer, column.scorer)) for column in group.columns)
    return replace(group, columns=columns, notes={"in full": full, **group.notes}) if full else group


def identity(group: Group) -> dict[str, list[str]]:
    """Rank, synthesizer, guarantee, epsilon claimed, of a whole trajectory, and spent: top to bottom, by header."""
    return {
        **({"#": [_ranks(row) for row in group.body]} if any(row.ranks for row in group.body) else {}),
        "synthesizer": [_name(row) for row in group.body],
        "guarantee": [row.guarantee for row in group.body],
        "ε": [_epsilon(row.epsilon) for row in group.body],
        **({"ε/traj": [_trajectory_epsilon(row) for row in group.body]} if group.max_trajectory_length else {}),
        "spent": [_epsilon(row.epsilon_spent) for row in group.body],
    }


def _name(row: Row) -> str:
    return f"{f'{STRUCK} ' if row.verdict else ''}{row.synth}{' †' if row.stale else ''}"


def _ranks(row: Row) -> str:
    return "" if row.ranks is None else "-".join(str(rank) for rank in dict.fromkeys(row.ranks))


def _epsilon(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if math.isfinite(value) else "∞"


def _trajectory_epsilon(row: Row) -> str:
    """An infinity that stands for "too much" says how much that is."""
    return f"> {NO_PROTECTION:g}" if row.private and row.epsilon_trajectory == math.inf else _epsilon(row.epsilon_trajectory)


def label(column: Column, alone: bool) -> str:
    """Header of a score; a scorer's only score goes by the scorer's name."""
    own = column.score.removeprefix(f"{column.scorer.partition('[')[0]}_").replace("_", " ")
    name = LABELS.get(column.scorer, column.scorer) if alone and column.kind not in DERIVED else LABELS.get(column.score, own)
    return f"{name} {ARROWS[column.better]}" if column.better else name


def alone(group: Group) -> list[bool]:
    """Whether each column is its scorer's only one."""
    scorers = [(column.kind, column.env, column.scorer) for column in group.columns]
    return [scorers.count(scorer) == 1 for scorer in scorers]


def titles(group: Group) -> list[str]:
    """What stands above each column: its environment where several stand side by side, else its kind."""
    return [_title(column, group) for column in group.columns]


def _title(column: Column, group: Group) -> str:
    """Beside a utility over goals, that on the environment's own task is called by it."""
    if column.env:
        return f"{column.env}, published" if column.kind == "published" else column.env
    return "own task" if column.kind == "utility" and any(other.kind == "goals" for other in group.columns) else TITLES[column.kind]


def headers(group: Group) -> list[str]:
    """One line of headers for forms without names above several columns."""
    pairs = zip(group.columns, alone(group), strict=True)
    return [" ".join(filter(None, (_context(column, only), label(column, only)))) for column, only in pairs]


def _context(column: Column, alone: bool) -> str:
    """What a label leaves to the names above it."""
    published = "published" if column.kind == "published" else ""
    return " ".join(filter(None, (column.env, published, "" if alone or column.kind in DERIVED else column.scorer)))


def heading(group: Group) -> str:
    """What the rows of a group have in common."""
    rows = f"{group.rows:,}" if group.rows else "nominal"
    return f"{group.env} · {group.unit}-level privacy · {rows} rows fitted, {group.released:,} released · {group.preset} · {group.source}"


def lines(group: Group) -> list[tuple[str, ...]]:
    """Every cell of every row, for forms that do not align numbers."""
    scores = ([str(cell) for cell in column] for column in printed_columns(group))
    return list(zip(*identity(group).values(), *scores, strict=True))


def sections(group: Group) -> list[list[int]]:
    """Row numbers of the references, the ranked rows and the rest."""
    kinds = groupby(range(len(group.body)), key=lambda i: (group.body[i].private, group.body[i].ranks is None))
    return [list(rows) for _, rows in kinds]
