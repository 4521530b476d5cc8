"""Sweeps whose records are written by hand, for the tests of the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.core.accounting import Charge
from bench.leaderboard import Table
from bench.store import Record, Store
from bench.table import build_table

SCORERS: dict[str, tuple[str, dict[str, str]]] = {
    "iql": ("utility", {"score": "higher"}),
    "one-way": ("fidelity", {"one_way": "higher"}),
    "dynamics": ("fidelity", {"dynamics_median": "lower", "invalid_states": "lower"}),
    "nearest": ("attack", {"auc": "lower"}),
}
GUARANTEES = {"real": "none", "public-data": "data-free", "public-only": "data-free", "uniform": "data-free"}


@dataclass
class HandMade:
    """A sweep whose records are written by hand: scores by scorer and seed, None for a run that failed; `public` is known of every environment."""

    store: Store
    heading: dict[str, Any] = field(default_factory=dict)
    leaves: list[dict[str, Any]] = field(default_factory=list)
    environments: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    public: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store.create()
        base = {"env": "maze2d-medium", "source": "local-simulator", "preset": "laptop", "rows": 1_000_000, "released": 200_000, "unit": "transition"}
        self.heading = {**base, **self.heading}

    def put(self, key: str, stage: str, result: dict[str, Any] | None) -> str:
        status, reason = ("ok", None) if result is not None else ("failed", "ValueError: column 'x' of the release holds NaN")
        self.store.put(Record(key, stage, status, reason, {}, {}, {}, result or {}, False, {"seconds": 1.0}))
        return key

    def row(self, synth: str, epsilon: float | None = None, charges: Sequence[Charge] = (), **scores: list[Any]) -> None:
        """One score for each seed and scorer (dashes written as underscores); `...` is a run that is yet to come. A charge for each seed, or none."""
        name = f"{self.heading['env']}-{self.heading['rows']}-{self.heading['unit']}-{synth}-{epsilon}"
        guarantee = GUARANTEES.get(synth, "DP")
        spent = {"none": "inf", "data-free": 0.0}.get(guarantee, 0.99 * epsilon if epsilon else 0.0)
        self.anchors()
        for scorer, runs in scores.items():
            for seed, score in enumerate(runs):
                own = [asdict(charge) for charge in charges[seed : seed + 1]]
                fit = self.put(f"{name}-fit{seed}", "fit", {"epsilon_spent": spent, "accountant": "pld" if epsilon else None, "charges": own})
                self.leaf(synth, guarantee, epsilon, scorer.replace("_", "-"), seed, score, f"{name}-{scorer}-{seed}", fit)

    def leaf(self, synth: str, guarantee: str, epsilon: float | None, scorer: str, seed: int, score: Any, key: str, fit: str) -> None:
        kind, better = SCORERS[scorer]
        if score is not ...:
            self.put(key, "train" if kind == "utility" else kind, None if score is None else result_of(kind, better, score))
        labels = {"synth": synth, "guarantee": guarantee, "epsilon": epsilon, "delta": 1e-7 if epsilon else None, "kind": kind, "plugin": scorer}
        seeds = {"synthesizer": seed, "sampling": 0, "agent": 0}
        self.leaves.append({**self.heading, **labels, "better": better, "seeds": seeds, "key": key, "fit": fit})

    def anchors(self) -> None:
        env, rows = self.heading["env"], self.heading["rows"]
        if (env, rows) in self.environments:
            return
        policies = {
            "random": {"return": 45.0, "score": 1.0, "low": 0.5, "high": 1.5},
            "constant": {"return": 200.0, "score": 61.0, "low": 60, "high": 62},
        }
        references = self.put(f"{env}-references", "references", {"policies": policies})
        ceilings = {
            name: self.put(f"{env}-{name}-ceiling", "fidelity", result_of(kind, better, [0.99] * len(better)))
            for name, (kind, better) in SCORERS.items()
            if kind == "fidelity"
        }
        names = {"env": env, "rows": rows, "source": "local-simulator", **self.public}
        self.environments[env, rows] = {**names, "references": references, "ceilings": ceilings}

    def manifest(self) -> dict[str, Any]:
        seeds = {"synthesizer": 3, "sampling": 1, "agent": 1}
        return {"sweep": {"seeds": seeds}, "toml": "", "started": "2026", "leaves": self.leaves, "environments": list(self.environments.values())}

    def table(self, stale: tuple[str, ...] = ()) -> Table:
        return build_table(self.manifest(), self.store, stale)


def result_of(kind: str, better: dict[str, str], score: Any) -> dict[str, Any]:
    values = score if isinstance(score, list) else [score]
    if kind == "utility":
        return {"score": score, "curve": {"steps": [1], "returns": [score], "scores": [score]}}
    if kind == "attack":
        return {"scores": {name: {"value": v, "low": v - 0.02, "high": v + 0.02} for name, v in zip(better, values, strict=True)}}
    return {"scores": dict(zip(better, values, strict=True)) if score != [] else {}}
