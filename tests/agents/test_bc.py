"""Behaviour cloning recovers the policy that made the data."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.bc import BC
from bench.core.data import Transitions
from bench.core.protocols import Policy, Runtime


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 6)])
def test_learns_a_linear_policy_from_noisy_actions(make: Callable[..., Transitions], low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    centre, half = (low + high) / 2, (high - low) / 2

    def teacher(states: NDArray) -> NDArray:
        return centre + half * (states - 5) @ np.array([[0.15, -0.1], [0.1, 0.2]])

    states = rng.normal(5, 2, (5000, 2))
    actions = np.clip(teacher(states) + half * rng.normal(0, 0.1, (5000, 2)), low, high)
    errors: list[float] = []

    def evaluate(policies: Sequence[Policy]) -> NDArray:
        fresh = np.random.default_rng(1).normal(5, 1.5, (500, 2))
        errors.append(float(np.abs(policies[0](fresh) - teacher(fresh)).mean() / half))
        return np.zeros(1)

    data = make(states, actions, action_bounds=(low, high))
    agent = BC(width=64, batch_size=128, learning_rate=2e-3)
    agent.train(data, [np.random.default_rng(0)], steps=801, evaluate_every=400, evaluate=evaluate, runtime=Runtime())
    assert errors[-1] < 0.03
