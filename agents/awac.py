"""AWAC: clone the data's actions, weighted by how much better than the policy's own they are.

Nair, Gupta, Dalal, Levine, "AWAC: Accelerating Online Reinforcement Learning with Offline Datasets", arXiv 2006.09359: section 4, equation 13 (the
policy), algorithm 1. Here without its online phase.

Differs from the paper in what CORL's and PrivORL's code does, too: 1. twin critics, the smaller of which counts; 2. the weights exp(A / lambda) are
not normalised over the minibatch, but capped; 3. the advantage's baseline is the value of one action of the policy. And: 4. the actor's learning rate
decays (`agents/_parts.py`); 5. the policy's log-deviation is at least -5, as PrivORL's IQL has it (its AWAC: -20).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from agents._actors import GaussianActor
from agents._networks import MLP
from agents._parts import Batch, Learner, MinibatchAgent, adam, descend, normals


@dataclass(frozen=True)
class AWAC(MinibatchAgent):
    """AWAC: advantage-weighted cloning with the critics of the policy itself. The defaults are PrivORL's for maze2d, which are CORL's."""

    version: ClassVar[int] = 1

    width: int = 256  # hidden units of each layer
    depth: int = 3  # hidden layers
    learning_rate: float = 3e-4  # of Adam for critics and policy; the policy's decays by cosine to 0 over the run
    discount: float = 0.99  # gamma
    polyak: float = 0.005  # tau: the share of the new critics in the target critics
    temperature: float = 0.1  # lambda: the larger, the more alike the weights; halfcheetah: 0.3333
    advantage_cap: float = 100.0  # the largest weight exp(A / lambda) of one row

    def learner(self, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> Learner:
        """Twin critics, their targets and the policy."""
        return _Learner(self, state_size, action_size, generators, device)


class _Learner:
    def __init__(self, agent: AWAC, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> None:
        hidden, seeds = [agent.width] * agent.depth, len(generators)
        self.agent = agent
        self.critics = MLP.fresh([state_size + action_size, *hidden, 1], generators, device, members=2)
        self.target_critics = self.critics.copy()
        self.actor = GaussianActor.fresh([state_size, *hidden, action_size], generators, device)
        self.critic_optimizer = adam([self.critics.parameters], learning_rate=agent.learning_rate, seeds=seeds)
        self.actor_optimizer = adam(self.actor.parameters, learning_rate=agent.learning_rate, seeds=seeds)
        self.noise = normals((agent.batch_size, action_size), generators, device)

    def update(self, batch: Batch, decay: float) -> None:
        """Algorithm 1, lines 4 to 8: the critics, the policy, the target critics."""
        with torch.no_grad():
            next_q = smallest(self.target_critics, batch.next_states, self.actor.sample(batch.next_states, next(self.noise)))
            target = batch.rewards + self.agent.discount * batch.continues * next_q
        q = self.critics.values(torch.cat([batch.states, batch.actions], -1))
        descend(2 * F.mse_loss(q, target[:, None].expand_as(q)), self.critic_optimizer)

        # Policy, equation 13: -exp(A / lambda) log pi(a | s)
        with torch.no_grad():
            proposed = self.actor.sample(batch.states, next(self.noise))
            advantage = smallest(self.critics, batch.states, batch.actions) - smallest(self.critics, batch.states, proposed)
            weight = (advantage / self.agent.temperature).exp().clamp(max=self.agent.advantage_cap)
        self.actor_optimizer.param_groups[0]["lr"] = self.agent.learning_rate * decay
        descend(-(weight * self.actor.log_density(batch.states, batch.actions)).mean(), self.actor_optimizer)
        self.target_critics.follow(self.critics, self.agent.polyak)


def smallest(critics: MLP, states: Tensor, actions: Tensor) -> Tensor:
    """min_i Q_i(s, a), (K, B)."""
    return critics.values(torch.cat([states, actions], -1)).amin(1)
