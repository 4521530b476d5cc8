"""TD3+BC and ReBRAC, plainly."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.agents.plain import Plain, soft_update, step, target_of


class PlainTD3BC(Plain):
    norm = False

    def build(self) -> None:
        pair = self.states + self.actions
        self.q1, self.q2 = self.network(pair, 1, self.norm), self.network(pair, 1, self.norm)
        self.actor = nn.Sequential(self.network(self.states, self.actions), nn.Tanh())

    def networks(self) -> list[nn.Module]:
        return [self.q1, self.q2, self.actor]

    def prepare(self) -> None:
        self.target1, self.target2, self.target_actor = target_of(self.q1), target_of(self.q2), target_of(self.actor)
        self.optimizer1, self.optimizer2, self.actor_optimizer = self.adam(self.q1), self.adam(self.q2), self.adam(self.actor)

    def next_value(self, next_actions: Tensor, q: Tensor, data_actions: Tensor, followed: Tensor) -> Tensor:
        return q

    def actor_loss(self, states: Tensor, actions: Tensor) -> Tensor:
        proposed = self.actor(states)
        q = self.q1(torch.cat([states, proposed], 1))
        return -self.agent.alpha / q.abs().mean().detach() * q.mean() + F.mse_loss(proposed, actions)

    def update(self, batch: Sequence[Tensor]) -> None:
        states, actions, rewards, next_states, continues, data_actions, followed = batch
        with torch.no_grad():
            noise = torch.randn_like(actions) if self.noise is None else next(self.noise)
            noise = (noise * self.agent.policy_noise).clamp(-self.agent.noise_clip, self.agent.noise_clip)
            next_actions = (self.target_actor(next_states) + noise).clamp(-1, 1)
            next_pairs = torch.cat([next_states, next_actions], 1)
            q = torch.min(self.target1(next_pairs), self.target2(next_pairs))[:, 0]
            target = rewards + self.agent.discount * continues * self.next_value(next_actions, q, data_actions, followed)

        pairs = torch.cat([states, actions], 1)
        loss = F.mse_loss(self.q1(pairs)[:, 0], target) + F.mse_loss(self.q2(pairs)[:, 0], target)
        self.optimizer1.zero_grad()
        self.optimizer2.zero_grad()
        loss.backward()
        self.optimizer1.step()
        self.optimizer2.step()

        if (self.count + 1) % self.agent.policy_delay == 0:
            self.decay(self.actor_optimizer)
            step(self.actor_optimizer, self.actor_loss(states, actions))
            soft_update(self.target1, self.q1, self.agent.polyak)
            soft_update(self.target2, self.q2, self.agent.polyak)
            soft_update(self.target_actor, self.actor, self.agent.polyak)
        self.count += 1


class PlainReBRAC(PlainTD3BC):
    @property
    def norm(self) -> bool:
        return self.agent.layer_norm

    def next_value(self, next_actions: Tensor, q: Tensor, data_actions: Tensor, followed: Tensor) -> Tensor:
        return q - self.agent.critic_penalty * followed * ((next_actions - data_actions) ** 2).sum(1)

    def actor_loss(self, states: Tensor, actions: Tensor) -> Tensor:
        proposed = self.actor(states)
        pairs = torch.cat([states, proposed], 1)
        q = torch.min(self.q1(pairs), self.q2(pairs))
        return (self.agent.actor_penalty * ((proposed - actions) ** 2).sum(1, keepdim=True) - q / q.abs().mean().detach()).mean()
