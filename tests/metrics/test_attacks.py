"""Membership inference: the curve against scikit-learn, the draw of candidates, and the controls every attack must pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score, roc_curve

from bench.core.data import Transitions, View
from bench.core.protocols import Attack, Runtime, Target
from metrics._parts import auc
from metrics.attacks import BETTER, NEAREST, NEAREST_DIFFERENCE, NearestRecord, draw_candidates, estimates, nearest_distance, tpr_at_fpr

PAIR = (NearestRecord(members=500), NearestRecord(members=500, difference=True))


def run(attack, released, members, non_members, reference, seed=0):
    target = Target(samples=released, sampler=None)
    return attack.attack(target, {}, members, non_members, reference, np.random.default_rng(seed), runtime=Runtime())


# --- the curve --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_auc_and_tpr_are_scikit_learns(decimals):
    rng = np.random.default_rng(decimals)
    members, others = rng.normal(0.7, 1, 900).round(decimals), rng.normal(0, 1, 1100).round(decimals)
    labels, scores = np.repeat([1, 0], [900, 1100]), np.concatenate([members, others])
    assert auc(members, others) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    for level in (0.001, 0.01, 0.1, 0.5, 1.0):
        assert tpr_at_fpr(members, others, level) == pytest.approx(tpr[fpr <= level].max(), abs=1e-12)


def test_ties_count_half_and_cannot_be_split():
    assert auc([1, 1, 0], [1, 0, 0]) == pytest.approx((2 * (0.5 + 1 + 1) + (0 + 0.5 + 0.5)) / 9)
    assert auc(np.zeros(5), np.zeros(7)) == 0.5
    assert tpr_at_fpr([1, 1, 1], [1, 0, 0, 0], 0.1) == 0.0
    assert tpr_at_fpr([1, 1, 1], [1, 0, 0, 0], 0.25) == 1.0


def test_a_realised_fpr_that_equals_the_target_is_allowed():
    others = np.arange(100)[::-1]
    assert tpr_at_fpr([70.5], others, 0.29) == 1.0  # 29 of 100 lie above; 0.29 * 100 is below 29 in floating point
    assert tpr_at_fpr([70.5], others, 0.28) == 0.0


@pytest.mark.parametrize(("members", "others"), [([np.nan, 1], [0]), ([1], [np.nan]), ([], [1])])
def test_scores_that_cannot_be_ranked_are_refused(members, others):
    with pytest.raises(ValueError, match="give at least one score and no NaN"):
        auc(members, others)


def test_the_interval_covers_when_rows_of_a_trajectory_agree():
    """A row bootstrap would take 10 copies for 10 observations: its interval would be three times too short and cover about half of the time."""
    rng, inside = np.random.default_rng(0), 0
    truth = 0.6381631950841186  # Phi(0.5 / sqrt(2))
    for _ in range(100):
        members, others = (np.repeat(rng.normal(mean, 1, (100, 1)), 10, axis=1) for mean in (0.5, 0))
        estimate = estimates(members, others, 200, rng)["auc"]
        inside += estimate.low <= truth <= estimate.high
    assert inside >= 88


# --- candidates -------------------------------------------------------------------------------------------------------


def test_both_sides_give_the_same_number_of_rows_per_trajectory(draw):
    members, others = draw(3000, 0, length=10), draw(600, 1, length=30)
    inside, outside = draw_candidates(members, others, 100, np.random.default_rng(0))
    assert inside.shape == outside.shape == (20, 5)
    for rows, data in ((inside, members), (outside, others)):
        owner = np.searchsorted(data.trajectories, rows, side="right")
        assert (owner == owner[:, :1]).all()
        assert len(np.unique(owner[:, 0])) == 20
        assert len(np.unique(rows)) == rows.size


def test_trajectories_too_short_for_their_share_are_passed_over(draw):
    long = draw(1000, 0, length=100)
    offsets = np.sort(np.concatenate([long.trajectories, long.trajectories[:-1] + 3]))  # of lengths 3 and 97 in turn
    mixed = replace(long, trajectories=offsets)
    inside, outside = draw_candidates(mixed, long, 100, np.random.default_rng(0))
    assert inside.shape == outside.shape == (10, 10)
    assert (inside % 100 >= 3).all()
    assert (inside // 100 == inside[:, :1] // 100).all()


def test_each_row_of_a_trajectory_is_equally_likely(draw):
    data, rng = draw(70, 0, length=7), np.random.default_rng(0)
    counts = np.zeros(7)
    for _ in range(1000):
        counts += np.bincount(draw_candidates(data, data, 30, rng)[0].ravel() % 7, minlength=7)
    assert counts == pytest.approx(np.full(7, counts.mean()), rel=0.06)


def test_one_row_per_trajectory_where_there_are_enough(draw):
    inside, _ = draw_candidates(draw(3000, 0, length=10), draw(3000, 1), 250, np.random.default_rng(0))
    assert inside.shape == (250, 1)


def test_small_parts_give_what_they_have(draw):
    inside, outside = draw_candidates(draw(40, 0), draw(3000, 1), 250, np.random.default_rng(0))
    assert inside.shape == outside.shape == (40, 1)
    inside, _ = draw_candidates(draw(60, 0, length=6), draw(80, 1, length=4), 250, np.random.default_rng(0))
    assert inside.shape == (10, 4)


# --- the distance -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("queries", "points", "width"), [(1, 1, 1), (300, 2500, 6), (257, 1025, 40)])
def test_nearest_distance_is_the_least_of_all_pairs_below_and_above_the_tree(queries, points, width):
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(-0.5, 0.5, (n, width)).astype(np.float32) for n in (queries, points))
    assert nearest_distance(x, y) == pytest.approx(cdist(x, y).min(1), abs=1e-9)
    assert nearest_distance(y, y).max() < 1e-6


# --- controls ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", PAIR)
def test_a_release_of_the_members_is_found(attack, draw):
    members, others, reference = draw(2000, 0, length=10), draw(2000, 1, length=10), draw(2000, 2, length=10)
    scores = run(attack, members, members, others, reference)
    assert set(scores) == set(BETTER)
    assert scores["auc"].value > 0.9
    if not attack.difference:
        assert all(estimate.value == 1 for estimate in scores.values())


def test_a_release_of_a_share_of_the_members_is_found_in_proportion(draw):
    members, others = draw(4000, 0, length=10), draw(4000, 1, length=10)
    scores = run(NearestRecord(members=400), members.joined(np.arange(100)), members, others, others)
    assert scores["auc"].low < 0.5 + 0.25 / 2 < scores["auc"].high
    assert scores["tpr_at_01"].low < 0.25 < scores["tpr_at_01"].high


@pytest.mark.parametrize("attack", PAIR)
def test_a_release_that_ignores_the_members_is_at_chance(attack, draw):
    covered = 0
    for seed in range(10):
        parts = [draw(1500, 10 * seed + part, length=10) for part in range(4)]
        estimate = run(attack, *parts, seed=seed)["auc"]
        covered += estimate.low <= 0.5 <= estimate.high
    assert covered >= 8


def test_noisy_copies_are_found_better_than_chance_and_worse_than_copies(draw, schema):
    members, others, reference = draw(2000, 0), draw(2000, 1), draw(2000, 2)
    noise = np.random.default_rng(0).normal(0, 0.03, members.table().shape)
    scores = run(NearestRecord(members=1000, difference=True), Transitions.from_table(schema, members.table() + noise), members, others, reference)
    assert 0.5 < scores["auc"].low < scores["auc"].high < 0.99


def test_columns_weigh_by_their_declared_range_not_by_their_unit(draw, schema):
    """A column in other units, bounds included, changes nothing."""

    def rescaled(data):
        wide = replace(schema, actions=(replace(schema.actions[0], low=-1024.0, high=1024.0),))
        return replace(data, schema=wide, actions=data.actions * np.float32(1024))

    parts = [draw(1000, seed) for seed in range(4)]
    assert run(PAIR[1], *parts) == run(PAIR[1], *map(rescaled, parts))


def test_the_reference_is_thinned_to_the_size_of_the_release(draw, monkeypatch):
    """Beside a far denser reference every candidate would look far from the release."""
    sizes = []
    monkeypatch.setattr("metrics.attacks.nearest_distance", lambda queries, points: sizes.append(len(points)) or np.zeros(len(queries)))
    run(PAIR[1], draw(300, 0), draw(300, 1), draw(300, 2), draw(20_000, 3))
    assert sizes == [300, 300]


def test_the_same_generator_gives_the_same_estimates(draw):
    parts = [draw(500, seed) for seed in range(4)]
    assert run(PAIR[1], *parts) == run(PAIR[1], *parts)


def test_bad_targets_are_refused_by_name(draw, schema):
    data = draw(100, 0)
    with pytest.raises(ValueError, match="target: samples is None"):
        run(NEAREST, None, data, data, data)
    with pytest.raises(ValueError, match="samples: 0 rows"):
        run(NEAREST, Transitions.empty(schema), data, data, data)
    broken = draw(100, 1)
    broken.observations[0, 0] = np.inf
    with pytest.raises(ValueError, match="reference: observations hold 1 non-finite"):
        run(NEAREST_DIFFERENCE, data, data, data, broken)


def test_the_instances_are_attacks_without_shadow_models():
    for attack in (NEAREST, NEAREST_DIFFERENCE):
        assert isinstance(attack, Attack)
        assert attack.views(View("toy", "train", 1000)) == {}
