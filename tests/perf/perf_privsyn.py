"""Quality and time of PrivSyn at its defaults beside PGM, Independent and the floor: a resample of the data. Prints, asserts nothing.

    OMP_NUM_THREADS=1 python -m tests.perf.perf_privsyn

Quality is the mean total variation over all pairs of varying columns (`Yardstick`). Median [smallest, largest] over noise seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from bench.core.data import Transitions
from bench.core.protocols import Runtime, Synthesizer
from bench.core.rng import rng_for
from synthesizers.independent import Independent
from synthesizers.pgm import PGM
from synthesizers.privsyn import PrivSyn, PrivSynSampler
from tests.perf.mixture import mixture
from tests.perf.side_by_side import EPSILON, RELEASED, Yardstick, clocked, maze, print_load, run_method, spread

SEEDS = range(3)
METHODS: Mapping[str, Synthesizer] = {"privsyn": PrivSyn(), "pgm": PGM(), "independent": Independent()}
PROPOSALS = (5, 10, 20, 40, 60, 100)
GROWTH = (100_000, 200_000, 400_000, 1_000_000)


def quality(title: str, data: Transitions, yardstick: Yardstick) -> float:
    """Prints all methods; returns the floor."""
    print(f"{title}, epsilon {EPSILON:g}, {RELEASED:,} rows released, {len(SEEDS)} seeds (goal: 2.2 times the floor, 23 s)")
    resamples = [data.rows(rng_for(str(seed), "resample").integers(len(data), size=RELEASED)) for seed in SEEDS]
    floors = [yardstick.distance(rows) for rows in resamples]
    floor = float(np.median(floors))
    print(f"  {'floor':12} TV {spread(floors, 4)}", flush=True)
    for name, method in METHODS.items():
        runs = [run_method(method, data, seed=seed) for seed in SEEDS]
        errors = np.array([yardstick.distance(run.released) for run in runs])
        cpu, wall = (spread([getattr(run.seconds, clock) for run in runs]) for clock in ("cpu", "wall"))
        spent = max(run.spent for run in runs)
        line = f"TV {spread(errors, 4)}   {spread(errors / floor)} x floor   {cpu} CPU-s   {wall} s of wall   epsilon spent {spent:.4f}"
        print(f"  {name:12} {line}", flush=True)
    return floor


def offers(title: str, data: Transitions, yardstick: Yardstick, floor: float) -> None:
    """What more offers to each row buy, from one fit."""
    sampler = run_method(PrivSyn(), data, released=1).sampler
    assert isinstance(sampler, PrivSynSampler)
    print(f"{title}: {len(sampler.tables)} tables; offers to each row, TV, sampling")
    for proposals in PROPOSALS:
        eager = replace(sampler, proposals=proposals)
        rows, seconds = clocked(partial(eager.sample, RELEASED, rng_for("0", "sample"), runtime=Runtime()))
        error = yardstick.distance(rows)
        print(f"  {proposals:4}   {error:.4f}   {error / floor:.2f} x floor   {seconds}", flush=True)


def growth() -> None:
    print("growth on maze2d-medium x 12, as many rows released as fitted (goal: at most linear)")
    for rows in GROWTH:
        run = run_method(PrivSyn(), maze(rows), released=rows)
        print(f"  {rows:9,} rows: fit {run.fit}; sample {run.sample}; {run.seconds.cpu / rows * 1e6:.0f} CPU-us a row", flush=True)


def main() -> None:
    print_load("start")
    for title, data in {f"mixture {RELEASED:,} x 11": mixture(RELEASED, 11), "maze2d-medium 1,000,000 x 12": maze(1_000_000)}.items():
        yardstick = Yardstick(data)
        floor = quality(title, data, yardstick)
        offers(title, data, yardstick, floor)
    growth()
    print_load("end")


if __name__ == "__main__":
    main()
