"""CQL: soft actor-critic whose critics are pushed down where the policy acts and up on the data.

Kumar, Zhou, Tucker, Levine, "Conservative Q-Learning for Offline Reinforcement Learning", NeurIPS 2020, arXiv 2006.04779: equation 4 (CQL(H)),
algorithm 1; the appendix has the Lagrange multiplier and importance sampling. SAC: Haarnoja et al. 2018, arXiv 1812.05905.

Differs from CORL's and PrivORL's code in: 1. the policy's learning rate decays (`agents/_parts.py`); 2. all weights start as PyTorch's default;
3. the policy's log-deviation has no learned scale and offset, and EDAC's bounds. As there, states are normalised, and the target has no entropy.

The temperature starts at 1 and its logarithm moves by at most about `policy_rate` in a step: at the published rate a run of 20,000 steps ends with a
temperature above a half.
"""

from __future__ import annotations

import math
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
class CQL(MinibatchAgent):
    """CQL(H): a soft maximum of Q over actions is pushed below Q of the data's action. The defaults are PrivORL's for maze2d, which are CORL's."""

    version: ClassVar[int] = 1

    width: int = 256  # hidden units of each layer
    depth: int = 3  # hidden layers
    learning_rate: float = 3e-4  # of Adam for critics and multiplier; kitchen: 1e-4
    policy_rate: float = 3e-5  # of Adam for policy and temperature; the policy's decays by cosine to 0 over the run; kitchen: 1e-5
    discount: float = 0.99  # gamma
    polyak: float = 0.005  # the share of the new critics in the target critics; kitchen: 0.001
    conservatism: float = 10.0  # alpha of the paper: weight of the gap beside the Bellman error; kitchen: 5
    lagrange: bool = True  # multiply it by a learned factor; kitchen and halfcheetah: false
    target_gap: float = 5.0  # tau: the gap that the factor aims at
    softness: float = 1.0  # temperature of the soft maximum; kitchen: 0.1
    proposals: int = 10  # actions of each kind in it: uniform, of the policy in s, of the policy in s'

    def learner(self, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> Learner:
        """The policy, its temperature, twin critics, their targets and the multiplier."""
        return _Learner(self, state_size, action_size, generators, device)


class _Learner:
    def __init__(self, agent: CQL, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> None:
        hidden, seeds = [agent.width] * agent.depth, len(generators)
        self.agent, self.action_size = agent, action_size
        self.critics = MLP.fresh([state_size + action_size, *hidden, 1], generators, device, members=2)
        self.fixed_critics, self.target_critics = self.critics.fixed(), self.critics.copy()
        self.actor = SquashedGaussianActor.fresh([state_size, *hidden, action_size], generators, device)
        self.log_alpha = torch.zeros(seeds, 1, device=device, requires_grad=True)
        self.log_factor = torch.ones(seeds, 1, device=device, requires_grad=True)
        self.critic_optimizer = adam([self.critics.parameters], learning_rate=agent.learning_rate, seeds=seeds)
        self.factor_optimizer = adam([self.log_factor], learning_rate=agent.learning_rate, seeds=seeds)
        self.actor_optimizer = adam(self.actor.parameters, learning_rate=agent.policy_rate, seeds=seeds)
        self.alpha_optimizer = adam([self.log_alpha], learning_rate=agent.policy_rate, seeds=seeds)
        self.noise = normals((2 + 3 * agent.proposals, agent.batch_size, action_size), generators, device)

    def update(self, batch: Batch, decay: float) -> None:
        """Algorithm 1. All losses read the networks as they were before the step."""
        here, ahead, *rest = next(self.noise).unbind(1)
        with torch.no_grad():
            next_actions, _ = self.actor.sample(batch.next_states, ahead)
            next_q = self.target_critics.values(torch.cat([batch.next_states, next_actions], -1)).amin(1)
            target = batch.rewards + self.agent.discount * batch.continues * next_q
            proposed, log_densities = self._proposals(batch, torch.stack(rest, 1))

        # Policy and temperature: alpha log pi(a | s) - min_i Q_i(s, a)
        actions, log_density = self.actor.sample(batch.states, here)
        q = self.fixed_critics.values(torch.cat([batch.states, actions], -1)).amin(1)
        alpha = self.log_alpha.detach().exp()
        descend(-(self.log_alpha * (log_density.detach() - self.action_size)).mean(), self.alpha_optimizer)
        self.actor_optimizer.param_groups[0]["lr"] = self.agent.policy_rate * decay
        descend((alpha * log_density - q).mean(), self.actor_optimizer)

        # Critics: the Bellman error, and the gap between the soft maximum and the data's actions, equation 4
        q, gap = self._values_and_gap(batch, proposed, log_densities)
        weight = torch.full_like(gap, self.agent.conservatism)
        if self.agent.lagrange:
            gap = gap - self.agent.target_gap
            weight = weight * self.log_factor.detach().exp().clamp(max=1e6)
            factor_loss = -self.agent.conservatism * (self.log_factor.exp().clamp(max=1e6) * gap.detach()).mean()
            descend(factor_loss, self.factor_optimizer)
        descend(2 * F.mse_loss(q, target[:, None].expand_as(q)) + 2 * (weight * gap).mean(), self.critic_optimizer)
        self.target_critics.follow(self.critics, self.agent.polyak)

    def _proposals(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (K, 3 M, B, A) for the soft maximum, from normal noise of that shape, and the log-densities that they were drawn with."""
        count, size = self.agent.proposals, batch.states.shape[1]
        uniform = 2 * torch.special.ndtr(noise[:, :count]) - 1
        states = torch.cat([batch.states.repeat(1, count, 1), batch.next_states.repeat(1, count, 1)], 1)
        actions, log_densities = self.actor.sample(states, noise[:, count:].flatten(1, 2))
        flat = torch.full(uniform.shape[:-1], -self.action_size * math.log(2), device=noise.device)
        return torch.cat([uniform, actions.unflatten(1, (-1, size))], 1), torch.cat([flat, log_densities.unflatten(1, (-1, size))], 1)

    def _values_and_gap(self, batch: Batch, proposed: Tensor, log_densities: Tensor) -> tuple[Tensor, Tensor]:
        """Q_i(s, a) of the data, (K, 2, B), and how far the soft maximum of each critic lies above it, a mean over rows, (K, 2)."""
        actions = torch.cat([batch.actions[:, None], proposed], 1)
        pairs = torch.cat([batch.states[:, None].expand(*actions.shape[:3], -1), actions], -1)
        q = self.critics.values(pairs.flatten(1, 2)).unflatten(-1, actions.shape[1:3])
        weighed = q[:, :, 1:] - log_densities[:, None]
        highest = self.agent.softness * (weighed / self.agent.softness).logsumexp(2)
        return q[:, :, 0], (highest - q[:, :, 0]).mean(-1)
