"""CQL, plainly."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.agents.plain import Plain, soft_update, step, target_of


class PlainCQL(Plain):
    def build(self) -> None:
        pair = self.states + self.actions
        self.q1, self.q2, self.actor = self.network(pair, 1), self.network(pair, 1), self.network(self.states, 2 * self.actions)
        self.log_alpha, self.log_factor = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(1))

    def networks(self) -> list[nn.Module]:
        return [self.q1, self.q2, self.actor]

    def prepare(self) -> None:
        self.target1, self.target2 = target_of(self.q1), target_of(self.q2)
        self.optimizer1, self.optimizer2 = self.adam(self.q1), self.adam(self.q2)
        self.actor_optimizer = self.adam(self.actor, rate=self.agent.policy_rate)
        self.alpha_optimizer = self.adam(nn.ParameterList([self.log_alpha]), rate=self.agent.policy_rate)
        self.factor_optimizer = self.adam(nn.ParameterList([self.log_factor]))

    def sample(self, states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(states).split(self.actions, 1)
        policy = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
        raw = policy.mean + policy.stddev * noise
        return raw.tanh(), (policy.log_prob(raw) - 2 * (math.log(2) - raw - F.softplus(-2 * raw))).sum(1)

    def update(self, batch: Sequence[Tensor]) -> None:
        states, actions, rewards, next_states, continues, *_ = batch
        agent, count = self.agent, self.agent.proposals
        noise = torch.randn(2 + 3 * count, *actions.shape) if self.noise is None else next(self.noise)
        proposed, log_density = self.sample(states, noise[0])
        alpha = self.log_alpha.exp().detach()
        pairs = torch.cat([states, proposed], 1)
        policy_loss = (alpha * log_density - torch.min(self.q1(pairs), self.q2(pairs))[:, 0]).mean()
        alpha_loss = -(self.log_alpha * (log_density - self.actions).detach()).mean()
        with torch.no_grad():
            next_pairs = torch.cat([next_states, self.sample(next_states, noise[1])[0]], 1)
            next_q = torch.min(self.target1(next_pairs), self.target2(next_pairs))[:, 0]
            target = rewards + agent.discount * continues * next_q
            others = [(2 * torch.special.ndtr(one) - 1, torch.full_like(rewards, -self.actions * math.log(2))) for one in noise[2 : 2 + count]]
            others += [self.sample(states, one) for one in noise[2 + count : 2 + 2 * count]]
            others += [self.sample(next_states, one) for one in noise[2 + 2 * count :]]

        bellman, gaps = torch.zeros(()), []
        for critic in (self.q1, self.q2):
            q = critic(torch.cat([states, actions], 1))[:, 0]
            weighed = torch.stack([critic(torch.cat([states, other], 1))[:, 0] - density for other, density in others])
            bellman = bellman + F.mse_loss(q, target)
            gaps.append((agent.softness * torch.logsumexp(weighed / agent.softness, 0) - q).mean())
        factor = self.log_factor.exp().clamp(0, 1e6) if agent.lagrange else torch.ones(1)
        shift = agent.target_gap if agent.lagrange else 0
        losses = [factor * agent.conservatism * (gap - shift) for gap in gaps]

        step(self.alpha_optimizer, alpha_loss)
        self.actor_optimizer.param_groups[0]["lr"] = agent.policy_rate * (1 + math.cos(math.pi * self.count / self.steps)) / 2
        step(self.actor_optimizer, policy_loss)
        (factor_gradient,) = torch.autograd.grad(-sum(losses) / 2, self.log_factor, retain_graph=True, allow_unused=True, materialize_grads=True)
        self.optimizer1.zero_grad()
        self.optimizer2.zero_grad()
        (bellman + sum(losses)).sum().backward()
        self.optimizer1.step()
        self.optimizer2.step()
        self.log_factor.grad = factor_gradient
        self.factor_optimizer.step()
        soft_update(self.target1, self.q1, agent.polyak)
        soft_update(self.target2, self.q2, agent.polyak)
        self.count += 1
