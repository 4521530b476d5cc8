"""From records to the leaderboard: a sweep and its records in, a `Table` out.

    manifest + store -> Table -> bench.tables.render -> text | markdown | latex | csv | json

Private rows are ranked by the headline utility; real data and fits without a budget stand above them, unranked. A cell with a failed run shows no
mean at all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.core.accounting import AGREEMENT, epsilon_spent
from bench.core.data import Unit
from bench.core.errors import InputError
from bench.core.groups import NO_PROTECTION, group_epsilon
from bench.core.protocols import Guarantee
from bench.run.spec import OVER_GOALS, REFERENCES
from bench.run.store import Record, Store
from bench.tables.evidence import (
    AUDITED,
    BEST,
    REFUTED,
    Audits,
    attacks_with_auc,
    audited_cell,
    best_attack_cells,
    chosen_attacks,
    disproof,
    evidence_columns,
)
from bench.tables.leaderboard import (
    HEADING,
    KINDS,
    STALE,
    STRUCK,
    UTILITIES,
    Cell,
    Column,
    Group,
    Kind,
    Notes,
    Reference,
    Row,
    Table,
    method_names,
)
from bench.tables.naming import short_names
from bench.tables.pooling import LeafFields, Outcomes, Records, grouped_by
from bench.tables.stats import FEW, Float64, private_gain, rank_sets
from bench.tables.validation import by_utility, conclusion, shipped_validities

FLOORS = ("public-data", "public-only")
"""Methods that see public data alone; the better one is the zero of the private gain."""
REAL = "real"
CEILING = "real vs real"


def build_table(manifest: Mapping[str, Any], store: Store, stale: Collection[str] = ()) -> Table:
    """The table of a sweep, from the manifest that the store keeps of it.

    Args:
        stale: keys of records made by source code that differs from today's.

    Raises:
        InputError: a record that cannot be read.
    """
    records, audits = Records(store, frozenset(stale)), Audits.of(manifest)
    blocks = grouped_by(HEADING, manifest["leaves"]).values()
    groups = tuple(_group(leaves, _anchors(manifest, leaves[0]), records, audits) for leaves in blocks)
    return Table(groups, _legend(groups, manifest["sweep"]["seeds"], audits.planned))


_ROW = ("synth", "guarantee", "epsilon", "delta")


def _anchors(manifest: Mapping[str, Any], leaf: LeafFields) -> Mapping[str, Any]:
    """The reference policies and ceilings of a group's environment."""
    found = (block for block in manifest["environments"] if all(block[name] == leaf[name] for name in ("env", "rows", "source")))
    block = next(found, None)
    if block is None:
        raise InputError(f"--results: the sweep has scores on {leaf['env']} and says nothing of that environment; run the same sweep again")
    return block


def _group(leaves: list[LeafFields], anchors: Mapping[str, Any], records: Records, audits: Audits) -> Group:
    rows = grouped_by(_ROW, leaves).values()
    columns = _columns(leaves, any(audits.of_row(own[0]) for own in rows))
    headline = _headline(columns)
    longest = anchors.get("max_trajectory_length") if leaves[0]["unit"] == Unit.TRANSITION.value else None
    body = [_row(own, columns, longest, records, audits) for own in rows]
    if headline is not None and columns[headline].kind in UTILITIES:
        columns, body = _with_gain(columns, body, headline)
    body = [*_ceiling(anchors["ceilings"], columns, records), *_ranked(body, headline, columns)]
    references = tuple(policy for kind in UTILITIES for policy in _references(kind, anchors.get(REFERENCES[kind]), records))
    heading = {name: leaves[0][name] for name in HEADING}
    notes = {**_validity(heading["env"], columns, headline), **_group_notes(heading["unit"], longest, columns, body, references)}
    return Group(**heading, max_trajectory_length=longest, columns=columns, body=tuple(body), headline=headline, references=references, notes=notes)


def _by_scorer(leaves: Iterable[LeafFields]) -> dict[tuple[Kind, str], list[LeafFields]]:
    """Leaves of one kind and scorer together; an agent that is scored over the goals goes by the name that asks for it."""
    groups = grouped_by(("kind", "plugin"), leaves)
    return {(kind, f"{OVER_GOALS}{plugin}" if kind == "goals" else plugin): own for (kind, plugin), own in groups.items()}


# --- columns and rows -------------------------------------------------------------------------------------------------


def _columns(leaves: Sequence[LeafFields], audited: bool) -> tuple[Column, ...]:
    """Every score that was planned: utility, fidelity, attacks, each in the order of the sweep; and the evidence on what the rows claim."""
    scorers = _by_scorer(leaves).items()
    columns = [Column(kind, scorer, score, better) for (kind, scorer), own in scorers for score, better in own[0]["better"].items()]
    columns += evidence_columns(columns, audited)
    return tuple(sorted(columns, key=lambda column: KINDS.index(column.kind)))


def _headline(columns: tuple[Column, ...]) -> int | None:
    """The first agent's score, over the goals if there is one, else one-way similarity."""
    utility = (index for index, column in enumerate(columns) if column.kind in UTILITIES)
    one_way = (index for index, column in enumerate(columns) if column.score == "one_way")
    return next(utility, next(one_way, None))


def _row(leaves: list[LeafFields], columns: tuple[Column, ...], longest: int | None, records: Records, audits: Audits) -> Row:
    fits = [record for key in dict.fromkeys(leaf["fit"] for leaf in leaves) if (record := records.store.get(key)) and record.ok]
    own_audits = audits.of_row(leaves[0])
    row = Row(
        synth=leaves[0]["synth"],
        guarantee=leaves[0]["guarantee"],
        epsilon=claimed(leaves[0]),
        delta=leaves[0]["delta"],
        epsilon_spent=max((_spent(leaves[0], fit) for fit in fits), default=None),
        epsilon_trajectory=None if longest is None else max((_trajectory_epsilon(leaves[0], fit, longest) for fit in fits), default=None),
        accountant=next((fit.result["accountant"] for fit in fits), None),
        cells=_cells(leaves, columns, own_audits, records),
    )
    return replace(row, verdict=disproof(row, own_audits, records, audits.planned))


def _cells(leaves: list[LeafFields], columns: tuple[Column, ...], audits: list[LeafFields], records: Records) -> tuple[Cell | None, ...]:
    """Scores as they were planned, and what follows from them; None where nothing was planned."""
    outcomes = {scorer: Outcomes.read(own, records) for scorer, own in _by_scorer(leaves).items()}
    best = [column for column in columns if column.scorer == BEST]
    attacks = {name: own for name in attacks_with_auc(columns) if (own := outcomes.get(("attack", name)))}
    evidence = {AUDITED: audited_cell(audits, records), **dict(zip(best, best_attack_cells(best, attacks), strict=True))}
    scores = {column: own.cell(column) for column in columns if (own := outcomes.get((column.kind, column.scorer)))}
    return tuple({**evidence, **scores}.get(column) for column in columns)


def _spent(leaf: LeafFields, fit: Record) -> float:
    """What a fit recorded as spent, or what its charges cost at the table's delta where that is more: no record is a witness for itself."""
    recorded = fit.epsilon_told
    if not 0 < claimed(leaf) < math.inf:
        return recorded
    cost = epsilon_spent(fit.charges, leaf["delta"], fit.result["accountant"])
    return recorded if cost <= recorded * (1 + AGREEMENT) else cost


def _trajectory_epsilon(leaf: LeafFields, fit: Record, longest: int) -> float:
    """What the charges of a fit bound for whole trajectories of at most `longest` rows; a row that claims 0 or infinity claims it for them too."""
    claim = claimed(leaf)
    if not 0 < claim < math.inf:
        return claim
    return group_epsilon(fit.charges, leaf["delta"], fit.result["accountant"], longest)


def claimed(leaf: LeafFields) -> float:
    """The epsilon that a row claims: 0 without private data, infinity without a guarantee."""
    without_budget = {Guarantee.DATA_FREE.value: 0.0, Guarantee.NONE.value: math.inf}
    return without_budget[leaf["guarantee"]] if leaf["epsilon"] is None else float(leaf["epsilon"])


# --- what rows say about each other -----------------------------------------------------------------------------------


def _with_gain(columns: tuple[Column, ...], body: list[Row], headline: int) -> tuple[tuple[Column, ...], list[Row]]:
    """A column more, behind those of the headline's kind: the private gain under the headline agent."""
    place = sum(column.kind == columns[headline].kind for column in columns)
    gain = Column("gain", columns[headline].scorer, "private_gain", "higher")
    cells = [_gain_cell(row.cells[headline], body, headline) for row in body]
    rows = [replace(row, cells=(*row.cells[:place], cell, *row.cells[place:])) for row, cell in zip(body, cells, strict=True)]
    return (*columns[:place], gain, *columns[place:]), rows


def _gain_cell(cell: Cell | None, body: list[Row], headline: int) -> Cell | None:
    methods = method_names(body)
    real = _finished(row.cells[headline] for row in body if row.synth == REAL)  # corrupted copies of it have fields
    floors = _finished(row.cells[headline] for row in body if methods[row.synth] in FLOORS)
    if cell is None or cell.summary is None or cell.runs is None or not real or not floors:
        return cell and replace(cell, summary=None, runs=None)
    floor, _ = max(floors, key=lambda own: float(own[0].mean()))
    stale = cell.stale or any(old for _, old in (*real, *floors))
    return replace(cell, summary=private_gain(cell.runs, floor, real[0][0]), runs=None, stale=stale)


def _finished(cells: Iterable[Cell | None]) -> list[tuple[Float64, bool]]:
    """Their runs, and whether these are stale; none of any while one cell misses a run, or the zero of a gain would move unseen."""
    planned = [cell for cell in cells if cell]
    runs = [(cell.runs, cell.stale) for cell in planned if cell.summary and cell.runs is not None]
    return runs if len(runs) == len(planned) else []


def _ranked(body: list[Row], headline: int | None, columns: tuple[Column, ...]) -> list[Row]:
    """References first, then private rows best first, then private rows whose headline score is missing or whose claim does not hold."""
    unranked = sorted((row for row in body if not row.private), key=lambda row: row.guarantee != Guarantee.NONE.value)
    private = [row for row in body if row.private]
    if headline is None:
        return [*unranked, *private]
    sign = -1 if columns[headline].better == "higher" else 1
    sound = [(row, cell) for row in private if not row.verdict and (cell := row.cells[headline])]
    scored = [(cell.summary.mean, cell.runs, row) for row, cell in sound if cell.summary and cell.runs is not None]
    scored.sort(key=lambda entry: (sign * entry[0], entry[2].synth, entry[2].epsilon))
    sets = rank_sets([-sign * runs for _, runs, _ in scored])
    ranked = [replace(row, ranks=ranks) for (_, _, row), ranks in zip(scored, sets, strict=True)]
    names = {(row.synth, row.epsilon) for row in ranked}
    return [*unranked, *ranked, *(row for row in private if (row.synth, row.epsilon) not in names)]


# --- anchors ----------------------------------------------------------------------------------------------------------


def _ceiling(ceilings: Mapping[str, str], columns: tuple[Column, ...], records: Records) -> tuple[Row, ...]:
    """Each metric between two real samples of equal size: what an equal number of fresh real rows scores, in whole trajectories."""
    outcomes = {scorer: Outcomes((key,), ((0, 0, 0),), (records.store.get(key),), key in records.stale) for scorer, key in ceilings.items()}
    cells = tuple(outcomes[c.scorer].cell(c) if c.kind == "fidelity" and c.scorer in outcomes else None for c in columns)
    return (Row(CEILING, Guarantee.NONE.value, math.inf, None, None, None, None, cells),) if any(cells) else ()


def _references(kind: Kind, key: str | None, records: Records) -> tuple[Reference, ...]:
    record = records.store.get(key) if key else None
    if record is None or not record.ok:
        return ()
    stale = key in records.stale
    return tuple(Reference(kind, name, policy["score"], policy["low"], policy["high"], stale) for name, policy in record.result["policies"].items())


# --- footnotes --------------------------------------------------------------------------------------------------------


def _validity(env: str, columns: tuple[Column, ...], headline: int | None) -> Notes:
    """Whether the score that ranks is known to fall as real rows get worse."""
    if headline is None or columns[headline].kind not in UTILITIES:
        return {}
    scorer = columns[headline].scorer
    utility = short_names(columns)[scorer]
    found = [own for (where, agent, _), own in by_utility(shipped_validities()).items() if (where, agent) == (env, scorer)]
    asked = "; ".join(f"{conclusion(own)} under the preset {own[0].preset}" for own in found)
    return {"validity": f"{utility} is {asked}" if asked else f"{utility} was not asked whether it falls as rows get worse: `bench validate` does"}


def _group_notes(unit: str, longest: int | None, columns: tuple[Column, ...], body: list[Row], references: tuple[Reference, ...]) -> Notes:
    """The policies that need no data, the budget behind epsilon, why runs failed, and what agents lacked in some rows."""
    deltas = ", ".join(f"{delta:g}" for delta in sorted({row.delta for row in body if row.delta is not None}))
    accountants = ", ".join(sorted({row.accountant for row in body if row.accountant}))
    too_much = f"> {NO_PROTECTION:g}: no protection"
    notes = {
        "policies": "; ".join(_policies(kind, own) for kind in UTILITIES if (own := [policy for policy in references if policy.kind == kind])),
        "budget": f"ε bounds what adding or removing one {unit} can change; δ = {deltas}; accounting: {accountants}" if accountants else "",
        "ε/traj": f"bounds what adding or removing one whole trajectory of at most {longest} rows can change; {too_much}" if longest else "",
        BEST: chosen_attacks(columns, body),
        STRUCK: "; ".join(f"{row.name} is {row.verdict}" for row in body if row.verdict),
        "failed": "; ".join(failure for row in body for failure in _failures(columns, row)),
        "lacking": "; ".join(f"{what} ({', '.join(names)})" for what, names in _lacking(columns, body).items()),
    }
    return {term: text for term, text in notes.items() if text}


def _policies(kind: Kind, references: list[Reference]) -> str:
    scale = {"goals": "over the goals", "utility": "on the own task"}[kind]
    dagger = " †" if any(policy.stale for policy in references) else ""
    return f"{scale}{dagger} {', '.join(f'{policy.name} {policy.score:.1f}±{policy.high - policy.score:.1f}' for policy in references)}"


def _failures(columns: tuple[Column, ...], row: Row) -> Iterator[str]:
    """Why runs of a row failed, each reason once, with the scores that it cost."""
    lost = [(reason, column.scorer) for column, cell in zip(columns, row.cells, strict=True) if cell for reason in cell.reasons]
    for reason in dict.fromkeys(reason for reason, _ in lost):
        scorers = dict.fromkeys(scorer for why, scorer in lost if why == reason)
        yield f"{row.name} ({', '.join(scorers)}): {' '.join(reason.split())}"


def _lacking(columns: tuple[Column, ...], body: list[Row]) -> dict[str, list[str]]:
    """What an agent could not use in some rows, and which: another loss trains it there than beside them."""
    found: dict[str, dict[str, None]] = {}
    for row in body:
        for column, cell in zip(columns, row.cells, strict=True):
            for what in cell.lacking if cell else ():
                found.setdefault(f"{column.scorer}: {what}", {})[row.name] = None
    return {what: list(rows) for what, rows in found.items()}


def _legend(groups: tuple[Group, ...], seeds: Mapping[str, int], audits: int) -> Notes:
    """How to read the scores and the marks that occur."""
    rows = [row for group in groups for row in group.body]
    scorers = {column.scorer for group in groups for column in group.columns}
    cells = [cell for row in rows for cell in row.cells if cell]
    intervals = {cell.summary.interval for cell in cells if cell.summary}
    occurs: dict[str, bool] = {
        **{str(kind): any(column.kind == kind for group in groups for column in group.columns) for kind in KINDS},
        "audited ≥": AUDITED.scorer in scorers,
        BEST: BEST in scorers,
        STRUCK: any(row.verdict for row in rows),
        "#": any(row.ranks for row in rows),
        "runs": True,
        "ᵗ": bool(intervals & {"t", "run+t"}),
        "— (k/n)": any(cell.failed for cell in cells),
        "†": any(cell.stale for cell in cells) or any(policy.stale for group in groups for policy in group.references),
    }
    headlines = dict.fromkeys(short_names(group.columns)[group.columns[group.headline].scorer] for group in groups if group.headline is not None)
    values = {**seeds, "headlines": ", ".join(headlines), "few": FEW, "audits": audits, "confidence": 100 * (1 - REFUTED / max(audits, 1))}
    names = OWN_TASK if occurs["goals"] else {}
    return {names.get(term, term): text.format(**values) for term, text in _LEGEND.items() if occurs[term]}


OWN_TASK = {"goals": "utility", "utility": "own task"}
"""What the two utilities are called where both may stand: the first ranks, and the other is then the environment's own task alone."""
_LEGEND = {
    "goals": "how soon an agent that saw the synthetic rows alone reaches each of several goals (0 random actions, 100 the shortest path), the mean "
    "of its last evaluations, never the best. A valid one falls as real rows are corrupted, in every way that `bench list` tells.",
    "utility": "D4RL normalised return (0 and 100: reference returns) of such an agent on the environment's own task. It can be deaf to fidelity: on "
    "maze2d-medium IQL scores less on real rows than on private copies of them.",
    "gain": "(J - J_public) / (J_real - J_public), the share of what private data can add to public data; J_public is the better of public-data and "
    "public-only. — where the denominator is not surely above 0 or one of them is missing.",
    "fidelity": "against held-out real rows. real vs real is what as many fresh real rows score, in whole trajectories; rows that were drawn one by "
    "one can score a little better, and so can more rows than the part of a file that stands in here.",
    "audited ≥": "the largest lower bound on ε that an audit of the method has shown (`bench audit` runs them), of what a perfect attack would have "
    "shown there. Each bound by itself is below the true ε with 95 % confidence, the larger of two with 90 %; one below the claim proves nothing. "
    "Where all charges are Gaussian it is what Gaussian noise implies; `bench audit` prints the bound without that too. — where none has run.",
    BEST: "for each column and synthesizer seed the attack that is best in it at the other seeds, so that none is chosen by the score that it is "
    "shown with. Seeds share their members and non-members, so what is chosen by chance is not quite chosen away. Attacks without an AUC take no "
    "part. — with a single synthesizer seed: there is no other to choose by.",
    "attack": "what these attacks find, which bounds no ε (members are the positive class; AUC .5 and advantage 0 are chance). ± joins the spread of "
    "runs and their own errors. real releases to them all rows that were fitted; they hold as many others of the population, or those that a file "
    "has. They judge single rows, whatever the unit, but for those whose name says `together`. TPR@.1% means nothing with fewer than 1,000 others, "
    "or that few trajectories of others whose rows resemble each other.",
    STRUCK: "the claimed ε does not hold: an audit exceeds it at {confidence:.6g} % confidence (refuted: 99.9 % shared among the {audits} audits of "
    "the sweep), or the ε recomputed from its charges does (overspent). Such a row is struck out and never ranked.",
    "#": "private rows by {headlines}, best first, with the ranks that their runs leave open: from 1 + the rows that are surely better to all rows "
    "less those that are surely worse. Sure is a pair whose difference on common seeds has a 95 % interval without 0, each pair by itself: of many "
    "equal rows some look different. What claims no finite ε stands above them, unranked.",
    "runs": "{synthesizer} synthesizer x {sampling} sampling x {agent} agent seeds. ± is the wider side of their 95 % interval, a "
    "bootstrap over fits from {few} synthesizer runs on; a single run has none. All runs share the real rows: what another draw of these would "
    "change is in no interval.",
    "ᵗ": "Student's t over the means of fewer than {few} synthesizer runs.",
    "— (k/n)": "k of n runs have a result; their mean would hide the others.",
    "†": f"{STALE}.",
}
