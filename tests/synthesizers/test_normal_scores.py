"""Normal scores: there and back, atoms and levels exactly, standard normal on the way, inside the schema whatever a network says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from marginal_support import EVERY_SCHEMA, random_rows
from method_support import AWKWARD, level_rows, umaze
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import kstest

from bench.conformance.rows import faults
from bench.core.data import Schema, Transitions
from bench.envs.maze2d import LARGE, UMAZE
from synthesizers._parts.discretize import exact_columns
from synthesizers._parts.normal_scores import NormalScores, renormalized


def own_scores(data: Transitions) -> NormalScores:
    """From histograms without noise."""
    return NormalScores(exact_columns(data, 4096, 64))


def dithered(scores: NormalScores, n: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random((n, scores.width))


def encoded(scores: NormalScores, data: Transitions, seed: int = 0) -> NDArray[np.float32]:
    return scores.encode(data, dithered(scores, len(data), seed))


# --- there and back -------------------------------------------------------------------------------------------------------------------------------


@EVERY_SCHEMA
@pytest.mark.parametrize("seed", range(2))
def test_rows_come_back_within_a_cell_and_levels_as_themselves(schema: Schema, seed: int) -> None:
    """But for the few that float32 moves over the end of a cell, and so over the empty ones behind it."""
    data = random_rows(schema, 500, np.random.default_rng(0))
    scores = own_scores(data)
    back = scores.decode(encoded(scores, data, seed))
    first = len(schema.columns) - 1 - len(schema.observations)
    for column, values, expected in list(zip(schema.columns, back.table().T, data.table().T, strict=True))[:first]:
        within = np.abs(values - expected) <= (0 if column.levels else (column.high - column.low) / 4096)
        assert within.mean() > 0.98
    assert np.array_equal(back.terminals, data.terminals)


def test_clipped_actions_come_back_as_the_bound_wherever_the_dither_put_them() -> None:
    data = umaze(5000)
    scores, on_bound = own_scores(data), np.abs(data.actions) == 1
    one, other = (encoded(scores, data, seed) for seed in range(2))
    assert on_bound.mean() > 0.1
    assert not np.array_equal(one, other)
    for z in (one, other):
        assert np.array_equal(scores.decode(z).actions[on_bound], data.actions[on_bound])


def test_every_column_of_scores_is_standard_normal_atoms_and_slivers_included() -> None:
    """Kolmogorov and Smirnov's distance of 20,000 rows of the maze to the normal law."""
    data = umaze(20_000)
    z = np.sort(encoded(own_scores(data), data), axis=0)
    below = np.arange(len(z))[:, None] / len(z)
    assert np.abs(ndtr(z) - below).max() < 0.01


def test_fresh_normals_decode_to_the_columns_own_distributions() -> None:
    data = umaze(20_000)
    scores = own_scores(data)
    drawn = scores.decode(np.random.default_rng(0).standard_normal((20_000, scores.width)).astype(np.float32))
    for quantile in (0.05, 0.3, 0.7, 0.95):
        expected, found = (np.quantile(rows.table()[:, :7], quantile, axis=0) for rows in (data, drawn))
        np.testing.assert_allclose(found, expected, atol=0.15)
    assert np.abs((np.abs(drawn.actions) == 1).mean(0) - (np.abs(data.actions) == 1).mean(0)).max() < 0.01


def test_levels_keep_their_shares() -> None:
    codes = np.random.default_rng(0).choice(4, 10_000, p=[0.6, 0.3, 0.0999, 0.0001])[None]
    scores = own_scores(level_rows(codes, [4]))
    drawn = scores.decode(np.random.default_rng(1).standard_normal((100_000, 1)).astype(np.float32)).actions[:, 0]
    np.testing.assert_allclose(np.bincount(drawn.astype(int), minlength=4) / 1e5, np.bincount(codes[0], minlength=4) / 1e4, atol=0.005)


# --- a function of the row and the histograms alone -----------------------------------------------------------------------------------------------


def test_a_row_is_encoded_alike_whatever_rows_are_beside_it() -> None:
    data = umaze(5000)
    scores, some = own_scores(umaze(1000)), np.random.default_rng(0).permutation(5000)[:100]
    dither = dithered(scores, 5000)
    assert np.array_equal(scores.encode(data.rows(some), dither[some]), scores.encode(data, dither)[some])


def test_the_state_restores_the_same_rows() -> None:
    data = umaze(1000)
    scores = own_scores(data)
    z = encoded(scores, data)
    again = NormalScores.restore(data.schema, scores.state())
    assert again.decode(z).table().tobytes() == scores.decode(z).table().tobytes()


def test_pooled_distributions_are_the_mean_box_on_box_whatever_the_rows() -> None:
    small, big = (replace(maze.dataset(rows, 0, "train"), trajectories=None) for maze, rows in ((UMAZE, 500), (LARGE, 5000)))
    pooled = NormalScores.pooled([own_scores(small), own_scores(big)])
    shares = [[weights / weights.sum() for weights in own_scores(data).columns.weights] for data in (small, big)]
    for found, one, other in zip(pooled.columns.weights, *shares, strict=True):
        np.testing.assert_allclose(found, (one + other) / 2)
    assert pooled.columns.schema == small.schema


SHAPES: Mapping[str, Callable[[NDArray], NDArray]] = {
    "skewed": np.exp,
    "two values": np.sign,
    "narrow": lambda z: 1e-9 * z + 7,
    "a jump": lambda z: np.maximum(z, 0),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_renormalized_scores_keep_their_order_and_are_standard_normal_where_they_are_continuous(shape: str) -> None:
    drawn, z = (SHAPES[shape](np.random.default_rng(seed).normal(size=(20_000, 1))) for seed in (0, 1))
    order = np.argsort(z[:, 0], kind="stable")
    again = renormalized(z, drawn)[:, 0]
    assert (np.diff(again[order]) >= 0).all()
    assert np.isfinite(again).all()
    if len(np.unique(z)) == len(z):
        assert kstest(again, "norm").pvalue > 1e-3


# --- inside the schema ----------------------------------------------------------------------------------------------------------------------------


@EVERY_SCHEMA
@pytest.mark.parametrize("size", [1.0, 1e3, 1e30])
def test_whatever_a_network_says_becomes_a_row_inside_the_schema(schema: Schema, size: float) -> None:
    rng = np.random.default_rng(0)
    scores = own_scores(random_rows(schema, 100, rng))
    assert not faults(scores.decode((size * rng.normal(size=(1000, scores.width))).astype(np.float32)))


@EVERY_SCHEMA
@pytest.mark.parametrize("rows", AWKWARD)
def test_awkward_rows_are_encoded_as_finite_scores_and_come_back_inside(schema: Schema, rows: str) -> None:
    data = AWKWARD[rows](schema)
    scores = own_scores(random_rows(schema, 100, np.random.default_rng(1)))
    z = encoded(scores, data)
    assert z.shape == (len(data), scores.width)
    assert np.isfinite(z).all()
    assert not faults(scores.decode(z))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # an infinite s' less an infinite s
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_row_outside_the_schema_is_a_row_like_any_other(value: float) -> None:
    """A crash, or a score that is no number, would tell of it."""
    data = umaze(100)
    scores = own_scores(data)
    row = Transitions.from_table(data.schema, np.full((1, len(data.schema.columns)), value, np.float32))
    assert np.isfinite(encoded(scores, row)).all()
