"""What every marginal method releases: one-way histograms over cells, joint tables over bins, and so a probability for each cell of each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Index, Transitions
from bench.core.protocols import Runtime, State
from synthesizers._parts.discretize import Discretization
from synthesizers._parts.marginals import Clique, Table, fuse, pack

_LEAST_COUNT = 0.5
"""Rows that a cell holds at the least: an empty one explains a row badly, not infinitely so."""


@dataclass(frozen=True, eq=False)
class MarginalModel:
    """The released marginals, in this order: the histogram of each of d varying columns, then each table. Samplers add how rows are drawn of them."""

    columns: Discretization
    tables: dict[Clique, Table]

    def state(self) -> State:
        return {**self.columns.state(), **pack(self.tables)}

    def cells(self, data: Transitions) -> Index:
        """The cell of each row in each marginal, (n, d + tables)."""
        codes, sizes = self.columns.encode(data), self.columns.sizes
        return np.column_stack([*self.columns.cells(data), *(fuse(codes, sizes, clique) for clique in self.tables)])

    def loss(self, data: Transitions, rows: Index, rng: np.random.Generator, *, runtime: Runtime) -> NDArray[np.float64]:
        """Minus the log of the probability of the row's cell in each marginal, (n, d + tables). No noise, so `rng` is left alone."""
        counts = [*self.columns.weights, *(table.ravel() for table in self.tables.values())]
        surprise = [-np.log(np.maximum(count, _LEAST_COUNT) / count.sum()) for count in counts]
        return np.column_stack([of_cell[cell] for of_cell, cell in zip(surprise, self.cells(data.rows(rows)).T, strict=True)])
