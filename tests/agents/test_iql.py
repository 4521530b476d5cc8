"""IQL equals a plain reference step by step, and prefers what pays."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from plain_iql import PlainIQL
from torch import nn

from agents._parts import Batch, Coordinates
from agents.bc import BC
from agents.iql import IQL, expectile_loss
from bench.core.data import Transitions
from bench.core.protocols import Agent, Policy, Runtime

STEPS = 20


def members(network: nn.Module) -> list[list[torch.Tensor]]:
    """For each member its weights and biases in the shapes of `nn.Linear`."""
    count = len(next(network.parameters()))
    return [[p[k].T if p.shape[1] > 1 else p[k, 0] for p in network.parameters()] for k in range(count)]


def test_twenty_steps_equal_the_reference() -> None:
    rng = torch.Generator().manual_seed(0)
    learner = IQL(width=32).learner(4, 2, rng, "cpu")
    reference = PlainIQL(4, 2, 32, STEPS)
    learned = [*members(learner.value), *members(learner.critics), *members(learner.actor.mean), *members(learner.target_critics)]
    with torch.no_grad():
        for network, tensors in zip(reference.networks, learned, strict=False):
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
    for network, tensors in zip([*reference.networks, reference.target1, reference.target2], learned, strict=True):
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

        agent.train(data, [np.random.default_rng(0)], steps=600, evaluate_every=600, evaluate=evaluate, runtime=Runtime())
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
        for _ in range(400):
            learner.update(batch, 1.0)
        assert abs(learner.value(state)[0, 0, 0].item() - expected) < 0.1 * expected
