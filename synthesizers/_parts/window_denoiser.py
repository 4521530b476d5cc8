"""EDM over windows of trajectories: the network that denoises them, and their loss.

Noise is added to what is drawn, the differences among it; the network is shown the states that noisy differences add up to. A place in a maze is a
sum of many steps, known while each of them still drowns in noise: so a model of steps is a model of places too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from bench.core.data import Float
from synthesizers._parts.diffusion import FREQUENCIES, WAVES, Denoiser, Schedule, preconditioned, sample, training_losses, with_waves
from synthesizers._parts.linear import Linear
from synthesizers._parts.sequences import ConvolutionBlock, TransformerBlock, places
from synthesizers._parts.window_models import WindowModel
from synthesizers._parts.windows import Layout

_P_MEAN, _P_STD = 0.5, 1.6
"""ln sigma in training: rows that go the same way are seen through noise that would drown one alone, so levels are higher than for single rows."""
SIGMA_MAX = 80.0
"""Where samplers start, for the same reason."""
_FIRST_STATE = 4.0
"""The error of a first state counts so many times, its square sixteen times: few of a window's numbers say where it begins."""
_LOSS_LEVELS = (0.05, 0.1, 0.2, 0.4) * 4
"""Where attacks look at the loss: low, where a model that has memorised a window knows it again."""
_QUICK = Schedule(steps=12, sigma_max=SIGMA_MAX)
"""For candidates, which only have to be novel."""


@dataclass(frozen=True)
class DenoiserArchitecture:
    """A trunk of `blocks`, each `width` wide: of a transformer, or of convolutions without skip connections (the published PrivORL-j-U).

    A token stands for `patch` rows, as far as a window has so many.
    """

    denoiser: Literal["transformer", "conv"]
    width: int
    blocks: int
    patch: int

    def model(self, layout: Layout, generator: torch.Generator) -> WindowDenoiser:
        """A fresh network."""
        return WindowDenoiser(self, layout, generator)


class WindowDenoiser(WindowModel):
    """F for windows: a token for each patch of rows, to which the embedded noise level and the condition are added; the trunk; linear read-outs.

    The first state of a window that opens its trajectory is drawn as well, and read out of the first token.
    """

    frequencies: Tensor
    waves: Tensor
    places: Tensor

    def __init__(self, architecture: DenoiserArchitecture, layout: Layout, generator: torch.Generator) -> None:
        super().__init__()
        self.layout, width, waved = layout, architecture.width, 1 + 2 * len(WAVES)
        self.patch = min(architecture.patch, layout.horizon)
        self.register_buffer("frequencies", torch.randn(FREQUENCIES, generator=generator))
        self.register_buffer("waves", torch.tensor(WAVES), persistent=False)
        self.register_buffer("places", places(layout.horizon // self.patch, width), persistent=False)
        self.embed = nn.Sequential(Linear(1 + 2 * FREQUENCIES, width, generator), nn.SiLU(), Linear(width, width, generator))
        known = 1 + (layout.states + layout.condition) * waved
        self.know = nn.Sequential(Linear(known, width, generator), nn.SiLU(), Linear(width, width, generator))
        self.project = Linear(self.patch * (layout.columns + layout.states) * waved, width, generator)
        block = TransformerBlock if architecture.denoiser == "transformer" else ConvolutionBlock
        self.blocks = nn.Sequential(*(block(width, generator) for _ in range(architecture.blocks)))
        self.normalize = nn.LayerNorm(width, elementwise_affine=False)
        self.read_first, self.read_rows = Linear(width, layout.states, generator), Linear(width, self.patch * layout.columns, generator)

    def forward(self, content: Tensor, level: Tensor, states: Tensor, flags: Tensor, condition: Tensor) -> Tensor:
        """Contents (..., S + H d) with the states (..., H, S) they imply, noise levels (...), flags and conditions, to contents."""
        first, rows = self.layout.split_content(content)
        opening, present = flags[..., :1], flags[..., 1:, None]
        shown = with_waves(torch.cat([rows, states], dim=-1) * present, self.waves)
        tokens = self.project(shown.unflatten(-2, (-1, self.patch)).flatten(-2))
        known = with_waves(torch.cat([first * opening, condition], dim=-1), self.waves)
        around = self.embed(with_waves(level[..., None], self.frequencies)) + self.know(torch.cat([opening, known], dim=-1))
        h = self.normalize(self.blocks(tokens + self.places + around[..., None, :]))
        return torch.cat([self.read_first(h[..., 0, :]), self.read_rows(h).flatten(-2)], dim=-1)

    def denoiser(self, flags: Tensor, condition: Tensor) -> Denoiser:
        """D(x; sigma) of windows with these flags and conditions."""

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            states = self._states_seen(x, sigma, flags, condition)
            return preconditioned(lambda scaled, level: self(scaled, level, states, flags, condition))(x, sigma)

        return denoise

    @property
    def normals(self) -> int:
        return 1 + self.layout.content

    def losses(self, windows: Tensor, normals: Tensor) -> Tensor:
        """EDM's loss (...); what is padded, or known from the condition, counts as rightly denoised."""
        y, flags, condition = self.layout.split(windows)
        stakes = y.new_ones(y.shape[-1])
        stakes[: self.layout.states] = _FIRST_STATE
        stakes = stakes * self.layout.is_drawn(flags)
        denoise = self.denoiser(flags, condition)
        return training_losses(lambda x, sigma: torch.lerp(y, denoise(x, sigma), stakes), y, normals, p_mean=_P_MEAN, p_std=_P_STD)

    def probes(self, draws: np.random.Generator) -> Float:
        """Another noise each time, at fixed noise levels in turn."""
        levels = (np.log(_LOSS_LEVELS) - _P_MEAN) / _P_STD
        return np.column_stack([levels, draws.standard_normal((len(levels), self.layout.content))]).astype(np.float32)

    def ends(self) -> nn.Module:
        return nn.ModuleList([self.project, self.read_first, self.read_rows])

    def draw(self, flags: Tensor, condition: Tensor, generator: torch.Generator, schedule: Schedule = _QUICK) -> Tensor:
        return sample(self.denoiser(flags, condition), (len(flags), self.layout.content), schedule, generator)

    def _states_seen(self, x: Tensor, sigma: Tensor, flags: Tensor, condition: Tensor) -> Tensor:
        """The states (..., H, S) before each row of noisy contents x, scaled down where the noise has added to their variance."""
        states, slopes = self.layout.states_before(x, flags, condition)
        steps = torch.arange(self.layout.horizon, device=x.device)[:, None]
        added = sigma[..., None, None] ** 2 * (flags[..., :1, None] + steps * slopes[..., None, :] ** 2)
        return states * (1 + added).rsqrt()
