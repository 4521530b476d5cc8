"""A small world for the metrics: two observations, one action, a reward of two levels, and rows that obey s' = s + a/10."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bench.core.data import Column, Schema, Transitions

Draw = Callable[..., Transitions]


@pytest.fixture(scope="session")
def schema() -> Schema:
    return Schema(
        observations=(Column("x", -2.0, 2.0), Column("y", -2.0, 2.0)),
        actions=(Column("push", -1.0, 1.0),),
        reward=Column("reward", 0.0, 1.0, levels=(0.0, 1.0)),
        terminal=Column("terminal", 0.0, 1.0, levels=(0.0,)),
        differences=(Column("dx", -0.1, 0.1), Column("dy", -0.1, 0.1)),
        nominal_rows=1000,
        nominal_trajectories=100,
        max_trajectory_length=50,
    )


@pytest.fixture(scope="session")
def draw(schema: Schema) -> Draw:
    """`draw(rows, seed, length=None)`: rows of correlated columns, in trajectories of `length` rows that wander slowly where it is given."""

    def rows(n: int, seed: int, length: int | None = None) -> Transitions:
        rng = np.random.default_rng(seed)
        offsets = None if length is None else np.append(np.arange(0, n, length), n)
        centre = rng.uniform(-1.5, 1.5, (n, 2)) if offsets is None else np.repeat(rng.uniform(-1.5, 1.5, (len(offsets) - 1, 2)), np.diff(offsets), 0)
        state = np.clip(centre + rng.normal(0, 0.1, (n, 2)), -1.9, 1.9)
        push = np.clip(-state[:, :1] / 2 + rng.normal(0, 0.2, (n, 1)), -1, 1)
        reward = (state[:, :1] > 0).astype(float)
        table = np.column_stack([state, push, reward, state + 0.1 * push * [1, -0.5], np.zeros(n)])
        return Transitions.from_table(schema, table, trajectories=offsets)

    return rows


@pytest.fixture(scope="session")
def walk(schema: Schema) -> Draw:
    """`walk(m, seed, length=40)`: m trajectories in which every step begins where the last one ended, under a push that changes slowly."""

    def rows(m: int, seed: int, length: int = 40) -> Transitions:
        rng = np.random.default_rng(seed)
        push = np.empty((m, length, 1))
        push[:, 0] = rng.normal(0, 0.3, (m, 1))
        for t in range(1, length):
            push[:, t] = 0.9 * push[:, t - 1] + rng.normal(0, 0.13, (m, 1))
        path = rng.uniform(-1, 1, (m, 1, 2)) + np.cumsum(0.1 * push * [1, -0.5], axis=1)
        state = np.concatenate([path[:, :1] - 0.1 * push[:, :1] * [1, -0.5], path], axis=1).astype(np.float32)
        columns = (state[:, :-1], push, state[:, :-1, :1] > 0, state[:, 1:], np.zeros_like(push))
        table = np.concatenate(columns, axis=2).reshape(m * length, -1)
        return Transitions.from_table(schema, table, trajectories=np.arange(0, m * length + 1, length))

    return rows
