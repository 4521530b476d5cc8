"""IQL as CORL writes it: a module, an optimiser and an update for each network, one after the other.

The oracle of the tests and the peer of the timings. Shares no code with the agent.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainIQL:
    """Two hidden layers, PrivORL's hyper-parameters; the actor's rate decays over `steps` updates. `networks` are V, Q1, Q2 and the policy's mean."""

    def __init__(self, states: int, actions: int, width: int, steps: int) -> None:
        self.value, self.q1, self.q2 = (self.network(size, width, 1) for size in (states, states + actions, states + actions))
        self.mean, self.log_std = self.network(states, width, actions), nn.Parameter(torch.zeros(actions))
        self.networks, self.steps = [self.value, self.q1, self.q2, self.mean], steps

    @staticmethod
    def network(inputs: int, width: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))

    def start(self) -> None:
        """Call once the weights are set: the targets are copies of Q1 and Q2."""
        self.target1, self.target2 = copy.deepcopy(self.q1), copy.deepcopy(self.q2)
        self.value_optimizer = torch.optim.Adam(self.value.parameters(), lr=3e-4)
        self.critic_optimizer = torch.optim.Adam([*self.q1.parameters(), *self.q2.parameters()], lr=3e-4)
        self.actor_optimizer = torch.optim.Adam([*self.mean.parameters(), self.log_std], lr=3e-4)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.actor_optimizer, self.steps)

    def update(self, batch: Sequence[Tensor]) -> None:
        states, actions, rewards, next_states, continues = batch
        pairs = torch.cat([states, actions], 1)
        with torch.no_grad():
            target_q = torch.min(self.target1(pairs), self.target2(pairs))[:, 0]
            next_value = self.value(next_states)[:, 0]

        difference = target_q - self.value(states)[:, 0]
        self.value_optimizer.zero_grad()
        (torch.abs(0.7 - (difference < 0).float()) * difference**2).mean().backward()
        self.value_optimizer.step()

        target = rewards + 0.99 * continues * next_value
        self.critic_optimizer.zero_grad()
        ((F.mse_loss(self.q1(pairs)[:, 0], target) + F.mse_loss(self.q2(pairs)[:, 0], target)) / 2).backward()
        self.critic_optimizer.step()

        for old, new in ((self.target1, self.q1), (self.target2, self.q2)):
            for a, b in zip(old.parameters(), new.parameters(), strict=True):
                a.data.copy_(0.995 * a.data + 0.005 * b.data)

        weight = torch.exp(3 * difference.detach()).clamp(max=100)
        policy = torch.distributions.Normal(self.mean(states), self.log_std.clamp(-5, 2).exp())
        self.actor_optimizer.zero_grad()
        (-weight * policy.log_prob(actions).sum(1)).mean().backward()
        self.actor_optimizer.step()
        self.schedule.step()
