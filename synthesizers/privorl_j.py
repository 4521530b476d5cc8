"""PrivORL-j: a diffusion model of trajectories, pre-trained on public siblings, fine-tuned by DP-SGD whose unit is a whole trajectory.

PrivORL (NDSS 2026), the trajectory-level method: a transformer that denoises windows of a trajectory under the transition before, stitched to whole
trajectories; EDM (Karras et al. 2022), DP-SGD (Abadi et al. 2016).

Privacy: sensitive trajectories enter in two places. One Gaussian answer is their histogram by length and end, to which each adds one (5 % of the
budget). Each step of `private_gradient` includes every trajectory by its own coin of rate q = B / N (N nominal), averages the gradients of K of its
windows, clips the average to norm C and adds Gaussian noise to the sum: a Poisson-sampled Gaussian mechanism of sensitivity C for add/remove
neighbours, composed over T steps by the Ledger. However long or often repeated, a trajectory is one unit. Where its windows are cut, and their noise,
comes from a key that the Ledger keeps: to one who knew these draws, a missing trajectory would show in those of the next. Scaling comes from public
rows; where there are none, from histograms of the columns, to each of which a trajectory adds one in all (another 5 %). Averaging and sampling are
post-processing. No loss is looked at.

Differs from the published code in:
1. The noise follows from epsilon, no trajectory is replicated, inclusion is Poisson, and what is released is what was fine-tuned (there: none of it).
2. A trajectory is an episode or goal segment as the environment declares it, not a block of 1,024 rows; padding has no part in the loss.
3. s' is the next row's s: differences are modelled, and the network is shown the states that noisy differences add up to. A token stands for
   two rows, where five stood for one.
4. Lengths and ends are drawn first, and a model knows how many rows are left and how they end; first states are drawn, not left at zero.
5. EDM with few steps and its squared loss, in place of 200 discrete levels with Huber's, whose sampler took a variance for a deviation. First
   states weigh more: they are few of a window's numbers.
6. `curiosity=paper` (there: computed and never used) replaces a share of each batch by novel windows, in the second half of pre-training. The default
   is off: on the public mazes a model that also learned from its own windows was no better.
7. A small network, since noise grows with dimension: normalised before each layer, without dropout, condition and noise level added to its tokens
   (there six tokens more). AdamW, whose rate falls to 0 (there Adam at a constant one). Siblings give equally many windows (there all they have).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from bench.core.data import Schema
from bench.core.errors import InputError
from bench.core.protocols import State
from synthesizers._parts.checks import require_at_least, require_within
from synthesizers._parts.curiosity import Rule
from synthesizers._parts.diffusion import Schedule
from synthesizers._parts.trajectory_method import TrajectoryMethod
from synthesizers._parts.window_denoiser import SIGMA_MAX, DenoiserArchitecture, WindowDenoiser
from synthesizers._parts.window_models import WindowPretraining, WindowSampler

_RENEWED = 0.5
"""What part of its noise the sampler renews, as in PrivORL-n."""


@dataclass(frozen=True)
class PrivORLJ(TrajectoryMethod):
    """PrivORL-j; the published values stand in brackets.

    Attributes, besides those of `TrajectoryMethod`:
        denoiser: the trunk's kind (transformer; `conv` is PrivORL-j-U, 256 wide with 5 blocks).
        patch: rows that stand in one token (five tokens a row).
        curiosity: none (off), the `paper`'s rule, or the published transition code's (`code`).
        share: p, the share of each batch that novel synthetic windows replace under the paper's rule (.3).
        beta: how strongly novelty is preferred there: windows are drawn in proportion to exp(beta c) (not published).
        sampling_steps: evaluations of the network for a window (196).
    """

    version: ClassVar[int] = 3

    denoiser: Literal["transformer", "conv"] = "transformer"
    patch: int = 2
    curiosity: Rule = "off"
    share: float = 0.3
    beta: float = 1.0
    sampling_steps: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, patch=self.patch, sampling_steps=self.sampling_steps)
        require_at_least(0, beta=self.beta)
        require_within(0, 1, share=self.share)
        if self.horizon % min(self.patch, self.horizon):
            raise InputError(f"horizon: {self.horizon} rows are no whole number of tokens of {self.patch}; change horizon or patch")

    @property
    def pretraining(self) -> WindowPretraining | None:
        plain = super().pretraining
        return plain and replace(plain, curiosity=self.curiosity, share=self.share, beta=self.beta)

    @property
    def architecture(self) -> DenoiserArchitecture:
        return DenoiserArchitecture(self.denoiser, self.width, self.blocks, self.patch)

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.sampling_steps, SIGMA_MAX, eta=_RENEWED)

    def audit_size(self) -> PrivORLJ:
        """Small enough for hundreds of fits."""
        return replace(self, horizon=4, width=8, blocks=1, pretraining_steps=min(self.pretraining_steps, 10), steps=5, batch=20, sampling_steps=4)

    def restore(self, schema: Schema, state: State) -> WindowSampler:
        draw = partial(WindowDenoiser.draw, schedule=self.schedule)
        return WindowSampler(self.architecture, self.horizon, draw, schema, state)
