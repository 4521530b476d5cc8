"""Implicit Q-learning: learn V as an upper expectile of Q over the data's own actions, then clone the actions weighted by their advantage.

Kostrikov, Nair, Levine, "Offline Reinforcement Learning with Implicit Q-Learning", ICLR 2022, arXiv 2110.06169: equations 5 (V), 6 (Q) and 7
(policy), algorithm 1. No action outside the data is ever valued.

Differs from the authors' code as PrivORL's evaluation does: the policy's mean is not squashed by tanh, its actions are clipped; its log-deviation has
PrivORL's bounds. The three losses of a step read the networks as they were before it. So they do in PrivORL and CORL, which update one network after
the other but hand the old values on; therefore one backward pass and one optimiser step serve them all.
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
from agents._parts import Batch, Learner, MinibatchAgent, adam, descend


@dataclass(frozen=True)
class IQL(MinibatchAgent):
    """Implicit Q-learning: weighted cloning of the data's better actions. The defaults are PrivORL's for maze2d, which are CORL's."""

    version: ClassVar[int] = 2

    width: int = 256  # hidden units of each layer
    depth: int = 2  # hidden layers
    learning_rate: float = 3e-4  # of Adam for V, Q and the policy; the policy's decays by cosine to 0 over the run (paper, appendix B)
    discount: float = 0.99  # gamma
    polyak: float = 0.005  # alpha of the paper: the share of the new critics in the target critics
    expectile: float = 0.7  # tau: 0.5 is the mean of the data's actions, 1 their best
    temperature: float = 3.0  # beta, an inverse temperature: 0 clones all actions alike
    advantage_cap: float = 100.0  # the largest weight exp(beta A) of one row

    def learner(self, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> Learner:
        """V, twin critics, their targets and the policy."""
        return _Learner(self, state_size, action_size, generators, device)


class _Learner:
    def __init__(self, agent: IQL, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> None:
        hidden = [agent.width] * agent.depth
        self.agent = agent
        self.value = MLP.fresh([state_size, *hidden, 1], generators, device)
        self.critics = MLP.fresh([state_size + action_size, *hidden, 1], generators, device, members=2)
        self.target_critics = self.critics.copy()
        self.actor = GaussianActor.fresh([state_size, *hidden, action_size], generators, device)
        groups = [self.value.parameters, self.critics.parameters], self.actor.parameters
        self.optimizer = adam(*groups, learning_rate=agent.learning_rate, seeds=len(generators))

    def update(self, batch: Batch, decay: float) -> None:
        """Algorithm 1: V, Q, the policy, then the target critics."""
        pairs = torch.cat([batch.states, batch.actions], -1)
        with torch.no_grad():
            target_q = self.target_critics.values(pairs).amin(1, keepdim=True)
            target = (batch.rewards + self.agent.discount * batch.continues * self.value.values(batch.next_states).squeeze(1))[:, None]

        # V, equation 5: L2_tau(Q_target(s, a) - V(s))
        advantage = target_q - self.value.values(batch.states)
        value_loss = expectile_loss(advantage, self.agent.expectile)

        # Q, equation 6: (r + gamma V(s') - Q(s, a))^2, the mean over both critics
        q = self.critics.values(pairs)
        critic_loss = F.mse_loss(q, target.expand_as(q))

        # Policy, equation 7: -exp(beta A) log pi(a | s)
        weight = (self.agent.temperature * advantage.detach()).exp().clamp(max=self.agent.advantage_cap)
        policy_loss = -(weight[:, 0] * self.actor.log_density(batch.states, batch.actions)).mean()

        self.optimizer.param_groups[1]["lr"] = self.agent.learning_rate * decay
        descend(value_loss + critic_loss + policy_loss, self.optimizer)
        self.target_critics.follow(self.critics, self.agent.polyak)


def expectile_loss(differences: Tensor, expectile: float) -> Tensor:
    """Mean of |tau - 1(u < 0)| u^2 over the differences u."""
    return (torch.where(differences < 0, 1 - expectile, expectile) * differences.square()).mean()
