"""Independent: every column drawn from its own noisy histogram. The DP floor: one-way marginals and no joint structure.

The product of one-way marginals is the model that every marginal-based method starts from (McKenna, Miklau and Sheldon 2021, section 3).

Privacy: one histogram of counts for each of d columns, the Gaussian mechanism on all of them as one vector. Adding or removing one row moves
one count of each histogram by one, so the L2 sensitivity of the vector is sqrt(d). Unit: transition. Bin edges and levels come from
the public Schema; projection onto non-negative counts that sum to the nominal N, and sampling, are post-processing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bench.core.data import Schema, Transitions, Unit
from bench.core.privacy import Gaussian, Ledger
from bench.core.protocols import Guarantee, Runtime, State
from synthesizers._parts.discretize import Binning, modelled_column, modelled_columns, transitions_from_columns


@dataclass(frozen=True)
class Independent:
    """DP one-way marginals of (s, a, r, s' - s, terminal)."""

    bins: int = 1024
    """Equal-width bins of a continuous column: fine enough that s' - s, which fills a sliver of its declared box, keeps its shape."""

    version: ClassVar[int] = 1
    guarantee: ClassVar[Guarantee] = Guarantee.DP
    units: ClassVar[frozenset[Unit]] = frozenset({Unit.TRANSITION})
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
    ) -> IndependentSampler:
        binnings = _binnings(data.schema, self.bins)
        plan = ledger.plan(histograms=Gaussian(l2=len(binnings) ** 0.5, weight=1.0))
        counts = [np.bincount(b.encode(modelled_column(data, i)), minlength=b.size) for i, b in enumerate(binnings)]
        noisy = plan.histograms(np.concatenate(counts))
        return IndependentSampler(data.schema, self.bins, noisy)

    def restore(self, schema: Schema, state: State) -> IndependentSampler:
        return IndependentSampler(schema, self.bins, state["counts"])


@dataclass(frozen=True, eq=False)
class IndependentSampler:
    """Noisy counts of all columns, one histogram after another."""

    schema: Schema
    bins: int
    counts: np.ndarray

    def state(self) -> State:
        return {"counts": self.counts}

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        binnings = _binnings(self.schema, self.bins)
        histograms = np.split(self.counts, np.cumsum([binning.size for binning in binnings])[:-1])
        columns = []
        for binning, counts in zip(binnings, histograms, strict=True):
            weights = _project_onto_simplex(counts, self.schema.nominal_rows)
            codes = rng.choice(binning.size, size=n, p=weights / weights.sum())
            columns.append(binning.decode(codes, rng))
        return transitions_from_columns(self.schema, columns)


def _binnings(schema: Schema, bins: int) -> list[Binning]:
    return [Binning(column, bins) for column in modelled_columns(schema)]


def _project_onto_simplex(counts: np.ndarray, total: float) -> np.ndarray:
    """The nearest non-negative counts that sum to `total`: one shift for all, negative ones cut (norm-sub, Wang et al. 2020)."""
    descending = np.sort(counts)[::-1]
    shifts = (np.cumsum(descending) - total) / np.arange(1, len(counts) + 1)
    kept = np.flatnonzero(descending > shifts)[-1]
    return np.maximum(counts - shifts[kept], 0.0)
