"""What the tests of the marginal methods share: rows that fill a schema, codes whose columns depend on each other, noisy tables of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from bench.core.data import Column, Float, Schema, Transitions
from bench.envs.halfcheetah import HALFCHEETAH_MEDIUM_REPLAY
from bench.envs.kitchen import KITCHEN_PARTIAL
from bench.envs.maze2d import MEDIUM
from bench.envs.toy import TOY
from synthesizers._parts.discretize import Codes, Discretization, discretize, histograms, modelled_columns, transitions_from_columns
from synthesizers._parts.marginals import Clique, Measured, Table, count, margin

SCHEMAS: Mapping[str, Schema] = {
    "toy": TOY.schema,
    "maze2d-medium": MEDIUM.schema,
    "kitchen-partial": KITCHEN_PARTIAL.schema,
    "halfcheetah-medium-replay": HALFCHEETAH_MEDIUM_REPLAY.schema,
}

STEPS = 1024
QUICK = settings(derandomize=True, max_examples=60, deadline=None)
EVERY_SCHEMA = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)


def random_rows(schema: Schema, n: int, rng: np.random.Generator) -> Transitions:
    """Rows that fill the schema: uniform in the bounds, any of the levels, s' = s + difference, clipped."""

    def draw(column: Column) -> Float:
        values = rng.uniform(column.low, column.high, n) if column.levels is None else rng.choice(column.levels, n)
        return values.astype(np.float32)

    return transitions_from_columns(schema, [draw(column) for column in modelled_columns(schema)])


def binned(data: Transitions, bins: int, steps: int = STEPS) -> Discretization:
    """The discretisation that an infinite budget gives."""
    return discretize(data.schema, steps, histograms(data, steps).astype(float), 0.0, bins)


def peak(cells: int, rows: float, spread: float, centre: float) -> NDArray[np.float64]:
    """A histogram with the shape of a bell."""
    bell = np.exp(-(((np.arange(cells) - centre) / spread) ** 2) / 2)
    return rows * bell / bell.sum()


def linked_codes(sizes: Sequence[int], n: int, rng: np.random.Generator) -> Codes:
    """Codes (d, n) of skewed columns, each of which follows the one before it in half of the rows."""
    codes = np.array([rng.choice(size, n, p=rng.dirichlet(np.full(size, 0.5))) for size in sizes])
    for j in range(1, len(sizes)):
        codes[j] = np.where(rng.random(n) < 0.5, codes[j - 1] * 7 % sizes[j], codes[j])
    return codes.astype(np.min_scalar_type(max(sizes) - 1))


def random_tree(d: int, rng: np.random.Generator) -> list[Clique]:
    """The edges of a random tree over d columns."""
    return [(int(rng.integers(j)), j) for j in range(1, d)]


def exact_tables(codes: Codes, sizes: Sequence[int], cliques: Sequence[Clique]) -> dict[Clique, Table]:
    """The true table of every clique, as floats."""
    return {clique: count(codes, sizes, clique).astype(float) for clique in cliques}


def exact_one_way(codes: Codes, sizes: Sequence[int]) -> list[Table]:
    """The true histogram of every column."""
    return [count(codes, sizes, (i,)).astype(float) for i in range(len(sizes))]


def with_noise(counts: Table, variance: Table | float, rng: np.random.Generator) -> Measured:
    """Counts under Gaussian noise of a known variance."""
    return Measured(counts + rng.normal(size=counts.shape) * np.sqrt(variance), variance)


def distance(one: Table, other: Table) -> float:
    """L1 between two tables, as a share of the second one's total."""
    return float(np.abs(one - other).sum() / other.sum())


def disagreement(tables: Mapping[Clique, Table]) -> float:
    """The largest normalised L1 between two tables' margins of one column."""
    margins: dict[int, list[NDArray]] = {}
    for clique, table in tables.items():
        for axis, column in enumerate(clique):
            margins.setdefault(column, []).append(margin(table, axis))
    return max(distance(seen, views[0]) for views in margins.values() for seen in views)
