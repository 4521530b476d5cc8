"""Rewards of the point maze, and episodes of many policies at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Float
from bench.core.protocols import Policy
from bench.envs._maze_layout import Maze
from bench.envs._maze_physics import Array, advance

Act = Callable[[Float], NDArray[np.float64]]
"""Observations (n, 4) to actions (n, 2)."""


def dense_reward(positions: NDArray, goal: NDArray) -> NDArray:
    """exp(-distance) from positions (2, n) to a goal (2,) or goals (2, n), in the dtype of the positions, (n,)."""
    target = np.asarray(goal, positions.dtype).reshape(2, -1)
    distances: NDArray = np.hypot(*(positions - target))
    return np.exp(-distances)


def episode(maze: Maze, margin: float, horizon: int, starts: Array, act: Act) -> Iterator[Array]:
    """The states (4, n) that n balls reach, step by step, from `starts` (4, n)."""
    state = starts
    for _ in range(horizon):
        actions = act(state.T.astype(np.float32))
        q, v = advance(maze.walls, state[:2], state[2:], actions.T, margin)
        state = np.concatenate([q, v])
        yield state


def act_in_blocks(policies: Sequence[Policy], observations: Float) -> NDArray[np.float64]:
    """Actions (n, 2) at observations (n, S), of which each policy gets a block as long as any other's.

    Raises:
        ValueError: a policy returns actions of another shape, or actions that are not finite.
    """
    blocks = np.split(observations, len(policies))
    return np.concatenate([_checked_actions(policy, block) for policy, block in zip(policies, blocks, strict=True)])


def _checked_actions(policy: Policy, observations: Float) -> NDArray[np.float64]:
    actions = np.asarray(policy(observations), np.float64)
    if actions.shape != (len(observations), 2):
        raise ValueError(f"policies: one returned actions of shape {actions.shape} for {len(observations)} observations; return (observations, 2)")
    if not np.isfinite(actions).all():
        raise ValueError("policies: one returned actions that are not finite; have its weights diverged?")
    return actions
