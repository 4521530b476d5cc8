"""Attacks that compare the density of the release S around a row x with that of the reference R, where a fit that remembers x raises the first alone.

All look at the nearest rows of x in either set, among all rows: a sample of 50,000 of a million released rows would hold one copy in twenty. Rows are
compared by the principal components of (s, a, r, s' - s); see `metrics._axes`.

A density averages over rows and so sees a generator that blurs the rows it remembers, where the distance to one record sees nothing. One exact copy
among many rows it cannot see; that is what `nearest-record` is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import logsumexp

from bench.core.data import Float, Index, Transitions
from metrics._axes import Axes, principal_axes
from metrics._membership import BlackBoxAttack, Scores
from metrics._parts import blocks

COMPONENTS = 8
"""Principal components at most: a tree finds 64 neighbours of 20,000 rows in a million in seconds where rows fill 8 dimensions, in a minute in 10."""


@dataclass(frozen=True)
class DOMIAS(BlackBoxAttack):
    """Density ratio: log p_S(x) - log p_R(x), by Gaussian kernels (van Breugel et al. 2023, arXiv 2302.12580).

    Differs from the paper in: 1. kernels are summed over the nearest of all rows instead of over all of a small sample, in which most of what
    a fit remembers is missing; 2. both densities have one bandwidth, so that the ratio of two equal ones is 1 whatever it blurs.
    """

    neighbours: int = 64
    """In either set."""
    bandwidth: float = 0.25
    """In units of Silverman's rule, which is best for the shape of a density and too wide for what one row adds to it. Chosen on maze2d-umaze, in
    copies whose (s, a, r, s' - s) are blurred by a tenth of a deviation: a quarter, a half and one have AUCs of .596, .578 and .556 where 200,000
    rows are fitted and released; .524, .512 and .506 where a fifth of a million is released; .545, .543 and .535 where all are. In a blur of three
    tenths none exceeds .52."""

    version: ClassVar[int] = 3

    def row_scores(self, candidates: Transitions, released: Transitions, reference: Transitions, rng: np.random.Generator) -> Scores:
        """The log ratio; underflow is impossible, as the largest kernel is taken out of either sum."""
        axes = principal_axes(reference, COMPONENTS)
        x, h = axes.project(candidates), self.bandwidth * silverman(len(released), axes)
        near_s, near_r = (nearest(x, axes.project(data), self.neighbours)[0] for data in (released, reference))
        return np.asarray(logsumexp(-((near_s / h) ** 2) / 2, axis=1) - logsumexp(-((near_r / h) ** 2) / 2, axis=1))


@dataclass(frozen=True)
class GenLRA(BlackBoxAttack):
    """Likelihood ratio of the released rows near x under R with x and without: sum over them of log p_{R + x}(s) - log p_R(s).

    Gen-LRA, as the Synth-MIA suite has it (gen_lra.py): with kernels K of one fixed bandwidth a released row s adds
    log((n p_R(s) + K(s - x)) / ((n + 1) p_R(s))), and no density is fitted anew for each x. Differs in: p_R(s) is the sum over those rows of R that
    are nearest to x, which s is close to, instead of over all of R.
    """

    released_neighbours: int = 10
    """Released rows near x."""
    neighbours: int = 64
    """Rows of R near x."""
    bandwidth: float = 0.25
    """In units of Silverman's rule, as for `domias`: in those copies a quarter and a half have AUCs .617 and .553, .538 and .518, .550 and .518."""

    version: ClassVar[int] = 3

    def row_scores(self, candidates: Transitions, released: Transitions, reference: Transitions, rng: np.random.Generator) -> Scores:
        """The log likelihood ratio, less its constant -log((n + 1) / n) for each released row."""
        axes = principal_axes(reference, COMPONENTS)
        x, s, r = (axes.project(data) for data in (candidates, released, reference))
        h = self.bandwidth * silverman(len(released), axes)
        (_, near_s), (_, near_r) = nearest(x, s, self.released_neighbours), nearest(x, r, self.neighbours)
        scores = np.empty(len(x))
        for some in blocks(len(x), 512):
            around, background = s[near_s[some]], r[near_r[some]]
            own = -_squares(around, x[some, None]) / (2 * h * h)
            others = logsumexp(-_squares(around, background) / (2 * h * h), axis=2, keepdims=True)
            scores[some] = np.logaddexp(0, own - others).sum(axis=(1, 2))
        return scores


@dataclass(frozen=True)
class DPI(BlackBoxAttack):
    """Data plagiarism index: the share of released rows among the nearest rows of x in S and R together (Ward et al. 2024, arXiv 2406.13012).

    One copy of x is one neighbour among several: even where the members themselves are released, R is as large as S and `neighbours` is 1, a
    non-member's nearest row is a released one every second time, and the AUC .75. A larger R helps: of 60,000 released members five neighbours find
    .57, .65, .77 and .89 by 12,000, 60,000, 300,000 and 1,000,000 rows of R.
    """

    neighbours: int = 5

    version: ClassVar[int] = 2

    def row_scores(self, candidates: Transitions, released: Transitions, reference: Transitions, rng: np.random.Generator) -> Scores:
        """The share of S; a released row goes before a row of R at the same distance."""
        axes = principal_axes(reference, COMPONENTS)
        x = axes.project(candidates)
        near_s, near_r = (nearest(x, axes.project(data), self.neighbours)[0] for data in (released, reference))
        order = np.argsort(np.hstack([near_s, near_r]), axis=1, kind="stable")[:, : self.neighbours]
        share: Scores = (order < near_s.shape[1]).mean(axis=1)
        return share


def nearest(queries: Float, points: Float, count: int) -> tuple[NDArray[np.float64], Index]:
    """Distances and indices (q, count) of the nearest points (n, p) of each query (q, p), the nearest first; all n where there are fewer."""
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    distances, indices = tree.query(queries, np.arange(1, min(count, len(points)) + 1))
    return distances, indices


def silverman(rows: int, axes: Axes) -> float:
    """Silverman's bandwidth of a Gaussian kernel for `rows` points in p dimensions, in which they have these variances."""
    p = len(axes.variances)
    return float(np.sqrt(axes.variances.mean()) * (4 / ((p + 2) * rows)) ** (1 / (p + 4)))


def _squares(a: Float, b: Float) -> NDArray[np.float64]:
    """Squared distances (q, k, m) of points (q, k, p) and (q, m, p)."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    products = a @ b.transpose(0, 2, 1)
    return np.maximum((a * a).sum(axis=2)[:, :, None] + (b * b).sum(axis=2)[:, None] - 2 * products, 0)
