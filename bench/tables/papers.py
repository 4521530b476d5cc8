"""The tables of the paper by name, from the leaderboard: its scores in their layout, beside the published ones.

    Table -> Table -> bench.tables.render

I, III and XII put environments side by side, epsilon by epsilon; `ablation` and `sweep` hold variants of a method against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from bench.core.errors import InputError
from bench.core.protocols import Guarantee
from bench.tables.analysis import in_one_row, side_by_side, under_one_heading
from bench.tables.evidence import BEST, BRIEFLY, LEVELS
from bench.tables.leaderboard import STRUCK, UTILITIES, Cell, Column, Group, Notes, Row, Table, method_names
from bench.tables.naming import row_label
from bench.tables.published import with_published
from bench.tables.stats import paired_difference

Wanted = Callable[[Column], bool]
MARKS = (STRUCK, "runs", "ᵗ", "— (k/n)", "†")
"""What the legend of the leaderboard says of any table."""
FIDELITY = ("one_way", "correlation")
"""Our scores that the paper has too: its marginal and its correlation."""


# --- I, III, XII ------------------------------------------------------------------------------------------------------------------------------------


def utility_table(table: Table) -> Table:
    """I: environments x agents, for each method at each epsilon, with floors and ceiling.

    Raises:
        InputError: no agent was trained.
    """
    return _side_by_side(table, "I", lambda column: column.kind in UTILITIES, ("utility", "own task"), "trains no agent; run one with --agents")


def fidelity_table(table: Table) -> Table:
    """III: one-way marginals and correlations.

    Raises:
        InputError: neither was scored.
    """
    return _side_by_side(table, "III", lambda column: column.score in FIDELITY, ("fidelity",), "scores neither")


def membership_table(table: Table) -> Table:
    """XII: true positives of membership inference at the published false positive rates, the best attack first; AUC of attacks without them.

    Raises:
        InputError: no such attack was run.
    """
    columns = [column for group in table.groups for column in group.columns]
    with_levels = {column.scorer for column in columns if column.score in LEVELS}

    def wanted(column: Column) -> bool:
        return column.score in LEVELS or (column.score == "auc" and column.scorer not in with_levels)

    laid_out = _side_by_side(table, "XII", wanted, (BEST, "attack"), "runs no membership inference")
    return replace(laid_out, groups=tuple(map(_published_second, laid_out.groups)))


def _published_second(group: Group) -> Group:
    """Of each environment the best attack, what the paper prints, and the single attacks."""
    environments = [column.env for column in group.columns]
    order = ("evidence", "published", "attack")
    return group.only(sorted(range(len(environments)), key=lambda i: (environments.index(environments[i]), order.index(group.columns[i].kind))))


def _side_by_side(table: Table, name: str, wanted: Wanted, terms: tuple[str, ...], otherwise: str) -> Table:
    groups = [_joined(groups, wanted) for groups in side_by_side(table.groups)]
    if not any(group.body for group in groups):
        raise InputError(f"--paper {name}: the newest sweep {otherwise}")
    finished = tuple(with_published(_without_idle_notes(_marked(_by_epsilon(group))), name) for group in groups if group.body)
    return Table(finished, _legend(table, finished, (*terms, *MARKS)))


def _joined(groups: Sequence[Group], wanted: Wanted) -> Group:
    """The wanted columns of several environments in one group, whose rows are those that any of them has; a single one needs no label."""
    labels = [group.env if len(groups) > 1 else "" for group in groups]
    bodies = [{(row.synth, row.epsilon): row for row in group.body} for group in groups]
    columns = [[i for i, column in enumerate(group.columns) if wanted(column)] for group in groups]
    rows = [_joined_row([body.get(name) for body in bodies], columns) for name in dict.fromkeys(chain(*bodies))]
    return replace(
        under_one_heading(groups),
        columns=tuple(replace(group.columns[i], env=env) for group, env, own in zip(groups, labels, columns, strict=True) for i in own),
        body=tuple(row for row in rows if any(row.cells)),
    )


def _without_idle_notes(group: Group) -> Group:
    """Without notes on scores that it does not show."""
    by_auc = any((column.scorer, column.score) == (BEST, "auc") for column in group.columns)
    utility = any(column.kind in UTILITIES for column in group.columns)
    shown = {"policies": utility, "validity": utility, BEST: by_auc}
    return replace(group, notes={term: text for term, text in group.notes.items() if shown.get(term, True)})


def _joined_row(rows: Sequence[Row | None], columns: Sequence[Sequence[int]]) -> Row:
    """A method at one epsilon on every environment; None where it was not run."""
    return in_one_row(rows, (row.cells[i] if row else None for row, own in zip(rows, columns, strict=True) for i in own))


def _by_epsilon(group: Group) -> Group:
    """References as they stand, then private rows by epsilon and the first score; at each, rows whose claim does not hold last."""
    return replace(group, body=tuple(sorted(group.body, key=lambda row: _place(row, group.columns[0]))))


def _place(row: Row, column: Column) -> tuple[bool, float, bool, float]:
    if not row.private:
        return (False, 0.0, False, 0.0)
    cell, sign = row.cells[0], -1 if column.better == "higher" else 1
    return (True, row.epsilon, row.verdict is not None, sign * cell.summary.mean if cell and cell.summary else math.inf)


def _marked(group: Group) -> Group:
    """In each column and at each epsilon, the best of several private methods, and those that its runs do not tell from it.

    Not in those of attacks: to be missed by an attack is no merit that could be ranked.
    """
    rows = [list(row.cells) for row in group.body]
    for i, column in enumerate(group.columns):
        if column.kind in ("attack", "evidence"):
            continue
        for epsilon in dict.fromkeys(row.epsilon for row in group.body):
            rivals = [n for n, row in enumerate(group.body) if row.epsilon == epsilon and _competes(row, i)]
            for n, cell in zip(rivals, _with_marks([rows[n][i] for n in rivals], column), strict=True):
                rows[n][i] = cell
    return replace(group, body=tuple(replace(row, cells=tuple(cells)) for row, cells in zip(group.body, rows, strict=True)))


def _competes(row: Row, column: int) -> bool:
    cell = row.cells[column]
    return row.guarantee == Guarantee.DP.value and row.private and not row.verdict and cell is not None and cell.summary is not None


def _with_marks(cells: Sequence[Cell | None], column: Column) -> list[Cell | None]:
    """Cells of rivals, all of them complete, with their marks."""
    complete = [cell for cell in cells if cell and cell.summary and cell.runs is not None]
    if len(complete) < 2 or len(complete) < len(cells) or column.better is None:
        return list(cells)
    sign = 1 if column.better == "higher" else -1
    best = max(complete, key=lambda cell: sign * cell.summary.mean if cell.summary else -math.inf)
    return [replace(cell, mark="best" if cell is best else "tie" if _tied(cell, best) else None) for cell in complete]


def _tied(cell: Cell, best: Cell) -> bool:
    return cell.runs is not None and best.runs is not None and not paired_difference(cell.runs, best.runs).excludes_zero


# --- ablation, sweep --------------------------------------------------------------------------------------------------------------------------------

VARIANTS = {"pate-gan": "pate-gan-pretrained", "public-only": "privorl-n"}
"""Registered names that are variants of another: without its pre-training, without its fine-tuning (and curiosity)."""


def ablation_table(table: Table) -> Table:
    """Each method beside its variants at the same epsilon, with the paired difference of their utilities.

    Raises:
        InputError: no method stands beside a variant of its own.
    """
    groups = [_with_differences(group) for group in table.groups]
    if not any(group.body for group in groups):
        raise InputError("--paper ablation: no method of the newest sweep stands beside a variant; run --synth privorl-n 'privorl-n[curiosity=off]'")
    finished = tuple(_without_idle_notes(group) for group in groups if group.body)
    return Table(finished, _legend(table, finished, ("utility", "own task", "fidelity", *MARKS)))


def sweep_table(table: Table) -> Table:
    """Each method at every epsilon and in every variant, one below the other.

    Raises:
        InputError: each method stands there once.
    """
    groups = [_only(group, _swept, _several_times(group)) for group in table.groups]
    if not any(group.body for group in groups):
        raise InputError("--paper sweep: each method of the newest sweep stands there once; run several budgets, such as --epsilon 1 5 10 15 20")
    finished = tuple(_without_idle_notes(group) for group in groups if group.body)
    return Table(finished, _legend(table, finished, ("utility", "own task", "gain", "fidelity", BEST, *MARKS)))


def _utility_or_fidelity(column: Column) -> bool:
    return column.kind in UTILITIES or column.score in FIDELITY


def _swept(column: Column) -> bool:
    return _utility_or_fidelity(column) or column.kind == "gain" or (column.scorer == BEST and column.score in BRIEFLY)


def _family(row: Row) -> str:
    name = row.synth.partition("[")[0]
    return VARIANTS.get(name, name)


def _beside_their_base(group: Group) -> list[tuple[Row, Row]]:
    """Methods that have variants, each followed by these, and with each the method itself; a variant that sees no private data suits any budget."""
    names = method_names(group.body)
    methods = [row for row in group.body if row.guarantee == Guarantee.DP.value and names[row.synth] == _family(row)]
    pairs: list[tuple[Row, Row]] = []
    for base in sorted(methods, key=lambda row: (row.synth, row.epsilon)):
        variants = [row for row in group.body if row is not base and _family(row) == _family(base) and row.epsilon in (base.epsilon, 0.0)]
        pairs += [(row, base) for row in (base, *sorted(variants, key=lambda row: row.synth))] if variants else []
    return pairs


def _several_times(group: Group) -> list[Row]:
    """The differentially private methods that stand there more than once, by name, variant and epsilon."""
    rows = [row for row in group.body if row.guarantee == Guarantee.DP.value]
    names = [_family(row) for row in rows]
    return sorted((row for row in rows if names.count(_family(row)) > 1), key=lambda row: (_family(row), row.synth, row.epsilon))


def _only(group: Group, wanted: Wanted, rows: Iterable[Row]) -> Group:
    """These rows, with the wanted columns."""
    kept = [i for i, column in enumerate(group.columns) if wanted(column)]
    body = tuple(replace(row, ranks=None) for row in rows)
    return replace(replace(group, body=body if kept else ()).only(kept), headline=None)


def _with_differences(group: Group) -> Group:
    """Methods beside their variants; behind each utility, by how much a variant differs from the method itself over common seeds."""
    pairs = _beside_their_base(group)
    rows, bases = (_only(group, _utility_or_fidelity, side) for side in ([row for row, _ in pairs], [base for _, base in pairs]))
    columns = tuple(chain.from_iterable(_and_difference(column) for column in rows.columns))
    cells = [tuple(_and_differences(row, base, rows.columns)) for row, base in zip(rows.body, bases.body, strict=True)]
    return replace(rows, columns=columns, body=tuple(replace(row, cells=own) for row, own in zip(rows.body, cells, strict=True)))


def _and_difference(column: Column) -> tuple[Column, ...]:
    return (column, Column("difference", column.scorer, "minus_base", column.better)) if column.kind in UTILITIES else (column,)


def _and_differences(row: Row, base: Row, columns: Sequence[Column]) -> Iterator[Cell | None]:
    for column, cell, other in zip(columns, row.cells, base.cells, strict=True):
        yield cell
        if column.kind in UTILITIES:
            yield None if cell is None or cell is other else replace(_difference(cell, other), sources=(row_label(base),))


def _difference(cell: Cell, base: Cell | None) -> Cell:
    if cell.runs is None or base is None or base.runs is None or not cell.summary or not base.summary:
        return replace(cell, summary=None, runs=None)
    return replace(cell, summary=paired_difference(cell.runs, base.runs), runs=None, stale=cell.stale or base.stale)


# --- legend -----------------------------------------------------------------------------------------------------------------------------------------


def _legend(table: Table, groups: Sequence[Group], leaderboards: tuple[str, ...]) -> Notes:
    """What the leaderboard says of the same scores and marks, and what only these tables have."""
    cells = [cell for group in groups for row in group.body for cell in row.cells if cell]
    kinds = {column.kind for group in groups for column in group.columns}
    occurs = {
        "TPR": any(column.score in LEVELS for group in groups for column in group.columns),
        "bold": any(cell.mark for cell in cells),
        "minus base": "difference" in kinds,
        "published": "published" in kinds,
    }
    own = {term: _LEGEND[term] for term, there in occurs.items() if there}
    return {**{term: table.legend[term] for term in leaderboards if term in table.legend}, **own}


_LEGEND = {
    "TPR": "the share of members that an attack finds (true positives) where it takes 20, 10, 1 or 0.1 % of the others for members, as the paper "
    "prints it: .2, .1, .01 and .001 are chance, where there are many others; with fewer than 1,000 the last means nothing. Records of older attacks "
    "hold the last two alone.",
    "bold": "in Markdown, LaTeX and HTML, the best of the private methods at one ε; underlined where the 95 % interval of the paired difference from "
    "it, over common seeds, includes 0, or where a single run has none. Floors (ε = 0) and struck rows take no part.",
    "minus base": "the paired difference from the method above, which the row is a variant of, over common seeds.",
    "published": "as printed elsewhere and computed there; no number here was tested against it. The note says how, and where it stands.",
}
