"""Real: the sensitive rows themselves. The reference of every table and the positive control of every attack.

Privacy: none. It releases whole trajectories of the training part; its epsilon is infinite and it is never ranked. Spoiled in a named way, it is the
yardstick of the utility: `real[corruption=independent,level=0.3]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bench.core.data import Schema, Transitions, Unit
from bench.core.privacy import Ledger
from bench.core.protocols import Guarantee, Runtime, State
from synthesizers._parts.corruption import CORRUPTIONS
from synthesizers._parts.whole_trajectories import TrajectorySampler


@dataclass(frozen=True)
class Real:
    """The training part itself: the reference, and the positive control of every attack.

    Raises:
        ValueError: an unknown corruption, or a level below 0.
    """

    version: ClassVar[int] = 1
    guarantee: ClassVar[Guarantee] = Guarantee.NONE
    units: ClassVar[frozenset[Unit]] = frozenset(Unit)
    needs_public: ClassVar[bool] = False

    corruption: str = "none"  # a kind of `synthesizers/_parts/corruption.py`, for `bench validate`
    level: float = 0.0  # how much of it; 0 changes nothing

    def __post_init__(self) -> None:
        if self.corruption not in ("none", *CORRUPTIONS):
            raise ValueError(f"corruption: {self.corruption!r} is none of {', '.join(CORRUPTIONS)}")
        if not self.level >= 0:
            raise ValueError(f"level: {self.level} is negative; give 0 for rows as they are, or more")

    def fit(
        self,
        data: Transitions,
        ledger: Ledger,
        rng: np.random.Generator,
        *,
        public: Mapping[str, Transitions],
        pretrained: State | None,
        runtime: Runtime,
    ) -> TrajectorySampler | _Spoiled:
        return self._spoiled(TrajectorySampler(data))

    def restore(self, schema: Schema, state: State) -> TrajectorySampler | _Spoiled:
        return self._spoiled(TrajectorySampler.restore(schema, state))

    def _spoiled(self, rows: TrajectorySampler) -> TrajectorySampler | _Spoiled:
        return rows if self.corruption == "none" else _Spoiled(rows, self.corruption, self.level)


@dataclass(frozen=True, eq=False)
class _Spoiled:
    """Rows as they are, spoiled when they are drawn."""

    rows: TrajectorySampler
    corruption: str
    level: float

    def state(self) -> State:
        return self.rows.state()

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        return CORRUPTIONS[self.corruption](self.rows.sample(n, rng, runtime=runtime), self.level, rng)
