"""The maze2d environments: rows, trajectories, bounds, parts, the replayed step, rollouts and the landmarks on the score scale."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from bench.core.data import PARTS, Transitions
from bench.core.protocols import Environment
from bench.envs._maze_control import WaypointController
from bench.envs._maze_data import reset
from bench.envs._maze_layout import LAYOUTS, maze
from bench.envs._maze_physics import advance, clearance
from bench.envs._maze_policies import constant
from bench.envs.maze2d import LARGE, MEDIUM, OPEN, STREAM_STEPS, UMAZE, Maze2d

ALL = {environment.layout: environment for environment in (OPEN, UMAZE, MEDIUM, LARGE)}
ROWS = 200_000
every_maze = pytest.mark.parametrize("environment", ALL.values(), ids=ALL.keys())


@lru_cache
def train(environment: Maze2d) -> Transitions:
    return environment.dataset(ROWS, seed=0, part="train")


def score(environment: Maze2d, returns: np.ndarray) -> float:
    """D4RL's normalised score of a mean return."""
    low, high = environment.reference_scores
    return float(100 * (returns.mean() - low) / (high - low))


def within(columns: tuple, values: np.ndarray) -> bool:
    return all(column.low <= values[:, k].min() and values[:, k].max() <= column.high for k, column in enumerate(columns))


@every_maze
def test_is_an_environment(environment: Maze2d) -> None:
    assert isinstance(environment, Environment)
    assert environment.dataset_id.startswith(f"maze2d-{environment.layout}-dense-v")
    assert environment.source == "local-simulator"
    assert set(environment.siblings) == {f"maze2d-{layout}" for layout in LAYOUTS} - {f"maze2d-{environment.layout}"}


@every_maze
def test_every_row_is_inside_the_public_bounds(environment: Maze2d) -> None:
    data, schema = train(environment), environment.schema
    assert within(schema.observations, data.observations)
    assert within(schema.observations, data.next_observations)
    assert within(schema.actions, data.actions)
    assert within((schema.reward,), data.rewards[:, None])
    assert within(schema.differences, data.next_observations - data.observations)
    assert not data.terminals.any()


@every_maze
def test_trajectories_are_whole_goal_segments(environment: Maze2d) -> None:
    data = train(environment)
    lengths = np.diff(data.require_trajectories())
    assert lengths.max() <= environment.horizon == environment.schema.max_trajectory_length
    assert (np.flatnonzero(data.timeouts) + 1 == data.require_trajectories()[1:]).all()
    assert np.isin(np.arange(1, ROWS // STREAM_STEPS + 1) * STREAM_STEPS, data.trajectories).all(), "a trajectory crosses the end of a stream"


@every_maze
def test_streams_are_continuous(environment: Maze2d) -> None:
    data = train(environment)
    joined = (data.next_observations[:-1] == data.observations[1:]).all(1)
    stream_ends = np.arange(1, ROWS // STREAM_STEPS) * STREAM_STEPS - 1
    assert (np.flatnonzero(~joined) == stream_ends).all()


@pytest.mark.parametrize(("layout", "rows_a_segment"), [("open", 78.5), ("umaze", 79.6), ("medium", 168), ("large", 231)])
def test_segments_are_as_long_as_d4rls_procedure_makes_them(layout: str, rows_a_segment: float) -> None:
    """Means of an independent implementation in long streams; here the cut tails of streams are left out."""
    data = train(ALL[layout])
    ends = data.timeouts.copy()
    ends[STREAM_STEPS - 1 :: STREAM_STEPS] = False
    assert ROWS / ends.sum() == pytest.approx(rows_a_segment, rel=0.07)


@every_maze
def test_nominal_trajectories_are_what_a_million_rows_hold(environment: Maze2d) -> None:
    found = (len(train(environment).require_trajectories()) - 1) * environment.schema.nominal_rows / ROWS
    assert environment.schema.nominal_trajectories == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("rows", [1, 999, 4001, 10_000])
def test_exactly_the_rows_asked_for(rows: int) -> None:
    data = MEDIUM.dataset(rows, seed=0, part="train")
    assert len(data) == rows
    assert data.timeouts[-1]
    streams = -(-rows // STREAM_STEPS)
    jumps = (data.next_observations[:-1] != data.observations[1:]).any(1)
    assert jumps.sum() == streams - 1
    assert data.timeouts[:-1][jumps].all()


def test_parts_and_seeds_are_reproducible_and_share_no_state() -> None:
    draws = [MEDIUM.dataset(1_500, seed, part) for seed in (0, 1) for part in PARTS]
    states = np.concatenate([draw.observations for draw in draws])
    assert len(np.unique(states, axis=0)) == len(states)
    np.testing.assert_array_equal(MEDIUM.dataset(1_500, 1, PARTS[2]).table(), draws[-1].table())


def test_siblings_share_no_state() -> None:
    states = np.concatenate([environment.dataset(1_500, 0, "train").observations for environment in ALL.values()])
    assert len(np.unique(states, axis=0)) == len(states)


def test_reward_belongs_to_the_rows_own_state_unless_the_field_says_otherwise() -> None:
    own, next_ = train(MEDIUM), Maze2d("medium", reward_alignment="next_observation").dataset(ROWS, 0, "train")
    np.testing.assert_array_equal(own.observations, next_.observations)
    for rewards, states in ((own.rewards, own.observations), (next_.rewards, next_.next_observations)):
        np.testing.assert_allclose(rewards, np.exp(-np.linalg.norm(states[:, :2] - [6, 6], axis=1)), rtol=1e-5)


@every_maze
def test_step_reproduces_the_data_bit_by_bit(environment: Maze2d) -> None:
    data = train(environment)
    np.testing.assert_array_equal(environment.step(data.observations, data.actions), data.next_observations)


def test_step_takes_and_gives_float64() -> None:
    data = train(MEDIUM).rows(slice(1000))
    reached = MEDIUM.step(data.observations.astype(np.float64), data.actions.astype(np.float64))
    assert reached.dtype == np.float64
    np.testing.assert_array_equal(reached.astype(np.float32), data.next_observations)


def test_step_knows_states_that_cannot_be() -> None:
    """Inside a wall, outside the maze, hardly clear of a face, not finite; and a ball at rest against a wall, which can be."""
    positions = np.array([[1, 3], [-5, 1], [40, 40], [0.32, 1], [np.nan, 1], [0.4, 1]])
    reached = MEDIUM.step(np.column_stack([positions, np.zeros_like(positions)]), np.zeros_like(positions))
    assert (np.isnan(reached).any(1) == [True, True, True, True, True, False]).all()
    assert (np.isnan(reached).all(1) == np.isnan(reached).any(1)).all()


def test_a_wider_contact_margin_changes_contacts_only() -> None:
    data, wide = train(MEDIUM), Maze2d("medium", contact_margin=0.004)
    changed = (wide.step(data.observations, data.actions) != data.next_observations).any(1)
    touching = clearance(maze("medium").walls, data.observations[:, :2].T.astype(np.float64)) < 0.104
    assert changed.any()
    assert not (changed & ~touching).any()


def test_policies_share_their_start_states_and_see_only_their_own_episodes() -> None:
    seen: dict[str, list[np.ndarray]] = {"left": [], "right": []}

    def watcher(name: str, action: float):
        def policy(observations: np.ndarray) -> np.ndarray:
            seen[name].append(observations)
            return np.full((len(observations), 2), action)

        return policy

    together = OPEN.rollout([watcher("left", -1), watcher("right", 1)], 30, np.random.default_rng(0))
    np.testing.assert_array_equal(seen["left"][0], seen["right"][0])
    assert seen["left"][0].dtype == np.float32
    assert (seen["left"][-1][:, 0] < seen["right"][-1][:, 0]).all()
    alone = OPEN.rollout([constant((1, 1))], 30, np.random.default_rng(0))
    np.testing.assert_array_equal(together[1:], alone)


def test_rollout_starts_as_d4rl_resets() -> None:
    start = reset(maze("medium"), 20_000, np.random.default_rng(0))
    offset = start[:2] - np.rint(start[:2])
    cells = np.unique(np.rint(start[:2]), axis=1).shape[1]
    assert cells == LAYOUTS["medium"].count(".") + 1
    assert np.abs(offset).max() <= 0.1
    assert start[2:].std() == pytest.approx(0.1, rel=0.02)


def test_rollout_rewards_the_state_reached() -> None:
    """A policy that is never moved: the sum over the horizon of the reward at the state after each step."""
    seen: list[np.ndarray] = []

    def still(observations: np.ndarray) -> np.ndarray:
        seen.append(observations)
        return -observations[:, 2:] * 0.1

    returns = UMAZE.rollout([still], 5, np.random.default_rng(0))
    last = UMAZE.step(seen[-1], -seen[-1][:, 2:] * 0.1)
    states = np.stack([*seen[1:], last])[..., :2]
    np.testing.assert_allclose(returns[0], np.exp(-np.linalg.norm(states - [1, 1], axis=-1)).sum(0), rtol=1e-4)


@pytest.mark.parametrize(
    ("actions", "complaint"), [(np.zeros((5, 3)), r"shape \(5, 3\) for 5 observations"), (np.full((5, 2), np.nan), "not finite")]
)
def test_rollout_refuses_a_broken_policy(actions: np.ndarray, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        OPEN.rollout([lambda _: actions], 5, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (OPEN, {"random": 174, "best constant action": 186, "wall-blind PD": 735, "breadth-first controller": 685}),
        (UMAZE, {"random": 3, "best constant action": 31, "wall-blind PD": 106, "breadth-first controller": 145}),
        (MEDIUM, {"random": 0, "best constant action": 65, "wall-blind PD": 86, "breadth-first controller": 174}),
        (LARGE, {"random": 1, "best constant action": 35, "wall-blind PD": 103, "breadth-first controller": 222}),
    ],
    ids=ALL.keys(),
)
def test_reference_policies_score_as_measured(environment: Maze2d, expected: dict[str, float]) -> None:
    """Scores measured once over 2,000 episodes; the order of the landmarks is what a reader of the table relies on."""
    policies = environment.reference_policies
    returns = environment.rollout(list(policies.values()), 300, np.random.default_rng(7))
    low, high = environment.reference_scores
    for name, row in zip(policies, returns, strict=True):
        error = 100 * row.std() / np.sqrt(len(row)) / (high - low)
        assert abs(score(environment, row) - expected[name]) < 4 * error + 1, name


def test_reference_policies_are_fresh_on_each_access() -> None:
    observations = np.zeros((10, 4), np.float32)
    first, second = (MEDIUM.reference_policies["random"](observations) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("layout", "expected", "error"), [("open", 114.4, 1.0), ("umaze", 237.6, 2.2), ("medium", 440.4, 3.8), ("large", 577.0, 5.3)]
)
def test_the_data_collecting_controller_earns_what_d4rls_does(layout: str, expected: float, error: float) -> None:
    """An independent implementation's mean return without noise (500 episodes); D4RL's own environment and controller gave umaze 233, medium 441."""
    environment, grid, episodes = ALL[layout], maze(layout), 500
    rng = np.random.default_rng(1)
    q, v = reset(grid, episodes, rng).reshape(2, 2, episodes)
    controller = WaypointController(grid, q, np.full(episodes, grid.goal), rng)
    returns = np.zeros(episodes)
    for _ in range(environment.horizon):
        q, v = advance(grid.walls, q, v, controller.act(q, v)[0], environment.contact_margin)
        returns += np.exp(-np.hypot(*(q - grid.centre(grid.goal)[:, None])))
    assert abs(returns.mean() - expected) < 4 * np.hypot(error, returns.std() / np.sqrt(episodes))


@pytest.mark.slow
@every_maze
def test_no_other_constant_action_is_better(environment: Maze2d) -> None:
    grid = [(x / 5, y / 5) for x in range(-5, 6) for y in range(-5, 6)]
    policies = [environment.reference_policies["best constant action"], *map(constant, grid)]
    returns = environment.rollout(policies, 200, np.random.default_rng(11))
    lead = returns[1:] - returns[0]  # the starts are common, so the comparison is paired
    error = lead.std(1) / np.sqrt(lead.shape[1])
    assert (lead.mean(1) <= 4 * error + 1e-9).all()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Maze2d("huge"), "layout: 'huge' is none of open, umaze"),
        (lambda: Maze2d("open", contact_margin=0.5), "contact_margin: 0.5 m is outside"),
        (lambda: Maze2d("open", reward_alignment="s"), "reward_alignment: 's' is neither"),
        (lambda: OPEN.dataset(0, 0, "train"), "rows: 0 is not positive"),
        (lambda: OPEN.dataset(10, 0, "test"), "part: 'test' is none of train, holdout, reference"),
    ],
)
def test_bad_values_are_named(make, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


def test_plans_are_shortest_paths() -> None:
    """Each step of the plan moves to a free neighbour and the walk ends at the target, in no more steps than scipy's Dijkstra needs."""
    sparse = pytest.importorskip("scipy.sparse")
    csgraph = pytest.importorskip("scipy.sparse.csgraph")
    for layout in LAYOUTS:
        grid = maze(layout)
        at = grid.centre(grid.free)
        adjacent = np.abs(at[:, :, None] - at[:, None, :]).sum(0) == 1
        distance = csgraph.dijkstra(sparse.csr_matrix(adjacent), unweighted=True)
        target, cell = np.meshgrid(np.arange(len(grid.free)), np.arange(len(grid.free)), indexing="ij")
        following = np.searchsorted(grid.free, grid.next_cell[grid.free[target], grid.free[cell]])
        assert (distance[target, following] == np.maximum(distance - 1, 0)).all()
        assert (adjacent | np.eye(len(grid.free), dtype=bool))[cell, following].all()


def test_module_instances_carry_d4rls_defaults() -> None:
    assert tuple(ALL.values()) == tuple(Maze2d(layout, contact_margin=0.002, reward_alignment="observation") for layout in LAYOUTS)
