"""LinearGaussian: rows from one normal distribution with noisy first and second moments.

Dwork, Talwar, Thakurta and Zhang, "Analyze Gauss", STOC 2014, algorithm 1: the Gaussian mechanism on a matrix of second moments. Jointly normal
(s, a, r, s') make the dynamics and the reward linear, which is what this model can say about an environment.

Privacy: a row x of d columns, scaled into [-1, 1] by its declared bounds, enters one sum as z z^T with z = (1, x) / sqrt(d + 1). As |z| <= 1,
adding or removing a row moves the sum by at most 1 in the Frobenius norm. Unit: transition. Everything after that sum is post-processing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench import Gaussian, Guarantee, Ledger, Runtime, Schema, State, Transitions, Unit

CHUNK = 65_536
"""Rows held in float64 at once."""


@dataclass(frozen=True)
class LinearGaussian:
    """A normal distribution over all columns of the table."""

    version: ClassVar[int] = 1
    guarantee: ClassVar[Guarantee] = Guarantee.DP
    units: ClassVar[frozenset[Unit]] = frozenset({Unit.TRANSITION})
    needs_public: ClassVar[bool] = False

    def fit(
        self,
        data: Transitions,
        ledger: Ledger,
        rng: np.random.Generator,
        *,
        public: Mapping[str, Transitions],
        pretrained: State | None,
        runtime: Runtime,
    ) -> LinearGaussianSampler:
        plan = ledger.plan(moments=Gaussian(l2=1.0, weight=1.0))
        return LinearGaussianSampler(data.schema, plan.moments(_moments(data)))

    def restore(self, schema: Schema, state: State) -> LinearGaussianSampler:
        return LinearGaussianSampler(schema, state["moments"])


@dataclass(frozen=True, eq=False)
class LinearGaussianSampler:
    """Holds the noisy sum of z z^T, (d + 1, d + 1)."""

    schema: Schema
    moments: NDArray[np.float64]

    def state(self) -> State:
        return {"moments": self.moments}

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        mean, root = _normal(self.moments, self.schema.nominal_rows)
        centre, reach = _box(self.schema)
        scaled = np.clip(mean + rng.standard_normal((n, len(mean))) @ root, -1, 1)
        table = (centre + reach * scaled).astype(np.float32)
        for values, column in zip(table.T, self.schema.columns, strict=True):
            np.clip(values, np.float32(column.low), np.float32(column.high), out=values)
            if column.levels:
                levels = np.sort(np.array(column.levels, np.float32))
                values[:] = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]
        return Transitions.from_table(self.schema, table)


def _box(schema: Schema) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and half width (d,) of the declared bounds."""
    low, high = np.array([(column.low, column.high) for column in schema.columns]).T
    return (low + high) / 2, (high - low) / 2


def _moments(data: Transitions) -> NDArray[np.float64]:
    """The sum of z z^T over all rows, (d + 1, d + 1); a constant column is zero."""
    centre, reach = _box(data.schema)
    table, width = data.table(), len(centre) + 1
    total = np.zeros((width, width))
    for start in range(0, len(table), CHUNK):
        rows = table[start : start + CHUNK]
        scaled = np.divide(rows - centre, reach, out=np.zeros(rows.shape), where=reach > 0)
        z = np.column_stack([np.ones(len(rows)), np.clip(scaled, -1, 1)]) / np.sqrt(width)
        total += z.T @ z
    return total


def _normal(moments: NDArray[np.float64], rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (d,) and a root of the covariance (d, d) of the scaled columns, the covariance brought back to the positive semidefinite cone."""
    raw = (moments + moments.T) / 2 * len(moments) / rows
    mean = np.clip(raw[0, 1:], -1, 1)
    values, vectors = np.linalg.eigh(raw[1:, 1:] - np.outer(mean, mean))
    return mean, np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
