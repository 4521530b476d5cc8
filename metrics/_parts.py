"""What metrics and attacks share: the check of their input, blocks of rows that bound their memory, the columns (s, a, r, s' - s), and two statistics
of two samples, the Kolmogorov-Smirnov distance and the AUC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.data import Float, Index, Transitions

Better = Mapping[str, Literal["higher", "lower"]]
Counts = NDArray[np.int64]

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


def in_trajectories(*tables: Transitions) -> bool:
    """Whether every table holds trajectories: metrics that compare them have no score where one does not."""
    return all(data.trajectories is not None for data in tables)


def blocks(rows: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` rows that cover `rows` rows."""
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def pair_rows(data: Transitions, rows: slice | Index) -> Float:
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


def ks_distance(a: NDArray, b: NDArray) -> float:
    """Two-sample Kolmogorov-Smirnov statistic sup |F_a - F_b| of (n,) and (m,) values, exact.

    Each side is sorted, then a stable sort merges the two runs in linear time; the walk over the merged values needs integers only.
    """
    pooled = np.concatenate([np.sort(a), np.sort(b)])
    order = np.argsort(pooled, kind="stable")
    gap = np.cumsum(np.where(order < len(a), len(b), -len(a)))
    pooled = pooled[order]
    last_of_ties = pooled[1:] != pooled[:-1]
    return float(np.abs(gap[:-1][last_of_ties]).max(initial=0)) / (len(a) * len(b))


def auc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive outscores a negative, ties counting half.

    Raises:
        ValueError: a side is empty or holds a NaN.
    """
    return auc_of_counts(*score_counts(positives, negatives))


def auc_of_counts(hits: Counts, alarms: Counts) -> float:
    """The AUC from the numbers of positives and negatives at each distinct score, the highest first."""
    above = np.cumsum(hits) - hits / 2
    return float(alarms @ above / (hits.sum() * alarms.sum()))


def score_counts(positives: ArrayLike, negatives: ArrayLike) -> tuple[Counts, Counts]:
    """Numbers of positives and negatives at each distinct score, the highest first; raises as `score_ranks` does."""
    inside, outside, ranks = score_ranks(positives, negatives)
    return np.bincount(inside.ravel(), minlength=ranks), np.bincount(outside.ravel(), minlength=ranks)


def score_ranks(positives: ArrayLike, negatives: ArrayLike) -> tuple[Counts, Counts, int]:
    """The scores of either side as ranks among the distinct scores, 0 the highest, in their shapes; and the number of ranks.

    Raises:
        ValueError: a side is empty or holds a NaN.
    """
    inside, outside = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    for name, scores in (("positives", inside), ("negatives", outside)):
        if not scores.size or np.isnan(scores).any():
            raise ValueError(f"{name}: {np.isnan(scores).sum()} of {scores.size} scores are NaN; give at least one score and no NaN")
    distinct, rank = np.unique(-np.concatenate([inside.ravel(), outside.ravel()]), return_inverse=True)
    return rank[: inside.size].reshape(inside.shape), rank[inside.size :].reshape(outside.shape), len(distinct)
