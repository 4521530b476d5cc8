"""What a run tells around its bar: its cost and what is stale before, and what its rows still lack after."""

from __future__ import annotations

import math

from rich.console import Console
from rich.markup import escape

from bench.core import registry
from bench.run.cost import disk
from bench.run.plan import Plan, anchor_keys
from bench.run.spec import OVER_GOALS, Node
from bench.run.staleness import stale_keys
from bench.run.store import Store


def announce(console: Console, plan: Plan, todo: list[Node], seconds: dict[str, float], jobs: int) -> None:
    """What a run will do, how long that takes, and which agents will score nothing."""
    done, minutes = len(plan.nodes) - len(todo), sum(seconds.values()) / 60 / jobs
    rows = len({(cell.environment, cell.synthesizer, cell.rows, cell.unit, cell.epsilon) for cell in plan.cells})
    console.print(
        f"{_counted(rows, 'row')} of {_counted(len(plan.cells), 'cell')}, {_counted(len(plan.nodes), 'stage')} ({done} done): "
        f"about {max(minutes, 0.1):.1f} minutes on {_counted(jobs, 'process', 'processes')}, {disk(todo) / 2**20:.0f} MiB of disk",
        highlight=False,
        soft_wrap=True,
    )
    for name in plan.unscored:
        lacking = "goal set" if name.startswith(OVER_GOALS) else "simulator"
        console.print(f"Not scored: {name}, since no environment of this sweep has a {lacking}.", markup=False, highlight=False, soft_wrap=True)


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def report_stale(console: Console, plan: Plan, store: Store) -> None:
    """How many of the records that it reuses are of other sources than today's."""
    scores = [(leaf.key, leaf.fit) for leaf in plan.leaves]
    stale = stale_keys([*scores, *((key, key) for key in anchor_keys(plan.environments))], store)
    if stale:
        console.print(f"{_counted(len(stale), 'record')} stale, since a source changed: reused and marked †; --fresh computes all again.")


def tell_outsiders(plan: Plan) -> None:
    """Which methods of a sweep the suite's own tests have not checked."""
    names = dict.fromkeys(cell.synthesizer for cell in plan.cells)
    found = [name for name in names if registry.resolve("synthesizers", name).owner != registry.OURS]
    if found:
        told = f"Not of the suite: {', '.join(found)}. No run checks a method: `bench check NAME` tries whether it keeps its epsilon."
        Console().print(told, markup=False, highlight=False, soft_wrap=True)


def tell_samples(plan: Plan, store: Store, again: str) -> None:
    """How to export those samples of a sweep without scores that may go out, and what a release of somebody's rows still lacks."""
    console, sensitive = Console(soft_wrap=True, highlight=False), False
    for node in plan.nodes.values():
        fit = store.get(node.inputs["fit"]) if node.stage == "sample" and store.has(node.key) else None
        if fit is not None and fit.epsilon < math.inf:
            names = f"{node.plugins['synthesizers']} on {node.plugins['environments']}"
            console.print(f"{escape(names)}: [bold]bench export {node.key} --to FILE.hdf5{escape(again)}[/]")
            sensitive |= bool(fit.charges) and registry.resolve("environments", node.plugins["environments"]).instance.source != "local-simulator"
    if sensitive and plan.secret is None:
        console.print("Made without --secret: who knows the settings and all rows but one can subtract the noise. Of people's rows run it with one.")
