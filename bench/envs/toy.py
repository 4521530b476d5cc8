"""`toy`: a point in a square that should go to the origin. Numpy only, a whole pipeline in seconds.

    s in [-1, 1]^2, a in [-1, 1]^2,  s' = clip(s + 0.1 a + drift, -1, 1),  r = -|s'|,  20 steps, s0 uniform

The data are 20-step episodes, each ending in a timeout, of a controller that moves straight to the origin under Gaussian noise. The siblings
differ in `drift` and share no stream of random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Column, Float, Schema, Transitions
from bench.core.rng import rng_for

SPEED = np.float32(0.1)
"""Distance of a step along an axis under a full action."""
DRIFTS: Mapping[str, tuple[float, float]] = {"toy": (0.0, 0.0), "toy-east": (0.03, 0.0), "toy-north": (0.0, 0.03)}
"""The registered family. A drift below `SPEED`, so that the origin can be held."""


@dataclass(frozen=True)
class Toy:
    """A point in a square that should go to the origin.

    The reference scores were measured: the mean returns of the reference policies `random` and `straight to the origin` over 1,000,000 episodes,
    standard errors .006 and .002. East and north are mirror images, so they share theirs.
    """

    drift: tuple[float, float] = DRIFTS["toy"]
    """Added to the state in every step, per axis."""
    reference_scores: tuple[float, float] = (-15.43, -2.50)
    """Mean returns that stand for 0 and 100."""
    noise: float = 0.5
    """Standard deviation of the data collector's action noise: large enough that an agent can do better than its data."""

    version: ClassVar[int] = 1
    horizon: ClassVar[int] = 20
    source: ClassVar[str] = "local-simulator"

    @property
    def schema(self) -> Schema:
        """Two coordinates, two actions; every bound follows from the equations."""
        reach = [float(SPEED) + abs(drift) for drift in self.drift]
        return Schema(
            observations=tuple(Column(name, -1.0, 1.0) for name in "xy"),
            actions=tuple(Column(f"a{name}", -1.0, 1.0) for name in "xy"),
            reward=Column("reward", -sqrt(2), 0.0),
            terminal=Column("terminal", 0.0, 0.0, levels=(0.0,)),
            differences=tuple(Column(f"d{name}", -far, far) for name, far in zip("xy", reach, strict=True)),
            nominal_rows=2_000,
            nominal_trajectories=2_000 // self.horizon,
            max_trajectory_length=self.horizon,
        )

    @property
    def siblings(self) -> tuple[str, ...]:
        """The family members with another drift."""
        return tuple(name for name, drift in DRIFTS.items() if drift != self.drift)

    @property
    def reference_policies(self) -> Mapping[str, Callable[[NDArray], NDArray]]:
        """Random, the best constant action (it cancels the drift) and straight to the origin.

        Each access starts the random policy's stream anew, so that a measurement repeats itself.
        """
        rng = rng_for("toy", "random policy")
        constant = -np.asarray(self.drift, np.float32) / SPEED
        return {
            "random": lambda observations: rng.uniform(-1, 1, observations.shape).astype(np.float32),
            "best constant action": lambda observations: np.broadcast_to(constant, observations.shape),
            "straight to the origin": self._straight,
        }

    def dataset(self, rows: int, seed: int, part: str) -> Transitions:
        """`rows` rows in episodes of 20; the last episode is cut, and marked as a timeout, where `rows` is no multiple of 20."""
        rng = rng_for(f"toy{self.drift}/{seed}", part)
        episodes = -(-rows // self.horizon)
        states = np.empty((episodes, self.horizon + 1, 2), np.float32)
        actions = np.empty((episodes, self.horizon, 2), np.float32)
        states[:, 0] = _starts(episodes, rng)
        for t in range(self.horizon):
            noisy = self._straight(states[:, t]) + self.noise * rng.standard_normal((episodes, 2))
            actions[:, t] = np.clip(noisy, -1, 1)
            states[:, t + 1] = self._move(states[:, t], actions[:, t])
        ends = np.unique(np.append(np.arange(0, rows, self.horizon), rows))
        timeouts = np.zeros(rows, bool)
        timeouts[ends[1:] - 1] = True
        reached = states[:, 1:].reshape(-1, 2)[:rows]
        return Transitions(
            self.schema,
            observations=states[:, :-1].reshape(-1, 2)[:rows],
            actions=actions.reshape(-1, 2)[:rows],
            rewards=_reward(reached),
            next_observations=reached,
            terminals=np.zeros(rows, bool),
            timeouts=timeouts,
            trajectories=ends.astype(np.int64),
        )

    def rollout(self, policies: Sequence[Callable[[NDArray], NDArray]], episodes: int, rng: np.random.Generator) -> NDArray:
        """Returns (policies, episodes); every policy starts from the same states, which are all that `rng` draws."""
        starts = _starts(episodes, rng)
        returns = np.zeros((len(policies), episodes))
        for policy, row in zip(policies, returns, strict=True):
            states = starts
            for _ in range(self.horizon):
                states = self._move(states, policy(states))
                row += _reward(states)
        return returns

    def step(self, observations: NDArray, actions: NDArray) -> Float:
        """s' for rows (n, 2) of s and a; NaN where s lies outside the square."""
        valid = (np.abs(observations) <= 1).all(axis=1, keepdims=True)
        return np.where(valid, self._move(observations, actions), np.float32(np.nan))

    def _move(self, states: NDArray, actions: NDArray) -> Float:
        push = SPEED * np.clip(actions, -1, 1).astype(np.float32) + np.asarray(self.drift, np.float32)
        return np.clip(states + push, -1, 1).astype(np.float32, copy=False)

    def _straight(self, states: NDArray) -> Float:
        """The action that reaches the origin, or the largest one in its direction."""
        wish = -(states + np.asarray(self.drift, np.float32)) / SPEED
        return wish / np.maximum(1, np.abs(wish).max(axis=1, keepdims=True))


def _starts(episodes: int, rng: np.random.Generator) -> Float:
    return rng.uniform(-1, 1, (episodes, 2)).astype(np.float32)


def _reward(reached: Float) -> Float:
    return -np.hypot(reached[:, 0], reached[:, 1])


TOY = Toy()
TOY_EAST = Toy(DRIFTS["toy-east"], reference_scores=(-15.97, -2.68))
TOY_NORTH = Toy(DRIFTS["toy-north"], reference_scores=(-15.97, -2.68))
