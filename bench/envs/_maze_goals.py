"""The goal set of a maze: one policy that is told its goal, scored by how soon it reaches each of several.

The published task is a poor instrument. Its goal lies in a corner that a policy blind to walls finds too; its dense reward pays for standing behind
a wall, and for staying at a place where the data's controller never stays; and within one step of 10 ms an action changes a value by less than a
network resolves. So here
1. there are several goals, far apart, and a policy is told which is meant by a column for each;
2. a goal is reached once, where its dense reward is at least 1/2, and nothing counts after that;
3. a row holds its action for `HOLD` steps: s' is moved on along the row's own step;
4. rows are shifted a little, s and s' together: the data keeps to the middle of corridors, so that whatever blurs it would add what it lacks;
5. s is told in waves too, sines and cosines of the position: without them a network blurs values across walls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Column, Float, Schema, Transitions, concatenate
from bench.core.protocols import Policy
from bench.envs._maze_control import pursue
from bench.envs._maze_data import reset
from bench.envs._maze_layout import Maze, maze
from bench.envs._maze_policies import split
from bench.envs._maze_rollout import act_in_blocks, dense_reward, episode

REACHED = 0.5  # the dense reward from which on a goal counts as reached: within .69 m, which no wall is thin enough to divide
HOLD = 5  # steps of 10 ms for which a row holds its action
SHIFT = 0.2  # standard deviation of the shifts of rows, m; noise on states as an augmentation is S4RL's (Sinha et al., CoRL 2021)
WAVES = (16.0, 8.0, 4.0, 2.0)  # wavelengths of the position's sines and cosines, m


@dataclass(frozen=True)
class MazeGoals:
    """Goals in the cells `cells` of one maze, the published one first.

    Attributes:
        random_returns, controller_returns: what stands for 0 and 100 on each goal: steps left when it is reached, means over episodes of uniformly
            random actions and of the breadth-first controller.
    """

    version: ClassVar[int] = 2

    layout: str
    horizon: int
    contact_margin: float
    reward_alignment: str
    cells: tuple[tuple[int, int], ...]
    random_returns: tuple[float, ...]
    controller_returns: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Row and column of each goal's cell."""
        return tuple(f"({row}, {column})" for row, column in self.cells)

    @property
    def reference_policies(self) -> Mapping[str, Policy]:
        """Policies that are told the goal, from the weaker to the data-collecting controller's plan."""
        return {"wall-blind PD": self._straight, "breadth-first controller": self._shortest}

    def relabel(self, data: Transitions, rng: np.random.Generator) -> Transitions:
        """Every row once for each goal, (goals * n) rows that stand alone: the reward is 1, and the row terminal, where the goal is reached.

        The published goal's rows are judged by the reward they came with, so that errors of the reward column count, and hence where they were before
        the shift; the others by their position after it.
        """
        return concatenate([self._towards(goal, data, _shifts(len(data), rng)) for goal in range(len(self.cells))])

    def rollout(self, policies: Sequence[Policy], episodes: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Scores (policies, goals): the mean number of steps that are left when the goal is reached, on the scale of each goal.

        `episodes` are those of all goals together, and at least one for each; policies and goals share the start states.
        """
        returns = self.returns(policies, max(1, episodes // len(self.cells)), rng).mean(2)
        low, high = np.array(self.random_returns), np.array(self.controller_returns)
        return 100 * (returns - low) / (high - low)

    def returns(self, policies: Sequence[Policy], episodes: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Steps left when a goal is reached, (policies, goals, episodes); 0 where it is not."""
        shape = (len(policies), len(self.cells), episodes)
        starts = np.broadcast_to(reset(self._maze, episodes, rng)[:, None, None], (4, *shape)).reshape(4, -1)
        goal = np.broadcast_to(np.arange(len(self.cells))[:, None], shape).ravel()
        targets, reached, left = self._goals[goal].T, np.zeros(goal.shape, bool), np.zeros(goal.shape)

        def act(states: Float) -> NDArray[np.float64]:
            return act_in_blocks(policies, self._told(states, goal))

        for state in episode(self._maze, self.contact_margin, self.horizon, starts, act):
            reached |= dense_reward(state[:2], targets) >= REACHED
            left += reached
        return left.reshape(shape)

    @property
    def _maze(self) -> Maze:
        return maze(self.layout)

    @property
    def _goals(self) -> NDArray[np.float64]:
        """Positions (goals, 2)."""
        return np.array(self.cells, np.float64)

    def _schema(self, schema: Schema) -> Schema:
        """The schema of relabelled rows: what a policy is told beside s, longer steps, and terminals."""
        waves = tuple(Column(f"{wave} {axis}/{length:g} m", -1, 1) for wave in ("sin", "cos") for axis in "xy" for length in WAVES)
        goals = tuple(Column(f"goal {name}", 0, 1, levels=(0.0, 1.0)) for name in self.names)
        steps = tuple(Column(column.name, HOLD * column.low, HOLD * column.high) for column in schema.differences)
        changes = tuple(Column(column.name, column.low - column.high, column.high - column.low) for column in (*waves, *goals))
        terminal = Column(schema.terminal.name, 0, 1, levels=(0.0, 1.0))
        return replace(schema, observations=(*schema.observations, *waves, *goals), differences=(*steps, *changes), terminal=terminal)

    def _told(self, states: Float, goal: NDArray[np.int64] | int) -> Float:
        """Observations (n, 4 + waves + goals) of states (n, 4) for a policy that is meant to reach `goal`."""
        phases = (2 * np.pi / np.array(WAVES, np.float32) * states[:, :2, None]).reshape(len(states), -1)
        goals = np.broadcast_to(np.eye(len(self.cells), dtype=np.float32)[goal], (len(states), len(self.cells)))
        return np.column_stack([states, np.sin(phases), np.cos(phases), goals])

    def _towards(self, goal: int, data: Transitions, shifts: Float) -> Transitions:
        """The rows, moved by `shifts`, for one goal."""
        low, high = np.array([(column.low, column.high) for column in data.schema.observations], np.float32).T
        held = data.observations + HOLD * (data.next_observations - data.observations)
        observations, next_observations = (np.clip(states + shifts, low, high) for states in (data.observations, held))
        rewards = data.rewards
        if goal:
            states = data.observations if self.reward_alignment == "observation" else data.next_observations
            rewards = dense_reward((states + shifts)[:, :2].T, self._goals[goal])
        reached = rewards >= REACHED
        return Transitions(
            self._schema(data.schema),
            observations=self._told(observations, goal),
            actions=data.actions,
            rewards=reached.astype(np.float32),
            next_observations=self._told(next_observations, goal),
            terminals=data.terminals | reached,
            timeouts=data.timeouts,
        )

    def _straight(self, observations: NDArray) -> NDArray:
        q, v = split(observations[:, :4])
        return pursue(q, v, self._meant(observations)).T

    def _shortest(self, observations: NDArray) -> NDArray:
        q, v = split(observations[:, :4])
        target = self._maze.cell(self._meant(observations))
        return pursue(q, v, self._maze.centre(self._maze.next_cell[target, self._maze.cell(q)])).T

    def _meant(self, observations: NDArray) -> NDArray[np.float64]:
        """Positions (2, n) of the goals that observations (n, S) name."""
        return self._goals[observations[:, -len(self.cells) :].argmax(1)].T


def _shifts(rows: int, rng: np.random.Generator) -> Float:
    """By how much each state is moved, (rows, 4): its position alone."""
    shifts = np.zeros((rows, 4), np.float32)
    shifts[:, :2] = SHIFT * rng.standard_normal((rows, 2), np.float32)
    return shifts
