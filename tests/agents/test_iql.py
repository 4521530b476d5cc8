"""IQL equals a plain reference step by step, and prefers what pays."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from agents._parts import Batch, Coordinates
from agents.bc import BC
from agents.iql import IQL, expectile_loss
from bench.core.data import Transitions
from bench.core.protocols import Agent, Policy, Runtime

STEPS = 20


class Reference:
    """IQL as CORL writes it: a module, an optimiser and an update for each network, one after the other. Shares no code with the agent."""

    def __init__(self, states: int, actions: int, width: int) -> None:
        self.value, self.q1, self.q2 = (self.network(size, width, 1) for size in (states, states + actions, states + actions))
        self.mean, self.log_std = self.network(states, width, actions), nn.Parameter(torch.zeros(actions))

    @staticmethod
    def network(inputs: int, width: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))

    def start(self) -> None:
        self.target1, self.target2 = copy.deepcopy(self.q1), copy.deepcopy(self.q2)
        self.value_optimizer = torch.optim.Adam(self.value.parameters(), lr=3e-4)
        self.critic_optimizer = torch.optim.Adam([*self.q1.parameters(), *self.q2.parameters()], lr=3e-4)
        self.actor_optimizer = torch.optim.Adam([*self.mean.parameters(), self.log_std], lr=3e-4)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.actor_optimizer, STEPS)

    def update(self, batch: Batch) -> None:
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


def members(network: nn.Module) -> list[list[torch.Tensor]]:
    """For each member its weights and biases in the shapes of `nn.Linear`."""
    count = len(next(network.parameters()))
    return [[p[k].T if p.shape[1] > 1 else p[k, 0] for p in network.parameters()] for k in range(count)]


def test_twenty_steps_equal_the_reference() -> None:
    rng = torch.Generator().manual_seed(0)
    learner = IQL(width=32).learner(4, 2, rng, "cpu")
    reference = Reference(4, 2, 32)
    learned = [*members(learner.value), *members(learner.critics), *members(learner.actor.mean), *members(learner.target_critics)]
    plain = [reference.value, reference.q1, reference.q2, reference.mean]
    with torch.no_grad():
        for network, tensors in zip(plain, learned, strict=False):
            for parameter, tensor in zip(network.parameters(), tensors, strict=True):
                parameter.copy_(tensor)
    reference.start()
    for step in range(STEPS):
        states, next_states = torch.randn(2, 64, 4, generator=rng)
        actions = torch.rand(64, 2, generator=rng) * 2 - 1
        rewards = 3 * torch.randn(64, generator=rng)  # large, so that advantages reach the cap
        batch = Batch(states, actions, rewards, next_states, (torch.rand(64, generator=rng) > 0.3).float())
        learner.update(batch, (1 + np.cos(np.pi * step / STEPS)) / 2)
        reference.update(batch)
    learned = [*members(learner.value), *members(learner.critics), *members(learner.actor.mean), *members(learner.target_critics)]
    for network, tensors in zip([*plain, reference.target1, reference.target2], learned, strict=True):
        for parameter, tensor in zip(network.parameters(), tensors, strict=True):
            torch.testing.assert_close(tensor, parameter, atol=1e-4, rtol=0)
    torch.testing.assert_close(learner.actor.log_std, reference.log_std, atol=1e-4, rtol=0)


def test_expectile_weighs_positive_differences_by_tau() -> None:
    assert expectile_loss(torch.tensor([2.0]), 0.9).item() == np.float32(3.6)
    torch.testing.assert_close(expectile_loss(torch.tensor([-2.0]), 0.9), torch.tensor(0.4))


def test_prefers_the_delayed_reward_where_cloning_averages(make: Callable[..., Transitions]) -> None:
    """From state 0, action -0.8 pays 0.5 and ends; action 0.8 pays nothing and leads to state 1, which pays 2 and ends.

    The rows that end claim to lead to state 1 too: whoever bootstraps past a terminal finds -0.8 better.
    """
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 3000)  # 0: state 0, action -0.8; 1: state 0, action 0.8; 2: state 1
    states = (kind == 2).astype(float)[:, None]
    actions = np.choose(kind, [-0.8, 0.8, rng.uniform(-1, 1, 3000)])[:, None]
    data = make(states, actions, np.choose(kind, [0.5, 0.0, 2.0]), np.ones((3000, 1)), kind != 1)

    def final_action(agent: Agent) -> float:
        found: list[float] = []

        def evaluate(policies: Sequence[Policy]) -> NDArray:
            found.append(float(policies[0](np.zeros((1, 1)))[0, 0]))
            return np.zeros(1)

        agent.train(data, [np.random.default_rng(0)], steps=1000, evaluate_every=1000, evaluate=evaluate, runtime=Runtime())
        return found[-1]

    assert abs(final_action(BC(width=32, batch_size=64, learning_rate=3e-3))) < 0.2
    assert final_action(IQL(width=32, batch_size=64, learning_rate=3e-3, polyak=0.05)) > 0.6


def test_values_are_cut_at_terminals_and_bootstrapped_elsewhere(make: Callable[..., Transitions]) -> None:
    """One state that returns to itself with reward 1: its value is 1 where the row is terminal and 1 / (1 - discount) where it is not."""
    agent = IQL(width=32, batch_size=64, learning_rate=3e-3, polyak=0.1, discount=0.8)
    for terminal, expected in ((True, 1.0), (False, 5.0)):
        data = make(np.zeros((100, 1)), np.zeros((100, 1)), np.ones(100), np.zeros((100, 1)), np.full(100, terminal), np.ones(100, bool))
        learner = agent.learner(1, 1, torch.Generator().manual_seed(0), "cpu")
        coordinates = Coordinates.of(data)
        state = coordinates.states(data.observations)
        batch = Batch(state, torch.tensor(data.actions), torch.tensor(data.rewards), state, torch.tensor(~data.terminals).float())
        for _ in range(600):
            learner.update(batch, 1.0)
        assert abs(learner.value(state)[0, 0, 0].item() - expected) < 0.1 * expected
