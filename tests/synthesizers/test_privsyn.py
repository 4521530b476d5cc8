"""PrivSyn: the sensitivity of InDif, the choice of marginals against brute force, and rows that come to satisfy tables no tree can hold."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise, product
from math import pi, prod, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from marginal_support import SCHEMAS, distance, exact_tables, linked_codes, random_rows
from method_support import AWKWARD, draw, fitted, level_codes, level_rows, movements, pairwise_tv, sensitivities, umaze
from numpy.typing import NDArray

from bench.conformance.rows import faults
from bench.core.data import Transitions, concatenate
from bench.core.protocols import Runtime
from synthesizers import privsyn
from synthesizers._parts.discretize import Codes
from synthesizers._parts.marginals import Clique, Table
from synthesizers.independent import Independent
from synthesizers.pgm import PGM
from synthesizers.privsyn import PrivSyn, _Residuals, _update, choose_pairs, combine, independence_difference, shares

# --- InDif ----------------------------------------------------------------------------------------------------------------------------------------


def moved_by(table: NDArray, i: int, j: int) -> float:
    """How far one more row in the cell (i, j) moves InDif."""
    more = table.copy()
    more[i, j] += 1
    return abs(independence_difference(more) - independence_difference(table))


@given(st.data(), arrays.array_shapes(min_dims=2, max_dims=2, max_side=6))
@settings(deadline=None, max_examples=150)
def test_a_row_moves_indif_by_less_than_four(data: st.DataObject, shape: tuple[int, int]) -> None:
    """At most 4 n / (n + 1): sharper than what the method proves, and than what it is charged for."""
    table = data.draw(arrays.arrays(np.int64, shape, elements=st.integers(0, 9) | st.integers(0, 5000)))
    i, j = (data.draw(st.integers(0, side - 1)) for side in shape)
    n = table.sum()
    assert moved_by(table, i, j) <= 4 * n / (n + 1) + 1e-6


@pytest.mark.parametrize("n", [1, 2, 10, 1000, 100_000])
def test_a_row_with_two_new_values_moves_the_indif_of_equal_rows_by_almost_four(n: int) -> None:
    """So no smaller sensitivity than 4 holds for all n."""
    assert moved_by(np.array([[n, 0], [0, 0]]), 1, 1) == pytest.approx(4 * n / (n + 1))


def test_the_worst_of_all_small_tables_is_known() -> None:
    worst = np.zeros(5)
    for cells in product(range(5), repeat=4):
        table = np.array(cells).reshape(2, 2)
        if table.sum() < len(worst):
            worst[table.sum()] = max(worst[table.sum()], *(moved_by(table, i, j) for i, j in product(range(2), repeat=2)))
    assert worst == pytest.approx([4 * n / (n + 1) for n in range(5)])


@given(arrays.arrays(np.int64, (4,), elements=st.integers(0, 20)), arrays.arrays(np.int64, (3,), elements=st.integers(0, 20)))
def test_indif_is_zero_for_independent_columns(rows: NDArray, columns: NDArray) -> None:
    assert independence_difference(np.outer(rows, columns)) == pytest.approx(0, abs=1e-9)


# --- privacy --------------------------------------------------------------------------------------------------------------------------------------


def test_one_row_moves_the_questions_as_far_as_declared() -> None:
    """Rows that are all equal, and one that shares no value with them: every declared sensitivity is attained, InDif's but for 1 / (n + 1)."""
    n, d = 1000, 5
    equal = level_rows(np.zeros((d, n), np.int64), [3] * d)
    stranger = Transitions.from_table(equal.schema, np.array([[0, *range(1, 2), *[2] * (d - 1), 0, 0, 0]], np.float32))
    moved = movements(PrivSyn(), equal, concatenate([equal, stranger]), epsilon=100.0)
    lengths = {name: float(np.linalg.norm(moves[0])) for name, moves in moved.items()}
    declared = sensitivities(PrivSyn(), equal)
    assert lengths == pytest.approx({**declared, "in_dif": n / (n + 1) * declared["in_dif"]})


@pytest.mark.parametrize("epsilon", [1.0, 100.0])
def test_no_row_moves_a_question_further_than_declared(epsilon: float) -> None:
    data, rng = umaze(400), np.random.default_rng(0)
    declared = sensitivities(PrivSyn(), data)
    for _ in range(2):
        for neighbour in (data.without([int(rng.integers(len(data)))]), concatenate([data, random_rows(data.schema, 1, rng)])):
            for name, moves in movements(PrivSyn(), data, neighbour, epsilon).items():
                assert np.linalg.norm(moves[0]) <= declared[name] * (1 + 1e-9)


# --- the choice of pairs --------------------------------------------------------------------------------------------------------------------------


def random_dependence(d: int, rng: np.random.Generator) -> dict[Clique, float]:
    return {pair: float(rng.exponential(1000)) for pair in combinations(range(d), 2)}


def noise_error(cells: Sequence[int], scale: float) -> float:
    """The expected L1 of the noise of tables, each measured with its share."""
    return sum(size * sqrt(2 / pi) * scale / sqrt(share) for size, share in zip(cells, shares(cells), strict=True))


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=8), st.integers(0, 2**32))
def test_shares_are_those_of_the_least_noise(cells: list[int], seed: int) -> None:
    ours, others = np.array(shares(cells)), np.random.default_rng(seed).dirichlet(np.ones(len(cells)), 50)
    assert ours.sum() == pytest.approx(1)
    assert ours / ours[0] == pytest.approx([(size / cells[0]) ** (2 / 3) for size in cells])
    assert (cells / np.sqrt(np.maximum(others, 1e-12))).sum(axis=1).min() >= (cells / np.sqrt(ours)).sum() * (1 - 1e-9)


@given(st.floats(0.1, 100), st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_among_tables_of_one_size_the_greedy_choice_is_the_best(scale: float, seed: int) -> None:
    """Of all sets of pairs it leaves the least noise error + dependence error; pairs beyond it join columns that are in none."""
    d, size = 4, 6
    in_dif = random_dependence(d, np.random.default_rng(seed))

    def error(chosen: Sequence[Clique]) -> float:
        return noise_error([size**2] * len(chosen), scale) + sum(in_dif[pair] for pair in in_dif if pair not in chosen)

    best = min((subset for k in range(len(in_dif) + 1) for subset in combinations(in_dif, k)), key=error)
    chosen = choose_pairs(in_dif, [size] * d, scale, 0.0)
    assert set(chosen[: len(best)]) == set(best)
    assert all(any(all(i not in earlier for earlier in chosen[:k]) for i in chosen[k]) for k in range(len(best), len(chosen)))


def test_the_pair_of_greatest_gain_comes_first() -> None:
    """The most dependent one where noise is small, the one with fewer cells where it is large."""
    sizes = (2, 2, 50)
    in_dif: dict[Clique, float] = {(0, 1): 900.0, (0, 2): 1000.0, (1, 2): 10.0}
    assert choose_pairs(in_dif, sizes, 0.1, 0.0)[0] == (0, 2)
    assert choose_pairs(in_dif, sizes, 10.0, 0.0)[0] == (0, 1)


def test_without_noise_and_threshold_every_pair_is_chosen() -> None:
    in_dif = random_dependence(6, np.random.default_rng(0))
    chosen = choose_pairs(in_dif, [30] * 6, 0.0, 0.0)
    assert chosen == sorted(in_dif, key=lambda pair: -in_dif[pair])


def test_independent_pairs_are_not_worth_their_noise() -> None:
    pairs: list[Clique] = list(combinations(range(6), 2))
    in_dif = dict.fromkeys(pairs, 5.0) | {(0, 1): 5000.0, (2, 3): 4000.0, (4, 5): 3000.0}
    assert choose_pairs(in_dif, [8] * 6, 10.0, 20.0) == [(0, 1), (2, 3), (4, 5)]


@given(st.integers(2, 8), st.integers(0, 2**32))
def test_a_column_left_out_joins_the_one_on_which_it_depends_most(d: int, seed: int) -> None:
    in_dif = random_dependence(d, np.random.default_rng(seed))
    chosen = choose_pairs(in_dif, [10] * d, 1e9, 0.0)
    covered: set[int] = set()
    for pair in chosen:
        newcomers = [i for i in pair if i not in covered]
        assert any(in_dif[pair] == max(in_dif[other] for other in in_dif if i in other) for i in newcomers)
        covered.update(pair)
    assert covered == set(range(d))


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_more_noise_or_a_higher_threshold_drops_pairs_and_adds_none(seed: int) -> None:
    """Among tables of one size. Three pairs are always worth it, so that no column is left out; at the highest noise and threshold no other is."""
    in_dif = random_dependence(6, np.random.default_rng(seed)) | dict.fromkeys([(0, 1), (2, 3), (4, 5)], 1e6)
    by_noise = [choose_pairs(in_dif, [10] * 6, scale, 10.0) for scale in np.geomspace(0.01, 100, 12)]
    by_threshold = [choose_pairs(in_dif, [10] * 6, 0.1, threshold) for threshold in np.geomspace(1, 1e5, 12)]
    for choices in (by_noise, by_threshold):
        assert len(choices[0]) > len(choices[-1]) == 3
        assert all(set(more) >= set(less) for more, less in pairwise(choices))


# --- cliques in place of pairs --------------------------------------------------------------------------------------------------------------------


@given(st.integers(3, 8), st.floats(0.2, 1), st.integers(0, 2000), st.integers(0, 2**32))
@settings(deadline=None)
def test_cliques_replace_their_pairs(d: int, density: float, most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 9, d).tolist()
    chosen = [pair for pair in combinations(range(d), 2) if rng.random() < density] or [(0, 1)]
    cliques = combine(chosen, sizes, most)
    joined = [clique for clique in cliques if len(clique) > 2]
    held = [pair for clique in cliques for pair in combinations(clique, 2)]
    assert set(held) == set(chosen)
    assert all(not set(pair) <= set(clique) for pair in cliques if len(pair) == 2 for clique in joined)
    assert all(prod(sizes[i] for i in clique) <= most for clique in joined)
    assert all(len(set(clique) & set().union(*joined[:k])) <= 2 for k, clique in enumerate(joined))
    assert [len(clique) for clique in joined] == sorted((len(clique) for clique in joined), reverse=True)
    larger = [clique for k in range(3, d + 1) for clique in combinations(range(d), k) if set(combinations(clique, 2)) <= set(chosen)]
    possible = [clique for clique in larger if prod(sizes[i] for i in clique) <= most]
    assert all(len(set(clique) & set().union(*joined)) > 2 for clique in possible), "a clique that fits was left out"
    assert not possible or len(joined[0]) == max(map(len, possible))


def test_with_no_room_the_pairs_stay() -> None:
    chosen = [(1, 2), (0, 1), (0, 2)]
    assert combine(chosen, (2, 2, 2), 0) == chosen
    assert combine(chosen, (2, 2, 2), 7) == chosen
    assert combine(chosen, (2, 2, 2), 8) == [(0, 1, 2)]


# --- the rows -------------------------------------------------------------------------------------------------------------------------------------


def loop(n: int, d: int = 3) -> NDArray[np.int64]:
    """Codes of columns that each repeat a hidden one in seven of ten rows: every pair depends more than a path through a third column would have."""
    rng = np.random.default_rng(0)
    hidden = rng.integers(5, size=n)
    return np.array([np.where(rng.random(n) < 0.7, hidden, rng.integers(5, size=n)) for _ in range(d)])


def total_error(codes: Codes, tables: dict[Clique, Table], sizes: Sequence[int]) -> float:
    """Mean normalised L1 over all tables."""
    drawn = exact_tables(codes, sizes, list(tables))
    return float(np.mean([distance(drawn[clique], wanted * (codes.shape[1] / wanted.sum())) for clique, wanted in tables.items()]))


@pytest.mark.parametrize("combined", [0, 5000])
def test_a_loop_that_no_tree_can_hold_is_reproduced(combined: int) -> None:
    data, sizes = level_rows(loop(10_000), [5] * 3), [5] * 3
    pairs = [(0, 1), (0, 2), (1, 2)]
    exact = exact_tables(level_codes(data), sizes, pairs)
    errors = []
    for proposals in (0, 60):
        sampler = fitted(PrivSyn(combined=combined, proposals=proposals), data, np.inf)
        assert list(sampler.tables) == ([(0, 1, 2)] if combined else pairs)
        drawn = exact_tables(level_codes(draw(sampler, 10_000)), sizes, pairs)
        errors.append(max(distance(drawn[pair], exact[pair]) for pair in pairs))
    start, end = errors
    assert start > 0.2
    assert end < 0.01


def test_a_combined_marginal_holds_what_its_pairs_do_not() -> None:
    """The third column tells whether two others differ, in most rows: every pair is independent, the three are not."""
    rng, n, sizes = np.random.default_rng(0), 10_000, [2, 2, 2]
    left, right = rng.integers(2, size=(2, n))
    data = level_rows(np.array([left, right, np.where(rng.random(n) < 0.8, left ^ right, rng.integers(2, size=n))]), sizes)
    exact = exact_tables(level_codes(data), sizes, [(0, 1, 2)])
    samplers = [fitted(PrivSyn(combined=most, threshold=0.0), data, np.inf) for most in (8, 7)]
    whole, pairs = (total_error(level_codes(draw(sampler, n)), exact, sizes) for sampler in samplers)
    assert whole < 0.01
    assert pairs > 0.7


def test_more_proposals_leave_less_error() -> None:
    sizes = [5] * 6
    data = level_rows(loop(10_000, d=6), sizes)
    errors = []
    for proposals in (0, 1, 4, 16):
        sampler = fitted(PrivSyn(combined=0, threshold=0.0, proposals=proposals), data, np.inf)
        errors.append(total_error(level_codes(draw(sampler, 10_000)), sampler.tables, sizes))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 10


MIXED: Sequence[Clique] = [(0, 1, 2), (1, 3), (2, 3), (0, 4), (3, 4)]
SIZES = (3, 4, 5, 6, 2)


def residuals(n: int, seed: int) -> tuple[Codes, dict[Clique, Table], _Residuals]:
    """Rows of independent columns, to be changed towards tables of dependent ones."""
    rng = np.random.default_rng(seed)
    tables = exact_tables(linked_codes(SIZES, 5000, rng), SIZES, MIXED)
    codes = np.array([rng.integers(size, size=n) for size in SIZES]).astype(np.uint8)
    return codes, tables, _Residuals(tables, codes)


def squared_error(tables: _Residuals) -> float:
    return float((tables.weight * tables.residual**2).sum())


def test_residuals_are_those_of_a_recount_after_many_updates() -> None:
    rng, n = np.random.default_rng(0), 3000
    codes, tables, kept = residuals(n, seed=0)
    before = codes.copy()
    for _ in range(300):
        _update(codes, kept, 256, rng)
    assert (codes != before).mean() > 0.1
    assert kept.residual == pytest.approx(_Residuals(tables, codes).residual, abs=1e-6)
    counted = [(drawn - tables[clique] * (n / tables[clique].sum())).ravel() for clique, drawn in exact_tables(codes, SIZES, MIXED).items()]
    assert kept.residual == pytest.approx(np.concatenate(counted), abs=1e-6)


def test_the_promised_rise_is_that_of_a_row_which_moves_alone() -> None:
    codes, _, kept = residuals(500, seed=1)
    present, offered = codes[:, :50], codes[:, 50:100]
    before, after = kept.cells(present), kept.cells(offered)
    promised, error = kept.rise(before, after), squared_error(kept)
    for k in range(50):
        kept.move(before[:, [k]], after[:, [k]])
        assert squared_error(kept) - error == pytest.approx(promised[k], abs=1e-7)
        kept.move(after[:, [k]], before[:, [k]])


def test_one_change_at_a_time_never_raises_the_error() -> None:
    rng = np.random.default_rng(0)
    codes, _, kept = residuals(300, seed=2)
    errors = [squared_error(kept)]
    for _ in range(500):
        _update(codes, kept, 1, rng)
        errors.append(squared_error(kept))
    assert (np.diff(errors) <= 1e-9).all()
    assert errors[-1] < errors[0] / 2


@pytest.mark.parametrize("n", [1, 7, 255, 256, 1000, 30_000])
def test_offers_grow_with_the_rows_and_with_nothing_else(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    offers: list[int] = []
    progress: list[tuple[int, int]] = []
    monkeypatch.setattr(privsyn, "_update", lambda codes, tables, batch, rng: offers.append(batch))
    sampler = fitted(PrivSyn(proposals=20), umaze(400))
    sampled = sampler.sample(n, np.random.default_rng(0), runtime=Runtime(progress=lambda done, total: progress.append((done, total))))
    assert len(sampled) == n
    assert 20 * n <= sum(offers) < 20 * n + max(offers)
    assert max(offers) <= n
    assert progress[-1] == (len(offers), len(offers))


# --- against the other methods --------------------------------------------------------------------------------------------------------------------


def test_pairs_are_closer_than_those_of_a_tree_and_of_independent_columns() -> None:
    data = umaze(50_000)
    methods: Sequence[Any] = (PrivSyn(proposals=30), PGM(), Independent())
    ours, tree, independent = (pairwise_tv(draw(fitted(method, data), 8000), data) for method in methods)
    assert ours < 0.8 * tree < 0.8 * 0.75 * independent


@pytest.mark.parametrize("name", ["kitchen-partial", "halfcheetah-medium-replay"])
def test_wide_tables_are_sampled_inside_their_schema(name: str) -> None:
    schema = SCHEMAS[name].with_rows(5000)
    sampled = draw(fitted(PrivSyn(), random_rows(schema, 5000, np.random.default_rng(0))), 2000)
    assert len(sampled) == 2000
    assert not faults(sampled)


# --- limits ---------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.01, 100.0])
@pytest.mark.parametrize("rows", AWKWARD)
@pytest.mark.parametrize("method", [PrivSyn(), PrivSyn(bins=2), PrivSyn(combined=0, threshold=0.0)], ids=repr)
def test_awkward_rows_make_rows_inside_the_schema(method: PrivSyn, rows: str, epsilon: float) -> None:
    sampler = fitted(method, AWKWARD[rows](SCHEMAS["toy"].with_rows(1000)), epsilon)
    assert all(np.isfinite(array).all() for array in sampler.state().values())
    for n in (0, 1, 7, 100):
        sampled = draw(sampler, n)
        assert len(sampled) == n
        assert not faults(sampled)


def test_more_bins_than_a_byte_holds() -> None:
    wide = np.random.default_rng(0).integers(300, size=5000)
    sampler = fitted(PrivSyn(bins=300), level_rows(np.array([wide, wide % 3, wide % 2]), [300, 3, 2]), np.inf)
    codes = level_codes(draw(sampler, 5000))
    assert sampler.columns.sizes == (300, 3, 2)
    assert np.array_equal(codes[1:], [codes[0] % 3, codes[0] % 2])
    assert len(np.unique(codes[0])) > 256
