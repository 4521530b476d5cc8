"""The tables of a tree against private-pgm's own: McKenna, Sheldon and Miklau (2019), as the authors publish it (`mbi`)."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from marginal_support import distance, exact_one_way, exact_tables, linked_codes, random_tree, with_noise

from synthesizers._parts.marginals import consistent

ROWS = 20_000
ITERATIONS = 300_000
"""Mirror descent is slow to empty a cell: by then the tables differ by 1e-4 at most."""


@pytest.fixture(scope="module")
def mbi() -> Iterator[ModuleType]:
    """`mbi` in double precision, which is a setting of the whole process."""
    jax = pytest.importorskip("jax")
    settings = {"jax_enable_x64": True, "jax_enable_compilation_cache": False}
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield pytest.importorskip("mbi")
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("noise", [10.0, 60.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_tables_of_a_tree_are_those_of_private_pgm(mbi: ModuleType, seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.choice([2, 3, 8, 20, 32], size=rng.integers(6, 9)).tolist()
    tree = random_tree(len(sizes), rng)
    codes = linked_codes(sizes, ROWS, rng)
    one_way = [with_noise(counts, (noise * rng.uniform(0.5, 3)) ** 2, rng) for counts in exact_one_way(codes, sizes)]
    tables = {edge: with_noise(counts, (noise * rng.uniform(0.5, 3)) ** 2, rng) for edge, counts in exact_tables(codes, sizes, tree).items()}
    seen = [*(((i,), measured) for i, measured in enumerate(one_way)), *tables.items()]
    measurements = [mbi.LinearMeasurement(measured.counts.ravel(), clique, stddev=measured.variance**0.5) for clique, measured in seen]
    domain = mbi.Domain(range(len(sizes)), sizes)
    model = mbi.estimation.MirrorDescent().estimate(domain, measurements, known_total=float(ROWS), iters=ITERATIONS)
    estimate = consistent(one_way, tables, ROWS)
    for edge in tree:
        assert distance(estimate[edge], np.asarray(model.project(edge).values)) < 1e-3
