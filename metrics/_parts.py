"""What metrics and attacks share: the check of their input, blocks of rows that bound their memory, and the columns (s, a, r, s' - s)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Float, Transitions

Better = Mapping[str, Literal["higher", "lower"]]

BLOCK = 1 << 16
"""Rows in work at a time: bounds the memory, and a column of a block stays in the second-level cache."""


def require_rows(**named: Transitions) -> None:
    """Refuse tables that no score is defined on.

    Raises:
        ValueError: a table is empty or holds a non-finite value. A NaN must fail the record: it would sort, bin and compare silently.
    """
    for name, data in named.items():
        if not len(data):
            raise ValueError(f"{name}: 0 rows; a score needs at least one")
        arrays = {
            "observations": data.observations,
            "actions": data.actions,
            "rewards": data.rewards,
            "next_observations": data.next_observations,
        }
        for kind, array in arrays.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{name}: {kind} hold {(~np.isfinite(array)).sum()} non-finite values; release finite rows only")


def blocks(rows: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` rows that cover `rows` rows."""
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def pair_rows(data: Transitions, rows: slice) -> Float:
    """The columns (s, a, r, s' - s) of some rows, (D, rows)."""
    state = data.observations[rows]
    return np.vstack([state.T, data.actions[rows].T, data.rewards[rows], (data.next_observations[rows] - state).T])


def covariance(data: Transitions) -> NDArray[np.float64]:
    """Covariance of (s, a, r, s' - s), (D, D), by one Gram matrix over blocks in double precision.

    Values are taken relative to the first row. A constant column then has a variance of exactly 0, and cancellation stays harmless: a row of the
    sample lies at most sqrt(n) standard deviations from its mean, so the relative error is at most about n * 1e-16.
    """
    origin = pair_rows(data, slice(1)).astype(np.float64)
    total, gram = np.zeros(len(origin)), np.zeros((len(origin), len(origin)))
    for rows in blocks(len(data), BLOCK):
        block = pair_rows(data, rows) - origin
        total += block.sum(1)
        gram += block @ block.T
    mean = total / len(data)
    return gram / len(data) - np.outer(mean, mean)
