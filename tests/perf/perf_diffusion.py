"""What the few-step sampler of PrivORL-n saves and costs, and how long the published size would take here. Prints, asserts nothing.

    python -m tests.perf.perf_diffusion [--rounds 15] [--pretraining-steps 600] [--steps 150] [--released 50000] ...

One model is pre-trained on open and large and fine-tuned on umaze; maze2d-medium is never read. All samplers then release from it: they differ in
schedule and precision alone. On one thread they take turns; medians over the rounds with 95 % intervals, ratios round by round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from bench.core.data import Transitions
from bench.core.protocols import Runtime
from bench.core.rng import rng_for
from metrics.fidelity import PairwiseTV
from synthesizers._parts.diffusion import PUBLISHED_SCHEDULE, Schedule, preconditioned, sample
from synthesizers.privorl_n import DiffusionSampler, PrivORLN
from tests.perf.perf_dpsgd import BATCH, COLUMNS, PUBLISHED, Problem, Step, peak, plain_step, private_step
from tests.perf.side_by_side import EPSILON, in_a_process_of_its_own, interleaved, print_load, print_ratio, print_times, restart_as_worker, run_method
from tests.perf.tune_on_public import SIBLINGS, environment, rows_of

SENSITIVE = "maze2d-umaze"
STEPS = (20, 40, 60, 100)
PUBLISHED_SAMPLER = "published"
TIMED_ROWS = 1_000
"""Rows of a timed release of the small model."""
PUBLISHED_COUNTS = {"pre-training": 5 * 3_000_000 // 128, "fine-tuning": 62_500, "sampling": 1_000_000}
PUBLISHED_HOURS = {"pre-training": 1.5, "fine-tuning": 2.0, "sampling": 0.5}
PUBLISHED_GIGABYTES = 21.4
"""Steps, steps and rows of PrivORL on maze2d-medium, and what they took on an A6000; the memory is that of fine-tuning."""
PROBE_ROWS, PROBE = 512, Schedule(steps=2)
"""A short stretch of sampling at the published size, from which the rest is extrapolated."""

# --- the samplers of one model --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """How small the model is that the samplers are compared on."""

    rows: int
    public_rows: int
    pretraining_steps: int
    steps: int


def fitted(size: Size) -> tuple[PrivORLN, DiffusionSampler]:
    method = PrivORLN(precision="float32", pretraining_steps=size.pretraining_steps, steps=size.steps)
    assert method.pretraining is not None
    public = {name: rows_of(name, size.public_rows, "train") for name in SIBLINGS[SENSITIVE]}
    state = method.pretraining.run(public, rng_for("0", "pretrain"), runtime=Runtime())
    run = run_method(method, rows_of(SENSITIVE, size.rows, "train"), released=1, pretrained=state)
    assert isinstance(run.sampler, DiffusionSampler)
    print(f"{method.width} x {method.blocks}, epsilon {run.spent:.3f} of {EPSILON:g}, {size}; fine-tuning {run.fit}", flush=True)
    return method, run.sampler


def samplers(method: PrivORLN, model: DiffusionSampler) -> dict[str, DiffusionSampler]:
    """The published 255 evaluations, the default and its neighbours, by name."""
    default = f"{method.sampling_steps} steps"
    variants = {PUBLISHED_SAMPLER: replace(method, sampler="published")}
    variants |= {f"{steps} steps": replace(method, sampling_steps=steps) for steps in sorted({*STEPS, method.sampling_steps})}
    variants |= {f"{default}, deterministic": replace(method, sampler="deterministic")}
    variants |= {f"{name}, bfloat16": replace(variants[name], precision="bfloat16") for name in (PUBLISHED_SAMPLER, default)}
    return {name: variant.restore(model.schema, model.state()) for name, variant in variants.items()}


def release(sampler: DiffusionSampler, rows: int, seed: int) -> Transitions:
    return sampler.sample(rows, rng_for(str(seed), "sample"), runtime=Runtime())


def times(variants: Mapping[str, DiffusionSampler], rounds: int) -> None:
    print(f"time of a row, {TIMED_ROWS:,} released, {rounds} rounds; evaluations of the network in brackets")
    named = {f"{name} ({sampler.schedule.evaluations})": sampler for name, sampler in variants.items()}
    taken = interleaved({name: partial(release, sampler, TIMED_ROWS, 0) for name, sampler in named.items()}, rounds)
    print_times(taken, "us", 1e6 / TIMED_ROWS)
    reference, *others = named
    for name in others:
        print_ratio(taken, name, reference)


# --- quality --------------------------------------------------------------------------------------------------------------------------------------


def quality(variants: Mapping[str, DiffusionSampler], released: int, seeds: int) -> None:
    """Mean and standard error over sampling seeds, and how far each variant is from the published sampler."""
    target = rows_of(SENSITIVE, released, "holdout")
    real = pairwise_tv(rows_of(SENSITIVE, released, "train"), target)
    print(f"mean pairwise TV of {released:,} rows to the holdout, {seeds} sampling seeds (goal: within 2 standard errors); real rows {real:.5f}")
    reference = None
    for name, sampler in variants.items():
        scores = np.array([pairwise_tv(release(sampler, released, seed), target) for seed in range(seeds)])
        reference = scores if reference is None else reference
        line = "" if scores is reference else f"   {in_standard_errors(scores, reference):+6.2f} standard errors from {PUBLISHED_SAMPLER}"
        print(f"  {name:24} {scores.mean():.5f} +- {standard_error(scores):.5f}{line}", flush=True)


def pairwise_tv(rows: Transitions, target: Transitions) -> float:
    return PairwiseTV().score(rows, target, environment(SENSITIVE), rng_for("0", "score"))["pairwise_tv"]


def standard_error(scores: NDArray) -> float:
    return float(scores.std(ddof=1)) / sqrt(len(scores))


def in_standard_errors(scores: NDArray, reference: NDArray) -> float:
    """Difference of the means over the standard error of that difference."""
    return float(scores.mean() - reference.mean()) / sqrt(standard_error(scores) ** 2 + standard_error(reference) ** 2)


# --- the published size ---------------------------------------------------------------------------------------------------------------------------


def sampling_probe(problem: Problem) -> Step:
    generator = torch.Generator().manual_seed(0)
    return lambda: sample(preconditioned(problem.network), (PROBE_ROWS, COLUMNS), PROBE, generator)


def published_size(rounds: int) -> None:
    makers = {"pre-training": plain_step, "fine-tuning": private_step, "sampling": sampling_probe}
    taken = interleaved({name: make(Problem.random(PUBLISHED, BATCH, "cpu")) for name, make in makers.items()}, rounds)
    print(
        f"published size: {PUBLISHED.width} x {PUBLISHED.blocks}, batch {BATCH}; a step, a step, {PROBE.evaluations} evaluations of {PROBE_ROWS} rows"
    )
    print_times(taken, "ms", 1e3)
    row = PUBLISHED_SCHEDULE.evaluations / PROBE.evaluations / PROBE_ROWS
    scales = {"pre-training": 1.0, "fine-tuning": 1.0, "sampling": row}
    print("extrapolated on this CPU, one thread, from these medians; curiosity, inclusion and decoding are left out; published: on an A6000")
    for name, count in PUBLISHED_COUNTS.items():
        hours = float(np.median(taken[name][:, 0])) * scales[name] * count / 3600
        print(f"  {name:24} {count:9,} x {hours / count * 3.6e6:8.2f} ms = {hours:6.2f} h   (published: {PUBLISHED_HOURS[name]} h)")
    gigabytes = in_a_process_of_its_own(peak, "ours", BATCH, "cpu")[1] / 1e9
    print(f"  peak memory of fine-tuning, measured, libraries included: {gigabytes:.1f} GB   (published: {PUBLISHED_GIGABYTES} GB)", flush=True)


def main(
    rounds: int = 15,
    rows: int = 100_000,
    public_rows: int = 100_000,
    pretraining_steps: int = 600,
    steps: int = 150,
    released: int = 50_000,
    seeds: int = 5,
) -> None:
    print_load("start")
    variants = samplers(*fitted(Size(rows, public_rows, pretraining_steps, steps)))
    times(variants, rounds)
    quality(variants, released, seeds)
    published_size(rounds)
    print_load("end")


if __name__ == "__main__":
    restart_as_worker()
    tyro.cli(main)
