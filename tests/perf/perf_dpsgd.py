"""The price of DP-SGD: gradient, step and memory beside those of ordinary SGD and of Opacus' ghost clipping. Prints, asserts nothing.

    python -m tests.perf.perf_dpsgd [--rounds 15] [--batches 1024 4096]

On one thread the variants take turns; medians over the rounds with 95 % intervals, ratios round by round. `stock` is PyTorch's own matrix product
instead of `synthesizers._parts.linear`. Plain means without privacy: no clipping, no noise. On a GPU read the wall times.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
import tyro
from opacus.grad_sample import GradSampleModuleFastGradientClipping as GhostClipping
from opacus.grad_sample.linear import compute_linear_norm_sample
from opacus.optimizers import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch import Tensor

from bench.core.accounting import Charge
from bench.core.privacy import Ledger, SgdHandle
from synthesizers._parts import linear
from synthesizers._parts.diffusion import Architecture, ResidualDenoiser, preconditioned, training_losses
from synthesizers._parts.dpsgd import PerSampleClipping, private_gradient
from synthesizers._parts.training import Training
from synthesizers.privorl_n import PrivORLN
from tests.perf.side_by_side import in_a_process_of_its_own, interleaved, print_load, print_ratio, print_times, resident, restart_as_worker

PUBLISHED = Architecture(width=2048, blocks=6, layer_norm=False, waves=False, precision="float32")
COLUMNS, BATCH, PHYSICAL = 12, 128, 1024
CLIP_NORM, NOISE_MULTIPLIER, RATE, DECAY, MANY_STEPS = 1.0, 1.0, 3e-4, 0.995, 1_000_000

Step = Callable[[], object]


@dataclass(frozen=True, eq=False)
class Problem:
    """A denoiser and a batch of rows with the noise of their losses."""

    network: ResidualDenoiser
    rows: Tensor
    normals: Tensor

    @classmethod
    def random(cls, architecture: Architecture, batch: int, device: str) -> Problem:
        generator = torch.Generator().manual_seed(0)
        rows, normals = (torch.randn(batch, columns, generator=generator).to(device) for columns in (COLUMNS, 1 + COLUMNS))
        return cls(architecture.network(COLUMNS, generator).to(device), rows, normals)

    def losses(self, chosen: object = slice(None)) -> Tensor:
        return training_losses(preconditioned(self.network), self.rows[chosen], self.normals[chosen])


def plain_gradient(problem: Problem) -> Step:
    parameters = list(problem.network.parameters())
    return lambda: torch.autograd.grad(problem.losses().mean(), parameters)


def clipped_gradient(problem: Problem) -> Callable[[], Tensor]:
    """The sum (P,) of clipped gradients, by book-keeping."""
    clipping = PerSampleClipping(problem.network)

    def gradient() -> Tensor:
        clipping.add_clipped(clipping.workspace, problem.losses, CLIP_NORM, overwrite=True)
        return clipping.workspace

    return gradient


def ghost_gradient(problem: Problem) -> Callable[[], list[Tensor]]:
    """The same sum, by two backward passes of Opacus, which is told that our `Linear` is a linear layer."""
    warnings.filterwarnings("ignore", "Full backward hook is firing")
    parameters = list(problem.network.parameters())
    GhostClipping.NORM_SAMPLERS[linear.Linear] = compute_linear_norm_sample
    module = GhostClipping(problem.network, strict=False, max_grad_norm=CLIP_NORM)  # strict: it would refuse the frequencies, a buffer
    noise = {"noise_multiplier": NOISE_MULTIPLIER, "max_grad_norm": CLIP_NORM, "expected_batch_size": len(problem.rows)}
    optimizer = DPOptimizerFastGradientClipping(torch.optim.AdamW(parameters), **noise)

    def gradient() -> list[Tensor]:
        DPTensorFastGradientClipping(module, optimizer, problem.losses(), "mean").backward()
        return [part for parameter in parameters if (part := parameter.grad) is not None]

    return gradient


def plain_step(problem: Problem) -> Step:
    """Ordinary PyTorch: backward passes, AdamW and the moving average of the weights. Parts of the batch are faster here than the whole at once."""
    batch, parameters = len(problem.rows), list(problem.network.parameters())
    averaged = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        for start in range(0, batch, PHYSICAL):
            (problem.losses(slice(start, start + PHYSICAL)).sum() / batch).backward()
        optimizer.step()
        torch._foreach_lerp_(averaged, [parameter.detach() for parameter in parameters], 1 - DECAY)

    return step


def private_step(problem: Problem) -> Step:
    """Clipping, noise, AdamW and the average. Poisson sampling at rate 1 includes the whole batch: steps are of one size, and it costs nothing."""
    batch, training = len(problem.rows), Training(problem.network, MANY_STEPS, RATE, DECAY)
    charge = Charge("gradients", "dp-sgd", CLIP_NORM, MANY_STEPS, NOISE_MULTIPLIER)
    handle, clipping = SgdHandle(Ledger(None, batch, np.random.default_rng(0)), charge), PerSampleClipping(problem.network)
    return lambda: training.step(private_gradient(handle, clipping, problem.losses, batch, PHYSICAL))


STEPS: Mapping[str, Callable[[Problem], Step]] = {"plain": plain_step, "ours": private_step}


# --- tables ---------------------------------------------------------------------------------------------------------------------------------------


on_stock = patch.object(linear, "has_onednn", lambda: False)  # decorates a step


def timed(steps: Mapping[str, Step], rounds: int) -> dict[str, np.ndarray]:
    """`interleaved`, waiting for a GPU where there is one."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    return interleaved({name: lambda step=step: (step(), wait()) for name, step in steps.items()}, rounds)


def gradients(rounds: int, device: str) -> None:
    ours, plain, ghost = (Problem.random(PUBLISHED, BATCH, device) for _ in range(3))
    clipped, peer = clipped_gradient(ours), ghost_gradient(ghost)
    size, difference = clipped().numel(), (torch.cat([part.reshape(-1) for part in peer()]) - clipped()).abs().max()
    print(f"gradient + clip, {size:,} parameters, batch {BATCH}; ours and ghost differ by {difference:.1e} at most")
    steps = {"ours": clipped, "plain": plain_gradient(plain), "ghost": peer}
    times = timed(steps | {f"stock {name}": on_stock(step) for name, step in steps.items()}, rounds)
    print_times(times, "ms", 1e3)
    print_ratio(times, "ours", "plain", "1.05; 1.10 is a pass")
    print_ratio(times, "ours", "stock ghost", "0.6")
    for one, other in (("ours", "ghost"), ("stock ours", "stock plain"), ("stock ours", "stock ghost")):
        print_ratio(times, one, other)


def full_steps(batch: int, rounds: int, device: str) -> None:
    print(f"full step with AdamW and the average (ours: and noise), batch {batch}, at most {PHYSICAL} rows at once")
    times = timed({name: make(Problem.random(PUBLISHED, batch, device)) for name, make in STEPS.items()}, rounds)
    print_times(times, "ms", 1e3)
    print_ratio(times, "ours", "plain", "1.15; 1.2 is a pass")


def laptop(rounds: int, device: str) -> None:
    method = PrivORLN()
    architecture, batch = method.architecture, method.physical_batch
    print(f"gradient + clip, default network {architecture}, batch {batch}, by the row")
    precisions = {"": "float32", ", bfloat16": "bfloat16"}
    problems = {suffix: partial(Problem.random, replace(architecture, precision=name), batch, device) for suffix, name in precisions.items()}
    makers = {"plain": plain_gradient, "ours": clipped_gradient}
    times = timed({name + suffix: make(problem()) for suffix, problem in problems.items() for name, make in makers.items()}, rounds)
    print_times(times, "us", 1e6 / batch)
    for one, other in (("ours", "plain"), ("ours, bfloat16", "plain, bfloat16"), ("ours, bfloat16", "ours")):
        print_ratio(times, one, other)


def memory(batch: int, device: str) -> None:
    ours, plain = (in_a_process_of_its_own(peak, name, batch, device)[0] / 2**20 for name in ("ours", "plain"))
    line = f"ours {ours:.0f} MiB, plain {plain:.0f} MiB, ours / plain {ours / plain:.2f}   (goal: 1.4)"
    print(f"peak memory of full steps above libraries and weights, batch {batch}: {line}", flush=True)


def peak(name: str, batch: int, device: str) -> tuple[int, int]:
    """Bytes at the peak of three full steps in a fresh process: above libraries and weights, and in all."""
    torch.ones(64, 64) @ torch.ones(64, 64)  # the libraries set up their buffers
    libraries = 0 if device == "cuda" else resident("VmRSS")
    step = STEPS[name](problem := Problem.random(PUBLISHED, batch, device))
    for _ in range(3):
        step()
    whole = torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")
    return whole - libraries - sum(4 * parameter.numel() for parameter in problem.network.parameters()), whole


def main(rounds: int = 15, batches: tuple[int, ...] = (1024, 4096)) -> None:
    print_load("start")
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        print(f"--- {device}, {rounds} rounds ---", flush=True)
        gradients(rounds, device)
        for batch in batches:
            full_steps(batch, rounds, device)
        for batch in (BATCH, PHYSICAL):
            memory(batch, device)
        laptop(rounds, device)
    if not torch.cuda.is_available():
        print("GPU: not measured")
    print_load("end")


if __name__ == "__main__":
    restart_as_worker()
    tyro.cli(main)
