"""How often the many-run audit refutes a sound method, and what an audit costs. Prints; nothing is asserted.

    python -m tests.perf.perf_audits [--methods independent privorl-n] [--runs 200]

Twenty audits of each method at epsilon 10, each by itself: of sound ones 5 % have a bound above the claim at 95 % confidence, and 0.1 % are refuted.
"""

from __future__ import annotations

import time

import numpy as np
import tyro

from bench import Runtime
from bench.core.registry import resolve
from metrics.audits import ManyRun
from tests.audit_arms import subject

CLAIM, REPEATS, REFUTED = 10.0, 20, 0.001


def repeat(name: str, audit: ManyRun) -> None:
    """One line: the bounds, and the counts beside what is expected of a sound method."""
    method, started = resolve("synthesizers", name).instance, time.process_time()
    reports = [audit.audit(subject(method, CLAIM, audit.rows, str(i)), np.random.default_rng(i), runtime=Runtime()) for i in range(REPEATS)]
    seconds = (time.process_time() - started) / REPEATS
    headline, bounds = zip(*(next(iter(report.bounds.items())) for report in reports), strict=True)
    above, refuted = sum(bound.epsilon > CLAIM for bound in bounds), sum(bound.p_value < REFUTED for bound in bounds)
    lows = sorted(bound.epsilon for bound in bounds)
    print(
        f"{name}: {audit.runs} fits a side, {headline[0]} bounds {lows[0]:.2f} to {lows[-1]:.2f}, median {np.median(lows):.2f}, {seconds:.1f} s each"
    )
    print(f"  above {CLAIM:g} at 95 %: {above} (expected at most {REPEATS * 0.05:g}); refuted: {refuted} (expected at most {REPEATS * REFUTED:g})")


def main(methods: tuple[str, ...] = ("independent", "privorl-n"), runs: int = 200) -> None:
    for name in methods:
        repeat(name, ManyRun(runs=runs))


if __name__ == "__main__":
    tyro.cli(main)
