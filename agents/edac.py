"""EDAC: soft actor-critic with a large ensemble of critics, kept diverse in their gradients.

An, Moon, Kim, Song, "Uncertainty-Based Offline Reinforcement Learning with Diversified Q-Ensemble", NeurIPS 2021, arXiv 2110.01548: section 3
(SAC-N), section 4 (the diversity term), algorithm 1. SAC: Haarnoja et al. 2018, arXiv 1812.05905.

Differs from the authors' code in: 1. the actor's learning rate decays, and states are normalised (`agents/_parts.py`); 2. all weights start as
PyTorch's default; 3. one sample of the policy serves temperature and actor, where the code draws one for each; 4. log(1 - tanh^2) is exact, where the
code adds 1e-6 to its argument.

The temperature starts at 1 and its logarithm moves by at most about the learning rate in a step, while the best one in a maze is near e^-6: at the
published rate a run of 20,000 steps ends before its policy has settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from agents._actors import SquashedGaussianActor
from agents._networks import MLP
from agents._parts import Batch, Learner, MinibatchAgent, adam, descend, normals


@dataclass(frozen=True)
class EDAC(MinibatchAgent):
    """EDAC: the most pessimistic of ten critics, whose gradients in the action are pushed apart. The defaults are PrivORL's for maze2d."""

    version: ClassVar[int] = 1

    width: int = 256  # hidden units of each layer
    depth: int = 3  # hidden layers
    learning_rate: float = 3e-4  # of Adam for critics, actor and temperature; the actor's decays by cosine to 0 over the run
    discount: float = 0.99  # gamma
    polyak: float = 0.005  # tau: the share of the new critics in the target critics
    critics: int = 10  # N
    eta: float = 0.1  # weight of the diversity term; kitchen and halfcheetah: 1

    def __post_init__(self) -> None:
        if self.critics < 2:
            raise ValueError(f"critics: {self.critics} cannot differ from each other; take at least 2")

    def learner(self, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> Learner:
        """The policy, its temperature, the critics and their targets."""
        return _Learner(self, state_size, action_size, generators, device)


class _Learner:
    def __init__(self, agent: EDAC, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> None:
        hidden, seeds = [agent.width] * agent.depth, len(generators)
        self.agent, self.state_size, self.target_entropy = agent, state_size, -action_size
        self.critics = MLP.fresh([state_size + action_size, *hidden, 1], generators, device, members=agent.critics)
        self.fixed_critics, self.target_critics = self.critics.fixed(), self.critics.copy()
        self.actor = SquashedGaussianActor.fresh([state_size, *hidden, action_size], generators, device)
        self.log_alpha = torch.zeros(seeds, 1, device=device, requires_grad=True)
        self.critic_optimizer, self.actor_optimizer, self.alpha_optimizer = (
            adam(parameters, learning_rate=agent.learning_rate, seeds=seeds)
            for parameters in ([self.critics.parameters], self.actor.parameters, [self.log_alpha])
        )
        self.noise = normals((agent.batch_size, action_size), generators, device)

    def update(self, batch: Batch, decay: float) -> None:
        """Algorithm 1: temperature, policy, critics, target critics."""
        actions, log_density = self.actor.sample(batch.states, next(self.noise))
        descend(-(self.log_alpha * (log_density.detach() + self.target_entropy)).mean(), self.alpha_optimizer)
        alpha = self.log_alpha.detach().exp()

        # Policy: alpha log pi(a | s) - min_i Q_i(s, a)
        q = self.fixed_critics.values(torch.cat([batch.states, actions], -1)).amin(1)
        self.actor_optimizer.param_groups[0]["lr"] = self.agent.learning_rate * decay
        descend((alpha * log_density - q).mean(), self.actor_optimizer)

        # Critics: (y - Q_i(s, a))^2 with y = r + gamma (min_j Q'_j(s', a') - alpha log pi(a' | s')), and the diversity term
        with torch.no_grad():
            next_actions, next_log_density = self.actor.sample(batch.next_states, next(self.noise))
            next_q = self.target_critics.values(torch.cat([batch.next_states, next_actions], -1)).amin(1)
            target = batch.rewards + self.agent.discount * batch.continues * (next_q - alpha * next_log_density)
        q, slopes = self.critics.with_slopes(torch.cat([batch.states, batch.actions], -1))
        bellman = self.agent.critics * F.mse_loss(q, target[:, None].expand_as(q))
        descend(bellman + self.agent.eta * similarity(slopes[..., self.state_size :]), self.critic_optimizer)
        self.target_critics.follow(self.critics, self.agent.polyak)


def similarity(gradients: Tensor) -> Tensor:
    """The diversity term for gradients (K, N, B, A): the cosines of all pairs of different critics, summed, a mean over rows, over N - 1.

    The sum over pairs i != j of <g_i, g_j> is |sum g|^2 - sum |g|^2.
    """
    directions = gradients / (gradients.norm(dim=-1, keepdim=True) + 1e-10)
    pairs = directions.sum(1).square().sum(-1) - directions.square().sum((1, 3))
    return pairs.mean() / (gradients.shape[1] - 1)
