"""Scores of whole trajectories: by hand, against slow formulas, and blind to nothing that another order of the rows destroys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp
from trajectory_support import permuted

from bench.core.data import Transitions
from metrics.fidelity import Correlation, OneWay, PairwiseTV
from metrics.trajectories import Autocorrelation, Continuity, TrajectoryMarginals, autocorrelations
from metrics.windows import WindowAUC

METRICS = (TrajectoryMarginals(), Autocorrelation(), Continuity(), WindowAUC())


def score(metric, synthetic, target):
    return metric.score(synthetic, target, None, np.random.default_rng(0))


def marginals(synthetic, target):
    return score(TrajectoryMarginals(), synthetic, target)


def series(schema, x, offsets, rewards=None):
    """Trajectories of a first state column x, all else 0."""
    table = np.zeros((len(x), len(schema.columns)))
    table[:, 0], table[:, 3] = x, 0 if rewards is None else rewards
    return Transitions.from_table(schema, table, trajectories=np.array(offsets))


# --- all of them ------------------------------------------------------------------------------------------------------


def test_the_target_itself_is_best(walk):
    data = walk(50, 0)
    scores = {name: value for metric in METRICS[:3] for name, value in score(metric, data, data).items()}
    assert scores == pytest.approx({"returns": 1, "lengths": 1, "starts": 1, "autocorrelation": 0, "continuity": 1})


def test_another_order_in_trajectories_is_seen_by_no_score_of_rows_and_by_every_score_of_order(walk):
    data = walk(100, 0)
    mixed = permuted(data)
    assert score(OneWay(), mixed, data)["one_way"] == pytest.approx(1)
    assert score(PairwiseTV(), mixed, data)["pairwise_tv"] == pytest.approx(0)
    assert score(Correlation(), mixed, data)["correlation"] == pytest.approx(1)
    assert marginals(mixed, data)["lengths"] == marginals(mixed, data)["returns"] == 1
    assert score(Autocorrelation(), mixed, data)["autocorrelation"] > 0.1
    assert score(Continuity(), mixed, data)["continuity"] < 0.1
    assert score(WindowAUC(), mixed, data)["window_auc"] > 0.9


@pytest.mark.parametrize("metric", METRICS)
def test_there_is_no_score_where_a_side_holds_no_trajectories(metric, walk):
    data = walk(10, 0)
    alone = data.rows(slice(None))
    assert score(metric, data, data)
    assert score(metric, alone, data) == score(metric, data, alone) == score(metric, alone, alone) == {}


@pytest.mark.parametrize("metric", METRICS)
def test_non_finite_tables_are_refused_by_name(metric, walk):
    data, broken = walk(10, 0), walk(10, 1)
    broken.rewards[3] = np.nan
    with pytest.raises(ValueError, match="synthetic: rewards hold 1 non-finite"):
        score(metric, broken, data)
    with pytest.raises(ValueError, match="target: rewards hold 1 non-finite"):
        score(metric, data, broken)


# --- marginals --------------------------------------------------------------------------------------------------------


def test_the_marginals_of_five_short_trajectories_by_hand(schema):
    ours = series(schema, [1, 0, 1, 0, 0], [0, 2, 5], rewards=[1, 1, 0, 0, 1])  # returns 2 and 1, lengths 2 and 3, starts 1 and 1
    theirs = series(schema, [0, 0, 1, 0], [0, 1, 2, 4], rewards=[1, 1, 0, 1])  # returns 1, 1 and 1, lengths 1, 1 and 2, starts 0, 0 and 1
    assert marginals(ours, theirs) == pytest.approx({"returns": 1 - 1 / 2, "lengths": 1 - 2 / 3, "starts": 1 - (2 / 3 + 0) / 2})


def test_the_distances_are_scipys(walk):
    ours, theirs = walk(60, 0, length=30), walk(50, 1)
    theirs = replace(theirs, trajectories=np.unique(np.append(np.random.default_rng(0).integers(1, 2000, 80), [0, 2000])))
    pieces = [np.split(np.arange(len(data)), data.trajectories[1:-1]) for data in (ours, theirs)]
    returns = [[data.rewards[rows].sum() for rows in own] for data, own in zip((ours, theirs), pieces, strict=True)]
    lengths = [[len(rows) for rows in own] for own in pieces]
    starts = [np.array([data.observations[rows[0]] for rows in own]).T for data, own in zip((ours, theirs), pieces, strict=True)]
    expected = {
        "returns": 1 - ks_2samp(*returns).statistic,
        "lengths": 1 - ks_2samp(*lengths).statistic,
        "starts": 1 - np.mean([ks_2samp(a, b).statistic for a, b in zip(*starts, strict=True)]),
    }
    assert marginals(ours, theirs) == pytest.approx(expected, abs=1e-12)


def test_shorter_trajectories_move_the_lengths_and_scaled_rewards_the_returns(walk):
    data = walk(50, 0)
    halved = replace(data, trajectories=np.arange(0, len(data) + 1, 20))
    assert marginals(halved, data)["lengths"] == 0
    scaled = replace(data, rewards=data.rewards * 2)
    moved = marginals(scaled, data)
    assert moved["returns"] < 0.8
    assert moved["lengths"] == moved["starts"] == 1


# --- autocorrelation --------------------------------------------------------------------------------------------------


def test_autocorrelations_of_an_alternating_series_by_hand(schema):
    table = autocorrelations(series(schema, [1, -1, 1, -1, 1, -1], [0, 4, 6]), lags=(1, 2, 3, 4))
    assert table[0] == pytest.approx([-1, 1, -1, np.nan], nan_ok=True)
    assert np.isnan(table[1:]).all(), "constant columns have none"


def test_pairs_do_not_cross_the_end_of_a_trajectory(schema):
    """Up in one trajectory and down in the other: within either, neighbours agree in full; the pair across would not."""
    table = autocorrelations(series(schema, [1, 1, -1, -1], [0, 2, 4]), lags=(1,))
    assert table[0, 0] == pytest.approx(1)


def test_autocorrelation_is_the_mean_over_a_slow_loop(walk):
    ours, theirs, lags = walk(30, 0, length=33), permuted(walk(30, 1, length=25)), (1, 4, 24)

    def slow(data):
        columns = np.column_stack([data.observations, data.actions, data.rewards]).astype(np.float64)
        columns -= columns.mean(0)
        pieces = np.split(columns, data.trajectories[1:-1])
        pairs = [(np.concatenate([p[:-k] for p in pieces]), np.concatenate([p[k:] for p in pieces])) for k in lags]
        return np.array([(a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0)) for a, b in pairs])

    expected = np.abs(slow(ours) - slow(theirs)).mean()
    assert expected > 0.1
    assert score(Autocorrelation(lags), ours, theirs)["autocorrelation"] == pytest.approx(expected, abs=1e-9)


def test_what_has_no_autocorrelation_in_the_target_is_left_out(walk):
    ours, theirs = walk(50, 0), walk(50, 1, length=15)
    reached = (1, 2, 5, 10)
    assert score(Autocorrelation(), ours, theirs) == score(Autocorrelation(reached), ours, theirs)
    still = replace(theirs, actions=np.full_like(theirs.actions, 0.3))
    without = np.delete(autocorrelations(ours, reached) - autocorrelations(theirs, reached), 2, axis=0)
    assert score(Autocorrelation(reached), ours, still)["autocorrelation"] == pytest.approx(np.abs(without).mean())
    assert score(Autocorrelation((60,)), ours, theirs) == {}


def test_what_has_none_in_the_synthetic_data_alone_counts_as_uncorrelated(walk):
    data = walk(50, 0)
    remembered = np.abs(autocorrelations(data, Autocorrelation.lags[:5]))
    collapsed = replace(data, actions=np.full_like(data.actions, 0.3))
    assert score(Autocorrelation(), collapsed, data)["autocorrelation"] == pytest.approx(remembered[2].sum() / remembered.size)
    short = replace(data, trajectories=np.arange(0, len(data) + 1, 10))
    assert score(Autocorrelation((10, 20)), short, data)["autocorrelation"] == pytest.approx(remembered[:, 3:].mean())


def test_autocorrelation_survives_a_large_offset(walk):
    ours, theirs = walk(50, 0), walk(50, 1)
    before = score(Autocorrelation(), ours, theirs)["autocorrelation"]
    for data in (ours, theirs):
        data.rewards[:] += 4096
    assert score(Autocorrelation(), ours, theirs)["autocorrelation"] == pytest.approx(before, abs=1e-9)


# --- continuity -------------------------------------------------------------------------------------------------------


def test_continuity_is_the_share_of_unbroken_steps_inside_trajectories(schema):
    data = series(schema, [0, 1, 2, 5, 6], [0, 3, 5])  # three steps inside: 0 to 1, 1 to 2, 5 to 6
    data.next_observations[:, 0] = [1, 2, 3, 6, 7]
    assert score(Continuity(), data, data) == {"continuity": 1}
    data.next_observations[0, 0] = np.nextafter(np.float32(1), np.float32(2))
    assert score(Continuity(), data, data) == {"continuity": pytest.approx(2 / 3)}
    data.next_observations[[2, 4]] = 9
    assert score(Continuity(), data, data) == {"continuity": pytest.approx(2 / 3)}, "the last step of a trajectory leads nowhere"


def test_trajectories_of_single_rows_have_no_continuity(walk):
    data = walk(2, 0)
    assert score(Continuity(), replace(data, trajectories=np.arange(len(data) + 1)), data) == {}
