"""The classifier two-sample test: what its windows are, that chance stays chance, and that disorder is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from trajectory_support import stitched

from bench.envs.maze2d import MEDIUM
from metrics.windows import WindowAUC, draw_halves, draw_windows, features, moments


def window_auc(synthetic, target, seed=0):
    return WindowAUC().score(synthetic, target, None, np.random.default_rng(seed))["window_auc"]


# --- windows ----------------------------------------------------------------------------------------------------------


def test_every_run_of_rows_is_equally_likely_and_none_leaves_its_trajectory():
    starts, lengths = np.array([0, 10, 13]), np.array([10, 3, 6])
    windows = draw_windows(starts, lengths, 4, 20_000, np.random.default_rng(0))
    distinct, counts = np.unique(windows, axis=0, return_counts=True)
    runs = [[first, first + 1, first + 2, first + 3] for first in (*range(7), 13, 14, 15)]
    assert distinct.tolist() == [*runs[:7], [10, 11, 12, -1], *runs[7:]]
    assert counts == pytest.approx(np.full(11, 20_000 / 11), rel=0.1)


def test_the_halves_share_no_trajectory(walk):
    data = walk(21, 0)
    first, second = draw_halves(data.trajectories, 32, 5_000, np.random.default_rng(0))
    owners = [set(np.unique(half // 40)) for half in (first, second)]
    assert owners[0] | owners[1] == set(range(21))
    assert not owners[0] & owners[1]
    assert first.shape == second.shape == (5_000, 32)


def test_features_are_standardised_columns_with_a_mask(walk):
    data = walk(20, 0, length=40)
    windows = draw_halves(data.trajectories, 40, 500, np.random.default_rng(0))[0]
    windows[:250, 30:] = -1
    seen = features(data, windows, *moments(data, windows)).numpy().reshape(500, 40, 7)
    inside = windows >= 0
    assert np.array_equal(seen[..., -1], inside)
    assert not seen[~inside].any()
    assert seen[inside].mean(0)[:-1] == pytest.approx(np.zeros(6), abs=1e-4)
    assert seen[inside].std(0)[:-1] == pytest.approx(np.ones(6), abs=1e-4)


# --- the score --------------------------------------------------------------------------------------------------------


def test_samples_of_one_distribution_are_near_chance_and_independent_rows_are_found(walk):
    target = walk(500, 0)
    assert window_auc(walk(500, 1), target) < 0.55
    assert window_auc(stitched(walk(500, 1), 1), target) > 0.95


def test_real_against_real_is_near_chance_on_maze2d_and_the_score_falls_with_the_length_of_true_runs():
    """What the score promises: chance for a perfect release, 1 for rows that were drawn one by one, and order in between."""
    target, other = (MEDIUM.dataset(40_000, 0, part) for part in ("holdout", "reference"))
    scores = [window_auc(data, target) for data in (other, stitched(other, 64), stitched(other, 16), stitched(other, 1))]
    assert 0.5 <= scores[0] < 0.55
    assert scores[-1] > 0.99
    assert scores == sorted(scores)
    assert scores[1] > scores[0] + 0.1


def test_a_copy_of_the_target_is_chance_and_so_is_anything_below(walk, monkeypatch):
    data = walk(100, 0)
    assert window_auc(data, data) < 0.55
    monkeypatch.setattr("metrics.windows.auc", lambda ours, theirs: 0.3)
    assert window_auc(data, walk(100, 1)) == 0.5


def test_columns_weigh_by_their_real_spread_not_by_their_unit(walk):
    ours, theirs = stitched(walk(60, 0), 20), walk(60, 1)
    wide = [replace(data, actions=data.actions * np.float32(1024)) for data in (ours, theirs)]
    assert 0.5 < window_auc(ours, theirs) == window_auc(*wide)


def test_a_column_that_is_constant_in_the_target_alone_gives_the_release_away(walk):
    ours, theirs = walk(60, 0), walk(60, 1)
    assert window_auc(ours, replace(theirs, actions=np.full_like(theirs.actions, 0.3))) > 0.9


def test_the_mask_tells_short_trajectories_from_trajectories_of_zeros(walk):
    ours, theirs = (replace(walk(200, seed), rewards=np.zeros(8000, np.float32)) for seed in (0, 1))
    for data in (ours, theirs):
        data.observations[:], data.next_observations[:], data.actions[:] = 0, 0, 0
    short = replace(ours, trajectories=np.arange(0, 8001, 16))
    assert window_auc(ours, theirs) == 0.5
    assert window_auc(short, theirs) > 0.95


def test_the_same_generator_gives_the_same_score_and_torchs_own_is_left_alone(walk):
    ours, theirs = walk(60, 0), walk(60, 1, length=30)
    before = torch.get_rng_state()
    assert window_auc(ours, theirs, seed=3) == window_auc(ours, theirs, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_trajectory_cannot_be_halved(walk):
    one, many = walk(1, 0), walk(20, 1)
    assert WindowAUC().score(one, many, None, np.random.default_rng(0)) == {}
    assert WindowAUC().score(many, one, None, np.random.default_rng(0)) == {}
