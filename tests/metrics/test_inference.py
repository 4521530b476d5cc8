"""Attribute inference: averages determine bits, cells are conjunctions, and members are read better than others only where a release leaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from attack_support import run
from scipy.sparse import csr_array

from bench.core.data import View, concatenate
from bench.core.protocols import Attack
from metrics.inference import LEVELS, AttributeInference, Coding, Cut, cells_of, difference, queries, reconstruct, share_in

SMALL = AttributeInference(members=1000, group=500)


def advantage(attack, *roles, seed=0):
    return run(attack, *roles, seed=seed)["advantage"]


# --- what it finds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["", "y"])
def test_the_secrets_of_released_members_are_read(draw, secret):
    members, others, reference = (draw(1000, seed, length=10) for seed in range(3))
    assert advantage(replace(SMALL, secret=secret), members, members, others, reference).low > 0.1


def test_what_can_be_told_of_anybody_is_no_advantage(draw):
    """The push follows from x by and large, so that both sides are read well."""
    covered = 0
    for seed in range(10):
        parts = [draw(500, 10 * seed + part, length=10) for part in range(4)]
        estimate = advantage(SMALL, *parts, seed=seed)
        covered += estimate.low <= 0 <= estimate.high
        assert abs(estimate.value) < 0.1
    assert covered >= 8


def test_half_of_the_members_give_less_of_an_advantage(draw):
    members, others, reference = (draw(1000, seed, length=10) for seed in range(3))
    half = concatenate([members.joined(np.arange(0, 100, 2)), draw(500, 3, length=10)])
    whole, less = (advantage(SMALL, released, members, others, reference).value for released in (members, half))
    assert 0 < less < 0.75 * whole


def test_the_same_generator_gives_the_same_estimate(draw):
    parts = [draw(500, seed) for seed in range(4)]
    assert advantage(SMALL, *parts) == advantage(SMALL, *parts)


# --- the program ------------------------------------------------------------------------------------------------------


def test_enough_averages_determine_every_bit():
    rng = np.random.default_rng(0)
    bits, asked = rng.integers(2, size=40), (rng.random((160, 40)) < 0.5).astype(float)
    asked /= asked.sum(axis=1, keepdims=True)
    noisy = asked @ bits + rng.uniform(-0.02, 0.02, 160)
    assert reconstruct(csr_array(asked), asked @ bits) == pytest.approx(bits, abs=1e-6)
    assert ((reconstruct(csr_array(asked), noisy) > 0.5) == bits).all()


def test_one_wild_answer_is_outvoted():
    asked = csr_array(np.repeat(np.eye(3), 3, axis=0))
    assert reconstruct(asked, np.array([0, 0, 1, 1, 0, 1, 0.2, 1, 1])) == pytest.approx([0, 1, 1])


def test_targets_that_no_query_counts_are_left_at_a_half():
    nothing = queries(np.zeros((1, 4), int), np.full((1, 4), np.nan))
    assert reconstruct(*nothing) == pytest.approx(np.full(4, 0.5))


# --- queries ----------------------------------------------------------------------------------------------------------


def test_rows_share_a_cell_where_they_agree_in_every_column_of_the_cut():
    codes = np.random.default_rng(0).integers(2**LEVELS, size=(5, 300)).astype(np.uint8)
    cells = cells_of(Cut(np.array([3, 0, 4]), 2), codes)
    coarse = codes[[3, 0, 4]] >> (LEVELS - 2)
    agree = (coarse[:, :, None] == coarse[:, None]).all(axis=0)
    assert ((cells[:, None] == cells) == agree).all()


def test_the_widest_and_finest_cut_keeps_all_cells_apart():
    codes = np.full((7, 2), 2**LEVELS - 1, np.uint8)
    codes[0, 1] -= 1
    first, second = cells_of(Cut(np.arange(7), LEVELS), codes)
    assert first != second
    assert min(first, second) >= 0


def test_a_share_is_that_of_the_released_rows_in_the_cell():
    shares = share_in(np.array([5, 9, 5, 2]), np.array([5, 5, 5, 9, 7]), np.array([True, False, True, True, False]))
    assert shares == pytest.approx([2 / 3, 1, 2 / 3, np.nan], nan_ok=True)


def test_queries_average_over_the_targets_of_each_answered_cell():
    asked, answers = queries(np.array([[5, 9, 5, 2]]), np.array([[0.25, 1, 0.25, np.nan]]))
    assert asked.toarray() == pytest.approx(np.array([[0.5, 0, 0.5, 0], [0, 1, 0, 0]]))
    assert answers == pytest.approx([0.25, 1])


# --- what is known ----------------------------------------------------------------------------------------------------


def test_the_secret_is_not_among_what_is_known(draw):
    data = draw(500, 0)
    coding = Coding.of(data, "y")
    assert coding.bits(data) == pytest.approx(data.observations[:, 1] > data.observations[:, 1].mean())
    changed = replace(data, observations=data.observations * np.float32([1, -3]), rewards=1 - data.rewards, next_observations=-data.next_observations)
    assert (coding.codes(data) == coding.codes(changed)).all()


def test_quantiles_split_the_reference_evenly(draw):
    data = draw(25_600, 0)
    codes = Coding.of(data, "").codes(data)
    assert codes.shape == (2, 25_600)
    assert np.bincount(codes[0], minlength=2**LEVELS) == pytest.approx(100, abs=1)


def test_a_secret_that_is_no_column_is_refused_by_name(draw):
    data = draw(50, 0)
    with pytest.raises(ValueError, match="secret: 'reward' is no column of s or a; choose from x, y, push"):
        run(AttributeInference(secret="reward"), data, data, data, data)
    with pytest.raises(ValueError, match="target: samples is None"):
        run(AttributeInference(), None, data, data, data)


def test_it_is_an_attack_without_shadow_models():
    assert isinstance(AttributeInference(), Attack)
    assert AttributeInference().views(View("toy", "train", 1000)) == {}


def test_the_interval_of_an_advantage_is_as_wide_as_normal_theory_says_of_trajectories():
    """Ten rows of a trajectory that agree are worth one."""
    rng = np.random.default_rng(0)
    inside, outside = (np.repeat(rng.random((300, 1)) < chance, 10, axis=1) for chance in (0.6, 0.5))
    error = np.sqrt(sum(side.mean(1).var(ddof=1) / 300 for side in (inside, outside)))
    found = difference(inside, outside, 2000, rng)
    assert (found.high - found.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.08)
