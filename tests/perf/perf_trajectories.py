"""The price of DP-SGD whose unit is a trajectory, and what the few-step sampler of PrivORL-j saves and costs. Prints, asserts nothing.

    python -m tests.perf.perf_trajectories [--rounds 15] [--released 50000]

On one thread the variants take turns; medians over the rounds with 95 % intervals, ratios round by round. All compute the gradient of the same
windows of the same network, PrivORL-j's default one: `plain` is one backward pass over all of them, without privacy; `by trajectory` an ordinary
backward pass for each trajectory, `by window` one for each window, as in the published code. The samplers release from one model that is pre-trained
on open and large and fine-tuned on umaze; maze2d-medium is never read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import tyro
from torch import Tensor

from bench.core.data import Unit
from bench.core.privacy import Budget, Ledger, default_delta
from bench.core.protocols import Runtime
from bench.core.rng import rng_for
from synthesizers._parts.discretize import exact_columns
from synthesizers._parts.dpsgd import PerSampleClipping
from synthesizers._parts.scaling import Scaling
from synthesizers._parts.training import gradient_of
from synthesizers._parts.window_models import WindowModel, WindowSampler
from synthesizers._parts.windows import Layout, cut
from synthesizers.privorl_j import PrivORLJ
from tests.perf.perf_diffusion import in_standard_errors, pairwise_tv, standard_error
from tests.perf.side_by_side import EPSILON, clocked, interleaved, print_load, print_ratio, print_times, restart_as_worker
from tests.perf.tune_on_public import SIBLINGS, dataset

SENSITIVE = "maze2d-umaze"
STEPS = (10, 20, 30, 60)
REFERENCE_STEPS = 200
"""Evaluations of the sampler that all others are held against; the published one has 196."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A model and windows (B, K, D) of trajectories of umaze."""

    model: WindowModel
    windows: Tensor
    normals: Tensor

    @classmethod
    def of(cls, method: PrivORLJ) -> Problem:
        data = dataset(SENSITIVE, 100_000, "train")
        layout, rng = Layout.of(data.schema, method.horizon), np.random.default_rng(0)
        units = rng.integers(data.units(Unit.TRAJECTORY), size=method.physical_batch)
        windows = cut(data, Scaling.of_histograms(exact_columns(data, 4096, 64)), layout, units, rng.random((len(units), method.windows)))
        generator = torch.Generator().manual_seed(0)
        model = method.architecture.model(layout, generator)
        return cls(model, torch.from_numpy(windows), torch.randn(*windows.shape[:2], model.normals, generator=generator))

    def losses(self) -> Tensor:
        """Of the trajectories, (B,)."""
        return self.model.losses(self.windows, self.normals).mean(1)

    @property
    def parts(self) -> list[Problem]:
        """Each trajectory by itself."""
        return [replace(self, windows=w, normals=n) for w, n in zip(self.windows.split(1), self.normals.split(1), strict=True)]

    @property
    def single_windows(self) -> list[Problem]:
        """Each window of each trajectory by itself."""
        return [replace(self, windows=w, normals=n) for w, n in zip(self.windows.split(1, dim=1), self.normals.split(1, dim=1), strict=True)]


def plain(problem: Problem) -> Tensor:
    return gradient_of(problem.losses().mean(), problem.model)


def clipped(problem: Problem, clip_norm: float) -> Callable[[], Tensor]:
    clipping = PerSampleClipping(problem.model)

    def gradient() -> Tensor:
        clipping.add_clipped(clipping.workspace, problem.losses, clip_norm, overwrite=True)
        return clipping.workspace

    return gradient


def one_by_one(problem: Problem, clip_norm: float) -> Tensor:
    """An ordinary backward pass for each trajectory, whose gradient is then clipped."""
    total = torch.zeros(sum(parameter.numel() for parameter in problem.model.parameters()))
    for part in problem.parts:
        gradient = plain(part)
        total += gradient * (clip_norm / torch.linalg.vector_norm(gradient)).clamp(max=1)
    return total


def window_by_window(problem: Problem, clip_norm: float) -> Tensor:
    """The same with a backward pass for each window: the loop of the published code."""
    total = torch.zeros(sum(parameter.numel() for parameter in problem.model.parameters()))
    for part in problem.parts:
        gradient = torch.stack([plain(window) for window in part.single_windows]).mean(0)
        total += gradient * (clip_norm / torch.linalg.vector_norm(gradient)).clamp(max=1)
    return total


def gradients(method: PrivORLJ, rounds: int) -> None:
    problem, C = Problem.of(method), method.clip_norm
    ours = clipped(problem, C)
    whole, first = ours().clone(), problem.parts[0]
    peer, alone = one_by_one(first, C), clipped(first, C)()
    print(f"gradient + clip, {len(whole):,} parameters, {method.physical_batch} trajectories of {method.windows} windows; ", end="")
    print(f"of one trajectory ours and a backward pass differ by {(alone - peer).abs().max():.1e} at most", flush=True)
    calls = {
        "ours": ours,
        "plain": lambda: plain(problem),
        "by trajectory": lambda: one_by_one(problem, C),
        "by window": lambda: window_by_window(problem, C),
    }
    times = interleaved(calls, rounds)
    print_times(times, "ms", 1e3)
    print_ratio(times, "ours", "plain", "1.05; 1.10 is a pass")
    print_ratio(times, "by trajectory", "plain")
    print_ratio(times, "ours", "by window", "below 1")


def samplers(method: PrivORLJ, released: int, seeds: int) -> None:
    """CPU seconds, mean and standard error of the mean pairwise TV over sampling seeds, and the distance to many steps."""
    target, model = dataset(SENSITIVE, released, "holdout"), fitted(method)
    print(f"mean pairwise TV of {released:,} rows to the holdout, {seeds} sampling seeds (goal: within 2 standard errors of {REFERENCE_STEPS} steps)")
    reference = None
    for steps in (REFERENCE_STEPS, *sorted({*STEPS, method.sampling_steps}, reverse=True)):
        sampler = replace(method, sampling_steps=steps).restore(model.schema, model.state())
        drawn, seconds = clocked(
            lambda sampler=sampler: [sampler.sample(released, rng_for(str(s), "sample"), runtime=Runtime()) for s in range(seeds)]
        )
        scores = np.array([pairwise_tv(rows, target) for rows in drawn])
        reference = scores if reference is None else reference
        line = "" if scores is reference else f"   {in_standard_errors(scores, reference):+6.2f} standard errors from {REFERENCE_STEPS} steps"
        print(f"  {steps:4} steps {seconds.cpu / seeds:6.1f} CPU-s   {scores.mean():.5f} +- {standard_error(scores):.5f}{line}", flush=True)


def fitted(method: PrivORLJ) -> WindowSampler:
    data = dataset(SENSITIVE, 1_000_000, "train")
    assert method.pretraining is not None
    public = {name: dataset(name, 1_000_000, "train") for name in SIBLINGS[SENSITIVE]}
    state = method.pretraining.run(public, rng_for("0", "pretrain"), runtime=Runtime())
    budget = Budget(EPSILON, default_delta(data.schema.nominal_trajectories), Unit.TRAJECTORY)
    ledger = Ledger(budget, data.units(Unit.TRAJECTORY), rng_for("0", "ledger"))
    return method.fit(data, ledger, rng_for("0", "fit"), public={}, pretrained=state, runtime=Runtime())


def main(rounds: int = 15, released: int = 50_000, seeds: int = 5) -> None:
    print_load("start")
    method = PrivORLJ()
    gradients(method, rounds)
    samplers(method, released, seeds)
    if not torch.cuda.is_available():
        print("GPU: not measured")
    print_load("end")


if __name__ == "__main__":
    restart_as_worker()
    tyro.cli(main)
