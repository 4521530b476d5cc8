"""What marginal methods tell of a row: the cell it falls into in each released marginal, and that cell's probability."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from method_support import fitted, level_rows, umaze
from numpy.typing import NDArray

from bench.core.data import Transitions
from bench.core.protocols import Runtime
from synthesizers.independent import Independent
from synthesizers.pgm import PGM
from synthesizers.privsyn import PrivSyn

SIZES = (3, 4, 2)
EVERY_METHOD = pytest.mark.parametrize("method", [Independent(), PGM(), PrivSyn()], ids=lambda method: type(method).__name__)


def loss(sampler: Any, data: Transitions) -> NDArray[np.float64]:
    found: NDArray[np.float64] = sampler.loss(data, np.arange(len(data)), np.random.default_rng(0), runtime=Runtime())
    return found


def rows_of_levels(n: int) -> Transitions:
    return level_rows(np.array([np.random.default_rng(i).integers(size, size=n) for i, size in enumerate(SIZES)]), SIZES)


@EVERY_METHOD
def test_without_noise_a_feature_is_minus_the_log_share_of_the_rows_in_the_cell(method: Any) -> None:
    data = rows_of_levels(500)
    sampler = fitted(method, data, epsilon=np.inf)
    losses, cells = loss(sampler, data), sampler.cells(data)
    assert losses.shape == cells.shape == (500, len(SIZES) + len(sampler.tables))
    for feature, cell in zip(losses.T, cells.T, strict=True):
        assert np.exp(-feature) == pytest.approx(np.bincount(cell)[cell] / 500, rel=1e-6)


@EVERY_METHOD
def test_probabilities_of_all_cells_of_a_marginal_sum_to_one(method: Any) -> None:
    sampler = fitted(method, rows_of_levels(20_000), epsilon=1.0)
    every = level_rows(np.array(list(product(*map(range, SIZES)))).T, SIZES)
    for feature, cell in zip(loss(sampler, every).T, sampler.cells(every).T, strict=True):
        _, first = np.unique(cell, return_index=True)
        assert np.exp(-feature[first]).sum() == pytest.approx(1)


@EVERY_METHOD
def test_a_row_in_a_cell_that_is_empty_has_a_large_and_finite_loss(method: Any) -> None:
    data = umaze(300)
    sampler = fitted(method, data.rows(slice(50)), epsilon=np.inf)
    losses = loss(sampler, data)
    assert np.isfinite(losses).all()
    assert losses[50:].mean() > losses[:50].mean()
