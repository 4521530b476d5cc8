"""Time, accuracy and memory of PGM beside mirror descent of private-pgm (`mbi`, an optional extra). Prints, asserts nothing.

    OMP_NUM_THREADS=1 python -m tests.perf.perf_pgm [ROUNDS]

Both sides take turns. `mbi` is handed codes, the tree, the noisy tables and compiled code; it counts the tables of the tree alone and releases codes.
PGM also discretises, counts all pairs, chooses the tree and decodes; the stages that both have are compared too. Median of the rounds [smallest,
largest].
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Transitions
from bench.core.protocols import Synthesizer
from synthesizers import pgm
from synthesizers._parts.discretize import Codes
from synthesizers._parts.marginals import Clique, Measured, Table, consistent, count, margin
from synthesizers.pgm import PGM, CliqueSampler
from synthesizers.privsyn import PrivSyn
from tests.perf.mixture import mixture
from tests.perf.side_by_side import RELEASED, Seconds, clocked, in_a_process_of_its_own, maze, print_load, run_method, spread, watched
from tests.synthesizers.marginal_support import disagreement, distance

ROWS = 200_000
STEPS, MANY_STEPS = 1000, 5000
METHOD = PGM(bins=32)
STAGES = {"count": "count_pairs", "solve": "consistent", "draw": "draw_codes"}
BIG: Mapping[str, Synthesizer] = {"pgm": PGM(), "privsyn": PrivSyn()}


# --- one problem, two solvers -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Problem:
    """What a fit of PGM counted and measured, and the tables that it made of it."""

    codes: Codes
    sizes: tuple[int, ...]
    one_way: list[Measured]
    tables: dict[Clique, Measured]
    total: float
    estimate: dict[Clique, Table]

    @classmethod
    def of_fit(cls, data: Transitions) -> Problem:
        with patch.object(pgm, "consistent", wraps=consistent) as solver:
            sampler = run_method(METHOD, data).sampler
        assert isinstance(sampler, CliqueSampler)
        one_way, tables, total = solver.call_args.args
        return cls(sampler.columns.encode(data), sampler.columns.sizes, one_way, tables, total, sampler.tables)

    @cached_property
    def measured(self) -> dict[Clique, Measured]:
        return {(i,): measured for i, measured in enumerate(self.one_way)} | self.tables

    def exact(self) -> dict[Clique, Table]:
        return {clique: count(self.codes, self.sizes, clique).astype(float) for clique in self.estimate}

    def objective(self, tables: Mapping[Clique, Table]) -> float:
        """The least squares that both minimise: half the squared distance to what was measured, over its variance."""
        found = {(i,): margin(table, axis) for clique, table in tables.items() for axis, i in enumerate(clique)} | dict(tables)
        return sum(float(np.sum((found[clique] - seen.counts) ** 2 / seen.variance)) / 2 for clique, seen in self.measured.items())


class Peer:
    """private-pgm on the same problem, in double precision."""

    def __init__(self, problem: Problem) -> None:
        self.jax = import_module("jax")
        self.jax.config.update("jax_enable_x64", True)
        self.jax.config.update("jax_enable_compilation_cache", False)
        self.mbi, self.problem = import_module("mbi"), problem
        self.domain = self.mbi.Domain(range(len(problem.sizes)), problem.sizes)
        self.measurements = [self._measurement(clique, seen) for clique, seen in problem.measured.items()]

    def _measurement(self, clique: Clique, seen: Measured) -> Any:
        """Scaled to a noise variance of one, since that of pooled cells differs from bin to bin."""
        precision = 1 / np.sqrt(np.broadcast_to(seen.variance, seen.counts.shape)).ravel()
        return self.mbi.LinearMeasurement(seen.counts.ravel() * precision, clique, query=self.mbi.WeightedQuery(precision))

    def count(self) -> list[NDArray]:
        rows = self.mbi.Dataset(dict(enumerate(self.problem.codes)), self.domain)
        return [np.asarray(rows.project(clique).datavector()) for clique in self.problem.measured]

    def fit(self, steps: int) -> Any:
        model = self.mbi.estimation.MirrorDescent().estimate(self.domain, self.measurements, known_total=self.problem.total, iters=steps)
        return self.jax.block_until_ready(model)

    def tables(self, model: Any) -> dict[Clique, Table]:
        return {clique: np.asarray(model.project(clique).datavector(flatten=False)) for clique in self.problem.estimate}

    def run(self) -> tuple[Seconds, dict[str, float]]:
        """Seconds of it all, and CPU seconds of each stage."""
        _, count = clocked(self.count)
        model, solve = clocked(lambda: self.fit(STEPS))
        _, draw = clocked(lambda: model.synthetic_data(RELEASED))
        return count + solve + draw, {"count": count.cpu, "solve": solve.cpu, "draw": draw.cpu}


# --- the parts ----------------------------------------------------------------------------------------------------------------------------------


def compare(data: Transitions, problem: Problem, rounds: int) -> None:
    try:
        peer = Peer(problem)
    except ImportError:
        print("mbi is not installed (pip install 'orl-bench[pgm]'): the comparison with it is left out", flush=True)
        return
    speed(data, peer, rounds)
    accuracy(peer)


def speed(data: Transitions, peer: Peer, rounds: int) -> None:
    cold, _ = peer.run()
    ours, theirs = zip(*((watched_run(data), peer.run()) for _ in range(rounds)), strict=True)
    for clock in ("cpu", "wall"):
        own, other = (np.array([getattr(seconds, clock) for seconds, _ in side]) for side in (ours, theirs))
        print(f"{clock:>4} seconds: pgm {spread(own)}   mbi, {STEPS} steps {spread(other)}   ratio {spread(other / own, 1)} (goal: 15)")
        print(f"      first call, compilation included: mbi {getattr(cold, clock):.2f}   ratio {getattr(cold, clock) / np.median(own):.1f}")
    own, other = (np.array([sum(spent.values()) for _, spent in side]) for side in (ours, theirs))
    print(f"CPU seconds from codes to codes: pgm {spread(own, 3)}   mbi {spread(other, 3)}   ratio {spread(other / own, 1)} (goal: 15)")
    for stage, name in STAGES.items():
        own, other = (np.array([spent[stage] for _, spent in side]) * 1e3 for side in (ours, theirs))
        print(f"  {stage:5} CPU-ms: pgm's {name} {spread(own, 1)}   mbi {spread(other, 1)}   ratio {spread(other / own, 1)}", flush=True)


def watched_run(data: Transitions) -> tuple[Seconds, dict[str, float]]:
    """Seconds of it all, and CPU seconds of the stages that both sides have."""
    with watched(pgm, *STAGES.values()) as spent:
        seconds = run_method(METHOD, data).seconds
    return seconds, {stage: spent[name] for stage, name in STAGES.items()}


def accuracy(peer: Peer) -> None:
    """How far the solvers are from each other and from the exact tables; a lower objective at no disagreement is nearer to the optimum."""
    exact, ours = peer.problem.exact(), peer.problem.estimate
    print("normalised L1 of the tables of the tree, mean and largest over cliques")
    print(f"  pgm to exact {errors(ours, exact)}; objective {peer.problem.objective(ours):.3f}, margins disagree by {disagreement(ours):.1e}")
    for steps in (STEPS, MANY_STEPS):
        model, seconds = clocked(partial(peer.fit, steps))
        theirs = peer.tables(model)
        line = f"mbi to exact {errors(theirs, exact)}; objective {peer.problem.objective(theirs):.3f}, margins disagree by {disagreement(theirs):.1e}"
        print(f"  {line}; pgm to mbi {errors(ours, theirs)} (goal: 1e-3); {steps} steps, {seconds}", flush=True)


def errors(one: Mapping[Clique, Table], other: Mapping[Clique, Table]) -> str:
    each = [distance(one[clique], other[clique]) for clique in one]
    return f"{np.mean(each):.1e}, {np.max(each):.1e}"


def split(columns: int) -> None:
    """Where the time goes."""
    data = mixture(ROWS, columns)
    steps = ("learn_columns", *STAGES.values())
    with watched(pgm, *steps) as spent:
        run = run_method(METHOD, data)
    print(f"{ROWS:,} x {columns}: fit {run.fit}; sample {run.sample}; together {run.seconds} (goal at 60 columns: 10 s)")
    parts = ", ".join(f"{name} {spent[name]:.3f}" for name in steps)
    print(f"  CPU-s: {parts} ({columns * (columns - 1) // 2} pairs), the rest {run.seconds.cpu - sum(spent.values()):.3f}", flush=True)


def big(name: str, rows: int) -> str:
    """Time and peak memory of this process, which does nothing else."""
    data = maze(rows)
    before = peak_memory()
    run = run_method(BIG[name], data)
    figures = f"fit {run.fit}; sample {RELEASED:,} rows {run.sample}; peak {peak_memory():.2f} GiB, {before:.2f} before the fit (goal: 3)"
    return f"{name:8} maze2d-medium {rows:,} x 12: {figures}"


def peak_memory() -> float:
    """GiB ever resident in this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(rounds: int) -> None:
    print_load("start")
    for name in BIG:  # first, while this process is small: on Linux a child's peak begins at its parent's
        print(in_a_process_of_its_own(big, name, 4_000_000), flush=True)
    data = mixture(ROWS, 11)
    print(f"{ROWS:,} x 11, 32 bins, epsilon 10, {RELEASED:,} rows released, {rounds} rounds")
    compare(data, Problem.of_fit(data), rounds)
    split(11)
    split(60)
    print_load("end")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
