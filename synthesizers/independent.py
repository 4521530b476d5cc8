"""Independent: every column drawn from its own noisy histogram. The DP floor: one-way marginals and no joint structure.

The product of one-way marginals is the model that every marginal-based method starts from (McKenna, Miklau and Sheldon 2021).

Privacy: one histogram of counts for each of d varying columns, the Gaussian mechanism on all of them as one vector. Adding or removing one row
moves one count of each histogram by one, so the L2 sensitivity of the vector is sqrt(d). Unit: transition. Cells come from the public Schema;
projection onto non-negative counts that sum to the noisy total, and sampling, are post-processing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bench.core.data import Schema, Transitions, Unit
from bench.core.privacy import Gaussian, Ledger
from bench.core.protocols import Guarantee, Runtime, State
from synthesizers._parts.checks import require_at_least
from synthesizers._parts.discretize import Discretization, affordable_cells, discretize, histograms, varying_grids
from synthesizers._parts.marginal_model import MarginalModel


@dataclass(frozen=True)
class Independent:
    """DP one-way marginals of (s, a, r, s' - s, terminal)."""

    cells: int = 4096
    """The most equal cells of a continuous column: so many that s' - s, which fills a sliver of its declared box, keeps its shape."""

    version: ClassVar[int] = 2
    guarantee: ClassVar[Guarantee] = Guarantee.DP
    units: ClassVar[frozenset[Unit]] = frozenset({Unit.TRANSITION})
    needs_public: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_at_least(1, cells=self.cells)

    def fit(
        self,
        data: Transitions,
        ledger: Ledger,
        rng: np.random.Generator,
        *,
        public: Mapping[str, Transitions],
        pretrained: State | None,
        runtime: Runtime,
    ) -> IndependentSampler:
        plan = ledger.plan(histograms=Gaussian(l2=len(varying_grids(data.schema, self.cells)) ** 0.5, weight=1.0))
        cells = affordable_cells(self.cells, plan.histograms.scale, data.schema.nominal_rows)
        noisy = plan.histograms(histograms(data, cells))
        return IndependentSampler(discretize(data.schema, cells, noisy, plan.histograms.scale, bins=1), {})

    def restore(self, schema: Schema, state: State) -> IndependentSampler:
        return IndependentSampler(Discretization.restore(schema, state), {})


@dataclass(frozen=True, eq=False)
class IndependentSampler(MarginalModel):
    """Noisy histograms of all columns and no table: a discretisation whose columns have one bin each."""

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        return self.columns.decode(np.zeros((len(self.columns.grids), n), np.uint8), rng)
