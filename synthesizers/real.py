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
from synthesizers._parts.whole_trajectories import TrajectorySampler


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
    ) -> TrajectorySampler:
        return TrajectorySampler(data)

    def restore(self, schema: Schema, state: State) -> TrajectorySampler:
        return TrajectorySampler.restore(schema, state)
