"""Fidelity: how close synthetic transitions are to held-out real ones, in marginals, pairs and correlations.

The scores follow the field's habits: Kolmogorov-Smirnov and total variation complements and the Pearson similarity as SDMetrics defines them
(docs.sdv.dev/sdmetrics, `KSComplement`, `TVComplement`, `CorrelationSimilarity`), and the total variation of all two-way histograms of the marginal
literature. The pairs look at (s, a, r, s' - s): s' repeats s but for one step, so pairs with s' itself would score copying instead of dynamics.

Differs from the published evaluation of PrivORL in: 1. the target is `holdout`, not the rows that were fitted; 2. column kinds are declared by the
Schema, not guessed from data; 3. a synthetic column that collapsed to a constant counts as uncorrelated instead of being dropped; 4. pairs are binned
in equal shares of the target, not in equal widths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Column, Float, Schema, Transitions, Unit
from bench.core.protocols import Environment
from metrics._parts import BLOCK, Better, blocks, covariance, ks_distance, pair_rows, require_rows


@dataclass(frozen=True)
class OneWay:
    """Mean over the columns s, a, r, s' of one minus the distance of the two marginals (1 is best).

    A column with declared levels is compared by total variation, any other by the Kolmogorov-Smirnov statistic. The terminal is left out, as
    published. A column with a single declared value is always 1: many of them lift the score of every method, and change no order.
    """

    version: ClassVar[int] = 1
    unit: ClassVar[Unit] = Unit.TRANSITION
    better: ClassVar[Better] = {"one_way": "higher"}

    def score(self, synthetic: Transitions, target: Transitions, environment: Environment, rng: np.random.Generator) -> dict[str, float]:
        """`one_way`; raises ValueError on empty or non-finite tables."""
        require_rows(synthetic=synthetic, target=target)
        triples = zip(_one_way_columns(target.schema), _marginals(synthetic), _marginals(target), strict=True)
        distances = [_distance(column, ours, theirs) for column, ours, theirs in triples]
        return {"one_way": 1.0 - float(np.mean(distances))}


@dataclass(frozen=True)
class PairwiseTV:
    """Mean total variation distance over the two-way histograms of all pairs of (s, a, r, s' - s) (0 is best).

    Bins hold equal shares of the target. Bins of equal width are deaf to what is small beside its bounds: in the mazes 50 of them read of a change of
    velocity its sign alone. Values beyond the declared bounds count as on them. Two samples of one distribution do not score 0: read it beside the
    real-vs-real score. A pair with a declared constant is the marginal of the other column, and 0 for two constants.
    """

    bins: int = 50
    """Bins of a column without levels, each with 2 % of the target: 2,500 cells, far fewer than rows."""

    version: ClassVar[int] = 2
    unit: ClassVar[Unit] = Unit.TRANSITION
    better: ClassVar[Better] = {"pairwise_tv": "lower"}

    def score(self, synthetic: Transitions, target: Transitions, environment: Environment, rng: np.random.Generator) -> dict[str, float]:
        """`pairwise_tv`; raises ValueError on empty or non-finite tables."""
        require_rows(synthetic=synthetic, target=target)
        columns = _pair_columns(target.schema)
        marks = [_marks(column, values, self.bins) for column, values in zip(columns, _pair_marginals(target), strict=True)]
        cells = [len(own) + 1 for own in marks]
        ours, theirs = (_codes(data, columns, marks) for data in (synthetic, target))
        distances = [
            _half_l1(_histogram(ours, i, j, cells), _histogram(theirs, i, j, cells), len(synthetic), len(target))
            for i, j in combinations(range(len(columns)), 2)
        ]
        return {"pairwise_tv": float(np.mean(distances))}


@dataclass(frozen=True)
class Correlation:
    """Mean over all pairs of (s, a, r, s' - s) of 1 - |rho_real - rho_synthetic| / 2, with Pearson's rho (1 is best).

    A pair with a column that is constant in the target has no rho and is left out. Where only the synthetic column is constant, its rho counts as 0:
    leaving the pair out, as SDMetrics does, would reward a synthesizer for collapsing the columns that it cannot model.
    """

    version: ClassVar[int] = 1
    unit: ClassVar[Unit] = Unit.TRANSITION
    better: ClassVar[Better] = {"correlation": "higher"}

    def score(self, synthetic: Transitions, target: Transitions, environment: Environment, rng: np.random.Generator) -> dict[str, float]:
        """`correlation`, absent when fewer than two columns of the target vary; raises ValueError on empty or non-finite tables."""
        require_rows(synthetic=synthetic, target=target)
        ours, theirs = covariance(synthetic), covariance(target)
        varying = np.flatnonzero(np.diag(theirs) > 0)
        i, j = (varying[side] for side in np.triu_indices(len(varying), 1))
        if not len(i):
            return {}
        return {"correlation": 1.0 - float(np.abs(_pearson(ours) - _pearson(theirs))[i, j].mean()) / 2}


# --- one-way ----------------------------------------------------------------------------------------------------------


def _one_way_columns(schema: Schema) -> tuple[Column, ...]:
    return (*schema.observations, *schema.actions, schema.reward, *schema.next_observations)


def _marginals(data: Transitions) -> Iterator[Float]:
    """The columns s, a, r, s', one at a time, contiguous (n,)."""
    for array in (data.observations, data.actions, data.rewards[:, None], data.next_observations):
        for j in range(array.shape[1]):
            yield np.ascontiguousarray(array[:, j])


def _distance(column: Column, a: Float, b: Float) -> float:
    levels = _levels(column)
    return ks_distance(a, b) if levels is None else tv_distance(a, b, levels)


def tv_distance(a: Float, b: Float, levels: Float) -> float:
    """Total variation between the level frequencies of (n,) and (m,) values; values off the levels are one more level."""
    ours, theirs = (np.bincount(_level_codes(values, levels), minlength=len(levels) + 1) for values in (a, b))
    return _half_l1(ours, theirs, len(a), len(b))


def _half_l1(a: NDArray[np.int64], b: NDArray[np.int64], n: int, m: int) -> float:
    return float(np.abs(a / n - b / m).sum()) / 2


# --- cells ------------------------------------------------------------------------------------------------------------


def _levels(column: Column) -> Float | None:
    """The declared values in rising order, or None for a column that is a range."""
    if column.levels is not None:
        return np.unique(np.array(column.levels, np.float32))
    return np.array([column.low], np.float32) if column.low == column.high else None


def _marks(column: Column, values: Float, bins: int) -> Float:
    """The levels of a column, or the inner edges of `bins` bins with equal shares of the values (n,); either way there is one cell more.

    A value that is several edges at once is a bin of its own: a column that mostly rests would else be one bin with all that moves.
    """
    levels = _levels(column)
    if levels is not None:
        return levels
    edges, repeats = np.unique(np.sort(values)[len(values) * np.arange(1, bins) // bins], return_counts=True)
    return np.union1d(edges, np.nextafter(edges[repeats > 1], np.float32(np.inf)))


def _level_codes(values: Float, levels: Float) -> NDArray[np.int64]:
    code = np.searchsorted(levels, values).clip(max=len(levels) - 1)
    return np.where(levels[code] == values, code, len(levels))


def _bin_codes(values: Float, column: Column, edges: Float) -> NDArray[np.int64]:
    """How many edges lie at or below each value; beyond the bounds a value counts as on them."""
    return np.searchsorted(edges, values.clip(column.low, column.high), side="right")


# --- pairs ------------------------------------------------------------------------------------------------------------


def _pair_columns(schema: Schema) -> tuple[Column, ...]:
    return (*schema.observations, *schema.actions, schema.reward, *schema.differences)


def _pair_marginals(data: Transitions) -> Iterator[Float]:
    """The columns s, a, r, s' - s, one at a time, (n,)."""
    yield from (*data.observations.T, *data.actions.T, data.rewards)
    for before, after in zip(data.observations.T, data.next_observations.T, strict=True):
        yield after - before


def _codes(data: Transitions, columns: tuple[Column, ...], marks: list[Float]) -> NDArray[np.unsignedinteger]:
    """Every value of (s, a, r, s' - s) as the number of its cell, (D, n), one byte each unless a column has more cells."""
    codes = np.empty((len(columns), len(data)), np.min_scalar_type(max(map(len, marks))))
    for rows in blocks(len(data), BLOCK):
        for j, (column, own, values) in enumerate(zip(columns, marks, pair_rows(data, rows), strict=True)):
            codes[j, rows] = _bin_codes(values, column, own) if _levels(column) is None else _level_codes(values, own)
    return codes


def _histogram(codes: NDArray[np.unsignedinteger], i: int, j: int, cells: list[int]) -> NDArray[np.int64]:
    """Counts of the fused codes of columns i and j, (cells[i] * cells[j],)."""
    counts = np.zeros(cells[i] * cells[j], np.int64)
    for rows in blocks(codes.shape[1], BLOCK):
        counts += np.bincount(codes[i, rows].astype(np.int64) * cells[j] + codes[j, rows], minlength=len(counts))
    return counts


# --- correlation ------------------------------------------------------------------------------------------------------


def _pearson(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's rho of every pair from a covariance matrix, 0 beside a constant column."""
    deviation = np.sqrt(np.diag(moments))
    product = np.outer(deviation, deviation)
    rho = np.zeros_like(moments)
    np.divide(moments, product, out=rho, where=product > 0)
    return rho
