"""Audits of a sweep: which are run, and the table of what they found.

    sweep -> Plan of one node for each audit of each private cell -> records -> text

Every other score rests on a released model; an audit fits a small copy of the method by itself, so it has cells of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from bench.core import registry
from bench.core.errors import InputError
from bench.core.protocols import Guarantee
from bench.core.registry import Plugin
from bench.run.plan import Block, Leaf, Plan, chosen, make_plan
from bench.run.spec import Cell, Sweep
from bench.run.store import Record, Store
from bench.tables.evidence import REFUTED, chosen_bound, of_any_noise, verdict

_HEADER = ("method", "audit", "rows", "claimed", "recomputed", "audited", "ceiling", "any noise", "p", "verdict")
_WORDS = ("method", "audit", "verdict")


def make_audit_plan(sweep: Sweep, audits: Sequence[str]) -> Plan:
    """Every audit of every cell of the sweep that claims a finite epsilon.

    Raises:
        InputError: an unknown name or none, an infinite epsilon, or no cell that claims one.
    """
    if not audits:
        raise InputError("--audits: no audit is named; give --audits NAME or leave it out for all, `bench list` shows them")
    plan = Plan(sweep)
    for cell, audit in product(_private_cells(sweep), chosen("audits", tuple(audits))):
        environment, plugin = registry.resolve("environments", cell.environment), registry.resolve("synthesizers", cell.synthesizer)
        key = _add(plan, environment, plugin, audit, cell)
        plan.cells += (cell,) if cell not in plan.cells else ()
        plan.leaves.append(_leaf(plan, environment, plugin, audit, cell, key))
    return plan


def planned_audits(sweep: Sweep) -> list[Leaf]:
    """The audits that `bench audit` makes of the sweep's private rows, at the first synthesizer seed.

    What claims nothing has none, nor has a method without a variant that is small enough. `bench run` names them in its manifest and runs none: once
    they have run, the leaderboard finds them there.
    """
    finite = tuple(epsilon for epsilon in sweep.epsilon if math.isfinite(epsilon))
    methods = [plugin for plugin in chosen("synthesizers", sweep.synth) if sweep.unit is None or sweep.unit in plugin.instance.units]
    private = tuple(plugin.label for plugin in methods if plugin.instance.guarantee is Guarantee.DP and _works(registry.at_audit_size, plugin))
    audits = tuple(name for name in registry.names("audits") if _works(chosen, "audits", (name,)))
    if not finite or not private or not audits:
        return []
    return make_audit_plan(replace(sweep, synth=private, epsilon=finite, seeds=replace(sweep.seeds, synthesizer=1)), audits).leaves


def _works(step: Callable[..., Any], *arguments: Any) -> bool:
    """Whether a step of planning does: a run needs no audit, and `bench audit` says why there is none."""
    try:
        step(*arguments)
    except InputError:
        return False
    return True


def _private_cells(sweep: Sweep) -> list[Cell]:
    if any(epsilon == float("inf") for epsilon in sweep.epsilon):
        raise InputError("epsilon: inf claims nothing that an audit could refute; audit a finite budget")
    cells = [cell for cell in make_plan(replace(sweep, agents=(), metrics=(), attacks=())).cells if cell.epsilon is not None]
    if not cells:
        raise InputError(f"synth: none of {', '.join(sweep.synth)} has a budget that could be audited; name a differentially private method")
    return cells


def _add(plan: Plan, environment: Plugin, plugin: Plugin, audit: Plugin, cell: Cell) -> str:
    """The node of one audit; in its key stands the audited variant, not the method."""
    block, audited = Block(plan, environment, cell.rows, {}, ()), registry.at_audit_size(plugin)
    parameters = {
        "environment": environment.identity,
        "synthesizer": audited.identity,
        "audit": audit.identity,
        "view": {"part": "train", "rows": audit.instance.rows, "dataset_seed": plan.sweep.dataset_seed},
        "budget": block.budget(cell),
        "seed": cell.seed,
    }
    return plan.add("audit", parameters, block.public_inputs(audited, cell.seed), [audit, audited, environment])


def _leaf(plan: Plan, environment: Plugin, plugin: Plugin, audit: Plugin, cell: Cell, key: str) -> Leaf:
    return Leaf(
        env=cell.environment,
        source=environment.instance.source,
        preset=plan.sweep.preset,
        rows=cell.rows,
        released=0,
        synth=cell.synthesizer,
        unit=cell.unit.value,
        guarantee=plugin.instance.guarantee.value,
        epsilon=cell.epsilon,
        delta=cell.delta,
        kind="audit",
        plugin=audit.label,
        better={},
        seeds={"synthesizer": cell.seed},
        key=key,
        fit=key,
    )


# --- the table --------------------------------------------------------------------------------------------------------------------------------------


def audit_table(plan: Plan, store: Store) -> str:
    """All audits of a plan, in blocks of equal environment, unit and delta, the sizes at which methods were audited, and how to read them."""
    blocks: dict[str, list[tuple[str, ...]]] = {}
    for leaf in plan.leaves:
        title = f"{leaf.env} · delta {leaf.delta:g} · unit {leaf.unit}"
        blocks.setdefault(title, [_HEADER]).append(_row(leaf, len(plan.leaves), store.get(leaf.key)))
    tables = [f"{title}\n{_aligned(rows)}" for title, rows in blocks.items()]
    legend = _LEGEND.format(confidence=100 * (1 - REFUTED / len(plan.leaves)), audits=len(plan.leaves))
    return "\n\n".join([*tables, *filter(None, [_sizes(plan)]), legend])


def _sizes(plan: Plan) -> str:
    """One line for each method that was audited as a smaller variant of itself, named as it may be passed to --synth."""
    audited = {leaf.synth: plan.nodes[leaf.key].plugins["synthesizers"] for leaf in plan.leaves}
    return "\n".join(f"{method} was audited as {label}" for method, label in audited.items() if label != method)


def _row(leaf: Leaf, audits: int, record: Record | None) -> tuple[str, ...]:
    """The cells of one audit, as in the header; without a result, the reason stands in the place of the verdict."""
    claimed = f"{leaf.epsilon:g}"
    if record is None or not record.ok:
        reason = "not run yet" if record is None else f"— ({record.reason})"
        return (leaf.synth, leaf.plugin, "", claimed, "", "", "", "", "", reason)
    result, bound, any_noise = record.result, chosen_bound(record.result), of_any_noise(record.result)["epsilon"]
    numbers = (f"{record.epsilon:.3f}", f"{bound['epsilon']:.2f}", f"{bound['ceiling']:.2f}", f"{any_noise:.2f}", _small(bound["p_value"]))
    return (leaf.synth, leaf.plugin, f"{result['rows']:,}", claimed, *numbers, verdict(bound, audits))


def _small(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.0e}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(_cells(row, widths)).rstrip() for row in rows)


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Words to the left, numbers to the right."""
    for name, text, width in zip(_HEADER, row, widths, strict=True):
        yield text.ljust(width) if name in _WORDS else text.rjust(width)


_LEGEND = """rows          nominal rows of the audited fits; no score is read from them
recomputed    epsilon of the audited fit's own charges, by the accountant of the row
audited       lower bound on epsilon: each by itself is below the true epsilon with 95 % confidence. Of a method whose charges are all
              Gaussian it is what Gaussian noise implies: `bench check` tests that the noise is
ceiling       the bound that a perfect attack would have given
any noise     the bound of the same evidence that takes no noise to be Gaussian: lower, and right whatever the noise
p             a method whose claim is true looks as bad as this with that probability at most
verdict       refuted: the bound exceeds the claim at {confidence:.6g} % confidence, 99.9 % shared among the {audits} audits of this table;
              blind: not even that of a perfect attack would; anything else proves nothing"""
