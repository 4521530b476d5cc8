"""One plane for rows of many columns: t-SNE, exact, for a few thousand rows.

van der Maaten and Hinton, Visualizing Data using t-SNE (JMLR 9, 2008): neighbours in the table are to be neighbours in the plane. Distances between
far apart clusters, and their sizes, say nothing.

    P  symmetric affinities of the rows, each row's bandwidth set by bisection to one perplexity  (equation 1; section 3.1)
    Q  those of the plane, by Student's t with one degree of freedom                              (equation 4)
    gradient of KL(P || Q):  4 sum_j (p_ij - q_ij) (y_i - y_j) / (1 + |y_i - y_j|^2)              (equation 5)

Differs from the paper in: 1. the plane begins as the two leading principal components instead of at random, which keeps the large arrangement
(Kobak and Berens, Nature Communications 10, 2019) and makes equal rows give an equal picture; 2. early exaggeration is 12 and the rate n / 12
(Belkina et al., Nature Communications 10, 2019).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Float = NDArray[np.float64]
Single = NDArray[np.float32]

PERPLEXITY = 30.0
EXAGGERATION, EXAGGERATED, STEPS = 12.0, 100, 400
"""Factor on P while clusters form, for how many steps, and of how many in all."""
BLOCK = 64
"""Rows whose distances to all others are at work at a time: they stay in the second-level cache."""


def tsne(rows: Float, steps: int = STEPS) -> Float:
    """Places (n, 2) in the plane of standardised rows (n, d), n > 3 * PERPLEXITY; equal rows give equal places.

    Raises:
        ValueError: too few rows for the perplexity.
    """
    n = len(rows)
    if n <= 3 * PERPLEXITY:
        raise ValueError(f"rows: {n} are too few for a perplexity of {PERPLEXITY:g}; give more than {3 * PERPLEXITY:g}")
    affinities = _affinities(rows)
    places = _principal(rows).astype(np.float32)
    velocity, gains, rate = np.zeros_like(places), np.ones_like(places), max(n / EXAGGERATION, 50.0)
    for step in range(steps):
        early = step < min(EXAGGERATED, steps // 2)
        slope = _gradient(places, affinities, EXAGGERATION if early else 1.0)
        gains = np.where(slope * velocity < 0, gains + 0.2, gains * 0.8).clip(0.01)  # delta-bar-delta, as in the authors' code
        velocity = (0.5 if early else 0.8) * velocity - np.float32(rate) * gains * slope
        places = places + velocity
    return (places - places.mean(0)).astype(np.float64)


def _affinities(rows: Float) -> Single:
    """P (n, n): each row's neighbours by a Gaussian of its own width, made symmetric, of sum 1."""
    squares = cdist(rows, rows, "sqeuclidean")
    squares[np.diag_indices(len(rows))] = np.inf
    squares -= squares.min(1, keepdims=True)  # the nearest is at 0: no row of weights can vanish
    low, high = np.zeros(len(rows)), np.full(len(rows), np.inf)
    precision = np.ones(len(rows))
    for _ in range(40):
        weights = np.exp(-squares * precision[:, None])
        totals = weights.sum(1)
        finite = np.where(np.isfinite(squares), squares, 0.0)
        entropy = np.log(totals) + precision * (weights * finite).sum(1) / totals
        wide = entropy > np.log(PERPLEXITY)
        low, high = np.where(wide, precision, low), np.where(wide, high, precision)
        precision = np.where(np.isinf(high), precision * 2, (low + np.where(np.isinf(high), 0, high)) / 2)
    weights /= totals[:, None]
    return ((weights + weights.T) / (2 * len(rows))).astype(np.float32)


def _principal(rows: Float) -> Float:
    """The two leading principal components, the first with a deviation of 1e-4; signs are those in which the largest loading is positive."""
    centred = rows - rows.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    leading = axes[:, : -min(3, axes.shape[1] + 1) : -1]
    leading = leading * np.sign(leading[np.abs(leading).argmax(0), np.arange(leading.shape[1])])
    scores = np.zeros((len(rows), 2))
    scores[:, : leading.shape[1]] = centred @ leading
    return scores * (1e-4 / max(scores[:, 0].std(), 1e-12))


def _gradient(places: Single, affinities: Single, exaggeration: float) -> Single:
    """Slope of KL(exaggeration * P || Q) at every place (n, 2): what attracts less what repels, block by block."""
    attraction, repulsion, total = np.empty_like(places), np.empty_like(places), 0.0
    columns = np.column_stack([places, np.ones(len(places), np.float32)])
    for start in range(0, len(places), BLOCK):
        own = slice(start, start + BLOCK)
        kernel = np.square(places[own, :1] - places[:, 0])
        kernel += np.square(places[own, 1:] - places[:, 1])
        kernel += 1
        np.reciprocal(kernel, out=kernel)
        total += float(kernel.sum()) - len(kernel)
        pulled = (affinities[own] * kernel) @ columns
        np.square(kernel, out=kernel)
        pushed = kernel @ columns
        attraction[own] = places[own] * pulled[:, 2:] - pulled[:, :2]
        repulsion[own] = places[own] * pushed[:, 2:] - pushed[:, :2]
    return 4 * (exaggeration * attraction - repulsion / np.float32(total))
