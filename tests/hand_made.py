"""Sweeps whose records are written by hand, for the tests of the leaderboard."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.accounting import Charge
from bench.run.spec import sweep_name
from bench.run.store import Record, Store
from bench.tables.build import build_table
from bench.tables.catalogue import make_table
from bench.tables.leaderboard import UTILITIES, Table

SCORERS: dict[str, tuple[str, dict[str, str]]] = {
    "iql": ("utility", {"score": "higher"}),
    "iql-over-goals": ("goals", {"score": "higher"}),
    "one-way": ("fidelity", {"one_way": "higher"}),
    "dynamics": ("fidelity", {"dynamics_median": "lower", "invalid_states": "lower"}),
    "nearest": ("attack", {"auc": "lower"}),
    "domias": ("attack", {"auc": "lower", "tpr_at_1": "lower", "tpr_at_01": "lower"}),
    "model-loss": ("attack", {"auc": "lower", "tpr_at_1": "lower", "tpr_at_01": "lower"}),
    **dict.fromkeys(
        ("nearest-record", "gen-lra", "dpi", "classifier", "rmia"),
        ("attack", dict.fromkeys(("auc", "tpr_at_20", "tpr_at_10", "tpr_at_1", "tpr_at_01"), "lower")),
    ),
    "inference": ("attack", {"advantage": "lower"}),
}
GUARANTEES = {"real": "none", "public-data": "data-free", "public-only": "data-free", "uniform": "data-free"}


SECONDS = {"fit": 600.0, "sample": 60.0, "train": 120.0}
"""How long stages took; all others took a second."""


@dataclass
class HandMade:
    """A sweep whose records are written by hand: scores by scorer and seed, None for a run that failed; `public` is known of every environment."""

    store: Store
    heading: dict[str, Any] = field(default_factory=dict)
    leaves: list[dict[str, Any]] = field(default_factory=list)
    audits: list[dict[str, Any]] = field(default_factory=list)
    environments: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    public: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store.create()
        base = {"env": "maze2d-medium", "source": "local-simulator", "preset": "laptop", "rows": 1_000_000, "released": 200_000, "unit": "transition"}
        self.heading = {**base, **self.heading}

    def put(self, key: str, stage: str, result: dict[str, Any] | None, inputs: dict[str, str] | None = None) -> str:
        status, reason = ("ok", None) if result is not None else ("failed", "ValueError: column 'x' of the release holds NaN")
        provenance = {"seconds": SECONDS.get(stage, 1.0), "peak_bytes": 2_000_000_000, "sources": {}}
        self.store.put(Record(key, stage, status, reason, {}, inputs or {}, {}, result or {}, False, provenance))
        return key

    def row(self, synth: str, epsilon: float | None = None, charges: Sequence[Charge] = (), **scores: list[Any]) -> None:
        """One score for each seed and scorer (dashes written as underscores); `...` is a run that is yet to come. A charge for each seed, or none."""
        name = f"{self.heading['env']}-{self.heading['rows']}-{self.heading['unit']}-{synth}-{epsilon}"
        guarantee = GUARANTEES.get(synth.partition("[")[0], "DP")
        spent = {"none": "inf", "data-free": 0.0}.get(guarantee, 0.99 * epsilon if epsilon else 0.0)
        self.anchors()
        for scorer, runs in scores.items():
            for seed, score in enumerate(runs):
                own = [asdict(charge) for charge in charges[seed : seed + 1]]
                fit = self.put(f"{name}-fit{seed}", "fit", {"epsilon_spent": spent, "accountant": "pld" if epsilon else None, "charges": own})
                self.leaf(synth, guarantee, epsilon, scorer.replace("_", "-"), seed, score, f"{name}-{scorer}-{seed}", fit)

    def grid(self, synth: str, epsilon: float, runs: NDArray[np.float64]) -> None:
        """Scores (synthesizer, sampling, agent) of iql, every record with those it rests on; NaN for a run that failed."""
        self.anchors()
        for seeds in np.ndindex(runs.shape):
            name = f"{self.heading['env']}-{self.heading['rows']}-{synth}-{epsilon}"
            fit = self.put(f"{name}-fit-{seeds[0]}", "fit", {"epsilon_spent": 0.99 * epsilon, "accountant": "pld", "charges": []})
            sample = self.put(f"{name}-sample-{seeds[0]}-{seeds[1]}", "sample", {}, {"fit": fit})
            key = f"{name}-iql-{'-'.join(map(str, seeds))}"
            self.leaf(synth, "DP", epsilon, "iql", seeds[0], None, key, fit)
            self.leaves[-1]["seeds"] = dict(zip(("synthesizer", "sampling", "agent"), seeds, strict=True))
            score = None if np.isnan(runs[seeds]) else result_of("utility", {}, float(runs[seeds]))
            self.put(key, "train", score, {"sample": sample})

    def leaf(self, synth: str, guarantee: str, epsilon: float | None, scorer: str, seed: int, score: Any, key: str, fit: str) -> None:
        kind, better = SCORERS[scorer]
        if score is not ...:
            self.put(key, "train" if kind in UTILITIES else kind, None if score is None else result_of(kind, better, score))
        labels = {
            "synth": synth,
            "guarantee": guarantee,
            "epsilon": epsilon,
            "delta": 1e-7 if epsilon else None,
            "kind": kind,
            "plugin": scorer.removesuffix("-over-goals"),
        }
        seeds = {"synthesizer": seed, "sampling": 0, "agent": 0}
        self.leaves.append({**self.heading, **labels, "better": better, "seeds": seeds, "key": key, "fit": fit})

    def audit(self, synth: str, epsilon: float, name: str, bound: dict[str, float] | EllipsisType | None) -> None:
        """An audit of a row: its bound, None if it failed, `...` if it is yet to come."""
        key = f"{self.heading['env']}-{synth}-{epsilon}-{name}"
        if bound is not ...:
            self.put(key, "audit", None if bound is None else {"bounds": {"headline": bound, "other": {**bound, "p_value": 0.0}}})
        labels = {"synth": synth, "guarantee": "DP", "epsilon": epsilon, "delta": 1e-7, "kind": "audit", "plugin": name, "key": key, "fit": key}
        self.audits.append({**self.heading, "released": 0, **labels, "better": {}, "seeds": {"synthesizer": 0}})

    def anchors(self) -> None:
        env, rows = self.heading["env"], self.heading["rows"]
        if (env, rows) in self.environments:
            return
        policies = {"random": {"score": 1.0, "low": 0.5, "high": 1.5}, "constant": {"score": 61.0, "low": 60, "high": 62}}
        references = {name: self.put(f"{env}-{name}", "references", {"policies": policies}) for name in ("references", "goal_references")}
        ceilings = {
            name: self.put(f"{env}-{name}-ceiling", "fidelity", result_of(kind, better, [0.99] * len(better)))
            for name, (kind, better) in SCORERS.items()
            if kind == "fidelity"
        }
        names = {"env": env, "rows": rows, "source": "local-simulator", **self.public}
        self.environments[env, rows] = {**names, **references, "ceilings": ceilings}

    def manifest(self) -> dict[str, Any]:
        seeds = {"synthesizer": 3, "sampling": 1, "agent": 1}
        environments = list(self.environments.values())
        manifest = {"sweep": {"seeds": seeds}, "toml": "", "started": "2026", "leaves": self.leaves, "environments": environments}
        return {**manifest, "audits": self.audits} if self.audits else manifest

    def table(self, stale: tuple[str, ...] = ()) -> Table:
        return build_table(self.manifest(), self.store, stale)

    def named(self, name: str) -> Table:
        """Another table of the sweep, which the store keeps from then on."""
        manifest = self.manifest()
        self.store.put_sweep(sweep_name(manifest), manifest)
        return make_table(name, manifest, self.store)


def latex_rows(page: str) -> list[str]:
    """The rows of LaTeX tables, headers among them, each on one line without its comments."""
    bare = re.sub(r" ?(?<!\\)% .*\n", "\n", page)
    return [row for row in re.sub(r"&\n", "& ", bare).splitlines() if row.endswith(r"\\") and "multicolumn" not in row]


def result_of(kind: str, better: dict[str, str], score: Any) -> dict[str, Any]:
    values = score if isinstance(score, list) else [score]
    if kind in UTILITIES:
        return {"score": score, "curve": {"steps": [1], "scores": [score]}}
    if score == []:
        return {"scores": {}}
    if kind == "attack":
        return {"scores": {name: {"value": v, "low": v - 0.02, "high": v + 0.02} for name, v in zip(better, values, strict=True)}}
    return {"scores": dict(zip(better, values, strict=True))}
