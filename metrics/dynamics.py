"""Dynamics error: would the environment itself have gone from (s, a) to the synthetic s'?

Marginals and correlations cannot tell: a wall that is crossed, or an action that has no effect, leaves them nearly unchanged. Asked of the simulator,
the question needs no real counterpart of a synthetic row. Synthesizers never see the simulator; this score does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Float, Transitions, Unit
from bench.core.protocols import Environment
from metrics._parts import BLOCK, Better, blocks, covariance, require_rows


@dataclass(frozen=True)
class Dynamics:
    """How far s' is from where the environment itself would have gone from (s, a), in standard deviations of a real step.

    The error of a row is ||s' - step(s, a)||, each dimension divided by the target's standard deviation of s' - s. A dimension that never moves in
    the target has no such scale and is left out; the one-way score sees it. Rows whose s is no state of the environment (a point inside a wall) have
    no error: their share is `invalid_states`.
    """

    version: ClassVar[int] = 1
    unit: ClassVar[Unit] = Unit.TRANSITION
    better: ClassVar[Better] = {"dynamics_median": "lower", "dynamics_mean": "lower", "invalid_states": "lower"}

    def score(self, synthetic: Transitions, target: Transitions, environment: Environment, rng: np.random.Generator) -> dict[str, float]:
        """The three scores; none where the environment has no `step`, no median and mean where no synthetic state is valid.

        Raises:
            ValueError: a table is empty or non-finite, or nothing moves in the target.
        """
        step = getattr(environment, "step", None)
        if step is None:
            return {}
        require_rows(synthetic=synthetic, target=target)
        scale = np.sqrt(np.diag(covariance(target))[-len(target.schema.differences) :])
        if not scale.any():
            raise ValueError("target: s' equals s up to a constant in every row, so the dynamics error has no scale; score against moving rows")
        error = _step_errors(synthetic, step, scale)
        valid = error[~np.isnan(error)]
        scores = {"invalid_states": 1.0 - len(valid) / len(error)}
        if len(valid):
            scores |= {"dynamics_median": float(np.median(valid)), "dynamics_mean": float(valid.mean())}
        return scores


def _step_errors(data: Transitions, step: Callable[[Float, Float], NDArray[np.floating]], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """||s' - step(s, a)|| in units of `scale` (S,) over the dimensions whose scale is positive; NaN where s is no state; (n,)."""
    moving = scale > 0
    errors = []
    for rows in blocks(len(data), BLOCK):
        gap = data.next_observations[rows] - step(data.observations[rows], data.actions[rows])
        errors.append(np.where(np.isnan(gap).any(1), np.nan, np.linalg.norm(gap[:, moving] / scale[moving], axis=1)))
    return np.concatenate(errors)
