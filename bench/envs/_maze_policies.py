"""Hand-written policies for the point maze: the landmarks on the score scale between which agents are read.

They show what a score can tell: on maze2d-medium a constant action reaches 65 and heading straight for the goal, blind to walls, 88.
All are memoryless maps from observations (n, 4) to actions (n, 2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.core.protocols import Policy
from bench.envs._maze_control import pursue
from bench.envs._maze_layout import Maze


def uniform_random(seed: int) -> Policy:
    """Actions drawn uniformly from the action box, from a stream of its own."""
    rng = np.random.default_rng(seed)
    return lambda observations: rng.uniform(-1, 1, (len(observations), 2))


def constant(action: tuple[float, float]) -> Policy:
    """The same action everywhere."""
    return lambda observations: np.tile(action, (len(observations), 1))


def straight_to(goal: NDArray[np.float64]) -> Policy:
    """D4RL's PD law towards the position `goal` (2,), whatever walls stand between."""

    def policy(observations: NDArray) -> NDArray:
        q, v = split(observations)
        return pursue(q, v, goal[:, None]).T

    return policy


def shortest_path(maze: Maze) -> Policy:
    """D4RL's PD law towards the next cell on a shortest path to the evaluation goal.

    It keeps no waypoint, so it turns when it enters a cell; the data's controller turns within .1 m of the waypoint, and is slower for it.
    """

    def policy(observations: NDArray) -> NDArray:
        q, v = split(observations)
        return pursue(q, v, maze.centre(maze.next_cell[maze.goal, maze.cell(q)])).T

    return policy


def split(observations: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions and velocities (2, n) of observations (n, 4)."""
    q, v = observations.T.astype(np.float64).reshape(2, 2, -1)
    return q, v
