"""What trajectory methods tell of a row: the loss of the window of its trajectory that holds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dp_transformer_support
import numpy as np
import privorl_j_support
import pytest
from numpy.typing import NDArray

from bench.conformance.synthesizers import Case
from bench.core.data import Transitions
from bench.core.protocols import Runtime

CASES = {support.__name__: (support.case_of, support.TINY) for support in (privorl_j_support, dp_transformer_support)}
EVERY_METHOD = pytest.mark.parametrize("name", CASES)


def case_of(name: str) -> tuple[Case, int]:
    """A fit, and the rows in its windows."""
    make, method = CASES[name]
    return make(method), method.horizon


def loss(case: Case, data: Transitions, rows: Any = None) -> NDArray[np.float32]:
    sampler: Any = case.recorded.sampler
    index = np.arange(len(data)) if rows is None else np.asarray(rows)
    found: NDArray[np.float32] = sampler.loss(data, index, np.random.default_rng(0), runtime=Runtime())
    return found


@EVERY_METHOD
def test_rows_share_the_loss_of_their_window_and_windows_follow_each_other_from_the_first_row_on(name: str) -> None:
    case, horizon = case_of(name)
    starts, ends = case.data.require_trajectories()[:-1], case.data.require_trajectories()[1:]
    losses = loss(case, case.data)
    for start, end in zip(starts[:5], ends[:5], strict=True):
        windows = [losses[begin : min(begin + horizon, end)] for begin in range(start, end, horizon)]
        assert all(window == pytest.approx(np.tile(window[0], (len(window), 1)), rel=1e-4) for window in windows)
        assert len({float(window[0].mean()) for window in windows}) == len(windows)


@EVERY_METHOD
def test_what_precedes_a_window_matters_and_other_trajectories_do_not(name: str) -> None:
    case, horizon = case_of(name)
    alone = case.data.joined(np.array([3]))
    (start, end) = case.data.require_trajectories()[3:5]
    whole = loss(case, case.data, range(start, end))
    assert loss(case, alone) == pytest.approx(whole, rel=1e-3)
    behind = alone.rows(slice(horizon, None))
    cut = replace(behind, trajectories=np.array([0, len(behind)]))
    assert loss(case, cut)[0] != pytest.approx(whole[horizon], rel=1e-3)


@EVERY_METHOD
def test_a_row_that_stands_alone_is_a_trajectory(name: str) -> None:
    case, _ = case_of(name)
    alone = case.data.rows(slice(20))
    assert np.array_equal(loss(case, alone), loss(case, replace(alone, trajectories=np.arange(21))))
