"""The nearest-record attack: the distance, and the controls that an attack must pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from attack_support import run
from scipy.spatial.distance import cdist

from bench.core.data import Transitions, View
from bench.core.protocols import Attack
from metrics._membership import BETTER
from metrics.nearest import NEAREST, NEAREST_DIFFERENCE, NearestRecord, nearest_distance

PAIR = (NearestRecord(members=500), NearestRecord(members=500, difference=True))


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
    monkeypatch.setattr("metrics.nearest.nearest_distance", lambda queries, points: sizes.append(len(points)) or np.zeros(len(queries)))
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
