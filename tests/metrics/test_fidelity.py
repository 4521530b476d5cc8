"""One-way, pairwise and correlation scores against slow formulas and the library that defines them."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from bench.core.data import Column, Transitions
from metrics._parts import ks_distance
from metrics.fidelity import Correlation, OneWay, PairwiseTV, tv_distance

METRICS = (OneWay(), PairwiseTV(), Correlation())
PERFECT = {"one_way": 1.0, "pairwise_tv": 0.0, "correlation": 1.0}


def score(metric, synthetic, target):
    return metric.score(synthetic, target, None, np.random.default_rng(0))


def pair_columns(data):
    return np.column_stack([data.observations, data.actions, data.rewards, data.next_observations - data.observations])


def shuffled(data, seed=0):
    """Every column permuted on its own: the marginals of s, a, r, s' stay, all structure goes."""
    return Transitions.from_table(data.schema, np.random.default_rng(seed).permuted(data.table(), axis=0))


@pytest.mark.parametrize("metric", METRICS)
def test_a_table_is_perfect_against_itself_in_any_row_order(metric, draw):
    data = draw(3000, 0)
    (name, value), *_ = score(metric, data.rows(np.random.default_rng(1).permutation(3000)), data).items()
    assert value == pytest.approx(PERFECT[name], abs=1e-12)


def test_shuffled_columns_keep_the_marginals_and_lose_the_pairs(draw):
    data, again = draw(3000, 0), draw(3000, 1)
    assert score(OneWay(), shuffled(data), data)["one_way"] == pytest.approx(1)
    assert score(PairwiseTV(), shuffled(data), data)["pairwise_tv"] > score(PairwiseTV(), again, data)["pairwise_tv"] + 0.1
    assert score(Correlation(), shuffled(data), data)["correlation"] < score(Correlation(), again, data)["correlation"] - 0.05


@pytest.mark.parametrize("sizes", [(1, 1), (1000, 1000), (700, 1300)])
@pytest.mark.parametrize("decimals", [0, 1, 7])
def test_ks_is_scipys_with_and_without_ties(sizes, decimals):
    rng = np.random.default_rng(sizes[0])
    a, b = (rng.normal(shift, 1, n).round(decimals).astype(np.float32) for shift, n in zip((0, 0.3), sizes, strict=True))
    assert ks_distance(a, b) == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)


def test_tv_counts_a_value_off_the_levels_as_a_miss():
    levels = np.array([0, 1], np.float32)
    real, off = np.array([0, 0, 1, 1], np.float32), np.array([0, 0, 0.9, 1], np.float32)
    assert tv_distance(real, off, levels) == pytest.approx(0.25)


def test_one_way_is_the_mean_over_s_a_r_next_s(draw):
    synthetic, target = draw(2000, 0), draw(1500, 1)
    ours, theirs = synthetic.table()[:, :-1], target.table()[:, :-1]
    terms = [ks_2samp(ours[:, j], theirs[:, j]).statistic for j in (0, 1, 2, 4, 5)]
    terms.append(abs(synthetic.rewards.mean() - target.rewards.mean()))
    assert score(OneWay(), synthetic, target)["one_way"] == pytest.approx(1 - np.mean(terms), abs=1e-6)


def test_column_kinds_come_from_the_schema_not_from_the_data(draw, schema):
    synthetic, target = draw(2000, 0), draw(2000, 1)
    for data, share in ((synthetic, 0.5), (target, 0.1)):
        data.actions[:, 0] = np.random.default_rng(0).choice([-1, 0, 1], len(data), p=[share / 2, 1 - share, share / 2])
    as_range = score(OneWay(), synthetic, target)["one_way"]
    declared = replace(schema, actions=(replace(schema.actions[0], levels=(-1.0, 0.0, 1.0)),))
    as_levels = score(OneWay(), replace(synthetic, schema=declared), replace(target, schema=declared))["one_way"]
    tv = sum(abs((synthetic.actions == level).mean() - (target.actions == level).mean()) for level in (-1, 0, 1)) / 2
    ks = ks_2samp(synthetic.actions[:, 0], target.actions[:, 0]).statistic
    assert tv > 1.5 * ks
    assert as_range - as_levels == pytest.approx((tv - ks) / 6, abs=1e-9)


def test_pairwise_tv_is_the_loop_over_two_way_histograms(draw, schema):
    synthetic, target = draw(4000, 0), draw(3000, 1)
    ours, theirs = (pair_columns(data) for data in (synthetic, target))
    edges = [[-np.inf, *np.sort(theirs[:, j])[60:3000:60], np.inf] for j in range(6)]
    edges[3] = [-0.5, 0.5, 1.5]
    terms = []
    for i, j in combinations(range(6), 2):
        p, q = (np.histogram2d(table[:, i], table[:, j], bins=(edges[i], edges[j]))[0] / len(table) for table in (ours, theirs))
        terms.append(np.abs(p - q).sum() / 2)
    assert score(PairwiseTV(), synthetic, target)["pairwise_tv"] == pytest.approx(np.mean(terms), abs=1e-12)


def test_pairwise_tv_sees_changes_that_are_small_beside_their_bounds(draw, schema):
    wide = replace(schema, differences=tuple(replace(column, low=-10.0, high=10.0) for column in schema.differences))
    synthetic, again, target = (replace(draw(3000, seed), schema=wide) for seed in range(3))
    damped = replace(synthetic, next_observations=0.7 * synthetic.observations + 0.3 * synthetic.next_observations)
    assert score(PairwiseTV(), damped, target)["pairwise_tv"] > score(PairwiseTV(), again, target)["pairwise_tv"] + 0.1


@pytest.mark.parametrize("rest", [-1, 0, 0.25, 1])
def test_pairwise_tv_sees_a_column_that_mostly_rests(draw, rest):
    synthetic, target = draw(3000, 0), draw(3000, 0)
    target.actions[50:] = rest
    synthetic.actions[:] = target.actions
    synthetic.actions[:50] = rest
    found = score(PairwiseTV(), synthetic, target)["pairwise_tv"]
    assert found == pytest.approx(5 / 15 * 50 / 3000, rel=0.05)  # 50 of 3,000 rows, in five of 15 pairs; a push may be a bound by chance


def test_pairwise_tv_puts_values_beyond_the_bounds_into_the_edge_bins(draw):
    inside, outside = draw(500, 0), draw(500, 0)
    inside.observations[:] = np.where(inside.observations < 0, -2, 2)
    outside.observations[:] = 1000 * inside.observations
    for data in (inside, outside):
        data.next_observations[:] = data.observations
    assert score(PairwiseTV(), outside, inside)["pairwise_tv"] == 0


def test_pairwise_tv_takes_more_levels_than_a_byte_holds(draw, schema):
    synthetic, target = draw(2000, 0), draw(2000, 0)
    levels = tuple(np.linspace(-1, 1, 301))
    declared = replace(schema, actions=(Column("push", -1.0, 1.0, levels=levels),))
    index = np.random.default_rng(0).integers(0, 301, 2000)
    for data, shift in ((synthetic, 256), (target, 0)):
        data.actions[:, 0] = np.float32(levels)[(index % 45) + shift]
    parts = [replace(data, schema=declared) for data in (synthetic, target)]
    assert score(PairwiseTV(), *parts)["pairwise_tv"] == pytest.approx(5 / 15)  # the five pairs with `push` are disjoint, the others equal


def test_correlation_is_the_mean_over_numpys(draw):
    synthetic, target = draw(2000, 0), shuffled(draw(3000, 1))
    ours, theirs = (np.corrcoef(pair_columns(data).astype(np.float64), rowvar=False) for data in (synthetic, target))
    pairs = np.triu_indices(6, 1)
    assert score(Correlation(), synthetic, target)["correlation"] == pytest.approx(1 - np.abs(ours - theirs)[pairs].mean() / 2, abs=1e-9)


def test_correlation_survives_a_large_offset(draw):
    synthetic, target = draw(2000, 0), draw(2000, 1)
    before = score(Correlation(), synthetic, target)["correlation"]
    for data in (synthetic, target):
        data.rewards[:] += 4096  # the levels stay exact in float32
    assert score(Correlation(), synthetic, target)["correlation"] == pytest.approx(before, abs=1e-9)


def test_a_pair_without_a_real_correlation_is_left_out(draw):
    synthetic, target = draw(2000, 0), draw(2000, 1)
    target.actions[:] = 0.3
    ours, theirs = (np.corrcoef(np.delete(pair_columns(data), 2, axis=1).astype(np.float64), rowvar=False) for data in (synthetic, target))
    expected = 1 - np.abs(ours - theirs)[np.triu_indices(5, 1)].mean() / 2
    assert score(Correlation(), synthetic, target)["correlation"] == pytest.approx(expected, abs=1e-9)


def test_a_collapsed_synthetic_column_counts_as_uncorrelated(draw):
    target = draw(2000, 1)
    collapsed = replace(target, actions=np.full_like(target.actions, 0.3))
    rho = np.corrcoef(pair_columns(target).astype(np.float64), rowvar=False)[2]
    assert score(Correlation(), collapsed, target)["correlation"] == pytest.approx(1 - (np.abs(rho).sum() - 1) / 15 / 2, abs=1e-9)


def test_correlation_is_absent_where_nothing_varies(draw):
    still = draw(100, 0).rows(np.zeros(100, int))
    assert score(Correlation(), still, still) == {}


@pytest.mark.parametrize("metric", METRICS)
def test_non_finite_and_empty_tables_are_refused_by_name(metric, draw, schema):
    data, broken = draw(100, 0), draw(100, 1)
    broken.rewards[3] = np.nan
    with pytest.raises(ValueError, match="synthetic: rewards hold 1 non-finite"):
        score(metric, broken, data)
    with pytest.raises(ValueError, match="target: 0 rows"):
        score(metric, data, Transitions.empty(schema))


@pytest.mark.parametrize("metric", METRICS)
def test_scores_do_not_depend_on_the_block_size(metric, draw, monkeypatch):
    synthetic, target = draw(1000, 0), draw(900, 1)
    whole = score(metric, synthetic, target)
    monkeypatch.setattr("metrics.fidelity.BLOCK", 64)
    monkeypatch.setattr("metrics._parts.BLOCK", 64)
    assert score(metric, synthetic, target) == pytest.approx(whole, abs=1e-12)
