"""AWAC, plainly."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.agents.plain import Plain, soft_update, step, target_of


class PlainAWAC(Plain):
    def build(self) -> None:
        pair = self.states + self.actions
        self.q1, self.q2, self.mean = self.network(pair, 1), self.network(pair, 1), self.network(self.states, self.actions)
        self.log_std = nn.Parameter(torch.zeros(self.actions))

    def networks(self) -> list[nn.Module]:
        return [self.q1, self.q2, self.mean]

    def prepare(self) -> None:
        self.target1, self.target2 = target_of(self.q1), target_of(self.q2)
        self.optimizer1, self.optimizer2 = self.adam(self.q1), self.adam(self.q2)
        self.actor_optimizer = self.adam(self.mean, nn.ParameterList([self.log_std]))

    def policy(self, states: Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(self.mean(states), self.log_std.clamp(-5, 2).exp())

    def sample(self, states: Tensor) -> Tensor:
        policy = self.policy(states)
        noise = torch.randn_like(policy.mean) if self.noise is None else next(self.noise)
        return (policy.mean + policy.stddev * noise).clamp(-1, 1)

    def update(self, batch: Sequence[Tensor]) -> None:
        states, actions, rewards, next_states, continues, *_ = batch
        pairs = torch.cat([states, actions], 1)
        with torch.no_grad():
            next_pairs = torch.cat([next_states, self.sample(next_states)], 1)
            next_q = torch.min(self.target1(next_pairs), self.target2(next_pairs))[:, 0]
            target = rewards + self.agent.discount * continues * next_q
        step(self.optimizer1, F.mse_loss(self.q1(pairs)[:, 0], target))
        step(self.optimizer2, F.mse_loss(self.q2(pairs)[:, 0], target))

        with torch.no_grad():
            proposed = torch.cat([states, self.sample(states)], 1)
            advantage = torch.min(self.q1(pairs), self.q2(pairs)) - torch.min(self.q1(proposed), self.q2(proposed))
            weight = (advantage / self.agent.temperature).exp().clamp(max=self.agent.advantage_cap)
        self.decay(self.actor_optimizer)
        step(self.actor_optimizer, (-weight[:, 0] * self.policy(states).log_prob(actions).sum(1)).mean())
        soft_update(self.target1, self.q1, self.agent.polyak)
        soft_update(self.target2, self.q2, self.agent.polyak)
        self.count += 1
