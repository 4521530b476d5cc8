"""Hyper-parameters on public mazes alone: umaze and large each play sensitive in turn, and maze2d-medium is never read.

    OMP_NUM_THREADS=1 python -m tests.perf.tune_on_public OUT.csv SENSITIVE EPSILON ROWS VARIANT...

VARIANT is a name as `bench run` takes it, such as 'privorl-n[steps=300]'. One row of OUT.csv for each score of each variant; pre-trainings are shared
by the variants of one call that agree on them. The columns `pretrain`, `fit` and `sample` are CPU seconds.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from bench.core.data import Transitions, Unit
from bench.core.privacy import Budget, Ledger, default_delta
from bench.core.protocols import Environment, Pretraining, Runtime, State
from bench.core.registry import resolve
from bench.core.rng import rng_for
from metrics.dynamics import Dynamics
from metrics.fidelity import OneWay, PairwiseTV
from metrics.trajectories import Autocorrelation, TrajectoryMarginals
from metrics.windows import WindowAUC
from tests.perf.side_by_side import RELEASED, clocked

SIBLINGS = {"maze2d-umaze": ("maze2d-open", "maze2d-large"), "maze2d-large": ("maze2d-open", "maze2d-umaze")}
"""What is public while a maze plays sensitive: never maze2d-medium, which the tables report."""
HEADER = ("env", "rows", "synth", "epsilon", "epsilon_spent", "pretrain", "fit", "sample", "metric", "mean")


@cache
def environment(name: str) -> Environment:
    found: Environment = resolve("environments", name).instance
    return found


@cache
def dataset(name: str, rows: int, part: str) -> Transitions:
    """Whole trajectories, under a schema whose nominal number of rows they have."""
    data = environment(name).dataset(rows, 0, part)
    return replace(data, schema=data.schema.with_rows(rows))


def rows_of(name: str, rows: int, part: str) -> Transitions:
    """The same rows, each for itself."""
    return replace(dataset(name, rows, part), trajectories=None)


@cache
def pretrained(phase: Pretraining, sensitive: str) -> tuple[State, float]:
    """The public phase and its CPU seconds."""
    public = {name: dataset(name, 1_000_000, "train") for name in SIBLINGS[sensitive]}
    state, seconds = clocked(lambda: phase.run(public, rng_for("tuning", "pretrain"), runtime=Runtime()))
    return state, seconds.cpu


def scores(variant: str, sensitive: str, epsilon: float, rows: int) -> Iterator[tuple[object, ...]]:
    """One line for each score of one fit."""
    method, data, target = resolve("synthesizers", variant).instance, dataset(sensitive, rows, "train"), dataset(sensitive, RELEASED, "holdout")
    unit, nominal = method.unit, data.schema.nominal_units(method.unit)
    state, public_seconds = pretrained(method.pretraining, sensitive) if method.pretraining else (None, 0.0)
    ledger = Ledger(Budget(epsilon, default_delta(nominal), unit) if method.fine_tune else None, data.units(unit), rng_for("tuning", "ledger"))
    shown = data if method.fine_tune else Transitions.empty(data.schema)
    sampler, fit = clocked(lambda: method.fit(shown, ledger, rng_for("tuning", "fit"), public={}, pretrained=state, runtime=Runtime()))
    released, sample = clocked(lambda: sampler.sample(RELEASED, rng_for("tuning", "sample"), runtime=Runtime()))
    found = {}
    if hasattr(sampler, "loss"):
        found["held_out_loss"] = float(sampler.loss(target, np.arange(20_000), rng_for("tuning", "loss"), runtime=Runtime()).mean())
    for metric in (OneWay(), PairwiseTV(), Dynamics(), *([TrajectoryMarginals(), Autocorrelation(), WindowAUC()] if unit is Unit.TRAJECTORY else [])):
        found |= metric.score(released, target, environment(sensitive), rng_for("tuning", "score"))
    for name, value in found.items():
        times = (round(seconds, 1) for seconds in (public_seconds, fit.cpu, sample.cpu))
        yield (sensitive, rows, variant, epsilon, round(ledger.spent(), 4), *times, name, round(value, 5))


def main(out: str, sensitive: str, epsilon: str, rows: str, *variants: str) -> None:
    file = Path(out)
    fresh = not file.exists()
    with file.open("a", newline="") as stream:
        writer = csv.writer(stream)
        if fresh:
            writer.writerow(HEADER)
        for variant in variants:
            lines = list(scores(variant, sensitive, float(epsilon), int(rows)))
            writer.writerows(lines)
            stream.flush()
            print(variant, sensitive, epsilon, rows, "seconds", lines[0][5:8], {line[-2]: line[-1] for line in lines}, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
