"""What every agent that learns values must get right: reward that comes late, and states that have no future."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.awac import AWAC
from agents.bc import BC
from agents.cql import CQL
from agents.edac import EDAC
from agents.iql import IQL
from agents.rebrac import ReBRAC
from agents.td3_bc import TD3BC
from bench.core.data import Transitions
from bench.core.protocols import Agent, Policy, Runtime

SMALL = {"width": 32, "batch_size": 64, "learning_rate": 3e-3, "discount": 0.8, "polyak": 0.05}
AGENTS = [
    IQL(**SMALL, temperature=10),
    TD3BC(**SMALL),
    ReBRAC(**SMALL, actor_penalty=0.1),
    EDAC(**SMALL),
    AWAC(**SMALL),
    CQL(**SMALL, policy_rate=3e-3, conservatism=0.1, lagrange=False),
]
every_agent = pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: type(agent).__name__)


def two_stages(make: Callable[..., Transitions], *, cut: bool) -> Transitions:
    """Action a costs 1.25 a in the first stage, and in the second, at x = a, pays 2 x and ends: worth 1.6 a with a discount of 0.8.

    The rows that end claim to lead to -x. Unless `cut` they do, and a is worth less than it costs.
    """
    rng = np.random.default_rng(0)
    second, x = rng.random(3000) < 0.5, rng.uniform(-1, 1, 3000)
    states = np.column_stack([second, np.where(second, x, 0)])
    actions = rng.uniform(-1, 1, 3000)
    next_states = np.column_stack([np.ones(3000), np.where(second, -x, actions)])
    return make(states, actions[:, None], np.where(second, 2 * x, -1.25 * actions), next_states, second & cut)


def final_action(agent: Agent, data: Transitions) -> float:
    """In the first stage, after training."""
    found: list[float] = []

    def evaluate(policies: Sequence[Policy]) -> NDArray:
        found.append(float(policies[0](np.zeros((1, 2)))[0, 0]))
        return np.zeros(1)

    agent.train(data, [np.random.default_rng(0)], steps=600, evaluate_every=600, evaluate=evaluate, runtime=Runtime())
    return found[-1]


def test_cloning_takes_the_mean(make: Callable[..., Transitions]) -> None:
    assert abs(final_action(BC(width=32, batch_size=64, learning_rate=3e-3), two_stages(make, cut=True))) < 0.2


@every_agent
def test_prefers_the_delayed_reward_where_cloning_averages(agent: Agent, make: Callable[..., Transitions]) -> None:
    assert final_action(agent, two_stages(make, cut=True)) > 0.5


@every_agent
def test_where_the_terminals_are_ignored_the_other_action_looks_better(agent: Agent, make: Callable[..., Transitions]) -> None:
    """So the test above catches an agent that bootstraps past a terminal."""
    assert final_action(agent, two_stages(make, cut=False)) < -0.5
