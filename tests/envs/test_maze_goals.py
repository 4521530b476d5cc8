"""The goal sets of the mazes: what a policy is told, what it is rewarded for, and what its score means."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path

from bench.core.data import Transitions
from bench.core.protocols import GoalSet
from bench.core.rng import rng_for
from bench.envs import maze2d_d4rl
from bench.envs._maze_goals import HOLD, REACHED, SHIFT, WAVES, MazeGoals
from bench.envs._maze_layout import maze
from bench.envs._maze_policies import uniform_random
from bench.envs.maze2d import LARGE, MEDIUM, OPEN, UMAZE, Maze2d

ALL = {environment.layout: environment for environment in (OPEN, UMAZE, MEDIUM, LARGE)}
ROWS, GOALS, STATE = 4_000, 5, 4
every_maze = pytest.mark.parametrize("environment", ALL.values(), ids=ALL.keys())


@lru_cache
def rows(environment: Maze2d) -> Transitions:
    return environment.dataset(ROWS, seed=0, part="train")


def told_to(environment: Maze2d, data: Transitions) -> Transitions:
    """The relabelled rows, where they are and not shifted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.envs._maze_goals.SHIFT", 0.0)
        return environment.goals.relabel(data, np.random.default_rng(0))


def by_goal(relabelled: Transitions, name: str) -> np.ndarray:
    """An array of the relabelled rows, (goals, rows, ...)."""
    array = getattr(relabelled, name)
    return array.reshape(GOALS, -1, *array.shape[1:])


def within(columns: tuple, values: np.ndarray) -> bool:
    return all(column.low <= values[:, k].min() and values[:, k].max() <= column.high for k, column in enumerate(columns))


def still(observations: np.ndarray) -> np.ndarray:
    return np.zeros((len(observations), 2))


def start_at(monkeypatch: pytest.MonkeyPatch, *states: tuple[float, float, float, float]) -> int:
    """Make every episode start in one of these states; how many there are."""
    monkeypatch.setattr("bench.envs._maze_goals.reset", lambda maze, episodes, rng: np.array(states, np.float64).T)
    return len(states)


# --- the goals --------------------------------------------------------------------------------------------------------


@every_maze
def test_goals_are_free_cells_far_apart_and_the_published_one_comes_first(environment: Maze2d) -> None:
    goals, grid = environment.goals, maze(environment.layout)
    assert isinstance(goals, GoalSet)
    assert len(goals.names) == len(set(goals.names)) == GOALS
    assert len(goals.random_returns) == len(goals.controller_returns) == GOALS
    assert goals.cells[0] == divmod(grid.goal, grid.walls.shape[1])
    assert not any(grid.walls[cell] for cell in goals.cells)
    reach = -np.log(REACHED)
    places = np.array(goals.cells)
    assert all(np.hypot(*(one - other)) > reach for i, one in enumerate(places) for other in places[:i]), "one goal reaches another"


def paths(walls: np.ndarray) -> np.ndarray:
    """Steps between cells (cells, cells) over free neighbours, infinite where there is no way: by scipy, not by the maze's own search."""
    cells = np.arange(walls.size).reshape(walls.shape)
    pairs = [(cells[:-1], cells[1:]), (cells[:, :-1], cells[:, 1:])]
    ends = np.concatenate([np.stack([a.ravel(), b.ravel()], 1)[~(walls.flat[a.ravel()] | walls.flat[b.ravel()])] for a, b in pairs]).T
    return shortest_path(coo_array((np.ones(ends.shape[1]), tuple(ends)), shape=(walls.size, walls.size)), directed=False)


@every_maze
def test_each_goal_is_the_farthest_by_path_from_those_before_it(environment: Maze2d) -> None:
    walls = maze(environment.layout).walls
    goals = np.array([np.ravel_multi_index(cell, walls.shape) for cell in environment.goals.cells])
    steps = paths(walls)
    for k in range(1, GOALS):
        nearest = np.where(walls.ravel(), 0, steps[goals[:k]].min(0))
        assert goals[k] == nearest.argmax(), "the first of equals"


@every_maze
def test_no_goal_is_reached_through_a_wall(environment: Maze2d) -> None:
    """Every place within reach lies in the goal's cell, beside it, or around one corner of it."""
    grid, goals = maze(environment.layout), np.array(environment.goals.cells)
    shifts = np.stack(np.meshgrid(*[np.linspace(-0.7, 0.7, 141)] * 2), -1).reshape(-1, 2)
    shifts = shifts[np.hypot(*shifts.T) <= -np.log(REACHED)]
    steps = paths(grid.walls)
    for goal in goals:
        cells = np.unique(np.floor(goal + shifts + 0.7).astype(int), axis=0)  # the box of a cell begins .7 before its nominal position
        free = cells[~grid.walls[tuple(cells.T)]]
        assert steps[np.ravel_multi_index(goal, grid.walls.shape), np.ravel_multi_index(tuple(free.T), grid.walls.shape)].max() <= 2


def test_published_rows_have_the_goals_of_their_maze() -> None:
    for published in (maze2d_d4rl.OPEN, maze2d_d4rl.UMAZE, maze2d_d4rl.MEDIUM, maze2d_d4rl.LARGE):
        assert published.goals == ALL[published.layout].goals


# --- relabelled rows --------------------------------------------------------------------------------------------------


@every_maze
def test_every_row_is_there_once_for_each_goal_and_names_it(environment: Maze2d) -> None:
    data, told = rows(environment), told_to(environment, rows(environment))
    assert len(told) == GOALS * ROWS
    assert told.trajectories is None
    for states in (told.observations, told.next_observations):
        np.testing.assert_array_equal(states[:, -GOALS:], np.repeat(np.eye(GOALS, dtype=np.float32), ROWS, axis=0))
    for name in ("actions", "timeouts"):
        assert (by_goal(told, name) == getattr(data, name)).all()
    assert (by_goal(told, "observations")[..., :STATE] == data.observations).all()


@pytest.mark.parametrize("alignment", ["observation", "next_observation"])
def test_a_row_is_rewarded_and_ends_where_its_goal_is_reached(alignment: str) -> None:
    environment = Maze2d("umaze", reward_alignment=alignment)
    data = environment.dataset(ROWS, seed=0, part="train")
    told = told_to(environment, data)
    place = (data.observations if alignment == "observation" else data.next_observations)[:, :2]
    for goal, cell in enumerate(environment.goals.cells):
        reached = np.exp(-np.hypot(*(place - np.array(cell, np.float32)).T)) >= REACHED
        assert 0 < reached.sum() < ROWS
        np.testing.assert_array_equal(by_goal(told, "rewards")[goal], reached)
        np.testing.assert_array_equal(by_goal(told, "terminals")[goal], reached)


def test_the_reward_column_judges_the_published_goal_and_no_other() -> None:
    data = rows(MEDIUM)
    told, wrong = (told_to(MEDIUM, own) for own in (data, replace(data, rewards=1 - data.rewards)))
    np.testing.assert_array_equal(by_goal(wrong, "rewards")[0], data.rewards <= 1 - REACHED)
    np.testing.assert_array_equal(by_goal(wrong, "terminals")[0], data.rewards <= 1 - REACHED)
    for name in ("rewards", "terminals"):
        np.testing.assert_array_equal(by_goal(wrong, name)[1:], by_goal(told, name)[1:])
    for name in ("observations", "actions", "next_observations", "timeouts"):
        np.testing.assert_array_equal(getattr(wrong, name), getattr(told, name))


def test_a_terminal_of_the_rows_stays_one() -> None:
    data = replace(rows(UMAZE), terminals=np.arange(ROWS) % 7 == 0)
    told, plain = told_to(UMAZE, data), told_to(UMAZE, rows(UMAZE))
    assert (by_goal(told, "terminals") == by_goal(plain, "terminals") | data.terminals).all()
    np.testing.assert_array_equal(told.rewards, plain.rewards)


def test_an_action_is_held_along_the_rows_own_step_as_far_as_the_box_goes() -> None:
    data = rows(UMAZE)
    fast = replace(data, next_observations=np.where(np.arange(ROWS)[:, None] % 2, data.next_observations, data.observations + 1))
    low, high = np.array([(column.low, column.high) for column in UMAZE.schema.observations], np.float32).T
    held = by_goal(told_to(UMAZE, fast), "next_observations")[..., :STATE]
    expected = np.clip(fast.observations + HOLD * (fast.next_observations - fast.observations), low, high)
    assert (held == expected).all()
    assert (expected == high).any()
    assert HOLD > 1


def test_a_row_is_shifted_as_a_whole_and_for_each_goal_anew() -> None:
    data = rows(MEDIUM)
    told, plain = MEDIUM.goals.relabel(data, np.random.default_rng(1)), told_to(MEDIUM, data)
    low, high = np.array([(column.low, column.high) for column in MEDIUM.schema.observations], np.float32).T
    states = [by_goal(own, name)[..., :STATE] for name in ("observations", "next_observations") for own in (told, plain)]
    inside = np.all([(low < own) & (own < high) for own in states], axis=(0, -1))
    assert inside.mean() > 0.9
    shifts, shifts_of_next = states[0] - states[1], states[2] - states[3]
    np.testing.assert_allclose(shifts[inside], shifts_of_next[inside], atol=1e-5)
    assert not shifts[..., 2:].any(), "velocities stay"
    np.testing.assert_allclose(shifts[inside][:, :2].std(axis=0), SHIFT, rtol=0.05)
    correlation = np.corrcoef(shifts[:, inside.all(0), 0])
    assert np.abs(correlation - np.eye(GOALS)).max() < 0.1
    for name in ("actions", "timeouts"):
        np.testing.assert_array_equal(getattr(told, name), getattr(plain, name))


def test_other_goals_than_the_published_are_judged_where_the_row_was_moved_to() -> None:
    data = replace(rows(UMAZE), rewards=np.zeros(ROWS, np.float32))
    told = UMAZE.goals.relabel(data, np.random.default_rng(1))
    assert not by_goal(told, "rewards")[0].any()
    for goal, cell in enumerate(UMAZE.goals.cells[1:], 1):
        place = by_goal(told, "observations")[goal, :, :2]
        near = np.exp(-np.hypot(*(place - np.array(cell, np.float32)).T)) >= REACHED
        assert (near == by_goal(told, "rewards")[goal]).mean() > 0.995, "all but what was moved out of the box and back"


def test_relabelling_leaves_the_rows_alone() -> None:
    data = OPEN.dataset(500, 0, "train")
    before = data.table().copy()
    told = told_to(OPEN, data)
    told.observations[:] = told.actions[:] = told.rewards[:] = told.next_observations[:] = 7
    np.testing.assert_array_equal(data.table(), before)


@every_maze
def test_states_are_those_that_the_schema_declares(environment: Maze2d) -> None:
    told = told_to(environment, rows(environment))
    schema, own = told.schema, environment.schema
    assert schema.observations[:STATE] == own.observations
    assert [column.levels for column in schema.observations[-GOALS:]] == [(0.0, 1.0)] * GOALS
    assert len({column.name for column in schema.observations}) == len(schema.observations) == STATE + 4 * len(WAVES) + GOALS
    assert within(schema.observations, told.observations)
    assert within(schema.observations, told.next_observations)
    assert within((schema.reward,), told.rewards[:, None])
    told_differences = told.next_observations - told.observations
    assert within(schema.differences[STATE:], told_differences[:, STATE:])


@every_maze
def test_differences_are_those_that_the_schema_declares(environment: Maze2d) -> None:
    told = told_to(environment, rows(environment))
    assert within(told.schema.differences, told.next_observations - told.observations)


def test_terminals_are_those_that_the_schema_declares() -> None:
    told = told_to(UMAZE, rows(UMAZE))
    assert told.schema.terminal.levels is not None
    assert set(told.terminals.astype(float)) <= set(told.schema.terminal.levels)


def test_relabelling_needs_no_wider_table_than_it_gives() -> None:
    """float32 throughout: the rows of each goal, and the same once more when they are joined; float64 would take half as much again."""
    data = MEDIUM.dataset(50_000, 0, "train")
    told_to(MEDIUM, data.rows(slice(10)))
    tracemalloc.start()
    told = told_to(MEDIUM, data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = sum(getattr(told, name).nbytes for name in ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts"))
    assert peak < 2.25 * size


# --- what a policy sees -----------------------------------------------------------------------------------------------


def test_a_policy_observes_in_a_rollout_what_it_was_trained_on() -> None:
    """The states of a spy's episodes, relabelled as rows, are the observations that it was handed: for each goal its own, from common starts."""
    seen: list[np.ndarray] = []

    def spy(observations: np.ndarray) -> np.ndarray:
        seen.append(observations)
        return np.tile([0.3, -0.7], (len(observations), 1))

    episodes = 6
    UMAZE.goals.returns([spy, still], episodes, np.random.default_rng(0))
    assert len(seen) == UMAZE.horizon
    assert len({len(observations) for observations in seen} | {GOALS * episodes}) == 1
    for observations in seen[::50]:
        assert observations.dtype == np.float32
        told = observations.reshape(GOALS, episodes, -1)
        states = told[0, :, :STATE]
        assert (told[..., :STATE] == states).all(), "the goals have other episodes, under a policy that is blind to them"
        n = np.zeros(episodes, np.float32)
        data = Transitions(UMAZE.schema, states, np.zeros((episodes, 2), np.float32), n, states, n > 0, n > 0)
        np.testing.assert_array_equal(observations, told_to(UMAZE, data).observations)


def test_waves_are_sines_and_cosines_of_the_position_alone() -> None:
    data = rows(MEDIUM)
    told = told_to(MEDIUM, data).observations[:ROWS, STATE:-GOALS]
    columns = [column.name for column in told_to(MEDIUM, data.rows(slice(1))).schema.observations[STATE:-GOALS]]
    for name, wave in zip(columns, told.T, strict=True):
        function, place = name.split(" ", 1)
        axis, length = place.removesuffix(" m").split("/")
        phase = 2 * np.pi * data.observations[:, "xy".index(axis)].astype(np.float64) / float(length)
        np.testing.assert_allclose(wave, {"sin": np.sin, "cos": np.cos}[function](phase), atol=1e-5)
    resting = replace(data, observations=data.observations * np.array([1, 1, 0, 0], np.float32))
    np.testing.assert_array_equal(told_to(MEDIUM, resting).observations[:ROWS, STATE:-GOALS], told)


# --- scores -----------------------------------------------------------------------------------------------------------


@every_maze
def test_random_actions_score_0_and_the_controller_100_on_every_goal(environment: Maze2d) -> None:
    goals, episodes = environment.goals, 100
    controller = goals.reference_policies["breadth-first controller"]
    policies = [uniform_random(seed=0), controller]
    returns = goals.returns(policies, episodes, rng_for("goals", "test"))
    anchors = np.array([goals.random_returns, goals.controller_returns])
    error = np.hypot(returns.std(2) / np.sqrt(episodes), [[6.5], [3.3]])
    assert (np.abs(returns.mean(2) - anchors) < 4 * error).all()
    scores = goals.rollout([uniform_random(seed=0), controller], GOALS * episodes, rng_for("goals", "test"))
    assert scores.shape == (2, GOALS)
    assert scores.mean(1) == pytest.approx([0, 100], abs=5)
    np.testing.assert_allclose(scores, 100 * (returns.mean(2) - anchors[0]) / (anchors[1] - anchors[0]))


@pytest.mark.parametrize("environment", [UMAZE, MEDIUM, LARGE], ids=lambda environment: environment.layout)
def test_a_policy_that_is_blind_to_walls_is_far_below_the_controller(environment: Maze2d) -> None:
    policies = environment.goals.reference_policies
    assert list(policies) == ["wall-blind PD", "breadth-first controller"]
    blind, sighted = environment.goals.rollout(list(policies.values()), 100, rng_for("goals", "blind")).mean(1)
    assert blind < 0.75 * sighted


def test_a_score_depends_on_the_policy_and_the_starts_alone() -> None:
    blind, sighted = UMAZE.goals.reference_policies.values()
    together = UMAZE.goals.rollout([blind, sighted, still, sighted], 20, np.random.default_rng(3))
    alone = UMAZE.goals.rollout([sighted], 20, np.random.default_rng(3))
    np.testing.assert_array_equal(together[1], together[3])
    np.testing.assert_array_equal(together[1], alone[0])
    assert (together[0] != together[1]).any()


@pytest.mark.parametrize(("asked", "run"), [(1, 1), (4, 1), (5, 1), (99, 19), (100, 20)])
def test_episodes_are_shared_out_among_the_goals(asked: int, run: int) -> None:
    seen: list[int] = []

    def spy(observations: np.ndarray) -> np.ndarray:
        seen.append(len(observations))
        return still(observations)

    assert OPEN.goals.rollout([spy], asked, np.random.default_rng(0)).shape == (1, GOALS)
    assert set(seen) == {GOALS * run}


def test_who_stands_in_a_goal_has_reached_it_from_the_first_step_on(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = start_at(monkeypatch, *((float(x), float(y), 0.0, 0.0) for x, y in MEDIUM.goals.cells))
    returns = MEDIUM.goals.returns([still], starts, np.random.default_rng(0))[0]
    np.testing.assert_array_equal(returns, MEDIUM.horizon * np.eye(GOALS))


def test_a_goal_that_was_reached_counts_for_every_step_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ball that rolls through the goal (3, 3) of open's row 3 and on: it scores as if it had stopped there, later than one that starts nearer."""
    goals = MazeGoals("open", 150, 0.002, "observation", ((3, 3),), (0.0,), (1.0,))
    starts = start_at(monkeypatch, (3.0, 1.0, 0.0, 4.0), (3.0, 2.0, 0.0, 4.0))
    path: list[np.ndarray] = []

    def spy(observations: np.ndarray) -> np.ndarray:
        path.append(observations[:, :2])
        return still(observations)

    (returns,) = goals.returns([spy], starts, np.random.default_rng(0))[0]
    near = np.exp(-np.linalg.norm(np.array(path)[1:] - [3, 3], axis=2)) >= REACHED
    assert near.any(0).all()
    assert not near[-1].any(), "both rolled on"
    np.testing.assert_array_equal(returns, goals.horizon - near.argmax(0))
    assert returns[0] < returns[1] < goals.horizon


@pytest.mark.parametrize(
    ("actions", "complaint"),
    [
        (np.zeros((GOALS, 3)), r"^policies: one returned actions of shape \(5, 3\) for 5 observations; return \(observations, 2\)$"),
        (np.full((GOALS, 2), np.inf), r"^policies: one returned actions that are not finite; have its weights diverged\?$"),
    ],
)
def test_a_broken_policy_is_refused_in_one_sentence(actions: np.ndarray, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        OPEN.goals.rollout([still, lambda _: actions], 1, np.random.default_rng(0))
