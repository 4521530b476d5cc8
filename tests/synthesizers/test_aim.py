"""AIM: cycles that no tree can hold, tables that agree, sensitivities as declared, and a model that keeps its size."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.core.data import Unit
from bench.core.errors import InputError
from bench.core.privacy import Budget, Gaussian, GaussianAnswers, Ledger, RecordingLedger, ReplayLedger
from bench.core.protocols import Runtime
from synthesizers._parts import aim
from synthesizers._parts.discretize import noisy_total, split_by
from synthesizers._parts.marginals import Clique, Measured, Table, count, count_pairs, margin

pytestmark = pytest.mark.skipif(find_spec("mbi") is None, reason="mbi comes with the extra 'pgm'")

SELECTIONS = ("gaussian", "exponential")
RING = (4, 3, 4, 3)


def _ring(rows: int, sizes: Sequence[int] = RING, seed: int = 0) -> NDArray[np.int64]:
    """Codes of columns that follow each other around, each close to the one before, and the last close to the first in half of the rows."""
    rng = np.random.default_rng(seed)
    codes = [rng.integers(sizes[0], size=rows)]
    for size in sizes[1:]:
        codes.append(np.where(rng.random(rows) < 0.7, codes[-1], rng.integers(size, size=rows)) % size)
    codes[-1] = np.where(rng.random(rows) < 0.5, codes[0], codes[-1]) % sizes[-1]
    return np.array(codes)


def _budget(epsilon: float) -> Budget:
    return Budget(epsilon, 1e-6, Unit.TRANSITION)


def _ledger(epsilon: float, seed: int = 0) -> Ledger:
    return Ledger(_budget(epsilon), 1000, np.random.default_rng(seed))


def _fit(codes: NDArray, ledger: Ledger, rounds: int, sizes: Sequence[int] = RING, select: Any = "gaussian") -> tuple[dict[Clique, Table], float]:
    """The tables, and the total that they are to sum to."""
    plan = ledger.plan(**aim.aim_requests(len(sizes), rounds, select))
    noisy = split_by(sizes, plan.one_way(np.concatenate([count(codes, sizes, (i,)) for i in range(len(sizes))])))
    one_way = [Measured(counts, plan.one_way.scale**2) for counts in noisy]
    total = noisy_total(noisy, [plan.one_way.scale**2] * len(sizes))
    return aim.adaptive_tables(count_pairs(codes, sizes), plan, one_way, total, rounds, select, Runtime()), total


def _projected(tables: dict[Clique, Table], pair: Clique) -> Table:
    clique = next(clique for clique in tables if set(pair) <= set(clique))
    return tables[clique].sum(axis=tuple(axis for axis, i in enumerate(clique) if i not in pair))


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize(("columns", "rounds"), [(3, 1), (11, 16)])
def test_the_plan_spends_the_budget_on_public_constants(select: Any, columns: int, rounds: int) -> None:
    requests = aim.aim_requests(columns, rounds, select)
    assert sum(request.weight for request in requests.values()) == pytest.approx(1)
    assert requests["one_way"] == Gaussian(l2=math.sqrt(columns), weight=0.1)
    assert requests["tables"] == Gaussian(l2=1.0, count=rounds, weight=0.81)
    if select == "gaussian":
        assert requests["scores"] == Gaussian(l2=math.sqrt(math.comb(columns, 2)), count=rounds, weight=0.09)


@pytest.mark.parametrize("select", SELECTIONS)
def test_a_triangle_that_no_tree_can_hold_is_reproduced(select: Any) -> None:
    sizes = (3, 3, 3)
    codes = _ring(2000, sizes)
    pairs = count_pairs(codes, sizes)
    tables, _ = _fit(codes, _ledger(math.inf), 3, sizes, select)
    assert max(np.abs(_projected(tables, pair) - exact).sum() for pair, exact in pairs.items()) < 0.01 * 2000
    for i, j, middle in [(0, 1, 2), (0, 2, 1), (1, 2, 0)]:
        left, right = (count(codes, sizes, (k, middle)) for k in (i, j))
        by_tree = left / left.sum(axis=0) @ right.T
        assert np.abs(by_tree - pairs[i, j]).sum() > 0.05 * 2000


@pytest.mark.parametrize("epsilon", [0.01, 5.0])
def test_tables_cover_all_columns_and_agree(epsilon: float) -> None:
    tables, total = _fit(_ring(500), _ledger(epsilon), 2)
    assert set().union(*tables) == set(range(len(RING)))
    for clique, table in tables.items():
        assert table.shape == tuple(RING[i] for i in clique)
        assert table.dtype == np.float64
        assert table.min() >= 0
        assert table.sum() == pytest.approx(total)
    for first, second in combinations(tables, 2):
        for i in set(first) & set(second):
            np.testing.assert_allclose(margin(tables[first], first.index(i)), margin(tables[second], second.index(i)), atol=1e-6 * total)


def test_a_row_moves_answers_by_no_more_than_declared_and_the_model_by_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[NDArray] = []
    answer = GaussianAnswers.__call__
    monkeypatch.setattr(GaussianAnswers, "__call__", lambda self, value: asked.append(np.array(value, float)) or answer(self, value))
    codes, rounds = _ring(300), 3
    ledger = RecordingLedger(_budget(2.0), 300, np.random.default_rng(3))
    with_row, _ = _fit(codes, ledger, rounds)
    told, asked[:] = list(asked), []
    without_row, _ = _fit(codes[:, 1:], ReplayLedger(_budget(2.0), ledger.tape), rounds)
    assert len(told) == len(asked) == 1 + 2 * rounds
    moved = [first - second for first, second in zip(told, asked, strict=True)]
    assert all(np.abs(scores).max() <= 1 + 1e-9 for scores in moved[1::2])
    assert any(np.abs(scores).max() > 0 for scores in moved[1::2])
    assert all(len(scores) == math.comb(len(RING), 2) for scores in told[1::2])
    assert all(np.linalg.norm(table) <= 1 + 1e-9 for table in moved[2::2])
    assert with_row.keys() == without_row.keys()
    assert all(with_row[clique].tobytes() == without_row[clique].tobytes() for clique in with_row)


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize(("most_cells", "measured"), [(20, 0), (40, 3)], ids=["histograms", "tree"])
def test_the_model_keeps_its_size_and_ends_early(select: Any, most_cells: int, measured: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aim, "_MOST_CELLS", most_cells)
    ledger = RecordingLedger(_budget(math.inf), 500, np.random.default_rng(0))
    tables, _ = _fit(_ring(500), ledger, 6, select=select)
    assert sum(table.size for table in tables.values()) <= most_cells
    assert [name for name, _ in ledger.tape].count("tables") == measured, "a spanning tree has 36 cells, a triangle at least as many"
    assert ledger.charges[-1].count == 6, "what was declared stays charged"


@pytest.mark.parametrize("select", SELECTIONS)
def test_rounds_beyond_the_pairs_are_idle_and_none_is_measured_twice(select: Any) -> None:
    sizes = (3, 3, 3)
    ledger = RecordingLedger(_budget(5.0), 500, np.random.default_rng(0))
    tables, total = _fit(_ring(500, sizes), ledger, 5, sizes, select)
    assert [name for name, _ in ledger.tape].count("tables") == 3
    assert list(tables) == [(0, 1, 2)]
    assert tables[0, 1, 2].sum() == pytest.approx(total)


def test_pair_tables_are_those_of_the_whole_joint_table() -> None:
    sizes = (3, 2, 4, 3, 2)
    codes = _ring(1000, sizes)
    pairs = count_pairs(codes, sizes)
    with aim._float64_mbi() as mbi:
        fit = aim._Fit(mbi, [Measured(count(codes, sizes, (i,)).astype(float), 4.0) for i in range(len(sizes))], 1000.0)
        for pair in [(0, 1), (1, 2), (2, 3), (0, 3)]:
            fit._include(pair, Measured(pairs[pair].astype(float), 1.0), np.ones_like(pairs[pair]))
        fit._refit()
        found = fit.pair_tables()
        potentials = {clique: np.asarray(factor.values) for clique, factor in fit.potentials.tables.items()}
    log = np.zeros(sizes)
    for clique, potential in potentials.items():
        log += potential.reshape([size if i in clique else 1 for i, size in enumerate(sizes)])
    joint = np.exp(log - log.max())
    joint *= 1000 / joint.sum()
    assert max(len(clique) for clique in fit.tables) == 3, "a ring of four needs a chord, and column 4 stands alone"
    assert found.keys() == pairs.keys()
    for i, j in pairs:
        np.testing.assert_allclose(found[i, j], joint.sum(axis=tuple(set(range(len(sizes))) - {i, j})), atol=1e-6)


def test_other_users_of_jax_keep_their_precision() -> None:
    import jax

    before = jax.config.jax_enable_x64
    _fit(_ring(200, (2, 2)), _ledger(math.inf), 1, (2, 2))
    assert jax.config.jax_enable_x64 == before
    assert jax.numpy.zeros(1).dtype == (np.float64 if before else np.float32)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mbi", None)
    with pytest.raises(InputError, match=r"pip install 'orl-bench\[pgm\]'"):
        _fit(_ring(200), _ledger(math.inf), 1)
