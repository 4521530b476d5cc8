"""Time of the metrics and of the nearest-record distance beside the usual library loops, on maze2d-medium. Prints ratios, asserts nothing.

    python tests/perf/perf_metrics.py [ROWS]

CPU seconds of one process (run it with OMP_NUM_THREADS=1), ours and theirs in turn; median of the rounds and the smallest and largest ratio.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import combinations
from time import process_time

import numpy as np
from scipy.stats import ks_2samp, pearsonr
from sklearn.neighbors import NearestNeighbors

from bench.core.data import Transitions
from bench.envs.maze2d import MEDIUM
from metrics.dynamics import Dynamics
from metrics.fidelity import Correlation, OneWay, PairwiseTV
from metrics.nearest import nearest_distance
from metrics.trajectories import Autocorrelation, Continuity, TrajectoryMarginals
from metrics.windows import WindowAUC

ROUNDS = 3
CANDIDATES, RELEASED = 20_000, 200_000


def seconds(call: Callable[[], object]) -> float:
    start = process_time()
    call()
    return process_time() - start


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object] | None = None, share: float = 1.0) -> None:
    """`share`: the part of the task that `theirs` does, to which its time is scaled up."""
    pairs = np.array([(seconds(ours), seconds(theirs) / share if theirs else np.nan) for _ in range(ROUNDS)])
    own, peer = np.median(pairs, axis=0)
    line = f"{name:52} {own:7.2f} s"
    if theirs:
        ratios = pairs[:, 1] / pairs[:, 0]
        line += f"   peer {peer:7.2f} s   ratio {np.median(ratios):6.1f} [{ratios.min():.1f}, {ratios.max():.1f}]"
    print(line, flush=True)


def pair_table(data: Transitions) -> np.ndarray:
    return np.column_stack([data.observations, data.actions, data.rewards, data.next_observations - data.observations])


def histogram_loop(a: np.ndarray, b: np.ndarray, pairs: list[tuple[int, int]]) -> None:
    edges = np.quantile(b, np.linspace(0, 1, 51), axis=0)
    for i, j in pairs:
        for table in (a, b):
            np.histogramdd(table[:, [i, j]], bins=(edges[:, i], edges[:, j]))


def main(rows: int) -> None:
    rng = np.random.default_rng(0)
    a, b = (MEDIUM.dataset(rows, 0, part) for part in ("train", "holdout"))
    wide, other = pair_table(a), pair_table(b)
    table, target = a.table(), b.table()
    pairs = list(combinations(range(wide.shape[1]), 2))
    print(f"{rows:,} x {wide.shape[1]} rows on either side; peers marked with * run a part and are scaled up")
    compare(
        "one-way, * scipy.stats.ks_2samp on 2 of 11 columns",
        lambda: OneWay().score(a, b, MEDIUM, rng),
        lambda: [ks_2samp(table[:, j], target[:, j], method="asymp") for j in (0, 4)],
        2 / 11,
    )
    compare(
        "pairwise TV, * numpy.histogramdd on 5 of 55 pairs",
        lambda: PairwiseTV().score(a, b, MEDIUM, rng),
        lambda: histogram_loop(wide, other, pairs[::11]),
        5 / 55,
    )
    compare(
        "correlation, scipy.stats.pearsonr loop",
        lambda: Correlation().score(a, b, MEDIUM, rng),
        lambda: [pearsonr(t[:, i], t[:, j]) for t in (wide, other) for i, j in pairs],
    )
    for metric in (Dynamics(), TrajectoryMarginals(), Autocorrelation(), Continuity(), WindowAUC()):
        compare(type(metric).__name__, lambda metric=metric: metric.score(a, b, MEDIUM, rng))
    points = {
        "maze2d, 12 columns": table[:RELEASED],
        "normal, 42 columns": rng.normal(size=(RELEASED, 42)),
        "normal, 131 columns": rng.normal(size=(RELEASED, 131)),
    }
    for name, cloud in points.items():
        released = cloud.astype(np.float32)
        queries = released[rng.integers(len(released), size=CANDIDATES)] + rng.normal(0, 0.1, (CANDIDATES, released.shape[1])).astype(np.float32)
        peer = NearestNeighbors(n_neighbors=1, algorithm="brute", n_jobs=1).fit(released)
        compare(
            f"nearest of {len(released):,} ({name}), * scikit-learn brute",
            lambda queries=queries, released=released: nearest_distance(queries, released),
            lambda queries=queries, peer=peer: peer.kneighbors(queries[: CANDIDATES // 10]),
            1 / 10,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
