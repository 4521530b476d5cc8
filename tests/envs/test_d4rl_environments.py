"""The environments that are D4RL files: kitchen, half-cheetah and the mazes."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from d4rl_support import arrays, write

from bench.core.protocols import Environment
from bench.envs.halfcheetah import HALFCHEETAH_MEDIUM_REPLAY, HalfCheetahMediumReplay
from bench.envs.kitchen import GOALS, KITCHEN_PARTIAL, KitchenPartial
from bench.envs.maze2d import MEDIUM as SIMULATED
from bench.envs.maze2d_d4rl import LARGE, MEDIUM, OPEN, UMAZE, Maze2dD4rl


@pytest.mark.parametrize("env", [KITCHEN_PARTIAL, HALFCHEETAH_MEDIUM_REPLAY, MEDIUM], ids=["kitchen", "halfcheetah", "maze2d"])
def test_each_is_an_environment_and_only_the_maze_can_be_stepped(env: Environment) -> None:
    assert isinstance(env, Environment)
    assert env.source == "d4rl-hdf5"
    assert hasattr(env, "rollout") == hasattr(env, "step") == isinstance(env, Maze2dD4rl)


def test_kitchen_has_131_columns_with_60_known_constants_and_no_siblings() -> None:
    schema = KITCHEN_PARTIAL.schema
    assert len(schema.columns) == 131
    constants = [column for column in schema.columns if column.levels is not None and len(column.levels) == 1]
    assert len(constants) == 60  # the goal, in s and in s'
    assert KITCHEN_PARTIAL.siblings == ()
    assert HALFCHEETAH_MEDIUM_REPLAY.siblings == ()
    assert len(HALFCHEETAH_MEDIUM_REPLAY.schema.columns) == 42


def test_kitchen_s_bounds_hold_its_start_state_and_its_goals() -> None:
    """Start: `init_qpos` of D4RL's kitchen environment, to three digits (every object but the kettle starts near zero)."""
    arm, kettle = "0.148 -1.768 1.844 -2.477 0.260 0.713 1.595 0.048 0.037", "-0.269 0.350 1.619 1.006 0.004 -0.007 0"
    start = [*map(float, arm.split()), *[0.0] * 14, *map(float, kettle.split())]
    columns = KITCHEN_PARTIAL.schema.observations[:30]
    for value, column in zip(start, columns, strict=True):
        assert column.low <= value <= column.high, column
    for index, goal in GOALS.items():
        assert columns[index].low <= goal <= columns[index].high, columns[index]
        assert KITCHEN_PARTIAL.schema.observations[30 + index].levels == (goal,)


def test_halfcheetah_s_reward_may_be_what_full_effort_at_any_speed_gives() -> None:
    """Forward speed less a tenth of the squared action: a bound that is too tight would clip the worst rows in silence."""
    schema = HALFCHEETAH_MEDIUM_REPLAY.schema
    (forward,) = (column for column in schema.observations if column.name == "velocity_x")
    effort = 0.1 * sum(max(column.low**2, column.high**2) for column in schema.actions)
    assert schema.reward.low <= forward.low - effort
    assert schema.reward.high >= forward.high


def test_kitchen_reads_a_file_of_its_layout(target: Path) -> None:
    schema = KITCHEN_PARTIAL.schema
    content = arrays(list(range(9, 200, 10)), "terminals", schema)
    goals = np.float32([column.low for column in schema.observations[30:]])
    data = KitchenPartial(str(write(target, content))).dataset(60, 0, "train")
    assert len(data) == 60
    np.testing.assert_array_equal(data.observations[:, 30:], np.tile(goals, (60, 1)))
    np.testing.assert_array_equal(np.flatnonzero(data.terminals), np.arange(9, 60, 10))


def test_halfcheetah_reads_a_file_of_its_layout(target: Path) -> None:
    schema = HALFCHEETAH_MEDIUM_REPLAY.schema
    content = arrays(list(range(9, 200, 10)), "timeouts", schema)
    content["next_observations"] = content["observations"]
    data = HalfCheetahMediumReplay(str(write(target, content))).dataset(60, 0, "train")
    assert len(data) == 60
    assert (np.diff(data.require_trajectories()) == 10).all()


def test_the_maze_reads_goal_segments_and_keeps_the_simulator(target: Path) -> None:
    """A file made of simulated rows: D4RL's layout has no next_observations, and what is read can be stepped again."""
    rows = SIMULATED.dataset(40_000, 0, "train")
    timeouts = rows.timeouts.astype(np.float32)
    write(
        target, {"observations": rows.observations, "actions": rows.actions, "rewards": rows.rewards, "terminals": 0 * timeouts, "timeouts": timeouts}
    )
    env = Maze2dD4rl("medium", str(target))
    data = env.dataset(5_000, 0, "train")
    assert len(data) == 5_000
    np.testing.assert_array_equal(env.step(data.observations, data.actions), data.next_observations)
    assert np.diff(data.require_trajectories()).max() <= env.schema.max_trajectory_length
    assert {e.layout: set(e.siblings) for e in (OPEN, UMAZE, MEDIUM, LARGE)}["medium"] == {
        "maze2d-open-d4rl",
        "maze2d-umaze-d4rl",
        "maze2d-large-d4rl",
    }


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="layout: 'huge'"):
        Maze2dD4rl("huge")


def test_another_file_under_the_same_name_is_another_dataset(tmp_path: Path) -> None:
    path = write(tmp_path / "data.hdf5", arrays([9, 19]))
    before, environment = path.stat().st_mtime_ns, HalfCheetahMediumReplay(path=str(path))
    first = environment.content()
    assert first == environment.content() == hashlib.sha256(path.read_bytes()).hexdigest()
    write(path, arrays([9, 29]))
    os.utime(path, ns=(before + 1, before + 1))
    assert environment.content() == hashlib.sha256(path.read_bytes()).hexdigest() != first
