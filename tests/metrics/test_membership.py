"""What membership attacks share: the curve against scikit-learn, the draw of candidates, and rows that are judged together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from attack_support import run
from sklearn.metrics import roc_auc_score, roc_curve

from metrics._membership import BlackBoxAttack, draw_candidates, estimates, tpr_at_fpr
from metrics._parts import auc

# --- the curve --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_auc_and_tpr_are_scikit_learns(decimals):
    rng = np.random.default_rng(decimals)
    members, others = rng.normal(0.7, 1, 900).round(decimals), rng.normal(0, 1, 1100).round(decimals)
    labels, scores = np.repeat([1, 0], [900, 1100]), np.concatenate([members, others])
    assert auc(members, others) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    for level in (0.001, 0.01, 0.1, 0.5, 1.0):
        assert tpr_at_fpr(members, others, level) == pytest.approx(np.interp(level * (1 + 1e-12), fpr, tpr), abs=1e-9)


def test_ties_count_half_and_are_broken_by_a_coin():
    assert auc([1, 1, 0], [1, 0, 0]) == pytest.approx((2 * (0.5 + 1 + 1) + (0 + 0.5 + 0.5)) / 9)
    assert auc(np.zeros(5), np.zeros(7)) == 0.5
    assert tpr_at_fpr([1, 1, 1], [1, 0, 0, 0], 0.1) == pytest.approx(0.4)
    assert tpr_at_fpr([1, 1, 1], [1, 0, 0, 0], 0.25) == pytest.approx(1.0)
    assert tpr_at_fpr(np.zeros(5), np.zeros(7), 0.01) == pytest.approx(0.01)


def test_a_realised_fpr_that_equals_the_target_is_allowed():
    others = np.arange(100)[::-1]
    assert tpr_at_fpr([70.5], others, 0.29) == pytest.approx(1.0)  # 29 of 100 lie above; 0.29 * 100 is below 29 in floating point
    assert tpr_at_fpr([70.5], others, 0.28) == pytest.approx(0.0)


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


# --- rows that are judged together ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tell(BlackBoxAttack):
    """Reads membership off the terminal flag, faintly."""

    version = 1

    def row_scores(self, candidates, released, reference, rng):
        return 0.3 * candidates.terminals + rng.normal(size=len(candidates))


@pytest.fixture
def tell_tale(draw):
    """Members end in every step, non-members in none."""
    members = draw(12_800, 0, length=32)
    return replace(members, terminals=np.ones(len(members), bool)), draw(12_800, 1, length=32)


def test_trajectories_give_a_weak_leak_away_that_single_rows_hide(tell_tale):
    rows, trajectories = (run(Tell(members=12_800, together=together), tell_tale[0], *tell_tale, tell_tale[1])["auc"] for together in (1, 32))
    assert 0.5 < rows.low < rows.high < 0.65  # Phi(0.3 / sqrt(2)) is 0.58
    assert trajectories.low > 0.8  # Phi(0.3 * sqrt(32) / sqrt(2)) is 0.88


def test_a_trajectory_that_is_judged_together_counts_once(tell_tale):
    inside, outside = draw_candidates(*tell_tale, 640, np.random.default_rng(0), together=16)
    assert inside.shape == outside.shape == (40, 16)
    assert (inside // 32 == inside[:, :1] // 32).all()


def test_more_rows_together_than_any_trajectory_has_are_refused(tell_tale, draw):
    with pytest.raises(ValueError, match="together: 33 rows are to be judged together, but a side has no trajectory longer than 32"):
        draw_candidates(*tell_tale, 640, np.random.default_rng(0), together=33)
    with pytest.raises(ValueError, match="no trajectory longer than 1;"):
        draw_candidates(tell_tale[0], draw(100, 0), 640, np.random.default_rng(0), together=2)


def test_the_interval_is_as_wide_as_normal_theory_says():
    """DeLong's standard error; at 90 % it would be a sixth narrower."""
    rng = np.random.default_rng(0)
    members, others = rng.normal(0.5, 1, (500, 1)), rng.normal(0, 1, (400, 1))
    wins = (members > others.T).astype(float)
    error = np.sqrt(wins.mean(1).var(ddof=1) / 500 + wins.mean(0).var(ddof=1) / 400)
    found = estimates(members, others, 2000, rng)["auc"]
    assert (found.high - found.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.08)
