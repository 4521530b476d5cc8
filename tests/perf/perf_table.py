"""How long a table over 50,000 records takes: read, pool, rank and print. Run by hand: `python tests/perf/perf_table.py`."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.run.store import Record, Store
from bench.tables.catalogue import LEADERBOARD, make_table
from bench.tables.render import FORMATS, render

RECORDS = 50_000
SEEDS = 5
METRICS = 8
"""A sweep of the size of the paper's grid many times over: with 5 seeds every interval is a bootstrap, the slower kind."""


def make_sweep(store: Store) -> dict[str, Any]:
    """Fits, utility and fidelity of as many rows as it takes, on twenty environments."""
    store.create()
    rng, rows = np.random.default_rng(0), RECORDS // (SEEDS * (METRICS + 2))
    names = {"source": "local-simulator", "preset": "perf", "rows": 1_000_000, "released": 200_000, "unit": "transition", "guarantee": "DP"}
    leaves = []
    for row in range(rows):
        labels = {**names, "env": f"maze-{row % 20}", "synth": f"method-{row // 20}", "epsilon": 10.0, "delta": 1e-7}
        for seed in range(SEEDS):
            fit = put(store, f"{row}-{seed}-fit", "fit", {"epsilon_spent": 9.99, "accountant": "pld", "charges": []})
            run = {**labels, "seeds": {"synthesizer": seed, "sampling": 0, "agent": 0}, "fit": fit}
            curve = list(rng.normal(50, 10, 10))
            key = put(
                store, f"{row}-{seed}-train", "train", {"score": curve[-1], "curve": {"steps": list(range(10)), "returns": curve, "scores": curve}}
            )
            leaves.append({**run, "kind": "utility", "plugin": "iql", "better": {"score": "higher"}, "key": key})
            for metric in range(METRICS):
                key = put(store, f"{row}-{seed}-{metric}", "fidelity", {"scores": {f"score_{metric}": rng.uniform()}})
                leaves.append({**run, "kind": "fidelity", "plugin": f"m{metric}", "better": {f"score_{metric}": "higher"}, "key": key})
    environments: list[dict[str, Any]] = [
        {"env": f"maze-{i}", "rows": 1_000_000, "source": "local-simulator", "references": None, "ceilings": {}} for i in range(20)
    ]
    return {"sweep": {"seeds": {"synthesizer": SEEDS, "sampling": 1, "agent": 1}}, "leaves": leaves, "environments": environments}


def put(store: Store, key: str, stage: str, result: dict[str, Any]) -> str:
    provenance = {"seconds": 1.0, "versions": {"python": "3.11", "numpy": "2.4", "torch": "2.13"}, "sources": {"agents": "0" * 16}}
    parameters, plugins = {"environment": {"plugin": "maze", "version": 1}}, {"environments": "toy", "synthesizers": "pgm[select=exponential]"}
    store.put(Record(key, stage, "ok", None, parameters, {"sample": "0" * 20}, plugins, result, False, provenance))
    return key


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        manifest = make_sweep(store)
        keys = [leaf["key"] for leaf in manifest["leaves"]] + sorted({leaf["fit"] for leaf in manifest["leaves"]})
        watch("the files alone, as JSON", lambda: [parsed(f"{folder}/records/{key}.json") for key in keys], len(keys))
        watch("reading the records alone", lambda: [store.get(key) for key in keys], len(keys))
        table = watch("make_table", lambda: make_table(LEADERBOARD, manifest, store), len(keys))
        for form in FORMATS:
            watch(f"render {form}", lambda form=form: render(table, form), len(keys))


def parsed(path: str) -> Any:
    """The floor: no reader of JSON can do less."""
    with open(path, "rb") as file:
        return json.loads(file.read())


def watch(what: str, work: Any, records: int) -> Any:
    """Wall time, and the processor's own: the two differ on a busy machine."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    print(f"{what:28s} {time.perf_counter() - wall:6.2f} s wall  {time.process_time() - cpu:6.2f} s cpu  ({records:,} records)")
    return result


if __name__ == "__main__":
    main()
