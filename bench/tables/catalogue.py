"""Every table of a sweep by its name, which the page that shows it carries: what `bench table` prints and `bench verify` prints again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from bench.core.errors import InputError
from bench.run.plan import anchor_keys
from bench.run.spec import sweep_name
from bench.run.staleness import stale_keys
from bench.run.store import Store
from bench.tables.analysis import aggregate_table, overview, retest_table, variance_table
from bench.tables.build import build_table
from bench.tables.leaderboard import Table
from bench.tables.papers import ablation_table, fidelity_table, membership_table, sweep_table, utility_table
from bench.tables.resources import resources_table

LEADERBOARD, RESOURCES = "leaderboard", "resources"
_ANALYSES: Mapping[str, Callable[[Table], Table]] = {
    **{LEADERBOARD: overview, "variance": variance_table, "aggregate": aggregate_table, "retest": retest_table}
}
_PAPERS: Mapping[str, Callable[[Table], Table]] = {
    **{"I": utility_table, "III": fidelity_table, "XII": membership_table, "ablation": ablation_table, "sweep": sweep_table}
}
PAPERS = (*_PAPERS, RESOURCES)
NAMES = (*_ANALYSES, *PAPERS)


def make_table(name: str, manifest: Mapping[str, Any], store: Store) -> Table:
    """One of `NAMES`, of a sweep, with its name and the sweep's; what was made by other sources than today's is marked.

    Raises:
        InputError: a record that cannot be read, or a sweep that has nothing to show there.
    """
    if not manifest["leaves"]:
        raise InputError(f"--results: the newest sweep in {store.root} asked for no score and has no table; `bench run` tells how to export its rows")
    scores = [(leaf["key"], leaf["fit"]) for leaf in (*manifest["leaves"], *manifest.get("audits", ()))]
    anchors = [(key, key) for key in anchor_keys(manifest["environments"])]
    kept = store.remembering()
    return finished_table(name, manifest, kept, stale_keys([*scores, *anchors], kept))


def finished_table(name: str, manifest: Mapping[str, Any], store: Store, stale: Collection[str]) -> Table:
    """The same, where it is known which records are stale."""
    leaderboard = build_table(manifest, store, stale)
    made = resources_table(leaderboard, manifest, store) if name == RESOURCES else {**_ANALYSES, **_PAPERS}[name](leaderboard)
    return replace(made, name=name, sweep=sweep_name(manifest))
