"""Nearest record: a released row that lies close to a candidate speaks for its membership.

The full black-box attack of Chen et al., "GAN-Leaks", CCS 2020, and its form calibrated by reference rows. A weak attack: a low score is no evidence
of privacy ("The DCR Delusion", arXiv 2505.01524), a high one is evidence of a leak. Where the release copies a share p of the training rows and tells
nothing of the others, no attack exceeds an AUC of (1 + p) / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.spatial import cKDTree

from bench.core.data import Float, Transitions
from metrics._membership import BlackBoxAttack, Scores, scaled, subsample
from metrics._parts import blocks

TREE_COLUMNS = 16
"""Up to here a KD-tree finds the nearest of 200,000 rows sooner than a product over all pairs does, or about as soon."""


@dataclass(frozen=True)
class NearestRecord(BlackBoxAttack):
    """Score of a row x: minus the distance d(x, S) to the nearest released row, in the table of all columns scaled by their declared bounds.

    With `difference` it is d(x, R) - d(x, S), R being rows of the same population that no fit has seen: a row in an empty region is far from both, so
    the difference sees the memory of the fit where the plain distance mostly sees how unusual x is.
    """

    difference: bool = False

    version: ClassVar[int] = 2

    def row_scores(self, candidates: Transitions, released: Transitions, reference: Transitions, rng: np.random.Generator) -> Scores:
        """A larger reference is thinned to the size of the release: distances compare fairly only where both sets are equally dense.

        To a smaller one they do not, and the attack is weaker: a release of five times as many members had an AUC of .91 instead of .97.
        """
        rows = scaled(candidates, released.schema)
        score = -nearest_distance(rows, scaled(released, released.schema))
        if self.difference:
            score += nearest_distance(rows, scaled(subsample(reference, len(released), rng), released.schema))
        return score


NEAREST = NearestRecord()
NEAREST_DIFFERENCE = NearestRecord(difference=True)


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
