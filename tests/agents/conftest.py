"""Small datasets for the agents' tests."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import agents._networks
from bench.core.data import Column, Schema, Transitions


def transitions(
    states: NDArray,
    actions: NDArray,
    rewards: NDArray | None = None,
    next_states: NDArray | None = None,
    terminals: NDArray | None = None,
    timeouts: NDArray | None = None,
    action_bounds: tuple[float, float] = (-1, 1),
) -> Transitions:
    """Rows of states (n, S) and actions (n, A); what is left out is zero, and s' = s."""
    n = len(states)
    observations = tuple(Column(f"s{i}", -100, 100) for i in range(states.shape[1]))
    schema = Schema(
        observations=observations,
        actions=tuple(Column(f"a{i}", *action_bounds) for i in range(actions.shape[1])),
        reward=Column("reward", -10, 10),
        terminal=Column("terminal", 0, 1, levels=(0, 1)),
        differences=observations,
        nominal_rows=max(n, 1),
        nominal_trajectories=1,
        max_trajectory_length=max(n, 1),
    )
    return Transitions(
        schema,
        np.float32(states),
        np.float32(actions),
        np.zeros(n, np.float32) if rewards is None else np.float32(rewards),
        np.float32(states if next_states is None else next_states),
        np.zeros(n, bool) if terminals is None else terminals,
        np.zeros(n, bool) if timeouts is None else timeouts,
    )


@pytest.fixture(params=["one by one", "batched"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to compute an ensemble of networks; the batched one is that of a GPU."""
    if request.param == "batched":
        monkeypatch.setattr(agents._networks, "has_onednn", lambda: False)


@pytest.fixture
def make() -> Callable[..., Transitions]:
    return transitions


@pytest.fixture
def noise() -> Transitions:
    """500 unrelated rows, every fifth terminal, in maze2d's shape."""
    rng = np.random.default_rng(0)
    states, next_states = rng.normal(3, 2, (2, 500, 4))
    return transitions(states, rng.uniform(-1, 1, (500, 2)), rng.normal(size=500), next_states, np.arange(500) % 5 == 0)
