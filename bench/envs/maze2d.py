"""The maze2d family of D4RL (Fu et al. 2020, arXiv:2004.07219): a ball is pushed through a maze towards a fixed goal; the reward is dense.

Rows come from this package's own simulator and D4RL's collection procedure, not from D4RL's files; the simulator equals MuJoCo on D4RL's model to
1e-12 a step. A trajectory is a goal segment: the rows from one change of the controller's goal to the next. The ball is not reset between two, so
the last s' of a segment is the first s of the next: a segment that is taken away leaves these two states in its neighbours.

Constants: D4RL d4rl/infos.py (reference scores), d4rl/pointmaze/__init__.py (horizons), d4rl/pointmaze/maze_model.py (step, reset, reward).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.core.data import PARTS, Column, Schema, Transitions
from bench.core.protocols import Policy
from bench.core.rng import rng_for
from bench.envs._maze_data import collect, reset
from bench.envs._maze_goals import MazeGoals
from bench.envs._maze_layout import LAYOUTS, Maze, maze
from bench.envs._maze_physics import advance, clearance, h, least_clearance
from bench.envs._maze_policies import constant, shortest_path, straight_to, uniform_random
from bench.envs._maze_rollout import act_in_blocks, dense_reward, episode

STREAM_STEPS = 4000  # length of one recorded stream: 250 streams for a million rows; shorter streams would cut many goal segments
WIDEST_MARGIN = 0.05  # the physics was compared with MuJoCo's up to here, m
CHUNK = 65_536  # rows simulated at once in float64
ROUNDING = 1e-6  # float32 positions up to 16 m are off by no more, m


@dataclass(frozen=True)
class _Task:
    """What D4RL fixes for one maze, and public constants that were measured once in the simulator."""

    dataset_id: str
    horizon: int
    reference_scores: tuple[float, float]
    trajectories: int
    """Goal segments in a million rows, tails of streams included: the mean over 4 million rows, rounded."""
    best_constant_action: tuple[float, float]
    """The constant action with the highest mean return: of the grid of step .2 (200 episodes each), then of step .1 around its best six (1,000
    episodes). Except on open many tie with it within the error: all that pin the ball in the right corner."""
    goals: tuple[tuple[int, int], ...]
    """Cells of the goal set: the published goal, then each the farthest by path from those before it, the first of equals."""
    random_returns: tuple[float, ...]
    """What stands for 0 and 100 on each goal (`MazeGoals`): means over 1,000 episodes, standard errors at most 6.5 and 3.3 steps."""
    controller_returns: tuple[float, ...]


_TASKS = {
    "open": _Task(
        "maze2d-open-dense-v0",
        horizon=150,
        reference_scores=(11.17817, 27.166538620695782),
        trajectories=12_900,
        best_constant_action=(0.0, 0.0),
        goals=((2, 3), (1, 1), (1, 5), (3, 1), (3, 4)),
        random_returns=(20.0, 15.4, 14.7, 16.3, 15.0),
        controller_returns=(116.5, 96.1, 93.9, 95.7, 105.2),
    ),
    "umaze": _Task(
        "maze2d-umaze-dense-v1",
        horizon=300,
        reference_scores=(68.537689, 193.66285642381482),
        trajectories=12_900,
        best_constant_action=(-1.0, -0.7),
        goals=((1, 1), (3, 1), (2, 3), (1, 2), (1, 3)),
        random_returns=(64.9, 72.9, 94.9, 85.5, 93.4),
        controller_returns=(244.2, 243.8, 269.8, 258.5, 267.2),
    ),
    "medium": _Task(
        "maze2d-medium-dense-v1",
        horizon=600,
        reference_scores=(44.264742, 297.4552547777125),
        trajectories=6_260,
        best_constant_action=(0.8, 1.0),
        goals=((6, 6), (1, 1), (1, 6), (6, 2), (3, 3)),
        random_returns=(54.0, 73.4, 69.0, 62.1, 77.9),
        controller_returns=(477.5, 483.2, 485.2, 501.3, 536.1),
    ),
    "large": _Task(
        "maze2d-large-dense-v1",
        horizon=800,
        reference_scores=(30.569041, 303.4857382709002),
        trajectories=4_460,
        best_constant_action=(1.0, 1.0),
        goals=((7, 9), (7, 1), (1, 4), (5, 4), (1, 9)),
        random_returns=(49.2, 39.9, 67.7, 37.1, 82.9),
        controller_returns=(627.7, 559.2, 657.7, 590.9, 653.4),
    ),
}


@dataclass(frozen=True)
class Maze2d:
    """One maze with D4RL's dense reward exp(-distance to the goal).

    Raises:
        ValueError: a field has a value that is not offered.
    """

    version: ClassVar[int] = 1
    stream: ClassVar[bool] = True

    layout: str
    """open, umaze, medium or large."""
    contact_margin: float = 0.002
    """Distance from which the ball feels a wall, m. MuJoCo 2.1, which made D4RL's files, took the larger of both geoms' margins (.002); MuJoCo 3.5
    and later take their sum (.004)."""
    reward_alignment: str = "observation"
    """Which state a row's reward belongs to: D4RL's relabelled files use the row's own s ("observation"), its environment s' ("next_observation")."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout: {self.layout!r} is none of {', '.join(LAYOUTS)}")
        if not 0 <= self.contact_margin <= WIDEST_MARGIN:
            raise ValueError(f"contact_margin: {self.contact_margin} m is outside [0, {WIDEST_MARGIN}]; D4RL has 0.002, MuJoCo from 3.5 on 0.004")
        if self.reward_alignment not in ("observation", "next_observation"):
            raise ValueError(f"reward_alignment: {self.reward_alignment!r} is neither 'observation' (D4RL's files) nor 'next_observation'")

    @property
    def dataset_id(self) -> str:
        """D4RL's name of the dataset, of which `maze2d-<layout>` is short."""
        return self._task.dataset_id

    @property
    def source(self) -> str:
        """The rows are simulated here."""
        return "local-simulator"

    @property
    def horizon(self) -> int:
        """Steps in an evaluation episode, and the most a goal is chased."""
        return self._task.horizon

    @property
    def reference_scores(self) -> tuple[float, float]:
        """D4RL's returns for 0 and 100. The upper one is no bound: its controller kept a stale plan (on open even random actions exceed it)."""
        return self._task.reference_scores

    @property
    def siblings(self) -> tuple[str, ...]:
        """The other three mazes."""
        return tuple(f"maze2d-{layout}" for layout in LAYOUTS if layout != self.layout)

    @property
    def schema(self) -> Schema:
        """Public bounds: at 5.25 m/s a ball sinks .05 m into a wall, and full throttle from the velocity clip at 5 m/s ends at 5.23 m/s.

        Hard pushes into corners can leave them; the data's controller does not push hard (64 million rows stayed inside).
        """
        rows, columns = self._maze.walls.shape
        speed = 5.25
        return Schema(
            observations=(
                Column("x", 0.35, rows - 1.75),
                Column("y", 0.35, columns - 1.75),
                Column("vx", -speed, speed),
                Column("vy", -speed, speed),
            ),
            actions=(Column("ax", -1, 1), Column("ay", -1, 1)),
            reward=Column("reward", 0, 1),
            terminal=Column("terminal", 0, 0, levels=(0.0,)),
            differences=(
                Column("dx", -h * speed, h * speed),
                Column("dy", -h * speed, h * speed),
                Column("dvx", -2 * speed, 2 * speed),
                Column("dvy", -2 * speed, 2 * speed),
            ),
            nominal_rows=1_000_000,
            nominal_trajectories=self._task.trajectories,
            max_trajectory_length=self.horizon,
        )

    @property
    def reference_policies(self) -> Mapping[str, Policy]:
        """Fresh policies from the weakest to the data-collecting controller's plan."""
        return {
            "random": uniform_random(seed=0),
            "best constant action": constant(self._task.best_constant_action),
            "wall-blind PD": straight_to(self._maze.centre(self._maze.goal)),
            "breadth-first controller": shortest_path(self._maze),
        }

    def dataset(self, rows: int, seed: int, part: str) -> Transitions:
        """`rows` rows of continuous streams, one stream after another; parts and seeds are independent draws.

        `timeouts` marks the last row of each trajectory: the goal was reached, chased for `horizon` steps, or the stream ends.

        Raises:
            ValueError: `rows` is not positive or `part` is unknown.
        """
        if rows < 1:
            raise ValueError(f"rows: {rows} is not positive; ask for at least one row")
        if part not in PARTS:
            raise ValueError(f"part: {part!r} is none of {', '.join(PARTS)}")
        n = -(-rows // STREAM_STEPS)
        lengths = rows // n + (np.arange(n) < rows % n)
        streams = collect(self._maze, self.contact_margin, self.horizon, n, lengths[0], rng_for(f"{self.dataset_id}/{seed}", part))
        kept = np.arange(lengths[0]) < lengths[:, None]
        streams.ends[np.arange(n), lengths - 1] = True
        timeouts = streams.ends[kept]
        s, s_next = streams.states[:, :-1][kept], streams.states[:, 1:][kept]
        rewarded = s if self.reward_alignment == "observation" else s_next
        return Transitions(
            schema=self.schema,
            observations=s,
            actions=streams.actions[kept],
            rewards=dense_reward(rewarded[:, :2].T, self._maze.centre(self._maze.goal)),
            next_observations=s_next,
            terminals=np.zeros(rows, bool),
            timeouts=timeouts,
            trajectories=np.append(0, np.flatnonzero(timeouts) + 1),
        )

    def step(self, observations: NDArray, actions: NDArray) -> NDArray:
        """The next observations (n, 4), in the dtype of `observations` (n, 4), under `actions` (n, 2).

        Equal to s' of this environment's data, to the last bit. A row is NaN where the ball's centre is where no run of the simulator brings it:
        inside a wall, outside the maze, or closer to a wall than `least_clearance`.
        """
        reached = np.full_like(observations, np.nan)
        nearest = least_clearance(self.contact_margin) - ROUNDING
        for start in range(0, len(observations), CHUNK):
            rows = slice(start, start + CHUNK)
            q, v = observations[rows].T.astype(np.float64).reshape(2, 2, -1)
            a = actions[rows].T.astype(np.float64)
            valid = clearance(self._maze.walls, q) >= nearest
            reached[rows][valid] = np.concatenate(advance(self._maze.walls, q[:, valid], v[:, valid], a[:, valid], self.contact_margin)).T
        return reached

    def rollout(self, policies: Sequence[Policy], episodes: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Returns (policies, episodes) over `horizon` steps; the policies share their `episodes` start states, the reward is that of s'.

        Raises:
            ValueError: a policy returns actions of another shape than (episodes, 2), or actions that are not finite.
        """
        starts = np.tile(reset(self._maze, episodes, rng), len(policies))
        goal, returns = self._maze.centre(self._maze.goal), np.zeros(starts.shape[1])

        for state in episode(self._maze, self.contact_margin, self.horizon, starts, partial(act_in_blocks, policies)):
            returns += dense_reward(state[:2], goal)
        return returns.reshape(len(policies), episodes)

    @property
    def goals(self) -> MazeGoals:
        """The goal set, under which an agent's score is validated (`bench validate`)."""
        task = self._task
        return MazeGoals(
            self.layout, self.horizon, self.contact_margin, self.reward_alignment, task.goals, task.random_returns, task.controller_returns
        )

    @property
    def _task(self) -> _Task:
        return _TASKS[self.layout]

    @property
    def _maze(self) -> Maze:
        return maze(self.layout)


OPEN = Maze2d("open")
UMAZE = Maze2d("umaze")
MEDIUM = Maze2d("medium")
LARGE = Maze2d("large")
