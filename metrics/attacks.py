"""Membership inference: can an attacker who sees the release tell a row of `train` from a row of `holdout`?

A member is the positive class, and every score is larger for likelier members. (The published evaluation of PrivORL labels non-members 1, so its
"TPR" is a detection rate of non-members.) Members and non-members are drawn alike: as many trajectories from either part, as many rows from each.

Nearest record: the full black-box attack of Chen et al., "GAN-Leaks", CCS 2020, and its form calibrated by reference rows. A weak attack: a low score
is no evidence of privacy ("The DCR Delusion", arXiv 2505.01524), a high one is evidence of a leak. Where the release copies a share p of the training
rows and tells nothing of the others, no attack exceeds an AUC of (1 + p) / 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from bench.core.data import Float, Schema, Transitions, View
from bench.core.protocols import Estimate, Runtime, Target
from metrics._parts import Better, Counts, auc_of_counts, blocks, require_rows, score_counts, score_ranks

TREE_COLUMNS = 16
"""Up to here a KD-tree finds the nearest of 200,000 rows sooner than a product over all pairs does, or about as soon."""

Scores = NDArray[np.float64]

BETTER: Better = {"auc": "lower", "tpr_at_1": "lower", "tpr_at_01": "lower"}
"""The scores of every membership attack: the AUC, and the TPR at 1 % and at 0.1 % FPR."""


@dataclass(frozen=True)
class NearestRecord:
    """Score of a row x: minus the distance d(x, S) to the nearest released row, in the table of all columns scaled by their declared bounds.

    With `difference` it is d(x, R) - d(x, S), R being rows of the same population that no fit has seen: a row in an empty region is far from both, so
    the difference sees the memory of the fit where the plain distance mostly sees how unusual x is.
    """

    members: int = 10_000
    """Rows of `train`, and as many of `holdout`: an AUC of pure chance then has a standard deviation of 0.004, and 0.1 % FPR is 10 rows, not 1."""
    difference: bool = False
    resamples: int = 400
    """Bootstrap resamples: ten fall beyond each end of a 95 % interval."""

    version: ClassVar[int] = 1
    needs: ClassVar[Literal["samples", "sampler"]] = "samples"
    better: ClassVar[Better] = BETTER

    def views(self, target: View) -> Mapping[str, View]:
        """No shadow models."""
        return {}

    def attack(
        self,
        target: Target,
        shadows: Mapping[str, Target],
        members: Transitions,
        non_members: Transitions,
        reference: Transitions,
        rng: np.random.Generator,
        *,
        runtime: Runtime,
    ) -> dict[str, Estimate]:
        """AUC and TPR at 1 % and 0.1 % FPR, each with its interval.

        Raises:
            ValueError: the target holds no samples, or a table is empty or non-finite.
        """
        released = target.samples
        if released is None:
            raise ValueError("target: samples is None; the nearest-record attack needs released rows, as its `needs` says")
        require_rows(samples=released, members=members, non_members=non_members)
        inside, outside = draw_candidates(members, non_members, self.members, rng)
        rows = np.concatenate([members.rows(inside.ravel()).table(), non_members.rows(outside.ravel()).table()])
        candidates = _scaled(rows, released.schema)
        score = -nearest_distance(candidates, _scaled(released.table(), released.schema))
        if self.difference:
            require_rows(reference=reference)
            score += nearest_distance(candidates, _scaled(_subsample(reference, len(released), rng).table(), released.schema))
        return estimates(score[: inside.size].reshape(inside.shape), score[inside.size :].reshape(outside.shape), self.resamples, rng)


NEAREST = NearestRecord()
NEAREST_DIFFERENCE = NearestRecord(difference=True)


# --- candidates -------------------------------------------------------------------------------------------------------


def draw_candidates(members: Transitions, non_members: Transitions, rows: int, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Row indices (t, k) on either side: k rows of each of t trajectories, t and k common to both sides, t * k `rows` rounded up.

    k is the least that reaches `rows`; where nothing does (few or short trajectories) t * k is the most that can be had. Trajectories shorter than k
    are passed over on both sides alike. Rows that stand alone count as trajectories of length one.
    """
    sides = [_extents(data) for data in (members, non_members)]
    depth = np.arange(1, min(rows, *(lengths.max() for _, lengths in sides)) + 1)
    width = np.min([len(lengths) - np.searchsorted(np.sort(lengths), depth) for _, lengths in sides], axis=0)
    best = np.argmax(np.minimum(width * depth, rows))
    k = int(depth[best])
    t = min(int(width[best]), math.ceil(rows / k))
    inside, outside = (_draw_rows(starts, lengths, t, k, rng) for starts, lengths in sides)
    return inside, outside


def _extents(data: Transitions) -> tuple[Counts, Counts]:
    """First row and length of each trajectory."""
    offsets = np.arange(len(data) + 1) if data.trajectories is None else data.trajectories
    return offsets[:-1], np.diff(offsets)


def _draw_rows(starts: Counts, lengths: Counts, t: int, k: int, rng: np.random.Generator) -> Counts:
    """k distinct rows of each of t trajectories, (t, k): systematic sampling, in which each row of a trajectory is equally likely."""
    chosen = rng.choice(np.flatnonzero(lengths >= k), t, replace=False)
    length = lengths[chosen, None]
    return starts[chosen, None] + (np.arange(k) * length + rng.integers(length)) // k


def _subsample(data: Transitions, rows: int, rng: np.random.Generator) -> Transitions:
    """At most `rows` rows: distances to two sets compare fairly only where the sets are equally dense."""
    return data if len(data) <= rows else data.rows(rng.choice(len(data), rows, replace=False))


# --- distance ---------------------------------------------------------------------------------------------------------


def _scaled(table: Float, schema: Schema) -> Float:
    """The table with every declared range mapped to [0, 1]; a constant column keeps its unit."""
    low, high = np.array([(column.low, column.high) for column in schema.columns], np.float32).T
    scaled: Float = (table - low) / np.where(high > low, high - low, np.float32(1))
    return scaled


def nearest_distance(queries: Float, points: Float) -> Scores:
    """Euclidean distance (q,) of each query (q, D) to the nearest of the points (n, D).

    A KD-tree up to `TREE_COLUMNS` columns: seconds on a maze, whose rows fill few dimensions, and no worse than all pairs on rows that fill twelve.
    With the 42 and 131 columns of the other environments trees degenerate, and a product over all pairs takes a time that depends on no data.
    """
    if points.shape[1] <= TREE_COLUMNS:
        return cKDTree(points, balanced_tree=False, compact_nodes=False).query(queries)[0]
    return _nearest_of_all_pairs(queries, points)


def _nearest_of_all_pairs(queries: Float, points: Float) -> Scores:
    """The distances by min |y|^2 - 2 x.y in double precision: coincident rows of the unit box come out below 1e-6."""
    distance = np.empty(len(queries))
    for some in blocks(len(queries), 256):
        x = queries[some].astype(np.float64)
        lifted = np.vstack([-2 * x.T, np.ones(len(x))])
        nearest = np.full(len(x), np.inf)
        for others in blocks(len(points), 1024):
            y = points[others].astype(np.float64)
            np.minimum(nearest, (np.column_stack([y, (y * y).sum(1)]) @ lifted).min(0), out=nearest)
        distance[some] = np.sqrt(np.maximum(nearest + (x * x).sum(1), 0))
    return distance


# --- scores of an attack ----------------------------------------------------------------------------------------------


def tpr_at_fpr(member_scores: ArrayLike, non_member_scores: ArrayLike, fpr: float) -> float:
    """The largest share of members above a threshold that at most a share `fpr` of the non-members reaches.

    Thresholds fall between distinct scores: no random breaking of ties, no interpolation. 0 where the highest score already costs too much.

    Raises:
        ValueError: a side is empty or holds a NaN.
    """
    return _tpr(*score_counts(member_scores, non_member_scores), fpr)


def estimates(member_scores: Scores, non_member_scores: Scores, resamples: int, rng: np.random.Generator) -> dict[str, Estimate]:
    """The scores named in `BETTER` of attack scores (trajectories, rows each), with 95 % percentile intervals of a bootstrap over trajectories.

    Rows of one trajectory resemble each other, so trajectories are resampled, on both sides. The interval is descriptive: at a TPR of 0 or an AUC
    of 1 it has no width.
    """
    inside, outside, ranks = score_ranks(member_scores, non_member_scores)

    def statistics(a: Counts, b: Counts) -> tuple[float, float, float]:
        hits, alarms = (np.bincount(side.ravel(), minlength=ranks) for side in (a, b))
        return auc_of_counts(hits, alarms), _tpr(hits, alarms, 0.01), _tpr(hits, alarms, 0.001)

    draws = [statistics(*(side[rng.integers(len(side), size=len(side))] for side in (inside, outside))) for _ in range(resamples)]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    values = statistics(inside, outside)
    return {name: Estimate(*map(float, triple)) for name, *triple in zip(BETTER, values, low, high, strict=True)}


def _tpr(hits: Counts, alarms: Counts, fpr: float) -> float:
    """From the numbers of members and non-members at each distinct score, the highest first."""
    allowed = np.floor(fpr * alarms.sum() * (1 + 1e-12))  # 0.29 * 100 is 28.999999999999996
    affordable = int(np.searchsorted(np.cumsum(alarms), allowed, side="right"))
    return float(hits[:affordable].sum() / hits.sum())
