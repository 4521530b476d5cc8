"""PGM: noisy one-way marginals, a tree of noisy two-way marginals, and the graphical model that fits them best.

McKenna, Miklau and Sheldon, "Winning the NIST Contest: A scalable and general approach to differentially private synthetic data", Journal of Privacy
and Confidentiality 11(3), 2021 (its method "MST"); inference of McKenna, Sheldon and Miklau, "Graphical-model based estimation and inference for
differential privacy", ICML 2019. `mode=aim` selects cliques adaptively instead (`_parts/aim.py`).

Privacy: one row is added or removed. It moves one count in each of d histograms, an L2 of sqrt(d); one count in each of the d - 1 chosen tables,
which are scaled by 1/sqrt(d - 1) to an L2 of 1. A score ||M_ij - M^_ij||_1 holds an exact table against the product of released histograms, so it
moves by at most 1: all m = d(d - 1)/2 scores in one Gaussian vector have an L2 of sqrt(m), and d - 1 exponential picks a sensitivity of 1. Each of
the three has a third of the zCDP budget. Unit: transition. Bins, tree, estimate and sampling are post-processing.

Differs from the paper in:
1. All scores are released in one Gaussian vector, which keeps the method on privacy-loss distributions; `select=exponential` picks as published.
2. Ranges are cut into bins by their noisy histograms; the paper's columns are discrete, and it merges their rare values.
3. The estimate is the exact optimum of the paper's least squares on a tree, not a number of steps of mirror descent.
4. Rows are allotted to cells by systematic sampling: given a bin of one column, the counts of the next stray by less than one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Schema, Transitions, Unit
from bench.core.privacy import Exponential, Gaussian, Ledger, Plan, Request
from bench.core.protocols import Guarantee, Runtime, State
from synthesizers._parts import aim
from synthesizers._parts.checks import require_at_least
from synthesizers._parts.discretize import Discretization, varying_grids
from synthesizers._parts.marginal_model import MarginalModel
from synthesizers._parts.marginals import Clique, affordable_bins, consistent, count_pairs, learn_columns, measure, unpack
from synthesizers._parts.trees import draw_codes, spanning_tree


@dataclass(frozen=True)
class PGM:
    """A tree of DP two-way marginals over (s, a, r, s' - s, terminal)."""

    bins: int = 64
    """The most bins of a column in a two-way marginal; fewer where the noise of so many cells would drown the rows."""
    cells: int = 4096
    """The most equal cells of a continuous column in its one-way marginal, from which the bins are made."""
    select: aim.Selection = "gaussian"
    """How the tree is chosen: all scores in one Gaussian vector, or the published exponential mechanism."""
    mode: Literal["tree", "aim"] = "tree"
    """`aim`: adaptive selection with cyclic cliques, through the `pgm` extra."""
    rounds: float = 1.5
    """Two-way marginals that `mode=aim` measures, at the most, for each varying column; below 1 some columns stay alone."""

    version: ClassVar[int] = 1
    guarantee: ClassVar[Guarantee] = Guarantee.DP
    units: ClassVar[frozenset[Unit]] = frozenset({Unit.TRANSITION})
    needs_public: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_at_least(1, bins=self.bins, cells=self.cells)
        require_at_least(0, rounds=self.rounds)

    def fit(
        self,
        data: Transitions,
        ledger: Ledger,
        rng: np.random.Generator,
        *,
        public: Mapping[str, Transitions],
        pretrained: State | None,
        runtime: Runtime,
    ) -> CliqueSampler:
        d = len(varying_grids(data.schema, self.cells))
        rounds = ceil(self.rounds * d)
        plan = ledger.plan(**(aim.aim_requests(d, rounds, self.select) if self.mode == "aim" else _tree_requests(d, self.select)))
        noise = plan.tables.scale * (1.0 if self.mode == "aim" else sqrt(d - 1))
        columns, one_way = learn_columns(data, plan.one_way, self.cells, affordable_bins(self.bins, noise, data.schema.nominal_rows))
        pairs = count_pairs(columns.encode(data), columns.sizes)
        if self.mode == "aim":
            return CliqueSampler(columns, aim.adaptive_tables(pairs, plan, one_way, columns.total, rounds, self.select, runtime))
        tree = _choose_tree(pairs, columns, self.select, plan)
        tables = measure(plan.tables, {clique: pairs[clique] for clique in tree}, [1 / len(tree)] * len(tree))
        return CliqueSampler(columns, consistent(one_way, tables, columns.total))

    def restore(self, schema: Schema, state: State) -> CliqueSampler:
        return CliqueSampler(Discretization.restore(schema, state), unpack(state))


def _tree_requests(d: int, select: aim.Selection) -> dict[str, Request]:
    scores: Request = (
        Gaussian(l2=sqrt(d * (d - 1) / 2), weight=1 / 3) if select == "gaussian" else Exponential(sensitivity=1.0, count=d - 1, weight=1 / 3)
    )
    return {
        "one_way": Gaussian(l2=sqrt(d), weight=1 / 3),
        "scores": scores,
        "tables": Gaussian(l2=1.0, weight=1 / 3),
    }


# --- select -------------------------------------------------------------------------------------------------------------------------------------


def _choose_tree(pairs: Mapping[Clique, NDArray[np.int64]], columns: Discretization, select: aim.Selection, plan: Plan) -> list[Clique]:
    """The spanning tree on ||M_ij - M^_ij||_1, with M^_ij the product of the noisy one-way marginals."""
    one_way = [columns.one_way(i) for i in range(len(columns.grids))]
    scores = np.array([np.abs(table - np.outer(one_way[i], one_way[j]) / columns.total).sum() for (i, j), table in pairs.items()])
    if select == "gaussian":
        noisy = plan.scores(scores)
        return spanning_tree(list(pairs), lambda allowed: int(np.argmax(np.where(allowed, noisy, -np.inf))))
    return spanning_tree(list(pairs), lambda allowed: plan.scores(np.where(allowed, scores, -np.inf)))


# --- sample -------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CliqueSampler(MarginalModel):
    """Tables that agree with each other on the cliques of a junction tree; a spanning tree's edges are the simplest kind."""

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        return self.columns.decode(draw_codes(self.tables, self.columns.sizes, n, rng), rng)
