"""Time of the attacks on released rows, beside a loop over scikit-learn where it is installed. Prints times and ratios, asserts nothing.

    python tests/perf/perf_attacks.py [RELEASED] [CANDIDATES] [ROUNDS]

maze2d-medium: as many released rows as RELEASED, CANDIDATES members and as many non-members, and 200,000 reference rows. CPU seconds of one thread;
calls take turns, after a round to warm up. A peer answers a part of the candidates in batches of 100, by brute-force neighbours or by a kernel
density of 50,000 rows, in the released and in the reference rows, and its time is scaled up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from side_by_side import interleaved, print_load, print_ratio, print_times, restart_as_worker

from bench.core import registry
from bench.core.data import Transitions
from bench.core.protocols import Runtime, Target
from bench.envs.maze2d import MEDIUM

REFERENCE = 1_000_000
KERNELS = 50_000
"""Rows on which a kernel density of a peer is fitted."""
PART = 200
"""Candidates that a peer answers."""


def attacks(candidates: int) -> dict[str, Callable[..., object]]:
    """Every registered attack on released rows, by name."""
    found = {name: registry.resolve("attacks", f"{name}[members={candidates}]").instance for name in registry.names("attacks")}
    return {name: attack.attack for name, attack in found.items() if attack.needs == "samples"}


def peers(released: NDArray, reference: NDArray, queries: NDArray) -> Mapping[str, Callable[[], object]]:
    """What a scikit-learn user writes, for `PART` of the candidates; empty without the library."""
    if find_spec("sklearn") is None:
        print("scikit-learn is not installed: no ratios")
        return {}
    from sklearn.neighbors import KernelDensity, NearestNeighbors

    rng = np.random.default_rng(0)
    neighbours = [NearestNeighbors(n_neighbors=1, algorithm="brute", n_jobs=1).fit(rows) for rows in (released, reference)]
    samples = [rows[rng.choice(len(rows), min(len(rows), KERNELS), replace=False)] for rows in (released, reference)]
    densities = [KernelDensity(bandwidth=0.4).fit(rows) for rows in samples]
    batches = [queries[start : start + 100] for start in range(0, PART, 100)]
    return {
        "scikit-learn NearestNeighbors": lambda: [model.kneighbors(batch) for model in neighbours for batch in batches],
        "scikit-learn KernelDensity": lambda: [model.score_samples(batch) for model in densities for batch in batches],
    }


def columns(data: Transitions) -> NDArray:
    table = np.column_stack([data.observations, data.actions, data.rewards, data.next_observations - data.observations])
    return table / np.maximum(table.std(axis=0), 1e-9)


def main(released: int, candidates: int, rounds: int) -> None:
    members, rows = (MEDIUM.dataset(released, seed, "train") for seed in (0, 1))
    others, reference = (MEDIUM.dataset(REFERENCE, 0, part) for part in ("holdout", "reference"))
    target, roles = Target(rows, None), (members, others, reference)
    print(f"{candidates:,} members and as many non-members against {released:,} released and {REFERENCE:,} reference rows")
    print_load("before")
    everything = (target, {}, *roles)
    calls = attacks(candidates).items()
    ours = {name: lambda attack=attack: attack(*everything, np.random.default_rng(0), runtime=Runtime()) for name, attack in calls}
    theirs = peers(columns(rows), columns(reference), columns(members)[:PART])
    times = interleaved({**ours, **theirs}, rounds)
    for name in theirs:
        times[name] *= 2 * candidates / PART
    print_times(times, "s", 1)
    print(f"  all attacks together: {sum(np.median(times[name][:, 0]) for name in ours):.1f} CPU-s")
    for peer, own in zip(theirs, ("nearest-difference", "domias"), strict=False):
        print_ratio(times, peer, own)
    print_load("after")


if __name__ == "__main__":
    restart_as_worker()
    main(*(int(text) for text in (sys.argv[1:] + ["1000000", "10000", "3"][len(sys.argv) - 1 :])))
