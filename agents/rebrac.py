"""ReBRAC: TD3+BC with the regression on the data's actions in the critics too.

Tarasov, Kurenkov, Nikulin, Kolesnikov, "Revisiting the Minimalist Approach to Offline Reinforcement Learning", NeurIPS 2023, arXiv 2305.09836:
section 3 (the design, with the penalties of actor and critic).

Differs from the paper and the authors' code in: 1. the actor's learning rate decays, and states are normalised (`agents/_parts.py`); 2. all weights
start as PyTorch's default, and the layer normalisation's epsilon is PyTorch's, 1e-5; 3. the critics' penalty needs the action that the data took in
s'. Rows that stand alone do not hold it, and neither does the last row of a trajectory: there the penalty is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents._parts import Batch, Learner
from agents._td3 import TD3, TD3Learner
from bench.core.data import Transitions


@dataclass(frozen=True)
class ReBRAC(TD3):
    """ReBRAC: TD3+BC with separate penalties for actor and critics, deeper networks and layer normalisation. The defaults are CORL's for maze2d."""

    version: ClassVar[int] = 1

    depth: int = 3  # hidden layers; halfcheetah-medium-replay wants learning_rate 1e-3 and batch_size 1024 with it
    layer_norm: bool = True  # in the critics, after each ReLU
    actor_penalty: float = 0.003  # beta_1: weight of |pi(s) - a|^2 beside the value; halfcheetah-medium-replay: .01
    critic_penalty: float = 0.001  # beta_2: the same for s' in the critics' target; acts on trajectories alone, on single transitions it is 0

    def learner(self, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> Learner:
        """The actor, twin critics and their targets."""
        return _Learner(self, state_size, action_size, generators, device)

    def notes(self, data: Transitions) -> Mapping[str, str]:
        """Says so where the critics' penalty cannot act."""
        acts = data.trajectories is not None or self.critic_penalty == 0
        return {} if acts else {"critic_penalty": "0: the rows stand alone, so the action taken in s' is unknown"}


class _Learner(TD3Learner):
    def __init__(self, agent: ReBRAC, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> None:
        super().__init__(agent, state_size, action_size, generators, device, layer_norm=agent.layer_norm)
        self.agent, self.fixed_critics = agent, self.critics.fixed()

    def penalty(self, batch: Batch, next_actions: Tensor) -> Tensor:
        """The critic's: beta_2 |a~ - a'|^2."""
        return self.agent.critic_penalty * batch.followed * (next_actions - batch.next_actions).square().sum(-1)

    def actor_loss(self, batch: Batch, actions: Tensor) -> Tensor:
        """The actor's: beta_1 |pi(s) - a|^2 - min_i Q_i(s, pi(s)), the value in units of its mean size."""
        q = self.fixed_critics.values(torch.cat([batch.states, actions], -1)).amin(1)
        scale = 1 / q.detach().abs().mean(1, keepdim=True)
        return self.agent.actor_penalty * (actions - batch.actions).square().sum(-1).mean() - (scale * q).mean()
