"""Canaries: what an audit slips into one fit, each by its own coin, and the estimate of those coins from what the fit released.

With contributions c_i to the released sums and fair coins b_i, what was released beyond the known rows is y = sum_i b_i c_i + noise. The score of a
canary is the best linear estimate of its coin, in which the other canaries count as noise of a known shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from bench.core.accounting import Accountant, Charge
from bench.core.data import Column, Schema, View
from bench.core.privacy import Budget, RecordingLedger
from bench.core.protocols import AuditSubject, Runtime
from metrics._transcripts import Transcript, Vector, deviation, record, replay

Coins = NDArray[np.bool_]
_COIN_PRECISION = 4.0
"""One over the variance of a fair coin."""


def estimated_coins(contributions: Any, released: Vector) -> Vector:
    """The linear estimates (m,) of the coins, relative to one half.

    Args:
        contributions: (m, k), dense or sparse, in standard deviations of the noise.
        released: (k,), without the known rows, likewise.
    """
    surprise = contributions @ (released - np.asarray(contributions.sum(axis=0)).ravel() / 2)
    gram = contributions @ contributions.T
    dense = gram.toarray() if hasattr(gram, "toarray") else gram
    estimates: Vector = np.linalg.solve(dense + _COIN_PRECISION * np.eye(len(surprise)), surprise)
    return estimates


# --- rows -------------------------------------------------------------------------------------------------------------------------------------------


def row_scores(subject: AuditSubject, view: View, coins: Coins, rng: np.random.Generator, runtime: Runtime) -> tuple[Transcript, Vector]:
    """A fit with those of as many random rows whose coin fell so, and the estimates of the coins.

    What a canary contributes is found by replay: the questions of the known rows with this canary alone, less those of the known rows.

    Raises:
        ValueError: the method releases no noisy sum.
    """
    rows = random_rows(subject.data(view).schema, len(coins), rng)
    audited = record(subject, _with(view, *rows[coins]), 0)
    if all(charge.mechanism != "gaussian" for charge in audited.charges.values()):
        raise ValueError("audit: the method releases no noisy sum, so a canary has no contribution to look for; use an audit of many runs")
    known = _whitened(audited, replay(subject, audited, view))
    contributions = []
    for i, row in enumerate(rows):
        contributions.append(csr_array((_whitened(audited, replay(subject, audited, _with(view, row))) - known)[None]))
        runtime.progress(i + 1, len(rows))
    released = _whitened(audited, [answer for _, answer in audited.answers])
    return audited, estimated_coins(vstack(contributions), released - known)


def _with(view: View, *rows: Vector) -> View:
    return View(view.environment, view.part, view.rows, view.dataset_seed, canaries=tuple(tuple(map(float, row)) for row in rows))


def _whitened(audited: Transcript, values: list[Vector]) -> Vector:
    """Values of all Gaussian answers, one after another, in standard deviations of their noise."""
    charges = [charge for charge, _ in audited.answers]
    pairs = zip(charges, values, strict=True)
    return np.concatenate([value.ravel() / deviation(charge) for charge, value in pairs if charge.mechanism == "gaussian"])


def random_rows(schema: Schema, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Rows (n, D) uniform in the declared box of s, a, r and s' - s, as far as s' stays inside its own."""
    before, low, high = _uniform(schema.observations, n, rng), *_bounds(schema.observations)
    after = np.clip(before + _uniform(schema.differences, n, rng), low, high)
    return np.hstack([before, _uniform((*schema.actions, schema.reward), n, rng), after, _uniform((schema.terminal,), n, rng)])


def corner_row(schema: Schema) -> tuple[float, ...]:
    """The row at the top of every declared range."""
    return tuple(column.high for column in schema.columns)


def _uniform(columns: tuple[Column, ...], n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Values (n, columns) between the bounds, or among the levels."""
    drawn = [rng.choice(column.levels, n) if column.levels else rng.uniform(column.low, column.high, n) for column in columns]
    return np.clip(np.column_stack(drawn).astype(np.float32), *_bounds(columns))


def _bounds(columns: tuple[Column, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.array([column.low for column in columns], np.float32), np.array([column.high for column in columns], np.float32)


# --- gradients --------------------------------------------------------------------------------------------------------------------------------------


def gradient_scores(subject: AuditSubject, view: View, coins: Coins, rng: np.random.Generator, runtime: Runtime) -> tuple[Transcript, Vector]:
    """A fit with those of as many gradient canaries whose coin fell so, and the estimates of the coins from the sums of all steps."""
    lent: list[GradientCanaries] = []

    def make(budget: Budget, units: int, ledger_rng: np.random.Generator, accountant: Accountant) -> GradientCanaries:
        lent.append(GradientCanaries(coins, rng, budget, units, ledger_rng, accountant))
        return lent[0]

    audited = record(subject, view, 0, make)
    steps = [(charge, answer, exact) for (charge, answer), (_, exact) in zip(audited.answers, audited.questions, strict=True)]
    contributions, released = [], []
    for name, directions in lent[0].directions.items():
        charge = audited.charges[name]
        noise = np.sqrt(charge.count) * deviation(charge)
        contributions.append(charge.count * charge.rate * charge.sensitivity / noise * directions)
        released.append(np.sum([(answer - exact).ravel() for asked, answer, exact in steps if asked is charge], axis=0) / noise)
    return audited, estimated_coins(np.hstack(contributions), np.concatenate(released))


class GradientCanaries(RecordingLedger):
    """Adds gradients of no row to the sums of DP-SGD: fixed random directions of the clip norm, which are in by `coins` and in a batch by its rate.

    What is kept as the question is the sum of the rows alone. A synthesizer is told what it would be told of more rows.
    """

    def __init__(self, coins: Coins, rng: np.random.Generator, budget: Budget, units: int, ledger_rng: np.random.Generator, accountant: Accountant):
        super().__init__(budget, units, ledger_rng, accountant)
        self.directions: dict[str, NDArray[np.float64]] = {}
        self._coins, self._draws = coins, rng

    def asked(self, name: str, exact: Any) -> Any:
        rows_alone = super().asked(name, exact)
        charge = next(charge for charge in self.charges if charge.name == name)
        if charge.mechanism != "dp-sgd":
            return rows_alone
        return _plus(rows_alone, self._batch(charge, self.questions[-1][1].size))

    def _batch(self, charge: Charge, size: int) -> Vector:
        """The sum (size,) of the canaries in one batch."""
        if charge.name not in self.directions:
            drawn = self._draws.standard_normal((len(self._coins), size))
            self.directions[charge.name] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        included = self._coins & (self._draws.random(len(self._coins)) < charge.rate)
        return charge.sensitivity * included.astype(np.float64) @ self.directions[charge.name]


def _plus(values: Any, added: Vector) -> Any:
    """The sum of an array or torch tensor, wherever it lives, and a flat vector, in the type of the former."""
    shaped = added.reshape(values.shape)
    return values + (values.new_tensor(shaped) if hasattr(values, "new_tensor") else shaped.astype(values.dtype))
