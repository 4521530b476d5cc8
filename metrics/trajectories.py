"""Trajectory fidelity: how close whole synthetic trajectories are to whole held-out real ones.

Scores of rows cannot tell: rows that are put in another order, or cut into trajectories elsewhere, keep every marginal, pair and step. Three
questions look at the order here, and `metrics/windows.py` asks a fourth: are trajectories as rewarding, as long and begun as real ones are; does a
column remember its past as a real one does; does each step begin where the last one ended? Where a side holds no trajectories there is no score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Bool, Float, Index, Transitions, Unit
from bench.core.protocols import Environment
from metrics._parts import Better, in_trajectories, ks_distance, require_rows


@dataclass(frozen=True)
class TrajectoryMarginals:
    """One minus the Kolmogorov-Smirnov distance of the returns, of the lengths and of the first states of trajectories (1 is best).

    A return is the undiscounted sum of rewards. `starts` is the mean over the observation columns.
    """

    version: ClassVar[int] = 1
    unit: ClassVar[Unit] = Unit.TRAJECTORY
    better: ClassVar[Better] = {"returns": "higher", "lengths": "higher", "starts": "higher"}

    def score(self, synthetic: Transitions, target: Transitions, environment: Environment, rng: np.random.Generator) -> dict[str, float]:
        """The three scores; raises ValueError on empty or non-finite tables."""
        if not in_trajectories(synthetic, target):
            return {}
        require_rows(synthetic=synthetic, target=target)
        starts = zip(_starts(synthetic).T, _starts(target).T, strict=True)
        return {
            "returns": 1.0 - ks_distance(_returns(synthetic), _returns(target)),
            "lengths": 1.0 - ks_distance(_lengths(synthetic), _lengths(target)),
            "starts": 1.0 - float(np.mean([ks_distance(ours, theirs) for ours, theirs in starts])),
        }


@dataclass(frozen=True)
class Autocorrelation:
    """Mean absolute difference of the autocorrelations of the columns s, a, r over all columns and lags (0 is best, 2 the worst).

    The autocorrelation of x at lag k is sum x_t x_(t+k) / sqrt(sum x_t^2 sum x_(t+k)^2) over the pairs of all trajectories, x centred by its mean
    over all rows; it lies in [-1, 1] however few pairs there are. It does not exist at a lag that no trajectory reaches, nor for a constant column:
    what does not exist in the target is left out, what does not exist in the synthetic data alone counts as 0, so that nothing is gained by
    trajectories that are too short or columns that collapsed.
    """

    lags: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    """Steps between the rows of a pair: from neighbours to a third of a goal segment of maze2d-medium."""

    version: ClassVar[int] = 1
    unit: ClassVar[Unit] = Unit.TRAJECTORY
    better: ClassVar[Better] = {"autocorrelation": "lower"}

    def score(self, synthetic: Transitions, target: Transitions, environment: Environment, rng: np.random.Generator) -> dict[str, float]:
        """`autocorrelation`, absent when the target has none at any lag; raises ValueError on empty or non-finite tables."""
        if not in_trajectories(synthetic, target):
            return {}
        require_rows(synthetic=synthetic, target=target)
        ours, theirs = (autocorrelations(data, self.lags) for data in (synthetic, target))
        known = ~np.isnan(theirs)
        if not known.any():
            return {}
        return {"autocorrelation": float(np.abs(np.nan_to_num(ours) - theirs)[known].mean())}


@dataclass(frozen=True)
class Continuity:
    """Share of the steps inside trajectories that begin where the last one ended: s_(t+1) equals s'_t in every bit (1 is best).

    Rows that were drawn one by one never do; windows that were stitched together may break at their seams.
    """

    version: ClassVar[int] = 1
    unit: ClassVar[Unit] = Unit.TRAJECTORY
    better: ClassVar[Better] = {"continuity": "higher"}

    def score(self, synthetic: Transitions, target: Transitions, environment: Environment, rng: np.random.Generator) -> dict[str, float]:
        """`continuity`, absent where every synthetic trajectory is a single row; raises ValueError on empty or non-finite tables."""
        if not in_trajectories(synthetic, target):
            return {}
        require_rows(synthetic=synthetic, target=target)
        follows = (synthetic.observations[1:] == synthetic.next_observations[:-1]).all(1)
        inside = _rows_left(synthetic)[:-1] > 1
        return {"continuity": float(follows[inside].mean())} if inside.any() else {}


# --- one number for each trajectory -----------------------------------------------------------------------------------


def _returns(data: Transitions) -> NDArray[np.float64]:
    """Sums of rewards, (m,)."""
    return np.add.reduceat(data.rewards, data.require_trajectories()[:-1], dtype=np.float64)


def _lengths(data: Transitions) -> Index:
    """Rows of each trajectory, (m,)."""
    return np.diff(data.require_trajectories())


def _starts(data: Transitions) -> Float:
    """First states, (m, S)."""
    return data.observations[data.require_trajectories()[:-1]]


# --- rows of one trajectory -------------------------------------------------------------------------------------------


def _rows_left(data: Transitions) -> Index:
    """Rows from each row to the end of its trajectory, itself included, (n,): x_t and x_(t+k) are a pair where more than k are left at t."""
    return np.repeat(data.require_trajectories()[1:], _lengths(data)) - np.arange(len(data))


def autocorrelations(data: Transitions, lags: tuple[int, ...]) -> NDArray[np.float64]:
    """The autocorrelation of each column of s, a, r at each lag, (columns, lags); NaN where there is none."""
    left = _rows_left(data)
    pairs = {lag: left > lag for lag in lags}
    return np.array([[_autocorrelation(column, lag, pairs[lag]) for lag in lags] for column in _centred_columns(data)])


def _centred_columns(data: Transitions) -> Iterator[NDArray[np.float64]]:
    """The columns of s, a, r, one at a time, less their means, (n,). A constant column is 0 throughout: it is taken relative to its first value."""
    for array in (data.observations, data.actions, data.rewards[:, None]):
        for column in array.T:
            relative = column.astype(np.float64) - column[0]
            yield relative - relative.mean()


def _autocorrelation(column: NDArray[np.float64], lag: int, pairs: Bool) -> float:
    """sum x_t x_(t+lag) / sqrt(sum x_t^2 sum x_(t+lag)^2) over the `pairs` (n,), named by their first rows; NaN where that is 0 / 0."""
    (first,) = np.nonzero(pairs)
    now, later = column[first], column[first + lag]
    scale = np.sqrt((now @ now) * (later @ later))
    return float(now @ later / scale) if scale > 0 else np.nan
