"""Real: the sensitive rows themselves. The reference of every table and the positive control of every attack.

Privacy: none. It releases whole trajectories of the training part; its epsilon is infinite and it is never ranked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bench.core.data import Schema, Transitions, Unit
from bench.core.privacy import Ledger
from bench.core.protocols import Guarantee, Runtime, State


@dataclass(frozen=True)
class Real:
    """The training part itself: the reference, and the positive control of every attack."""

    version: ClassVar[int] = 1
    guarantee: ClassVar[Guarantee] = Guarantee.NONE
    units: ClassVar[frozenset[Unit]] = frozenset(Unit)
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
    ) -> RealSampler:
        return RealSampler(data)

    def restore(self, schema: Schema, state: State) -> RealSampler:
        return RealSampler(Transitions.from_table(schema, state["table"], state["timeouts"], state["trajectories"]))


@dataclass(frozen=True, eq=False)
class RealSampler:
    """Draws whole trajectories without replacement, again from the start when all are drawn."""

    data: Transitions

    def state(self) -> State:
        return {"table": self.data.table(), "timeouts": self.data.timeouts, "trajectories": self.data.require_trajectories()}

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        lengths = np.diff(self.data.require_trajectories())
        rounds = -(-n // len(self.data))
        order = np.concatenate([rng.permutation(len(lengths)) for _ in range(rounds)])
        return self.data.joined(order[: np.searchsorted(np.cumsum(lengths[order]), n) + 1], limit=n)
