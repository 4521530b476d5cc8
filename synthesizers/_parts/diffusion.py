"""EDM: diffusion as Karras et al. 2022 (arXiv:2206.00364) set it up, with the residual MLP that denoises table rows.

Rows y (n, D) come with mean 0 and deviation about sigma_data = 1. A network F sees a noisy row and its noise level; preconditioning (their eq. 7)
makes of it the denoiser D(x; sigma), trained so that D(y + sigma n; sigma) is y. Sampling runs the noise backwards with Heun's method (their
algorithms 1 and 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from synthesizers._parts.linear import Linear

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""D(x; sigma): noisy rows (n, D) and their noise levels (n,) or (1,) to clean rows (n, D)."""
_EMBEDDING = 128
_FREQUENCIES = 8

# --- training -------------------------------------------------------------------------------------------------------------------------------------

SIGMA_DATA = 1.0
P_MEAN, P_STD = -1.2, 1.2
"""ln sigma ~ N(P_MEAN, P_STD^2) in training (their table 1)."""


def preconditioned(network: nn.Module) -> Denoiser:
    """D(x; sigma) = c_skip x + c_out F(c_in x, c_noise), so that F sees and predicts unit variance at every noise level."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = sigma[:, None]
        total = (level**2 + SIGMA_DATA**2).sqrt()
        c_skip, c_out, c_in = (SIGMA_DATA / total) ** 2, level * SIGMA_DATA / total, 1 / total
        estimate: Tensor = c_skip * x + c_out * network(c_in * x, sigma.log() / 4)
        return estimate

    return denoise


def denoising_losses(denoise: Denoiser, y: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """The weighted loss (n,) of each row at its own noise level: depends on no other row. `noise` (n, D) is standard normal."""
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    return weight * (denoise(y + sigma[:, None] * noise, sigma) - y).square().mean(1)


def training_losses(denoise: Denoiser, y: Tensor, normals: Tensor) -> Tensor:
    """`denoising_losses` at random noise levels; `normals` (n, 1 + D): the first column draws the level, the others are the noise."""
    return denoising_losses(denoise, y, (P_MEAN + P_STD * normals[:, 0]).exp(), normals[:, 1:])


# --- the network ----------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Architecture:
    """The trunk of a denoiser: `blocks` residual blocks of `width` units, each with or without LayerNorm before it.

    `precision` is that of the matrix products; what is added up between them stays float32.
    """

    width: int
    blocks: int
    layer_norm: bool
    precision: Literal["float32", "bfloat16"]

    def network(self, columns: int, generator: torch.Generator) -> ResidualDenoiser:
        """A fresh network for rows of `columns` columns."""
        return ResidualDenoiser(self, columns, generator)


class ResidualDenoiser(nn.Module):
    """F: input projection plus embedded noise level, a wide trunk of residual blocks x + W ReLU(x), linear read-out.

    The Fourier frequencies ~ N(0, 1) are frozen: a buffer, no parameter.
    """

    frequencies: Tensor

    def __init__(self, architecture: Architecture, columns: int, generator: torch.Generator) -> None:
        super().__init__()
        self._low_precision, width = architecture.precision == "bfloat16", architecture.width
        self.register_buffer("frequencies", torch.randn(_FREQUENCIES, generator=generator))
        self.embed = nn.Sequential(Linear(1 + 2 * _FREQUENCIES, _EMBEDDING, generator), nn.SiLU(), Linear(_EMBEDDING, _EMBEDDING, generator))
        self.project = Linear(columns, _EMBEDDING, generator)
        self.widen = Linear(_EMBEDDING, width, generator)
        self.blocks = nn.ModuleList(_Block(width, architecture.layer_norm, generator) for _ in range(architecture.blocks))
        self.read_out = Linear(width, columns, generator)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Rows (n, D) and noise levels (n,), or (1,) for all, to (n, D)."""
        angles = 2 * math.pi * level[:, None] * self.frequencies
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._low_precision):
            h = self.widen(self.project(x) + self.embed(torch.cat([level[:, None], angles.sin(), angles.cos()], dim=1)))
            for block in self.blocks:
                h = block(h)
            estimate: Tensor = self.read_out(h.relu())
        return estimate.float()


class _Block(nn.Module):
    def __init__(self, width: int, layer_norm: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if layer_norm else nn.Identity()
        self.linear = Linear(width, width, generator)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.linear(self.norm(h).relu())


# --- sampling -------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """The noise levels of a sampler, from `sigma_max` to 0, and its stochasticity (their table 1 and algorithm 2).

    `churn` 0 is the deterministic sampler of algorithm 1.
    """

    steps: int
    sigma_max: float = 80.0
    churn: float = 0.0
    sigma_min: float = 0.002
    rho: float = 7.0
    noise_inflation: float = 1.003
    churned: tuple[float, float] = (0.05, 50.0)

    @property
    def evaluations(self) -> int:
        """Calls of the denoiser: two a step, one in the last."""
        return 2 * self.steps - 1

    def sigmas(self) -> list[float]:
        """Noise levels (steps + 1), falling to 0 (their eq. 5)."""
        ends = [sigma ** (1 / self.rho) for sigma in (self.sigma_max, self.sigma_min)]
        shares = [i / max(self.steps - 1, 1) for i in range(self.steps)]
        return [*((ends[0] + share * (ends[1] - ends[0])) ** self.rho for share in shares), 0.0]

    def gamma(self, sigma: float) -> float:
        """By what share the noise is raised before a step."""
        low, high = self.churned
        return min(self.churn / self.steps, math.sqrt(2) - 1) if low <= sigma <= high else 0.0


PUBLISHED_SCHEDULE = Schedule(steps=128, churn=80.0)


@torch.no_grad()
def heun(denoise: Denoiser, shape: tuple[int, int], schedule: Schedule, generator: torch.Generator) -> Tensor:
    """Rows of `shape` (n, D) from pure noise, on the generator's device."""
    sigmas, device = schedule.sigmas(), generator.device

    def slope(x: Tensor, sigma: float) -> Tensor:
        return (x - denoise(x, torch.tensor([sigma], device=device))) / sigma

    x = sigmas[0] * torch.randn(shape, generator=generator, device=device)
    for sigma, following in pairwise(sigmas):
        gamma = schedule.gamma(sigma)
        if gamma:
            raised = sigma * (1 + gamma)
            extra = schedule.noise_inflation * math.sqrt(raised**2 - sigma**2)
            x, sigma = x + extra * torch.randn(shape, generator=generator, device=device), raised
        d = slope(x, sigma)
        moved = x + (following - sigma) * d
        x = x + (following - sigma) * (d + slope(moved, following)) / 2 if following else moved
    return x
