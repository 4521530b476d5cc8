"""TD3, on which TD3+BC and ReBRAC are built.

Fujimoto, van Hoof, Meger, "Addressing Function Approximation Error in Actor-Critic Methods", ICML 2018, arXiv 1802.09477: clipped double Q-learning
(section 4.2), delayed policy updates (5.2), target policy smoothing (5.3), algorithm 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from agents._actors import TanhActor
from agents._networks import MLP
from agents._parts import Batch, MinibatchAgent, adam, descend, normals


@dataclass(frozen=True)
class TD3(MinibatchAgent):
    """The hyper-parameters of TD3. The defaults are the paper's, but for the rate: PrivORL's and CORL's."""

    width: int = 256  # hidden units of each layer
    depth: int = 2  # hidden layers
    learning_rate: float = 3e-4  # of Adam for critics and actor; the actor's decays by cosine to 0 over the run
    discount: float = 0.99  # gamma
    polyak: float = 0.005  # tau: the share of the new weights in the target networks
    policy_noise: float = 0.2  # sigma: standard deviation of the noise on target actions, where actions fill [-1, 1]
    noise_clip: float = 0.5  # c: largest size of that noise
    policy_delay: int = 2  # d: critic steps for one step of the actor and the targets


class TD3Learner(ABC):
    """K seeds of algorithm 1, less what the actor's loss is and what a next action costs."""

    def __init__(
        self, agent: TD3, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str, *, layer_norm: bool = False
    ) -> None:
        hidden = [agent.width] * agent.depth
        self.settings, self.steps = agent, 0
        self.critics = MLP.fresh([state_size + action_size, *hidden, 1], generators, device, members=2, layer_norm=layer_norm)
        self.actor = TanhActor.fresh([state_size, *hidden, action_size], generators, device)
        self.target_critics, self.target_actor = self.critics.copy(), TanhActor(self.actor.network.copy())
        self.critic_optimizer = adam([self.critics.parameters], learning_rate=agent.learning_rate, seeds=len(generators))
        self.actor_optimizer = adam(self.actor.parameters, learning_rate=agent.learning_rate, seeds=len(generators))
        self.noise = normals((agent.batch_size, action_size), generators, device)

    @abstractmethod
    def actor_loss(self, batch: Batch, actions: Tensor) -> Tensor:
        """The loss of the actor's `actions` (K, B, A) in the batch's states, a mean over seeds and rows."""

    def penalty(self, batch: Batch, next_actions: Tensor) -> Tensor | float:
        """What is taken off the value of s' for the actor's actions there, (K, B)."""
        return 0.0

    def update(self, batch: Batch, decay: float) -> None:
        """Algorithm 1: the critics, and every `policy_delay` steps the actor and the targets."""
        self.steps += 1
        self._update_critics(batch)
        if self.steps % self.settings.policy_delay == 0:
            self.actor_optimizer.param_groups[0]["lr"] = self.settings.learning_rate * decay
            descend(self.actor_loss(batch, self.actor(batch.states)), self.actor_optimizer)
            self.target_critics.follow(self.critics, self.settings.polyak)
            self.target_actor.network.follow(self.actor.network, self.settings.polyak)

    def _update_critics(self, batch: Batch) -> None:
        """Both to y = r + gamma (min_i Q'_i(s', a~) - penalty), a~ the target actor's action with clipped noise."""
        agent = self.settings
        with torch.no_grad():
            noise = (agent.policy_noise * next(self.noise)).clamp_(-agent.noise_clip, agent.noise_clip)
            next_actions = (self.target_actor(batch.next_states) + noise).clamp_(-1, 1)
            next_q = self.target_critics.values(torch.cat([batch.next_states, next_actions], -1)).amin(1)
            target = batch.rewards + agent.discount * batch.continues * (next_q - self.penalty(batch, next_actions))
        q = self.critics.values(torch.cat([batch.states, batch.actions], -1))
        descend(2 * F.mse_loss(q, target[:, None].expand_as(q)), self.critic_optimizer)
