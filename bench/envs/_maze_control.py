"""D4RL's waypoint controller for the point maze, for many balls at once.

Source: D4RL d4rl/pointmaze/waypoint_controller.py (Apache-2.0). Arrays are axis first, (2, n) float64, as in the physics.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.envs._maze_layout import Maze
from bench.envs._maze_physics import Array

P_GAIN, D_GAIN = 10.0, -1.0
WAYPOINT_JITTER = 0.2  # waypoints other than the target are moved by minus U(0, .2) per axis, m
REACHED = 0.1  # a waypoint is reached within this distance, if the ball also moved less than this since the last call, m


def pursue(q: Array, v: Array, point: Array) -> Array:
    """D4RL's PD law towards `point`, clipped to the action box; all arrays (2, n)."""
    return np.clip(P_GAIN * (point - q) + D_GAIN * v, -1, 1)


class WaypointController:
    """D4RL's controller for n balls, each with a target cell, the next cell on the way there, and a jittered waypoint in that cell."""

    def __init__(self, maze: Maze, q: Array, targets: NDArray[np.int64], rng: np.random.Generator) -> None:
        n = q.shape[1]
        self._maze, self._rng = maze, rng
        self._target, self._next = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self._goal, self._waypoint, self._previous = np.zeros((3, 2, n))
        self.aim(np.arange(n), q, targets)

    def aim(self, balls: NDArray[np.int64], q: Array, targets: NDArray[np.int64]) -> None:
        """Send `balls` (k,), now at positions q (2, k), to the cells `targets` (k,). The start cell's centre then counts as the last position."""
        start = self._maze.cell(q)
        self._target[balls] = targets
        self._goal[:, balls] = self._maze.centre(targets)
        self._previous[:, balls] = self._maze.centre(start)
        self._head_for(balls, start)

    def act(self, q: Array, v: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Actions (2, n) at states q, v (2, n), and whether each ball has reached its target (n,)."""
        slow = _within(q, self._previous)
        solved = slow & _within(q, self._goal)
        (arrived,) = np.nonzero(slow & ~solved & _within(q, self._waypoint))
        self._previous = q
        if arrived.size:
            self._head_for(arrived, self._next[arrived])
        return pursue(q, v, self._waypoint), solved

    def _head_for(self, balls: NDArray[np.int64], cell: NDArray[np.int64]) -> None:
        """Set the waypoint of `balls`, which stand in `cell`, in the next cell on the way."""
        following = self._maze.next_cell[self._target[balls], cell]
        jitter = WAYPOINT_JITTER * self._rng.random((2, len(balls))) * (following != self._target[balls])
        self._next[balls] = following
        self._waypoint[:, balls] = self._maze.centre(following) - jitter


def _within(q: Array, point: Array) -> NDArray[np.bool_]:
    """Whether positions (2, n) lie within the reaching distance of points (2, n)."""
    return np.square(q - point).sum(0) < REACHED**2
