"""The coordinates in which attacks compare rows: (s, a, r, s' - s) in standard deviations of the reference.

The step s' - s stands in place of s', which repeats s: in raw columns every distance would count the state twice and the dynamics hardly at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Float, Schema, Transitions
from metrics._parts import BLOCK, blocks, covariance, pair_rows

DUST = 1e-6
"""A column whose deviation is no more than this share of its declared range is constant: what varies is the rounding of s' - s."""


@dataclass(frozen=True)
class Axes:
    """An affine map of the columns (s, a, r, s' - s), (D,), to p coordinates."""

    mean: NDArray[np.float64]
    """(D, 1), of the reference."""
    matrix: NDArray[np.float64]
    """(D, p)."""
    variances: NDArray[np.float64]
    """Of the reference along each coordinate, (p,)."""

    def project(self, data: Transitions) -> Float:
        """The coordinates (n, p) of rows, block by block."""
        coordinates = np.empty((len(data), self.matrix.shape[1]), np.float32)
        for rows in blocks(len(data), BLOCK):
            coordinates[rows] = (pair_rows(data, rows) - self.mean).T @ self.matrix
        return coordinates


def standard_axes(reference: Transitions) -> Axes:
    """Each column that varies in the reference, in its standard deviations.

    Raises:
        ValueError: no column varies.
    """
    return _standard(reference, np.diag(covariance(reference)))


def principal_axes(reference: Transitions, most: int, share: float = 0.99) -> Axes:
    """The first principal components of the standard axes: as many as hold `share` of the variance, but `most` at most. Raises as those do.

    Columns that follow from others (the step from velocity and action) add no component, so that the number of components is that of the dimensions
    that rows fill.
    """
    covariances = covariance(reference)
    standard = _standard(reference, np.diag(covariances))
    variances, vectors = np.linalg.eigh(standard.matrix.T @ covariances @ standard.matrix)
    variances, vectors = variances[::-1], vectors[:, ::-1]
    enough = 1 + int(np.searchsorted(np.cumsum(variances), share * variances.sum()))
    kept = min(enough, most, len(variances))
    return Axes(standard.mean, standard.matrix @ vectors[:, :kept], variances[:kept])


def _standard(reference: Transitions, variances: NDArray[np.float64]) -> Axes:
    spread = np.sqrt(variances)
    varies = np.flatnonzero(spread > DUST * _ranges(reference.schema))
    if not len(varies):
        raise ValueError(f"reference: no column of (s, a, r, s' - s) varies in its {len(reference)} rows; give rows of the population")
    matrix = np.zeros((len(spread), len(varies)))
    matrix[varies, np.arange(len(varies))] = 1 / spread[varies]
    return Axes(_mean(reference), matrix, np.ones(len(varies)))


def _mean(data: Transitions) -> NDArray[np.float64]:
    total = sum(pair_rows(data, rows).sum(axis=1, dtype=np.float64) for rows in blocks(len(data), BLOCK))
    return np.reshape(total, (-1, 1)) / len(data)


def _ranges(schema: Schema) -> NDArray[np.float64]:
    """Of the columns (s, a, r, s' - s), (D,)."""
    columns = (*schema.observations, *schema.actions, schema.reward, *schema.differences)
    return np.array([column.high - column.low for column in columns])
