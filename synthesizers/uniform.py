"""Uniform: every column uniform inside its declared bounds. The floor of every fidelity score.

Privacy: data-free. It never sees a sensitive row, so neighbouring datasets give the same release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bench.core.data import Column, Float, Schema, Transitions, Unit
from bench.core.privacy import Ledger
from bench.core.protocols import Guarantee, Runtime, State


@dataclass(frozen=True)
class Uniform:
    """Independent uniform draws; discrete columns uniform over their levels."""

    version: ClassVar[int] = 1
    guarantee: ClassVar[Guarantee] = Guarantee.DATA_FREE
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
    ) -> UniformSampler:
        return UniformSampler(data.schema)

    def restore(self, schema: Schema, state: State) -> UniformSampler:
        return UniformSampler(schema)


@dataclass(frozen=True)
class UniformSampler:
    """Draws from the public schema; there is nothing else to hold."""

    schema: Schema

    def state(self) -> State:
        return {}

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        return Transitions.from_table(self.schema, np.column_stack([_draw(column, n, rng) for column in self.schema.columns]))


def _draw(column: Column, n: int, rng: np.random.Generator) -> Float:
    if column.levels:
        return rng.choice(np.array(column.levels, np.float32), size=n)
    low, high = np.float32(column.low), np.float32(column.high)
    return np.clip(low + (high - low) * rng.random(n, np.float32), low, high)
