"""Lengths: a trajectory counts once, in one cell; without noise the shares are the true ones; releases have these lengths, and no more rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from window_support import ENDING, EVERY_SCHEMA, SCHEMAS, TRAJECTORIES, walks

from bench.conformance.rows import extreme_unit
from bench.core.data import Schema, Transitions, Unit, concatenate
from bench.core.privacy import Budget, Gaussian, Ledger, default_delta
from synthesizers._parts.lengths import Shares, draw_lengths, exact_lengths, learn_lengths, within

LONGEST = ENDING.max_trajectory_length

# --- trajectories of given lengths ----------------------------------------------------------------------------------------------------------------


def trajectories(lengths: Sequence[int] | NDArray, terminal: Sequence[bool] | NDArray | None = None, schema: Schema = ENDING) -> Transitions:
    """Trajectories of no content that end in a timeout, or in a terminal where told so."""
    ends = np.cumsum(lengths)
    told = np.zeros(len(ends), bool) if terminal is None else np.asarray(terminal)
    rows = Transitions.from_table(schema, np.zeros((ends[-1], len(schema.columns)), np.float32), trajectories=np.append(0, ends))
    rows.terminals[ends - 1], rows.timeouts[ends - 1] = told, ~told
    return rows


@dataclass
class Exact:
    """Answers with the truth, and keeps what was asked."""

    scale: float = 0.0
    asked: list[NDArray] = field(default_factory=list)

    def __call__(self, histogram: NDArray) -> NDArray[np.float64]:
        self.asked.append(np.array(histogram))
        return np.asarray(histogram, np.float64)


def learned(data: Transitions, answer: Exact | None = None) -> Shares:
    return learn_lengths(data, answer or Exact())  # type: ignore[arg-type]


def question(data: Transitions, scale: float = 0.0) -> NDArray:
    """What the Ledger is asked when its noise has this standard deviation."""
    answer = Exact(scale)
    learned(data, answer)
    (asked,) = answer.asked
    return asked


# --- the question ---------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, 2.0, 1e3])
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("length", [1, 4, LONGEST])
def test_a_trajectory_adds_one_to_one_cell_however_long_it_is(length: int, terminal: bool, scale: float) -> None:
    data = trajectories([3, 3, 9, 1], [True, False, False, True])
    added = question(concatenate([data, trajectories([length], [terminal])]), scale) - question(data, scale)
    assert sorted(added) == [0] * (len(added) - 1) + [1]


@pytest.mark.parametrize("scale", [0.0, 2.0, 1e3])
@EVERY_SCHEMA
def test_the_size_of_the_question_is_public(name: str, scale: float) -> None:
    """Rows outside the declared schema do not change it either: longer than can be, or with an end that cannot be."""
    data, schema = walks(name).data, SCHEMAS[name]
    too_long = trajectories([schema.max_trajectory_length + 5], schema=schema)
    unknown_end = trajectories([2], [True], schema=schema)
    sizes = {question(rows, scale).shape for rows in (data, data.joined(np.array([0])), too_long, unknown_end)}
    assert len(sizes) == 1
    for extra in (too_long, unknown_end):
        added = question(concatenate([data, extra]), scale) - question(data, scale)
        assert sorted(added) == [0] * (len(added) - 1) + [1]


def test_no_trajectory_at_all_is_a_histogram_of_zeros() -> None:
    nothing = replace(Transitions.empty(ENDING), trajectories=np.zeros(1, np.int64))
    assert not question(nothing).any()


def test_more_noise_pools_lengths_into_fewer_cells_and_no_more_than_there_are() -> None:
    schema = replace(ENDING, max_trajectory_length=200, nominal_trajectories=200)
    data = trajectories([7, 200], schema=schema)
    sizes = [len(question(data, scale)) // 2 for scale in (0.0, 1.0, 4.0, 1e6)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 200
    assert 1 < sizes[-1] < sizes[1] < 200


# --- the answer -----------------------------------------------------------------------------------------------------------------------------------


@EVERY_SCHEMA
def test_without_noise_the_shares_are_the_true_ones(name: str) -> None:
    w, longest = walks(name), SCHEMAS[name].max_trajectory_length
    terminal = w.data.terminals[w.data.require_trajectories()[1:] - 1]
    counts = [np.bincount(w.lengths[terminal == kind], minlength=longest + 1)[1:] for kind in (False, True)]
    found = learned(w.data)
    assert np.allclose(found, exact_lengths(w.data))
    assert found.shape == (1 + (name == "terminals"), longest)
    assert np.allclose(found, np.array(counts[: len(found)]) / TRAJECTORIES)


@pytest.mark.parametrize("cells", [16, 50, 199])
def test_lengths_of_one_cell_are_alike_and_each_has_its_part_of_the_mass(cells: int) -> None:
    schema = replace(ENDING, max_trajectory_length=200, nominal_trajectories=400)
    data = trajectories([3] * 100 + [190] * 300, [False] * 100 + [True] * 300, schema)
    answer = Exact(scale=400 / (2 * cells + 1))
    found = learned(data, answer)
    assert len(answer.asked[0]) == 2 * cells
    for end, length, share in ((0, 3, 0.25), (1, 190, 0.75)):
        (pooled,) = np.nonzero(found[end])
        assert found[end].sum() == pytest.approx(share)
        assert length - 1 in pooled
        assert len(pooled) in (200 // cells, -(-200 // cells))
        assert np.ptp(pooled) == len(pooled) - 1
        assert np.ptp(found[end][pooled]) < 1e-12


def noisily(epsilon: float, count: int, longest: int, seed: int, weight: float = 0.05) -> tuple[Shares, Schema]:
    """What is learned of a third of short trajectories and two thirds of the longest ones, for a small part of a budget."""
    schema = replace(ENDING, max_trajectory_length=longest, nominal_trajectories=count)
    lengths = np.where(np.arange(count) % 3, longest, 2)
    budget = Budget(epsilon, default_delta(count), Unit.TRAJECTORY)
    plan = Ledger(budget, count, np.random.default_rng(seed), "rdp").plan(
        lengths=Gaussian(l2=1.0, weight=weight), rest=Gaussian(l2=1.0, weight=1 - weight)
    )
    return learn_lengths(trajectories(lengths, schema=schema), plan.lengths), schema


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("epsilon", "count", "longest"), [(1.0, 202, 1000), (1.0, 1, 5), (0.01, 100, 20), (10.0, 6260, 600)])
def test_under_any_noise_the_shares_are_a_distribution_from_which_lengths_are_drawn(epsilon: float, count: int, longest: int, seed: int) -> None:
    found, schema = noisily(epsilon, count, longest, seed)
    assert found.shape == (2, schema.max_trajectory_length)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    lengths, _ = draw_lengths(found, 5000, np.random.default_rng(seed))
    assert lengths.min() >= 1
    assert lengths.max() <= longest


def test_the_shares_come_nearer_to_the_truth_with_the_budget() -> None:
    errors = []
    for epsilon in (0.1, 1.0, 10.0, np.inf):
        found, _ = noisily(epsilon, 2000, 20, seed=0)
        truth = np.zeros_like(found)
        truth[0, [1, -1]] = 1 / 3, 2 / 3
        errors.append(np.abs(found - truth).sum())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 10 * errors[2]
    assert errors[-1] < 1e-3


# --- under another maximum ------------------------------------------------------------------------------------------------------------------------


def test_what_is_too_long_counts_as_the_longest_and_nothing_is_lost() -> None:
    shares = np.array([[0.1, 0.2, 0.0, 0.3], [0.05, 0.05, 0.3, 0.0]])
    assert within(shares, 4).tolist() == shares.tolist()
    assert within(shares, 6).tolist() == [[*row, 0.0, 0.0] for row in shares.tolist()]
    np.testing.assert_allclose(within(shares, 2), [[0.1, 0.5], [0.05, 0.35]])
    np.testing.assert_allclose(within(shares, 1), [[0.6], [0.4]])


# --- draws ----------------------------------------------------------------------------------------------------------------------------------------

SHARES = np.array([[0.1, 0.0, 0.4, 0.0, 0.0], [0.0, 0.2, 0.0, 0.0, 0.3]])


@pytest.mark.parametrize("rows", [0, 1, 2, 17, 1000, 4321])
@pytest.mark.parametrize("seed", range(3))
def test_the_fewest_trajectories_that_hold_the_rows_are_drawn(rows: int, seed: int) -> None:
    lengths, terminal = draw_lengths(SHARES, rows, np.random.default_rng(seed))
    assert len(lengths) == len(terminal)
    assert lengths.sum() >= rows
    assert lengths[:-1].sum() < rows or not rows


def test_lengths_and_ends_are_drawn_with_their_shares() -> None:
    lengths, terminal = draw_lengths(SHARES, 100_000, np.random.default_rng(0))
    drawn = np.array([np.bincount(lengths[terminal == kind], minlength=6)[1:] for kind in (False, True)])
    spread = np.sqrt(SHARES * (1 - SHARES) * len(lengths))
    assert (np.abs(drawn - SHARES * len(lengths)) <= 4 * spread).all()


def test_no_trajectory_ends_in_a_terminal_where_the_schema_has_none() -> None:
    _, terminal = draw_lengths(learned(walks("toy").data), 1000, np.random.default_rng(0))
    assert not terminal.any()


def test_draws_repeat_themselves_and_another_seed_differs() -> None:
    once, again, other = (draw_lengths(SHARES, 500, np.random.default_rng(seed))[0].tolist() for seed in (0, 0, 1))
    assert once == again != other


def test_the_longest_unit_of_the_conformance_checks_is_counted_as_the_longest() -> None:
    """And with its terminal: the top corner of the box."""
    found = exact_lengths(extreme_unit(ENDING, Unit.TRAJECTORY, top=True))
    assert np.argwhere(found).tolist() == [[1, LONGEST - 1]]
