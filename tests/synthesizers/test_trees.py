"""Trees: the heaviest one against scipy's, and rows that follow the tables of a junction tree more closely than chance would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marginal_support import distance, exact_tables, linked_codes
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from synthesizers._parts.discretize import Codes
from synthesizers._parts.marginals import Clique, Table, count
from synthesizers._parts.trees import draw_codes, spanning_tree

ROWS = 20_000


def components(edges: Sequence[Clique], d: int) -> int:
    i, j = np.array(edges).T
    return int(connected_components(coo_array((np.ones(len(edges)), (i, j)), shape=(d, d)))[0])


def linked_tables(sizes: Sequence[int], cliques: Sequence[Clique], seed: int) -> dict[Clique, Table]:
    """Tables of dependent columns that agree, as they come from the same rows."""
    return exact_tables(linked_codes(sizes, 50_000, np.random.default_rng(seed)), sizes, cliques)


def drawn_tables(tables: Mapping[Clique, Table], sizes: Sequence[int], n: int, seed: int) -> dict[Clique, Table]:
    return exact_tables(draw_codes(tables, sizes, n, np.random.default_rng(seed)), sizes, list(tables))


def junction_tree(d: int, widest: int, rng: np.random.Generator) -> list[Clique]:
    """Each column joins one or more columns of a clique before it, up to `widest` together; the columns are named at random."""
    cliques: list[Clique] = [tuple(range(widest))]
    for new in range(widest, d):
        old = cliques[rng.integers(len(cliques))]
        cliques.append((*rng.choice(old, rng.integers(1, min(widest, len(old) + 1)), replace=False).tolist(), new))
    names = rng.permutation(d).tolist()
    return [tuple(sorted(names[i] for i in clique)) for clique in cliques]


# --- spanning trees -------------------------------------------------------------------------------------------------------------------------------


@given(st.integers(2, 12), st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_the_greedy_tree_is_the_heaviest(d: int, seed: int) -> None:
    pairs: list[Clique] = list(combinations(range(d), 2))
    weights = np.random.default_rng(seed).normal(size=len(pairs))
    tree = spanning_tree(pairs, lambda allowed: int(np.argmax(np.where(allowed, weights, -np.inf))))
    i, j = np.array(pairs).T
    lightest = minimum_spanning_tree(coo_array((1 + weights.max() - weights, (i, j)), shape=(d, d))).tocoo()
    assert set(tree) == {(int(a), int(b)) for a, b in zip(*lightest.coords, strict=True)}


@given(st.integers(2, 12), st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_any_picks_make_a_spanning_tree(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs: list[Clique] = list(combinations(range(d), 2))
    tree = spanning_tree(pairs, lambda allowed: int(rng.choice(np.flatnonzero(allowed))))
    assert len(tree) == d - 1
    assert components(tree, d) == 1


# --- rows -----------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("widest", [2, 3, 4])
def test_rows_follow_every_table_far_more_closely_than_independent_draws(widest: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.choice([2, 3, 5, 8], size=8).tolist()
    tables = linked_tables(sizes, junction_tree(8, widest, rng), seed)
    ours, by_chance = [], []
    for clique, drawn in drawn_tables(tables, sizes, ROWS, seed).items():
        mean = tables[clique] * (ROWS / tables[clique].sum())
        ours.append(distance(drawn, mean))
        by_chance.append(distance(rng.multinomial(ROWS, mean.ravel() / ROWS).reshape(mean.shape), mean))
    assert max(ours) < 0.02
    assert np.mean(ours) < np.mean(by_chance) / 3


@pytest.mark.parametrize("n", [1, 10, 1000, ROWS])
def test_counts_of_the_root_clique_are_within_one_of_their_means(n: int) -> None:
    sizes, cliques = (4, 6, 3, 5), [(0, 1, 2), (1, 2, 3)]
    tables = linked_tables(sizes, cliques, seed=0)
    strays = [np.abs(drawn - tables[clique] * (n / tables[clique].sum())).max() for clique, drawn in drawn_tables(tables, sizes, n, seed=0).items()]
    assert min(strays) < 1 + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_given_one_end_of_an_edge_counts_of_the_other_are_within_one_of_their_means(seed: int) -> None:
    """But for one edge, the root, whose cells are drawn together."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([2, 3, 5, 8], size=8).tolist()
    tables = linked_tables(sizes, junction_tree(8, 2, rng), seed)
    followed = 0
    for edge, drawn in drawn_tables(tables, sizes, ROWS, seed).items():
        strays = []
        for there, wanted in ((drawn, tables[edge]), (drawn.T, tables[edge].T)):
            conditional = wanted / np.maximum(wanted.sum(axis=1, keepdims=True), 1)
            strays.append(np.abs(there - there.sum(axis=1, keepdims=True) * conditional).max())
        followed += min(strays) < 1 + 1e-9
    assert followed >= len(tables) - 1


@pytest.mark.parametrize("middle", [0, 1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_a_pair_outside_the_tree_is_the_product_along_its_path(middle: int, seed: int) -> None:
    """Leaves of a star as much as ends of a chain: rows are put in random order before each column."""
    sizes = (4, 5, 6)
    ends = tuple(i for i in range(3) if i != middle)
    tables = linked_tables(sizes, [tuple(sorted((middle, end))) for end in ends], seed)
    codes = draw_codes(tables, sizes, ROWS, np.random.default_rng(seed))
    left, right = (by_middle(tables, end, middle) for end in ends)
    path = left / np.maximum(left.sum(axis=0), 1) @ right.T
    by_chance = np.sqrt(2 / np.pi * path * ROWS / path.sum()).sum() / ROWS
    assert distance(count(codes, sizes, ends).astype(float), path * (ROWS / path.sum())) < 1.5 * by_chance


def by_middle(tables: Mapping[Clique, Table], end: int, middle: int) -> Table:
    """The table of an edge, with the middle column along its second axis."""
    return tables[end, middle] if end < middle else tables[middle, end].T


def test_cliques_that_share_no_column_are_independent() -> None:
    sizes = (4, 3, 5, 4)
    tables = linked_tables(sizes, [(0, 1), (2, 3)], seed=0)
    across = count(draw_codes(tables, sizes, ROWS, np.random.default_rng(0)), sizes, (1, 2)).astype(float)
    product = np.outer(across.sum(axis=1), across.sum(axis=0)) / ROWS
    assert distance(across, product) < 1.5 * np.sqrt(2 / np.pi * product).sum() / ROWS


@pytest.mark.parametrize(("sizes", "dtype"), [((2, 3, 2), np.uint8), ((256, 2, 3), np.uint8), ((2, 300, 3), np.uint16)])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_few_rows_or_none_are_as_many_as_asked_for(sizes: tuple[int, ...], dtype: type, n: int) -> None:
    codes = draw_codes(linked_tables(sizes, [(0, 1), (1, 2)], seed=0), sizes, n, np.random.default_rng(0))
    assert codes.shape == (3, n)
    assert codes.dtype == dtype
    assert (codes < np.array(sizes)[:, None]).all()


def test_what_has_no_weight_is_never_drawn() -> None:
    rng = np.random.default_rng(0)
    sizes, cliques = (6, 7, 5), [(0, 1), (1, 2)]
    codes = linked_codes(sizes, 30, rng)
    tables = exact_tables(codes, sizes, cliques)
    assert sum(int((table == 0).sum()) for table in tables.values()) > 20
    for clique, drawn in drawn_tables(tables, sizes, ROWS, seed=0).items():
        assert not drawn[tables[clique] == 0].any()


@pytest.mark.parametrize("weight", [0.0, 1e-13])
def test_a_group_without_weight_takes_all_outcomes_evenly(weight: float) -> None:
    """Tables that disagree: half of the rows have a value of column 1 that the second table has never seen, or that is lost in its rounding."""
    tables: dict[Clique, Table] = {(0, 1): np.full((2, 2), 50.0), (1, 2): np.array([[3e4, 7e4, 0.0], [weight] * 3])}
    codes = draw_codes(tables, (2, 2, 3), 1000, np.random.default_rng(0))
    assert np.bincount(codes[2, codes[1] == 0], minlength=3) == pytest.approx([150, 350, 0], abs=1)
    assert np.bincount(codes[2, codes[1] == 1], minlength=3) == pytest.approx([500 / 3] * 3, abs=1)


def test_tables_without_any_weight_are_uniform() -> None:
    codes = draw_codes({(0, 1): np.zeros((2, 2)), (1, 2): np.zeros((2, 3))}, (2, 2, 3), 1200, np.random.default_rng(0))
    assert np.bincount(codes[0] * 2 + codes[1]) == pytest.approx([300] * 4, abs=1)
    assert np.bincount(codes[1] * 3 + codes[2]) == pytest.approx([200] * 6, abs=1)


def test_rows_depend_on_the_generator_and_on_no_order_of_the_tables() -> None:
    sizes = (4, 3, 5)
    tables = linked_tables(sizes, [(0, 1), (1, 2)], seed=0)

    def rows(seed: int, given: Mapping[Clique, Table] = tables) -> Codes | NDArray:
        return draw_codes(given, sizes, 500, np.random.default_rng(seed))

    assert np.array_equal(rows(0), rows(0))
    assert np.array_equal(rows(0), rows(0, dict(reversed(tables.items()))))
    assert not np.array_equal(np.sort(rows(0)[0]), rows(0)[0]), "rows come in random order"
    assert not np.array_equal(rows(0), rows(1))
