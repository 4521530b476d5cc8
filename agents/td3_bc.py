"""TD3+BC: TD3 whose actor also regresses on the data's actions.

Fujimoto, Gu, "A Minimalist Approach to Offline Reinforcement Learning", NeurIPS 2021, arXiv 2106.06860: equations 3 (the actor's loss), 4 (the
states' normalisation) and 5 (lambda).

Differs from the authors' code in: 1. the actor's learning rate decays (`agents/_parts.py`); 2. the states' mean and deviation are those of the rows
handed in, in training and in evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from agents._parts import Batch, Learner
from agents._td3 import TD3, TD3Learner


@dataclass(frozen=True)
class TD3BC(TD3):
    """TD3+BC: the deterministic actor-critic, kept near the data. The defaults are PrivORL's and CORL's, the same in all domains."""

    version: ClassVar[int] = 1

    alpha: float = 2.5  # weight of the value beside the regression, which has 1 (paper, section 5)

    def learner(self, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> Learner:
        """The actor, twin critics and their targets."""
        return _Learner(self, state_size, action_size, generators, device)


class _Learner(TD3Learner):
    def __init__(self, agent: TD3BC, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> None:
        super().__init__(agent, state_size, action_size, generators, device)
        self.alpha, self.first_critic = agent.alpha, self.critics.fixed(slice(1))

    def actor_loss(self, batch: Batch, actions: Tensor) -> Tensor:
        """Equation 3: -lambda Q_1(s, pi(s)) + (pi(s) - a)^2, equation 5: lambda = alpha / mean |Q_1|."""
        q = self.first_critic.values(torch.cat([batch.states, actions], -1))
        scale = self.alpha / q.detach().abs().mean((1, 2), keepdim=True)
        return F.mse_loss(actions, batch.actions) - (scale * q).mean()
