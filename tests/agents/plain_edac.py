"""EDAC, plainly: the critics by themselves, the diversity term by differentiating twice."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tests.agents.plain import Plain, soft_update, step, target_of


class PlainEDAC(Plain):
    def build(self) -> None:
        self.critics = nn.ModuleList([self.network(self.states + self.actions, 1) for _ in range(self.agent.critics)])
        self.actor = self.network(self.states, 2 * self.actions)
        self.log_alpha = nn.Parameter(torch.zeros(1))

    def networks(self) -> list[nn.Module]:
        return [*self.critics, self.actor]

    def prepare(self) -> None:
        self.targets = target_of(self.critics)
        self.critic_optimizer, self.actor_optimizer = self.adam(self.critics), self.adam(self.actor)
        self.alpha_optimizer = self.adam(nn.ParameterList([self.log_alpha]))

    def sample(self, states: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(states).split(self.actions, 1)
        std = log_std.clamp(-5, 2).exp()
        raw = mean + std * (torch.randn_like(mean) if self.noise is None else next(self.noise))
        inside = torch.distributions.Normal(mean, std).log_prob(raw)
        return raw.tanh(), (inside - 2 * (math.log(2) - raw - nn.functional.softplus(-2 * raw))).sum(1, keepdim=True)

    def values(self, critics: nn.ModuleList, states: Tensor, actions: Tensor) -> Tensor:
        pairs = torch.cat([states, actions], 1)
        return torch.stack([critic(pairs) for critic in critics])

    def update(self, batch: Sequence[Tensor]) -> None:
        states, actions, rewards, next_states, continues, *_ = batch
        proposed, log_density = self.sample(states)
        step(self.alpha_optimizer, -(self.log_alpha * (log_density.detach() - self.actions)).mean())
        alpha = self.log_alpha.exp().detach()

        self.decay(self.actor_optimizer)
        step(self.actor_optimizer, (alpha * log_density - self.values(self.critics, states, proposed).min(0).values).mean())

        with torch.no_grad():
            next_actions, next_log_density = self.sample(next_states)
            next_q = self.values(self.targets, next_states, next_actions).min(0).values - alpha * next_log_density
            target = rewards[:, None] + self.agent.discount * continues[:, None] * next_q
        bellman = ((self.values(self.critics, states, actions) - target) ** 2).mean((1, 2)).sum()
        step(self.critic_optimizer, bellman + self.agent.eta * self.diversity(states, actions))
        soft_update(self.targets, self.critics, self.agent.polyak)
        self.count += 1

    def diversity(self, states: Tensor, actions: Tensor) -> Tensor:
        count = len(self.critics)
        repeated = actions.repeat(count, 1, 1).requires_grad_()
        q = torch.stack([critic(torch.cat([states, own], 1)) for critic, own in zip(self.critics, repeated, strict=True)])
        (gradient,) = torch.autograd.grad(q.sum(), repeated, create_graph=True)
        gradient = (gradient / (gradient.norm(dim=2, keepdim=True) + 1e-10)).transpose(0, 1)
        cosines = (gradient @ gradient.transpose(1, 2)) * (1 - torch.eye(count))
        return cosines.sum((1, 2)).mean() / (count - 1)
