"""The dynamics error in a world whose step is known: s' = s + a/10 along x, minus half of that along y."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from metrics.dynamics import Dynamics


class World:
    """A step function, and nothing else; a wall stands at x > 1."""

    def step(self, observations, actions):
        reached = observations + 0.1 * actions * np.array([1, -0.5])
        reached[observations[:, 0] > 1] = np.nan
        return reached


def score(synthetic, target, environment=None):
    return Dynamics().score(synthetic, target, World() if environment is None else environment, np.random.default_rng(0))


def without_wall(data):
    return data.rows(data.observations[:, 0] <= 1)


def test_rows_of_the_environment_have_no_error(draw):
    scores = score(without_wall(draw(2000, 0)), draw(2000, 1))
    assert scores == pytest.approx({"dynamics_median": 0, "dynamics_mean": 0, "invalid_states": 0}, abs=1e-5)


def test_the_error_is_in_standard_deviations_of_a_real_step(draw):
    synthetic, target = without_wall(draw(2000, 0)), draw(3000, 1)
    deviation = (target.next_observations - target.observations).astype(np.float64).std(0)
    off = np.where(np.arange(len(synthetic)) % 4 == 0, 3.0, 0.0)[:, None] * deviation
    shifted = replace(synthetic, next_observations=(synthetic.next_observations + off).astype(np.float32))
    scores = score(shifted, target)
    share = (np.arange(len(synthetic)) % 4 == 0).mean()
    assert scores["dynamics_mean"] == pytest.approx(share * 3 * np.sqrt(2), rel=1e-3)
    assert scores["dynamics_median"] < 1e-4


def test_states_inside_walls_are_counted_and_have_no_error(draw):
    synthetic = draw(2000, 0)
    scores = score(synthetic, draw(2000, 1))
    assert scores["invalid_states"] == pytest.approx((synthetic.observations[:, 0] > 1).mean())
    assert 0 < scores["invalid_states"] < 1
    assert scores["dynamics_mean"] < 1e-4


def test_with_no_valid_state_only_their_share_is_scored(draw):
    data = draw(100, 0)
    data.observations[:, 0] = 1.5
    assert score(data, draw(100, 1)) == {"invalid_states": 1.0}


def test_an_environment_without_step_has_no_score(draw):
    assert score(draw(100, 0), draw(100, 1), environment=object()) == {}


def test_a_dimension_that_never_moves_is_left_out(draw):
    synthetic, target = without_wall(draw(500, 0)), draw(500, 1)
    target.next_observations[:, 1] = target.observations[:, 1]
    synthetic.next_observations[:, 1] += 1
    assert score(synthetic, target)["dynamics_mean"] < 1e-4
    target.next_observations[:] = target.observations
    with pytest.raises(ValueError, match="no scale"):
        score(synthetic, target)


def test_blocks_do_not_change_the_scores(draw, monkeypatch):
    synthetic, target = draw(1000, 0), draw(900, 1)
    synthetic.next_observations[:, 0] += np.linspace(0, 1, 1000, dtype=np.float32)
    whole = score(synthetic, target)
    monkeypatch.setattr("metrics.dynamics.BLOCK", 64)
    assert score(synthetic, target) == pytest.approx(whole)
