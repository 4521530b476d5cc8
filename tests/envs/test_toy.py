"""The toy environment keeps the contract that every environment keeps, and its equations."""

import numpy as np
import pytest

from bench.core.data import PARTS
from bench.core.protocols import Environment
from bench.core.rng import rng_for
from bench.envs.toy import DRIFTS, TOY, TOY_EAST, TOY_NORTH, Toy

FAMILY = {"toy": TOY, "toy-east": TOY_EAST, "toy-north": TOY_NORTH}
family = pytest.mark.parametrize("env", FAMILY.values(), ids=FAMILY)


@family
def test_rows_obey_the_equations_and_the_schema(env: Toy) -> None:
    data = env.dataset(2_000, 0, "train")
    s, a, reached = (x.astype(np.float64) for x in (data.observations, data.actions, data.next_observations))
    np.testing.assert_allclose(reached, np.clip(s + 0.1 * a + env.drift, -1, 1), atol=1e-6)
    np.testing.assert_allclose(data.rewards, -np.sqrt((reached**2).sum(1)), atol=1e-6)
    low, high = np.array([(column.low, column.high) for column in env.schema.columns]).T
    assert ((data.table() >= low - 1e-6) & (data.table() <= high + 1e-6)).all()
    reach = np.array([column.high for column in env.schema.differences])
    assert (np.abs(reached - s) <= reach + 1e-6).all()


@family
def test_step_is_the_data_s_own_and_nan_outside_the_square(env: Toy) -> None:
    data = env.dataset(500, 0, "holdout")
    np.testing.assert_array_equal(env.step(data.observations, data.actions), data.next_observations)
    assert np.isnan(env.step(np.float32([[1.01, 0]]), np.zeros((1, 2), np.float32))).all()


@pytest.mark.parametrize("rows", [1, 19, 20, 21, 2_000])
def test_exactly_the_rows_asked_for_in_episodes_of_twenty(rows: int) -> None:
    data = TOY.dataset(rows, 3, "train")
    offsets = data.require_trajectories()
    assert len(data) == rows
    assert offsets.dtype == np.int64
    assert (np.diff(offsets)[:-1] == 20).all()
    assert np.diff(offsets)[-1] <= TOY.schema.max_trajectory_length
    np.testing.assert_array_equal(np.flatnonzero(data.timeouts), offsets[1:] - 1)
    assert not data.terminals.any()
    inside = ~data.timeouts[:-1]
    np.testing.assert_array_equal(data.next_observations[:-1][inside], data.observations[1:][inside])


def test_parts_seeds_and_siblings_share_no_episode_and_the_same_call_repeats() -> None:
    tables = [env.dataset(400, seed, part).table() for env in FAMILY.values() for seed in (0, 1) for part in PARTS]
    starts = np.concatenate([table[::20, :2] for table in tables])
    assert len(np.unique(starts, axis=0)) == len(starts)
    np.testing.assert_array_equal(TOY.dataset(400, 0, "train").table(), tables[0])


def test_the_family_names_its_siblings() -> None:
    for name, env in FAMILY.items():
        assert isinstance(env, Environment)
        assert env.drift == DRIFTS[name]
        assert set(env.siblings) == set(FAMILY) - {name}


@family
def test_reference_scores_are_the_returns_of_random_and_of_straight(env: Toy) -> None:
    policies = env.reference_policies
    returns = env.rollout(list(policies.values()), 10_000, rng_for("test", "scores"))
    mean = dict(zip(policies, returns.mean(axis=1), strict=True))
    assert mean["random"] == pytest.approx(env.reference_scores[0], abs=0.3)  # 5 standard errors
    assert mean["straight to the origin"] == pytest.approx(env.reference_scores[1], abs=0.1)
    assert mean["random"] < mean["best constant action"] < mean["straight to the origin"]


@pytest.mark.parametrize("env", [TOY, TOY_EAST], ids=["toy", "toy-east"])
def test_no_other_constant_action_does_better(env: Toy) -> None:
    grid = [np.float32([x, y]) for x in np.linspace(-1, 1, 9) for y in np.linspace(-1, 1, 9)]
    constants = [env.reference_policies["best constant action"], *(lambda s, a=a: np.broadcast_to(a, s.shape) for a in grid)]
    mean = env.rollout(constants, 2_000, rng_for("test", "constant")).mean(axis=1)
    assert mean[0] >= mean.max() - 0.05  # the sample of starts is not quite symmetric


def test_data_lie_between_random_and_the_best_so_that_learning_shows() -> None:
    returns = TOY.dataset(20_000, 0, "train").rewards.reshape(-1, 20).sum(axis=1).mean()
    low, high = TOY.reference_scores
    assert 0.5 < (returns - low) / (high - low) < 0.95


def test_all_policies_start_from_the_same_states_and_a_return_does_not_depend_on_companions() -> None:
    straight, random = TOY.reference_policies["straight to the origin"], TOY.reference_policies["random"]
    alone = TOY.rollout([straight], 50, rng_for("test", "starts"))
    together = TOY.rollout([random, straight, straight], 50, rng_for("test", "starts"))
    assert together.shape == (3, 50)
    np.testing.assert_array_equal(together[1:], np.concatenate([alone, alone]))
    fresh = TOY.rollout([TOY.reference_policies["random"]], 50, rng_for("test", "starts"))
    np.testing.assert_array_equal(together[:1], fresh)
