"""PublicData: trajectories of the public siblings, handed on as they are. What can be had at epsilon 0 without any model.

Privacy: data-free. It never sees a sensitive row, so neighbouring datasets give the same release.
A sibling's row enters only if it lies inside the sensitive environment's declared box (a test against public constants): clipping a larger
maze into a smaller box would break the rows and make the floor easier to beat. A sibling without such a row has no share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bench.core.data import Schema, Transitions, Unit, concatenate
from bench.core.errors import InputError
from bench.core.privacy import Ledger
from bench.core.protocols import Guarantee, Runtime, State
from synthesizers._parts.whole_trajectories import TrajectorySampler


@dataclass(frozen=True)
class PublicData:
    """Equal shares of every sibling's rows: what epsilon 0 gives without a model."""

    version: ClassVar[int] = 2
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
    ) -> TrajectorySampler:
        if not public:
            raise InputError("public-data: this environment has no public siblings; leave the row out")
        inside = [rows for sibling in public.values() if len(rows := _inside(sibling, data.schema))]
        if not inside:
            raise InputError("public-data: no row of the public siblings lies inside this environment's bounds; leave the row out")
        share = min(len(rows) for rows in inside)
        return TrajectorySampler(concatenate([TrajectorySampler(rows).sample(share, rng, runtime=runtime) for rows in inside]))

    def restore(self, schema: Schema, state: State) -> TrajectorySampler:
        return TrajectorySampler.restore(schema, state)


def _inside(sibling: Transitions, schema: Schema) -> Transitions:
    """The sibling's trajectories as far as every column lies inside the bounds of `schema`: what leaves them parts two trajectories, as does the
    public maximum of their length."""
    bounds = zip(schema.columns, sibling.table().T, strict=True)
    inside = np.all([(values >= np.float32(column.low)) & (values <= np.float32(column.high)) for column, values in bounds], axis=0)
    offsets = sibling.require_trajectories()
    begins = np.zeros(len(sibling) + 1, bool)
    begins[offsets] = True
    begins[:-1] |= np.diff(inside, prepend=False)
    first = np.maximum.accumulate(np.where(begins[:-1], np.arange(len(sibling)), 0))
    begins[:-1] |= (np.arange(len(sibling)) - first) % schema.max_trajectory_length == 0
    ends = begins[1:] & inside
    timeouts = sibling.timeouts | (ends & ~sibling.terminals)
    kept = replace(sibling, schema=schema, timeouts=timeouts, trajectories=None).rows(inside)
    return replace(kept, trajectories=np.append(0, np.flatnonzero(ends[inside]) + 1))
