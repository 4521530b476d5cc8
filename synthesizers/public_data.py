"""PublicData: rows of the public siblings, handed on as they are. What can be had at epsilon 0 without any model.

Privacy: data-free. It never sees a sensitive row, so neighbouring datasets give the same release.
A sibling's row enters only if it lies inside the sensitive environment's declared box (a test against public constants): clipping a larger
maze into a smaller box would break the rows and make the floor easier to beat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bench.core.data import Float, Schema, Transitions, Unit
from bench.core.errors import InputError
from bench.core.privacy import Ledger
from bench.core.protocols import Guarantee, Runtime, State


@dataclass(frozen=True)
class PublicData:
    """Equal shares of every sibling's rows: what epsilon 0 gives without a model."""

    version: ClassVar[int] = 1
    guarantee: ClassVar[Guarantee] = Guarantee.DATA_FREE
    units: ClassVar[frozenset[Unit]] = frozenset(Unit)
    needs_public: ClassVar[bool] = True

    def fit(
        self,
        data: Transitions,
        ledger: Ledger,
        rng: np.random.Generator,
        *,
        public: Mapping[str, Transitions],
        pretrained: State | None,
        runtime: Runtime,
    ) -> PublicDataSampler:
        if not public:
            raise InputError("public-data: this environment has no public siblings; leave the row out")
        inside = [_rows_inside(sibling.table(), data.schema) for sibling in public.values()]
        share = min(len(rows) for rows in inside)
        return PublicDataSampler(data.schema, np.concatenate([rng.permutation(rows)[:share] for rows in inside]))

    def restore(self, schema: Schema, state: State) -> PublicDataSampler:
        return PublicDataSampler(schema, state["table"])


def _rows_inside(table: Float, schema: Schema) -> Float:
    """The rows of a sibling's table (n, D) whose every column lies inside the bounds of `schema`."""
    inside = np.ones(len(table), bool)
    for column, values in zip(schema.columns, table.T, strict=True):
        inside &= (values >= np.float32(column.low)) & (values <= np.float32(column.high))
    return table[inside]


@dataclass(frozen=True, eq=False)
class PublicDataSampler:
    """Rows drawn without replacement, again from the start when all are drawn."""

    schema: Schema
    table: Float

    def state(self) -> State:
        return {"table": self.table}

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        rounds = -(-n // len(self.table))
        order = np.concatenate([rng.permutation(len(self.table)) for _ in range(rounds)])[:n]
        return Transitions.from_table(self.schema, self.table[order])
