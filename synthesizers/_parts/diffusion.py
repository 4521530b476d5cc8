"""EDM: diffusion as Karras et al. 2022 (arXiv:2206.00364) set it up, with the residual MLP that denoises table rows.

Rows y (n, D) come with mean 0 and deviation about sigma_data = 1. A network F sees a noisy row and its noise level; preconditioning (their eq. 7)
makes of it the denoiser D(x; sigma), trained so that D(y + sigma n; sigma) is y. Sampling runs the noise backwards, with their
stochastic sampler or with a deterministic one that needs few evaluations.
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
"""D(x; sigma): noisy rows (..., D) and their noise levels (...), or (1,) for all, to clean rows (..., D)."""
_EMBEDDING = 128
FREQUENCIES = 8
WAVES = (0.25, 0.5, 1.0)
"""Periods of four, two and one standard deviations of a column."""

# --- training -------------------------------------------------------------------------------------------------------------------------------------

SIGMA_DATA = 1.0
P_MEAN, P_STD = -1.2, 1.2
"""ln sigma ~ N(P_MEAN, P_STD^2) in training (their table 1)."""


def preconditioned(network: Callable[[Tensor, Tensor], Tensor]) -> Denoiser:
    """D(x; sigma) = c_skip x + c_out F(c_in x, c_noise), so that F sees and predicts unit variance at every noise level."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = sigma[..., None]
        total = (level**2 + SIGMA_DATA**2).sqrt()
        c_skip, c_out, c_in = (SIGMA_DATA / total) ** 2, level * SIGMA_DATA / total, 1 / total
        estimate: Tensor = c_skip * x + c_out * network(c_in * x, sigma.log() / 4)
        return estimate

    return denoise


def denoising_losses(denoise: Denoiser, y: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """The weighted loss (...) of each row at its own noise level: depends on no other row. `noise` (..., D) is standard normal."""
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    return weight * (denoise(y + sigma[..., None] * noise, sigma) - y).square().mean(-1)


def training_losses(denoise: Denoiser, y: Tensor, normals: Tensor, *, p_mean: float = P_MEAN, p_std: float = P_STD) -> Tensor:
    """`denoising_losses` at random noise levels; `normals` (..., 1 + D): the first column draws the level, the others are the noise."""
    return denoising_losses(denoise, y, (p_mean + p_std * normals[..., 0]).exp(), normals[..., 1:])


# --- the network ----------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Architecture:
    """What a denoiser is built of.

    Attributes:
        width, blocks: the trunk's residual blocks.
        layer_norm: whether each block normalises its input.
        waves: whether rows enter with sines and cosines of their values (Tancik et al. 2020, arXiv:2006.10739): without them a network of few inputs
            learns sharp edges, such as walls, slowly.
        precision: of the matrix products; what is added up between them stays float32.
    """

    width: int
    blocks: int
    layer_norm: bool
    waves: bool
    precision: Literal["float32", "bfloat16"]

    def network(self, columns: int, generator: torch.Generator) -> ResidualDenoiser:
        """A fresh network for rows of `columns` columns."""
        return ResidualDenoiser(self, columns, generator)


class ResidualDenoiser(nn.Module):
    """F: input projection plus embedded noise level, a wide trunk of residual blocks x + W ReLU(x), linear read-out.

    The Fourier frequencies ~ N(0, 1) are frozen: a buffer, no parameter.
    """

    frequencies: Tensor
    waves: Tensor

    def __init__(self, architecture: Architecture, columns: int, generator: torch.Generator) -> None:
        super().__init__()
        self._low_precision, width = architecture.precision == "bfloat16", architecture.width
        self.register_buffer("frequencies", torch.randn(FREQUENCIES, generator=generator))
        self.embed = nn.Sequential(Linear(1 + 2 * FREQUENCIES, _EMBEDDING, generator), nn.SiLU(), Linear(_EMBEDDING, _EMBEDDING, generator))
        self.register_buffer("waves", torch.tensor(WAVES if architecture.waves else ()), persistent=False)
        self.project = Linear(columns * (1 + 2 * len(self.waves)), _EMBEDDING, generator)
        self.widen = Linear(_EMBEDDING, width, generator)
        self.blocks = nn.ModuleList(_Block(width, architecture.layer_norm, generator) for _ in range(architecture.blocks))
        self.read_out = Linear(width, columns, generator)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Rows (n, D) and noise levels (n,), or (1,) for all, to (n, D)."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._low_precision):
            h = self.widen(self.project(with_waves(x, self.waves)) + self.embed(with_waves(level[:, None], self.frequencies)))
            for block in self.blocks:
                h = block(h)
            estimate: Tensor = self.read_out(h.relu())
        return estimate.float()


def with_waves(x: Tensor, frequencies: Tensor) -> Tensor:
    """Values (..., D) beside the sines and cosines of each at every frequency, (..., D (1 + 2 k))."""
    angles = (2 * math.pi * x[..., None] * frequencies).flatten(-2)
    return torch.cat([x, angles.sin(), angles.cos()], dim=-1)


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
    """The noise levels of a sampler, from `sigma_max` to 0, and its stochasticity (their table 1).

    With `churn` rows are drawn by EDM's stochastic sampler `heun`, without by `multistep`, which `eta` leads from the deterministic flow (0) to the
    reverse diffusion (1). Either renews noise at the levels `churned` alone: it makes good what the network got wrong at higher ones.
    """

    steps: int
    sigma_max: float = 80.0
    churn: float = 0.0
    eta: float = 0.0
    sigma_min: float = 0.002
    rho: float = 7.0
    noise_inflation: float = 1.003
    churned: tuple[float, float] = (0.05, 50.0)

    @property
    def evaluations(self) -> int:
        """Calls of the denoiser in `sample`."""
        return 2 * self.steps - 1 if self.churn else self.steps

    def sigmas(self) -> list[float]:
        """Noise levels (steps + 1), falling to 0 (their eq. 5)."""
        ends = [sigma ** (1 / self.rho) for sigma in (self.sigma_max, self.sigma_min)]
        shares = [i / max(self.steps - 1, 1) for i in range(self.steps)]
        return [*((ends[0] + share * (ends[1] - ends[0])) ** self.rho for share in shares), 0.0]

    def gamma(self, sigma: float) -> float:
        """By what share `heun` raises the noise before a step."""
        return min(self.churn / self.steps, math.sqrt(2) - 1) if self._is_churned(sigma) else 0.0

    def renewal(self, sigma: float) -> float:
        """The part of the reverse diffusion in a step of `multistep`."""
        return self.eta if self._is_churned(sigma) else 0.0

    def _is_churned(self, sigma: float) -> bool:
        low, high = self.churned
        return low <= sigma <= high


PUBLISHED_SCHEDULE = Schedule(steps=128, churn=80.0)


@torch.no_grad()
def sample(denoise: Denoiser, shape: tuple[int, int], schedule: Schedule, generator: torch.Generator) -> Tensor:
    """Rows of `shape` (n, D) from pure noise, on the generator's device."""
    return (heun if schedule.churn else multistep)(denoise, shape, schedule, generator)


def multistep(denoise: Denoiser, shape: tuple[int, int], schedule: Schedule, generator: torch.Generator) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2): one evaluation a step, the estimate extrapolated from the last two.

    The noise shrinks exactly, so that few steps distort the variance less than Heun's method does with as many evaluations. With `schedule.eta` it
    shrinks faster, and fresh noise makes up the difference (SDE-DPM-Solver++, ibid., appendix).
    """
    sigmas, device = schedule.sigmas(), generator.device
    x = sigmas[0] * torch.randn(shape, generator=generator, device=device)
    last, log_step = None, 0.0
    for sigma, following in pairwise(sigmas):
        estimate = denoise(x, torch.tensor([sigma], device=device))
        if not following:
            return estimate
        before, log_step = log_step, math.log(sigma / following)
        clean = estimate if last is None else estimate + (estimate - last) * (log_step / (2 * before))
        kept = (following / sigma) ** schedule.renewal(sigma)
        x, last = clean + (x - clean) * (kept * following / sigma), estimate
        if kept < 1:
            x = x + following * math.sqrt(1 - kept**2) * torch.randn(shape, generator=generator, device=device)
    return x


def heun(denoise: Denoiser, shape: tuple[int, int], schedule: Schedule, generator: torch.Generator) -> Tensor:
    """EDM's stochastic sampler (Karras et al. 2022, algorithm 2): two evaluations a step, one in the last."""
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
