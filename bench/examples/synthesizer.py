"""My synthesizer: every column drawn from its own noisy histogram.

Privacy: one histogram for each of d columns, the Gaussian mechanism on all of them at once. Adding or removing one row moves one count of each
histogram by one, so the L2 sensitivity is sqrt(d). Unit: transition. Bounds come from the public schema.
"""

from dataclasses import dataclass

import numpy as np

from bench import Gaussian, Guarantee, Transitions, Unit, register


@register("synthesizers", "my-synthesizer")
@dataclass(frozen=True)
class MySynthesizer:
    bins: int = 32  # a field is a hyper-parameter: `my-synthesizer[bins=64]` is a variant with a row of its own

    version = 1
    guarantee = Guarantee.DP
    units = frozenset({Unit.TRANSITION})
    needs_public = False

    def fit(self, data, ledger, rng, *, public, pretrained, runtime):
        schema, table = data.schema, data.table()
        plan = ledger.plan(histograms=Gaussian(l2=len(schema.columns) ** 0.5, weight=1.0))
        counts = [np.histogram(x, self.bins, (c.low, c.high + 1e-6))[0] for c, x in zip(schema.columns, table.T, strict=True)]
        return MySampler(schema, plan.histograms(np.array(counts)))

    def restore(self, schema, state):
        return MySampler(schema, state["counts"])


@dataclass(frozen=True)
class MySampler:
    schema: object
    counts: np.ndarray

    def state(self):
        return {"counts": self.counts}

    def sample(self, n, rng, *, runtime):
        columns = []
        for column, counts in zip(self.schema.columns, np.maximum(self.counts, 1e-3), strict=True):
            codes = rng.choice(len(counts), n, p=counts / counts.sum())
            values = column.low + (codes + rng.random(n)) / len(counts) * (column.high - column.low)
            if column.levels:
                values = np.array(column.levels)[np.abs(values[:, None] - column.levels).argmin(1)]
            columns.append(np.clip(values, column.low, column.high))
        return Transitions.from_table(self.schema, np.column_stack(columns))
