"""DP-Transformer: an autoregressive model of trajectories, pre-trained on public siblings, fine-tuned by DP-SGD whose unit is a whole trajectory.

The baseline of that name in PrivORL (NDSS 2026). A causal transformer (Vaswani et al. 2017) over discretised scalars, as the Trajectory Transformer
has them (Janner et al. 2021, arXiv:2106.02039); DP-SGD (Abadi et al. 2016).

Privacy: as in PrivORL-j, with which it shares all but the model. Sensitive trajectories enter in two places. One Gaussian answer is their histogram
by length and end, to which each adds one (5 % of the budget). Each step of `private_gradient` includes every trajectory by its own coin of rate
q = B / N (N nominal), averages the gradients of K of its windows, clips the average to norm C and adds Gaussian noise to the sum: a Poisson-sampled
Gaussian mechanism of sensitivity C for add/remove neighbours, composed over T steps by the Ledger. Where windows are cut comes from a key that the
Ledger keeps. Bins are constants; scaling comes from public rows; where there are none, from histograms of the columns, to each of which a trajectory
adds one in all (another 5 %). Averaging and sampling are post-processing. No loss is looked at.

The published comparison names it without describing it; ours is:
1. Windows of H rows under the transition before and the number of rows left, stitched to whole trajectories whose lengths are drawn first.
2. One token a row, not one a scalar: the row before and the state that it led to. So a long window is cheap, and s' is the next row's s.
3. Within a row one scalar after the other, (a, r, s' - s), each under those before it by a small head of its own. A first state is drawn likewise.
4. A scalar is a choice among `bins` fixed intervals of its standardised value, narrow where values crowd, wide in the tails; uniform within one.
5. The training of PrivORL-j without curiosity: public windows, then DP-SGD, then the average over the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import asinh
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.core.data import Float, Schema
from bench.core.protocols import State
from synthesizers._parts.checks import require_at_least
from synthesizers._parts.diffusion import WAVES, with_waves
from synthesizers._parts.linear import Linear, perceptron
from synthesizers._parts.sequences import TransformerBlock, places
from synthesizers._parts.trajectory_method import TrajectoryMethod
from synthesizers._parts.window_models import WindowModel, WindowSampler
from synthesizers._parts.windows import Layout

_CORE, _FARTHEST = 0.5, 10.0
"""Bins are alike up to about +-_CORE and grow in proportion to |z| from there on; what lies beyond +-_FARTHEST counts as lying in the last one."""


@dataclass(frozen=True)
class DPTransformer(TrajectoryMethod):
    """DP-Transformer.

    Attributes, besides those of `TrajectoryMethod`:
        width: of the heads too.
        bins: intervals to which a scalar is discretised.
    """

    version: ClassVar[int] = 3

    width: int = 64
    pretraining_batch: int = 128
    bins: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(2, bins=self.bins)

    @property
    def architecture(self) -> TransformerArchitecture:
        return TransformerArchitecture(self.width, self.blocks, self.bins)

    def audit_size(self) -> DPTransformer:
        """Small enough for hundreds of fits."""
        return replace(self, horizon=4, width=8, blocks=1, bins=8, pretraining_steps=min(self.pretraining_steps, 10), steps=5, batch=20)

    def restore(self, schema: Schema, state: State) -> WindowSampler:
        return WindowSampler(self.architecture, self.horizon, lambda model, *known: model.draw(*known), schema, state)


# --- the model ------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TransformerArchitecture:
    """A trunk of `blocks`, each `width` wide, and heads that choose among `bins`."""

    width: int
    blocks: int
    bins: int

    def model(self, layout: Layout, generator: torch.Generator) -> WindowTransformer:
        """A fresh one."""
        return WindowTransformer(self, layout, generator)


class WindowTransformer(WindowModel):
    """p(content | condition), a product over its numbers in their order: the first state, then row after row, within a row scalar after scalar.

    The trunk turns all that precedes a row into one vector h; the head of each scalar sees h and the scalars before it in the row. Heads share no
    weights, so that DP-SGD finds each layer used once. The edges of the bins are part of what is released.
    """

    edges: Tensor
    waves: Tensor
    places: Tensor

    def __init__(self, architecture: TransformerArchitecture, layout: Layout, generator: torch.Generator) -> None:
        super().__init__()
        self.layout, width, waved = layout, architecture.width, 1 + 2 * len(WAVES)
        self.register_buffer("edges", bin_edges(architecture.bins))
        self.register_buffer("waves", torch.tensor(WAVES), persistent=False)
        self.register_buffer("places", places(layout.horizon, width), persistent=False)
        self.know = perceptron([1 + layout.condition * waved, width, width], nn.SiLU(), generator)
        self.project = Linear((layout.columns + layout.states) * waved, width, generator)
        self.blocks = nn.Sequential(*(TransformerBlock(width, generator, causal=True) for _ in range(architecture.blocks)))
        self.normalize = nn.LayerNorm(width, elementwise_affine=False)
        self.read_first, self.read_rows = (_heads(architecture, scalars, generator) for scalars in (layout.states, layout.columns))

    @property
    def normals(self) -> int:
        """None: nothing is drawn."""
        return 0

    def losses(self, windows: Tensor, normals: Tensor) -> Tensor:
        """Cross entropy (...), summed over what is to be drawn and divided by what a full window holds: a short one counts for less."""
        content, flags, condition = self.layout.split(windows)
        logits, chosen = self.logits(content, flags, condition), torch.bucketize(content.contiguous(), self.edges[1:-1])
        surprise = cross_entropy(logits.flatten(0, -2), chosen.flatten(), reduction="none").view_as(content)
        return (surprise * self.layout.is_drawn(flags)).sum(-1) / (self.layout.horizon * self.layout.columns)

    def probes(self, draws: np.random.Generator) -> Float:
        """One, of no normals: the loss is exact."""
        return np.zeros((1, self.normals), np.float32)

    def logits(self, content: Tensor, flags: Tensor, condition: Tensor) -> Tensor:
        """Of the bins of each number (..., S + H d, bins) under those before it."""
        first, rows = self.layout.split_content(content)
        known = self._known(flags, condition)
        h = self._trunk(self._before(content, flags, condition), known)
        of_first = [head(_seen(known, first[..., :j], self.waves)) for j, head in enumerate(self.read_first)]
        of_rows = [head(_seen(h, rows[..., :j], self.waves)) for j, head in enumerate(self.read_rows)]
        return torch.cat([torch.stack(of_first, dim=-2), torch.stack(of_rows, dim=-2).flatten(-3, -2)], dim=-2)

    def ends(self) -> nn.Module:
        return nn.ModuleList([self.project, self.read_first, self.read_rows])

    @torch.no_grad()
    def draw(self, flags: Tensor, condition: Tensor, generator: torch.Generator) -> Tensor:
        """Contents (n, S + H d), all windows at once: row after row, scalar after scalar."""
        content = flags.new_zeros(len(flags), self.layout.content)
        first, rows = self.layout.split_content(content)
        known = self._known(flags, condition)
        for j, head in enumerate(self.read_first):
            first[:, j] = self._pick(head(_seen(known, first[:, :j], self.waves)), generator)
        for t in range(self.layout.horizon):
            h = self._trunk(self._before(content, flags, condition)[:, : t + 1], known)[:, t]
            for j, head in enumerate(self.read_rows):
                rows[:, t, j] = self._pick(head(_seen(h, rows[:, t, :j], self.waves)), generator)
        return content

    def _known(self, flags: Tensor, condition: Tensor) -> Tensor:
        """The condition, embedded (..., width)."""
        known: Tensor = self.know(torch.cat([flags[..., :1], with_waves(condition, self.waves)], dim=-1))
        return known

    def _before(self, content: Tensor, flags: Tensor, condition: Tensor) -> Tensor:
        """For each row the row before, in its d scalars, and the state before (..., H, d + S)."""
        _, rows = self.layout.split_content(content)
        outside = condition[..., None, self.layout.states : self.layout.states + self.layout.columns]
        states, _ = self.layout.states_before(content, flags, condition)
        return torch.cat([torch.cat([outside, rows[..., :-1, :]], dim=-2), states], dim=-1)

    def _trunk(self, before: Tensor, known: Tensor) -> Tensor:
        """h (..., T, width) for the first T rows of windows."""
        tokens = self.project(with_waves(before, self.waves)) + self.places[: before.shape[-2]] + known[..., None, :]
        h: Tensor = self.normalize(self.blocks(tokens))
        return h

    def _pick(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        """A value (n,) for logits (n, bins): a bin, and a place in it."""
        chosen = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
        place = torch.rand(len(logits), generator=generator, device=logits.device)
        return torch.lerp(self.edges[chosen], self.edges[chosen + 1], place)


def bin_edges(bins: int) -> Tensor:
    """Where bins begin and end, in z (bins + 1,): sinh of equal steps, symmetric about 0."""
    reach = asinh(_FARTHEST / _CORE)
    return _CORE * torch.linspace(-reach, reach, bins + 1).sinh()


def _heads(architecture: TransformerArchitecture, scalars: int, generator: torch.Generator) -> nn.ModuleList:
    """One for each of so many scalars, which sees those before it."""
    width, gelu = architecture.width, nn.GELU(approximate="tanh")
    return nn.ModuleList(perceptron([width + j * (1 + 2 * len(WAVES)), width, architecture.bins], gelu, generator) for j in range(scalars))


def _seen(h: Tensor, scalars: Tensor, waves: Tensor) -> Tensor:
    """What a head sees: h (..., width) and the scalars before its own (..., j)."""
    return torch.cat([h, with_waves(scalars, waves)], dim=-1)
