"""Counting against naive oracles; consistency against a generic solver of the same quadratic program."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pytest
from marginal_support import SCHEMAS, disagreement, distance, exact_one_way, exact_tables, linked_codes, random_rows, random_tree, with_noise
from numpy.typing import NDArray
from scipy.optimize import nnls

from bench.core.data import Unit
from bench.core.privacy import Budget, Gaussian, Ledger
from synthesizers._parts.discretize import Codes, discretize, histograms, split_by, varying_grids
from synthesizers._parts.marginals import (
    Clique,
    Measured,
    Table,
    affordable_bins,
    consistent,
    count,
    count_pairs,
    learn_columns,
    margin,
    measure,
    measured_one_way,
    pack,
    unpack,
)

SIZES = (2, 300, 3, 32)
"""Bins of the columns that are counted: 300 do not fit in a byte."""
CHUNK = 1 << 16
"""Rows after which counting starts a new chunk."""
ROWS = 20_000
"""Rows of the larger instances."""


def random_codes(n: int, seed: int = 0) -> Codes:
    return linked_codes(SIZES, n, np.random.default_rng(seed))


def naive(codes: Codes, sizes: Sequence[int], clique: Clique) -> NDArray[np.int64]:
    """One row after another."""
    table = np.zeros([sizes[i] for i in clique], np.int64)
    np.add.at(table, tuple(codes[i] for i in clique), 1)
    return table


# --- counting -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 77])
def test_tables_are_counted_as_one_by_one(n: int) -> None:
    codes = random_codes(n)
    pairs = count_pairs(codes, SIZES)
    assert codes.dtype == np.uint16
    assert list(pairs) == list(combinations(range(4), 2))
    for clique in [*pairs, (1,), (3, 0), (0, 2, 3), (3, 2, 1, 0)]:
        assert (count(codes, SIZES, clique) == naive(codes, SIZES, clique)).all()
    for clique, table in pairs.items():
        assert (table == naive(codes, SIZES, clique)).all()


def test_one_byte_codes_are_counted_beyond_a_byte() -> None:
    """Cells of a table are numbered beyond what the codes themselves can hold."""
    sizes = (256, 90, 7)
    codes = linked_codes(sizes, 3000, np.random.default_rng(0))
    assert codes.dtype == np.uint8
    assert (count(codes, sizes, (0, 1, 2)) == naive(codes, sizes, (0, 1, 2))).all()
    for clique, table in count_pairs(codes, sizes).items():
        assert (table == naive(codes, sizes, clique)).all()


def test_a_row_moves_one_cell_of_every_table_by_one() -> None:
    codes = random_codes(1000)
    more = np.concatenate([codes, random_codes(1, seed=1)], axis=1)
    before, after = count_pairs(codes, SIZES), count_pairs(more, SIZES)
    moved = [after[clique] - before[clique] for clique in before] + [count(more, SIZES, (0, 2, 3)) - count(codes, SIZES, (0, 2, 3))]
    for change in moved:
        assert change[change != 0].tolist() == [1]


def test_permuted_columns_permute_the_tables() -> None:
    codes, order = random_codes(2000), [2, 0, 3, 1]
    straight, permuted = count_pairs(codes, SIZES), count_pairs(codes[order], [SIZES[i] for i in order])
    for (i, j), table in permuted.items():
        a, b = order[i], order[j]
        assert (table == (straight[a, b] if a < b else straight[b, a].T)).all()
    assert (count(codes, SIZES, (3, 1, 2)) == count(codes, SIZES, (1, 2, 3)).transpose(2, 0, 1)).all()


def test_the_margins_of_a_table_are_the_histograms_of_its_columns() -> None:
    codes = random_codes(500)
    table = count(codes, SIZES, (3, 0, 2))
    for axis, column in enumerate((3, 0, 2)):
        assert (margin(table, axis) == np.bincount(codes[column], minlength=SIZES[column])).all()


@pytest.mark.slow
def test_memory_does_not_grow_with_a_second_table() -> None:
    """4,000,000 rows of 12 columns, 192 MB: their histograms, codes and pair tables take less than the rows themselves."""
    data = random_rows(SCHEMAS["maze2d-medium"], 4_000_000, np.random.default_rng(0))
    tracemalloc.start()
    try:
        columns = discretize(data.schema, 1024, histograms(data, 1024).astype(float), 0.0, 32)
        pairs = count_pairs(columns.encode(data), columns.sizes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(pairs) == 55
    assert peak < 4 * 12 * len(data)


# --- measuring ----------------------------------------------------------------------------------------------------------------------------------


class Heard:
    """An answer that keeps the question and adds no noise."""

    scale = 3.0
    question: NDArray[np.float64]

    def __call__(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        self.question = value
        return value


def test_a_row_moves_the_measured_vector_by_exactly_one() -> None:
    codes = random_codes(500)
    more = np.concatenate([codes, random_codes(1, seed=1)], axis=1)
    cliques, shares = [(0, 1), (2, 3), (0, 2, 3)], [0.2, 0.5, 0.3]
    asked = []
    for rows in (codes, more):
        heard = Heard()
        measure(heard, {clique: count(rows, SIZES, clique) for clique in cliques}, shares)  # type: ignore[arg-type]
        asked.append(heard.question)
    assert np.linalg.norm(asked[1] - asked[0]) == pytest.approx(1)


def test_measured_tables_are_unbiased_with_the_stated_variance() -> None:
    codes, shares = random_codes(500), {(0, 1): 0.1, (2, 3): 0.6, (0, 2, 3): 0.3}
    exact = {clique: count(codes, SIZES, clique) for clique in shares}
    plan = Ledger(Budget(1.0, 1e-6, Unit.TRANSITION), 500, np.random.default_rng(0)).plan(tables=Gaussian(l2=1.0, weight=1.0))
    measured = measure(plan.tables, exact, list(shares.values()))
    for clique, share in shares.items():
        noise = (measured[clique].counts - exact[clique]) / np.sqrt(measured[clique].variance)
        assert measured[clique].variance == pytest.approx(plan.tables.scale**2 / share)
        assert abs(noise.mean()) < 4 / noise.size**0.5
        assert noise.var() == pytest.approx(1, abs=4 * (2 / noise.size) ** 0.5)


def test_pooled_histograms_have_the_counts_and_the_noise_of_their_cells() -> None:
    rng = np.random.default_rng(0)
    data = random_rows(SCHEMAS["maze2d-medium"], 500, rng)
    exact = histograms(data, 64).astype(float)
    columns = discretize(data.schema, 64, exact, 0.0, 8)
    codes = columns.encode(data)
    trials = [measured_one_way(columns, exact + rng.normal(0, 2.0, len(exact)), 2.0) for _ in range(500)]
    for i, histogram in enumerate(exact_one_way(codes, columns.sizes)):
        noise = np.array([trial[i].counts for trial in trials]) - histogram
        assert np.abs(noise.mean(axis=0) / noise.std(axis=0)).max() < 5 / 500**0.5
        assert noise.var(axis=0) / trials[0][i].variance == pytest.approx(1, abs=5 * (2 / 500) ** 0.5)


def test_the_cells_follow_public_numbers_and_not_the_rows() -> None:
    """A fit on ten rows and one on a thousand have the same grids; a smaller budget has coarser ones."""
    schema = SCHEMAS["toy"]
    d = len(varying_grids(schema, 2))

    def steps(rows: int, epsilon: float) -> int:
        rng = np.random.default_rng(rows)
        plan = Ledger(Budget(epsilon, 1e-6, Unit.TRANSITION), rows, rng).plan(one_way=Gaussian(l2=d**0.5, weight=1.0))
        columns, one_way = learn_columns(random_rows(schema, rows, rng), plan.one_way, cells=1024, bins=8)
        assert [len(seen.counts) for seen in one_way] == list(columns.sizes)
        assert max(columns.sizes) <= 8
        return columns.grids[0].steps

    assert steps(10, 1.0) == steps(1000, 1.0) < steps(1000, 10.0) <= 1024


@pytest.mark.parametrize("noise", [1.0, 20.0])
def test_the_noise_of_an_affordable_table_adds_up_to_a_fifth_of_the_rows(noise: float) -> None:
    """Between two bins and the most."""
    bins, rng = affordable_bins(1000, noise, ROWS), np.random.default_rng(0)
    fits, exceeds = (np.abs(rng.normal(0, noise, (k, k))).sum() / ROWS for k in (bins, bins + 2))
    assert fits < 0.21
    assert exceeds > 0.19
    assert affordable_bins(32, 0.0, ROWS) == 32
    assert affordable_bins(32, 1e9, ROWS) == 2


def test_packed_tables_come_back_beside_other_arrays() -> None:
    rng = np.random.default_rng(0)
    tables = {(0, 10): rng.random((2, 3)), (2, 11, 30): rng.random((2, 3, 4)), (0, 2): rng.random((5, 1))}
    again = unpack({"cells": np.zeros(3), **pack(tables)})
    assert sorted(again) == sorted(tables)
    for clique, table in tables.items():
        assert (again[clique] == table).all()


# --- consistency against a generic solver -----------------------------------------------------------------------------------------------------------

SHAPES: Mapping[str, list[Clique]] = {
    "one pair": [(0, 1)],
    "tree": [(0, 1), (1, 2)],
    "cycle": [(0, 1), (1, 2), (0, 2)],
    "triple and pair": [(0, 1, 2), (0, 1)],
    "columns in any order": [(2, 0), (2, 1), (1, 0, 2)],
}
TOTAL = 100.0


def noisy_instance(cliques: Sequence[Clique], sizes: Sequence[int], rng: np.random.Generator) -> tuple[list[Measured], dict[Clique, Measured]]:
    """One-way histograms with a variance for each bin, and tables with one each; noise of the size of the counts, so the sign matters."""
    codes = linked_codes(sizes, int(TOTAL), rng)
    one_way = [with_noise(counts, rng.uniform(50, 2000, counts.shape), rng) for counts in exact_one_way(codes, sizes)]
    return one_way, {clique: with_noise(counts, rng.uniform(50, 2000), rng) for clique, counts in exact_tables(codes, sizes, cliques).items()}


def objective(one_way: Sequence[Measured], tables: Mapping[Clique, Measured], estimate: Mapping[Clique, Table]) -> float:
    """Squared distance to all that was measured, by inverse variance; a column's histogram is that of any table that holds it."""
    fit = sum(float(((estimate[clique] - seen.counts) ** 2 / seen.variance).sum()) for clique, seen in tables.items())
    for i, seen in enumerate(one_way):
        holder = next((clique for clique in estimate if i in clique), None)
        if holder is not None:
            fit += float(((margin(estimate[holder], holder.index(i)) - seen.counts) ** 2 / seen.variance).sum())
    return fit


def equations(places: Mapping[Clique, NDArray[np.int64]], total: float) -> Iterator[tuple[NDArray[np.float64], float]]:
    """(row, value): every block sums to the total, and every margin of a table is the histogram of its column. `places` numbers all cells."""
    unknowns = sum(place.size for place in places.values())
    for clique, place in places.items():
        row = np.zeros(unknowns)
        row[place] = 1
        yield row, total
        for axis, i in enumerate(clique if len(clique) > 1 else ()):
            for value, cell in enumerate(places[i,]):
                row = np.zeros(unknowns)
                row[place.take(value, axis)], row[cell] = 1, -1
                yield row, 0.0


def solved(one_way: Sequence[Measured], tables: Mapping[Clique, Measured], total: float) -> dict[Clique, Table]:
    """The same quadratic program as non-negative least squares (Lawson and Hanson), its equations weighted so heavily that they hold."""
    blocks: dict[Clique, Measured] = {**{(i,): seen for i, seen in enumerate(one_way)}, **tables}
    sizes = [seen.counts.size for seen in blocks.values()]
    numbers = split_by(sizes, np.arange(sum(sizes)))
    places = {clique: number.reshape(seen.counts.shape) for (clique, seen), number in zip(blocks.items(), numbers, strict=True)}
    rows, sums = map(np.array, zip(*equations(places, total), strict=True))
    weights = np.concatenate([np.broadcast_to(np.asarray(seen.variance) ** -0.5, seen.counts.shape).ravel() for seen in blocks.values()])
    noisy = np.concatenate([seen.counts.ravel() for seen in blocks.values()])
    heavy = 1e5 * weights.max()
    cells, _ = nnls(np.vstack([np.diag(weights), heavy * rows]), np.concatenate([weights * noisy, heavy * sums]))
    assert rows @ cells == pytest.approx(sums, abs=1e-6 * total)
    return {clique: cells[places[clique]] for clique in tables}


@pytest.mark.parametrize("cliques", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("seed", range(5))
def test_consistent_tables_are_the_optimum_of_the_quadratic_program(cliques: list[Clique], seed: int) -> None:
    rng = np.random.default_rng(seed)
    one_way, tables = noisy_instance(cliques, rng.integers(2, 4, 3).tolist(), rng)
    ours, theirs = consistent(one_way, tables, TOTAL), solved(one_way, tables, TOTAL)
    assert objective(one_way, tables, ours) == pytest.approx(objective(one_way, tables, theirs), rel=1e-6)
    assert max(distance(ours[clique], theirs[clique]) for clique in cliques) < 1e-6


def test_the_sign_matters_in_those_instances() -> None:
    """Most tables of the optimum have empty cells, so that the program above is not a linear one in disguise."""
    empty = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        estimate = consistent(*noisy_instance(SHAPES["cycle"], (3, 3, 3), rng), TOTAL)
        empty += sum((table == 0).any() for table in estimate.values())
    assert empty > 10


# --- consistency, larger --------------------------------------------------------------------------------------------------------------------------

MIXED: list[Clique] = [(0, 1, 2), (2, 3), (3, 4, 5), (1, 5), (5, 0), (6, 4)]
"""Pairs and triples with loops, over eight columns; column 7 is in none."""
MIXED_SIZES = (2, 9, 5, 32, 3, 7, 32, 4)


def larger_instance(
    noise: float, seed: int, cliques: Sequence[Clique] = MIXED, sizes: Sequence[int] = MIXED_SIZES
) -> tuple[list[Measured], dict[Clique, Measured], dict[Clique, Table]]:
    """(one-way, tables, the truth): the tables' noise has `noise` as its standard deviation, give or take a factor of 3."""
    rng = np.random.default_rng(seed)
    codes = linked_codes(sizes, ROWS, rng)
    exact = exact_tables(codes, sizes, cliques)
    one_way = [with_noise(counts, noise**2 * rng.uniform(1, 50, counts.shape), rng) for counts in exact_one_way(codes, sizes)]
    tables = {clique: with_noise(counts, (noise * 3 ** rng.uniform(-1, 1)) ** 2, rng) for clique, counts in exact.items()}
    return one_way, tables, exact


@pytest.mark.parametrize("noise", [0.0, 1e-3, 10.0, 300.0])
@pytest.mark.parametrize("cliques", [MIXED, list(combinations(range(8), 2))], ids=["mixed", "all pairs"])
def test_tables_are_non_negative_sum_to_the_total_and_agree(noise: float, cliques: list[Clique]) -> None:
    one_way, tables, _ = larger_instance(noise, 0, cliques)
    estimate = consistent(one_way, tables, ROWS)
    assert estimate.keys() == tables.keys()
    for clique, table in estimate.items():
        assert table.shape == tables[clique].counts.shape
        assert table.min() >= 0
        assert table.sum() == pytest.approx(ROWS, rel=1e-6)
    assert disagreement(estimate) < 1e-6


@pytest.mark.parametrize("variance", [0.0, 25.0])
def test_tables_that_agree_already_are_returned_unchanged(variance: float) -> None:
    """Whatever their noise is said to be; zero is an infinite budget."""
    one_way, _, exact = larger_instance(0.0, 0)
    estimate = consistent([Measured(seen.counts, variance) for seen in one_way], {c: Measured(t, variance) for c, t in exact.items()}, ROWS)
    for clique, table in exact.items():
        assert distance(estimate[clique], table) < 1e-9


@pytest.mark.parametrize("noise", [3.0, 30.0, 300.0])
@pytest.mark.parametrize("seed", range(4))
def test_consistent_tables_of_a_tree_are_closer_to_the_truth_than_noisy_ones(noise: float, seed: int) -> None:
    one_way, tables, exact = larger_instance(noise, seed, random_tree(8, np.random.default_rng(seed)))
    estimate = consistent(one_way, tables, ROWS)
    before = [distance(tables[clique].counts, table) for clique, table in exact.items()]
    after = [distance(estimate[clique], table) for clique, table in exact.items()]
    assert sum(after) < 0.95 * sum(before)


def test_what_is_measured_exactly_decides() -> None:
    """An exact table stays, and so do the margins that other tables share with it."""
    one_way, tables, exact = larger_instance(30.0, 0)
    tables[0, 1, 2] = Measured(exact[0, 1, 2], 0.0)
    estimate = consistent(one_way, tables, ROWS)
    assert distance(estimate[0, 1, 2], exact[0, 1, 2]) < 1e-4
    assert np.abs(margin(estimate[2, 3], 0) - margin(exact[0, 1, 2], 2)).sum() < 1e-4 * ROWS


def test_the_order_of_columns_and_of_tables_does_not_matter() -> None:
    one_way, tables, _ = larger_instance(30.0, 0)
    order = np.random.default_rng(1).permutation(len(one_way))
    place = {int(old): new for new, old in enumerate(order)}
    renamed = {tuple(place[i] for i in clique): seen for clique, seen in reversed(tables.items())}
    estimate = consistent(one_way, tables, ROWS)
    permuted = consistent([one_way[old] for old in order], renamed, ROWS)
    for clique, table in estimate.items():
        assert distance(permuted[tuple(place[i] for i in clique)], table) < 1e-9


def test_the_order_of_axes_does_not_matter() -> None:
    one_way, tables, _ = larger_instance(30.0, 0)
    turned = {clique[::-1]: Measured(seen.counts.T, seen.variance) for clique, seen in tables.items()}
    estimate, again = consistent(one_way, tables, ROWS), consistent(one_way, turned, ROWS)
    for clique, table in estimate.items():
        assert distance(again[clique[::-1]].T, table) < 1e-9


def test_the_unit_of_the_counts_does_not_matter() -> None:
    one_way, tables, _ = larger_instance(30.0, 0)

    def scaled(seen: Measured) -> Measured:
        return Measured(8 * seen.counts, 64 * seen.variance)

    estimate = consistent(one_way, tables, ROWS)
    again = consistent([scaled(seen) for seen in one_way], {clique: scaled(seen) for clique, seen in tables.items()}, 8 * ROWS)
    for clique, table in estimate.items():
        assert distance(again[clique], 8 * table) < 1e-9


def test_a_column_in_no_table_changes_no_table() -> None:
    one_way, tables, _ = larger_instance(30.0, 0)
    with_it, without = (consistent(seen, tables, ROWS) for seen in (one_way, one_way[:7]))
    for clique, table in with_it.items():
        assert distance(without[clique], table) < 1e-6


def test_two_parts_without_a_common_column_do_not_see_each_other() -> None:
    one_way, tables, _ = larger_instance(30.0, 0, [(0, 1), (1, 2), (3, 4), (4, 5)])
    together = consistent(one_way, tables, ROWS)
    alone = consistent(one_way, {clique: tables[clique] for clique in ((3, 4), (4, 5))}, ROWS)
    for clique, table in alone.items():
        assert distance(together[clique], table) < 1e-6
