"""IQL, plainly."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.agents.plain import Plain, soft_update, step, target_of


class PlainIQL(Plain):
    def build(self) -> None:
        pair = self.states + self.actions
        self.value, self.q1, self.q2 = self.network(self.states, 1), self.network(pair, 1), self.network(pair, 1)
        self.mean, self.log_std = self.network(self.states, self.actions), nn.Parameter(torch.zeros(self.actions))

    def networks(self) -> list[nn.Module]:
        return [self.value, self.q1, self.q2, self.mean]

    def prepare(self) -> None:
        self.target1, self.target2 = target_of(self.q1), target_of(self.q2)
        self.value_optimizer, self.critic_optimizer = self.adam(self.value), self.adam(self.q1, self.q2)
        self.actor_optimizer = self.adam(self.mean, nn.ParameterList([self.log_std]))

    def update(self, batch: Sequence[Tensor]) -> None:
        states, actions, rewards, next_states, continues, *_ = batch
        pairs = torch.cat([states, actions], 1)
        with torch.no_grad():
            target_q = torch.min(self.target1(pairs), self.target2(pairs))[:, 0]
            next_value = self.value(next_states)[:, 0]

        difference = target_q - self.value(states)[:, 0]
        step(self.value_optimizer, (torch.abs(self.agent.expectile - (difference < 0).float()) * difference**2).mean())

        target = rewards + self.agent.discount * continues * next_value
        step(self.critic_optimizer, (F.mse_loss(self.q1(pairs)[:, 0], target) + F.mse_loss(self.q2(pairs)[:, 0], target)) / 2)
        soft_update(self.target1, self.q1, self.agent.polyak)
        soft_update(self.target2, self.q2, self.agent.polyak)

        weight = torch.exp(self.agent.temperature * difference.detach()).clamp(max=self.agent.advantage_cap)
        policy = torch.distributions.Normal(self.mean(states), self.log_std.clamp(-5, 2).exp())
        self.decay(self.actor_optimizer)
        step(self.actor_optimizer, (-weight * policy.log_prob(actions).sum(1)).mean())
        self.count += 1
