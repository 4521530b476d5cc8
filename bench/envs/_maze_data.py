"""D4RL's data collection in the point maze: a noisy waypoint controller that is sent from goal to goal without a reset.

Procedure: D4RL scripts/generation/generate_maze2d_datasets.py (--noisy) and d4rl/pointmaze/waypoint_controller.py. Differs in:
1. Many streams run side by side; D4RL records one.
2. Each state is rounded to the stored float32 before the next step starts from it, so a stored row holds all that determines its s'.
3. The observation is refreshed when a goal is reached; D4RL repeats it once.
4. D4RL also jitters the goals, but the controller aims at the centre of the goal's cell and never sees the jitter; it is left out.
5. A ball turns to its next waypoint in the step in which it reaches one; D4RL's turns in the step after. It moves 2 % faster for that.
6. A goal is chased for at most `horizon` steps, which is the longest trajectory that is declared; D4RL's for one more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.core.data import Bool, Float
from bench.envs._maze_control import WaypointController
from bench.envs._maze_layout import Maze
from bench.envs._maze_physics import Array, advance

START_POSITION = 0.1  # half-width of the uniform start around a cell's nominal position, m
START_VELOCITY = 0.1  # standard deviation of the start velocity, m/s
ACTION_NOISE = 0.5


class Streams(NamedTuple):
    """n streams of T steps: states (n, T + 1, 4) and actions (n, T, 2) in float32, and where a goal segment ends (n, T)."""

    states: Float
    actions: Float
    ends: Bool


def reset(maze: Maze, n: int, rng: np.random.Generator) -> Array:
    """Start states (4, n) as D4RL draws them: near a uniformly drawn free cell, almost at rest."""
    q = maze.centre(rng.choice(maze.free, n)) + rng.uniform(-START_POSITION, START_POSITION, (2, n))
    return np.concatenate([q, START_VELOCITY * rng.standard_normal((2, n))])


def collect(maze: Maze, margin: float, horizon: int, n: int, steps: int, rng: np.random.Generator) -> Streams:
    """Drive n balls for `steps` steps; a ball gets a new goal when it has reached its goal or chased it for `horizon` steps."""
    states = np.empty((n, steps + 1, 4), np.float32)
    actions = np.empty((n, steps, 2), np.float32)
    ends = np.empty((n, steps), bool)
    state = reset(maze, n, rng).astype(np.float32)
    controller = WaypointController(maze, state[:2].astype(np.float64), rng.choice(maze.free, n), rng)
    chased = np.zeros(n, np.int64)
    for t in range(steps):
        q, v = state.astype(np.float64).reshape(2, 2, n)
        action, solved = controller.act(q, v)
        noisy = np.clip(action + ACTION_NOISE * rng.standard_normal((2, n)), -1, 1).astype(np.float32)
        chased += 1
        end = solved | (chased >= horizon)
        states[:, t], actions[:, t], ends[:, t] = state.T, noisy.T, end
        q, v = advance(maze.walls, q, v, noisy.astype(np.float64), margin)
        state = np.concatenate([q, v]).astype(np.float32)
        (done,) = np.nonzero(end)
        if done.size:
            controller.aim(done, state[:2, done].astype(np.float64), rng.choice(maze.free, done.size))
            chased[done] = 0
    states[:, steps] = state.T
    return Streams(states, actions, ends)
