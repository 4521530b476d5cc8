"""Modules with losses whose per-sample gradients the tests of DP-SGD clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from window_support import model_of, walks

from synthesizers._parts.diffusion import Architecture, preconditioned, training_losses
from synthesizers._parts.dpsgd import PerSampleClipping
from synthesizers._parts.window_denoiser import WindowDenoiser

Precision = Literal["float32", "bfloat16"]
Forward = Callable[[nn.Module, nn.Module, Tensor], Tensor]
COLUMNS = 12
UNCLIPPED = float("inf")


# --- problems -------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Samples (n, ...) and the losses (n,) that a module has on any of them."""

    module: nn.Module
    samples: Tensor
    losses: Callable[[nn.Module, Tensor], Tensor]

    def clipped(self, clip_norm: float) -> tuple[Tensor, Tensor]:
        """The clipped sum (P,) in float64, and the norms before clipping (n,)."""
        clipping = PerSampleClipping(self.module)
        total = clipping.zeros()
        norms = clipping.add_clipped(total, lambda: self.losses(self.module, self.samples), clip_norm)
        return total.double(), norms

    def of(self, samples: Any) -> Problem:
        """The same problem on these of its samples."""
        return replace(self, samples=self.samples[samples])

    def without(self, sample: int) -> Problem:
        return self.of([i for i in range(len(self.samples)) if i != sample])

    def alone(self) -> Iterator[Problem]:
        return (self.of([i]) for i in range(len(self.samples)))


def denoiser(width: int, layer_norm: bool, rows: int, blocks: int = 2, precision: Precision = "float32") -> Problem:
    """The denoiser at random rows and noise levels."""
    generator = torch.Generator().manual_seed(0)
    network = Architecture(width, blocks, layer_norm, False, precision).network(COLUMNS, generator)

    def losses(module: nn.Module, samples: Tensor) -> Tensor:
        return training_losses(preconditioned(module), samples[:, :COLUMNS], samples[:, COLUMNS:])

    return around_one(Problem(network, torch.randn(rows, 2 * COLUMNS + 1, generator=generator), losses))


class MeanLosses(nn.Module):
    """Windows (n, K, D) beside their normals to the mean loss (n,) over each unit's K windows."""

    def __init__(self, model: WindowDenoiser) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: Tensor) -> Tensor:
        normals = self.model.normals
        return self.model.losses(samples[..., :-normals], samples[..., -normals:]).mean(1)


def windows(trunk: str, units: int) -> Problem:
    """The denoiser of windows at three windows of each of `units` trajectories."""
    model, own = model_of(trunk, "maze"), torch.from_numpy(walks("maze").anywhere(range(units), 3))
    normals = torch.randn(units, 3, model.normals, generator=torch.Generator().manual_seed(1))
    return around_one(Problem(MeanLosses(model), torch.cat([own, normals], dim=-1), lambda module, samples: module(samples)))


def stacked(*layers: nn.Module, samples: Tensor) -> Problem:
    """Layers one after the other, with parameters that are nowhere zero or one."""
    module, generator = nn.Sequential(*layers), torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.7, generator=generator)
    return around_one(Problem(module, samples, of_outputs))


def of_outputs(module: nn.Module, samples: Tensor) -> Tensor:
    """Smooth losses (n,) of all that leaves a module."""
    losses: Tensor = module(samples).sin().flatten(1).sum(1)
    return losses


def around_one(problem: Problem) -> Problem:
    """The losses times a constant that brings half of the gradients to a norm below 1 and half of them above."""
    median = problem.clipped(UNCLIPPED)[1].median()
    return replace(problem, losses=lambda module, samples: problem.losses(module, samples) / median)


def in_bfloat16(problem: Problem) -> Problem:
    """The same losses under autocast."""

    def losses(module: nn.Module, samples: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return problem.losses(module, samples)

    return replace(problem, losses=losses)


def normals(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def tokens(*shape: int) -> Tensor:
    return torch.randint(5, shape, generator=torch.Generator().manual_seed(1))


PROBLEMS: dict[str, Problem] = {
    "denoiser of width 64": denoiser(64, False, 48),
    "denoiser of width 64, LayerNorm": denoiser(64, True, 48),
    "denoiser of width 256": denoiser(256, False, 48),
    "denoiser of width 256, LayerNorm": denoiser(256, True, 48),
    "a linear layer": stacked(nn.Linear(6, 5), samples=normals(30, 6)),
    "rows": stacked(nn.Linear(6, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3, bias=False), samples=normals(30, 6)),
    "sequences": stacked(nn.Linear(6, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3, bias=False), samples=normals(30, 4, 6)),
    "sequences of sequences": stacked(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 3), samples=normals(30, 2, 4, 6)),
    "windows, transformer": windows("transformer", 30),
    "windows, convolutions": windows("conv", 30),
    "a token a sample": stacked(nn.Embedding(5, 4), nn.Linear(4, 3), samples=tokens(30)),
    "tokens": stacked(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3), samples=tokens(30, 6)),
    "padded tokens": stacked(nn.Embedding(5, 4, padding_idx=2), nn.LayerNorm(4), nn.Linear(4, 3), samples=tokens(30, 6)),
}
IN_BFLOAT16: dict[str, Problem] = {
    "denoiser of width 64": denoiser(64, False, 48, precision="bfloat16"),
    "denoiser of width 64, LayerNorm": denoiser(64, True, 48, precision="bfloat16"),
    **{name: in_bfloat16(PROBLEMS[name]) for name in ("a linear layer", "rows", "sequences", "padded tokens")},
}
IN_BOTH = {**PROBLEMS, **{f"{name}, bfloat16": problem for name, problem in IN_BFLOAT16.items()}}
