"""PrivSyn: many noisy low-dimensional marginals, and rows that are changed until they satisfy all of them.

Zhang, Wang, Li, Honorio, Backes, He, Chen and Zhang, "PrivSyn: Differentially Private Data Synthesis", USENIX Security 2021: the choice of marginals
by InDif, their consistency, and GUM, which writes the rows.

Privacy: of the zCDP, histograms of the columns get .1, InDif .1 and the tables .8. One row that is added or removed moves one count of each of d
histograms, an L2 of sqrt(d), and one count in each table; tables are scaled by the square roots of their shares, an L2 of 1. InDif of a pair is
sum |M_ij - M_i M_j / n| with the data's own n,
which is not released. Adding the row (a, b) changes the sum by at most the L1 change of M_ij, which is 1, plus that of M_i M_j / n, which is
sum |(M_i + e_a)(M_j + e_b) / (n + 1) - M_i M_j / n| <= (n + n + 1) / (n + 1) + n^2 (1 / n - 1 / (n + 1)) = (3 n + 1) / (n + 1) < 3: together less
than 4, and 4 sqrt(m) for the vector of all m pairs. Unit: transition. Bins, choice, consistency and GUM are post-processing.

Differs from the paper in:
1. GUM's two moves (a row becomes a copy of another, or takes over some of its columns) are offered to random rows and kept where they lower the error
   of all tables together, the sum of residual^2 / (wanted + 1) over their cells. The paper works table by table, largest error first; what a table
   gains there is lost again to the next.
2. The rows start from the tree of the strongest pairs, where the paper starts from independent columns.
3. Tables agree on each single column, by weighted least squares under non-negativity; the paper alternates averages with a cut of negative counts,
   on every set of columns that tables share. Only combined ones share two: few rows have some, a million none.
4. The threshold of the choice is a share of the nominal rows, so that it means the same for every dataset.
5. Ranges are cut into bins by their noisy histograms; the paper's columns are discrete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import pi, prod, sqrt
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Index, Schema, Transitions, Unit
from bench.core.privacy import Gaussian, Ledger
from bench.core.protocols import Guarantee, Runtime, State
from synthesizers._parts.checks import require_at_least
from synthesizers._parts.discretize import Codes, Discretization, varying_grids
from synthesizers._parts.marginal_model import MarginalModel
from synthesizers._parts.marginals import Clique, Table, affordable_bins, consistent, count, count_pairs, learn_columns, measure, unpack
from synthesizers._parts.trees import draw_codes, spanning_tree

BATCHES, SMALLEST_BATCH = 100, 256
"""Rows change together in batches of 1/100: few enough that their changes hardly disturb each other, many enough for arrays to pay."""
WHOLE, PARTIAL = 0.4, 1.5
"""Share of the offers that are a whole row, and the mean number of columns in the others."""
_CHUNK = 1 << 22
"""Cells of rows that are looked up at a time."""


@dataclass(frozen=True)
class PrivSyn:
    """Noisy marginals of (s, a, r, s' - s, terminal), chosen where columns depend on each other; rows by gradual updates."""

    bins: int = 48
    """The most bins of a column in a joint marginal; fewer where the noise of so many cells would drown the rows."""
    cells: int = 4096
    """The most equal cells of a continuous column in its one-way marginal, from which the bins are made."""
    threshold: float = 0.02
    """A pair is worth its noise if it lowers the expected error by this share of the nominal rows."""
    combined: int = 5_000
    """The most cells of a marginal that takes the place of its pairs; 5,000 is the limit of the authors' code."""
    proposals: int = 60
    """Changes offered to each row, on average; an eighth of them, of no column, change nothing."""

    version: ClassVar[int] = 1
    guarantee: ClassVar[Guarantee] = Guarantee.DP
    units: ClassVar[frozenset[Unit]] = frozenset({Unit.TRANSITION})
    needs_public: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_at_least(1, bins=self.bins, cells=self.cells)
        require_at_least(0, threshold=self.threshold, combined=self.combined, proposals=self.proposals)

    def fit(
        self,
        data: Transitions,
        ledger: Ledger,
        rng: np.random.Generator,
        *,
        public: Mapping[str, Transitions],
        pretrained: State | None,
        runtime: Runtime,
    ) -> PrivSynSampler:
        d = len(varying_grids(data.schema, self.cells))
        m = d * (d - 1) / 2
        plan = ledger.plan(
            one_way=Gaussian(l2=sqrt(d), weight=0.1),
            in_dif=Gaussian(l2=4 * sqrt(m), weight=0.1),
            tables=Gaussian(l2=1.0, weight=0.8),
        )
        rows = data.schema.nominal_rows
        columns, one_way = learn_columns(data, plan.one_way, self.cells, affordable_bins(self.bins, plan.tables.scale * sqrt(m), rows))
        codes = columns.encode(data)
        pairs = count_pairs(codes, columns.sizes)
        in_dif = dict(zip(pairs, plan.in_dif([independence_difference(table) for table in pairs.values()]), strict=True))
        chosen = choose_pairs(in_dif, columns.sizes, plan.tables.scale, self.threshold * rows)
        cliques = combine(chosen, columns.sizes, self.combined)
        exact = {clique: pairs[clique] if clique in pairs else count(codes, columns.sizes, clique) for clique in cliques}
        measured = measure(plan.tables, exact, shares([table.size for table in exact.values()]))
        return PrivSynSampler(columns, consistent(one_way, measured, columns.total), self.proposals)

    def restore(self, schema: Schema, state: State) -> PrivSynSampler:
        return PrivSynSampler(Discretization.restore(schema, state), unpack(state), self.proposals)


# --- choose the marginals ----------------------------------------------------------------------------------------------------------------------


def independence_difference(table: NDArray) -> float:
    """InDif: how many rows the table of a pair differs from the product of its margins."""
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    return float(np.abs(table - np.outer(rows, columns) / max(table.sum(), 1)).sum())


def choose_pairs(in_dif: Mapping[Clique, float], sizes: Sequence[int], scale: float, threshold: float) -> list[Clique]:
    """The greedy choice: take the pair that most lowers noise error + dependence error, until it lowers it by less than `threshold` rows.

    With cells shared out by `shares`, the noise error of a set S is scale sqrt(2 / pi) (sum over S of cells^(2/3))^(3/2). A column in no pair is
    joined to the column on which it depends most.
    """
    pairs = list(in_dif)
    left_out = np.array([in_dif[pair] for pair in pairs])
    bulk = np.array([_bulk(sizes[i] * sizes[j]) for i, j in pairs])
    chosen: list[Clique] = []
    spent = 0.0
    while len(chosen) < len(pairs):
        gain = left_out - scale * sqrt(2 / pi) * ((spent + bulk) ** 1.5 - spent**1.5)
        best = int(np.argmax(gain))
        if gain[best] < threshold:
            break
        chosen.append(pairs[best])
        spent += bulk[best]
        left_out[best] = -np.inf
    for column in range(len(sizes)):
        if not any(column in pair for pair in chosen):
            chosen.append(max((pair for pair in pairs if column in pair), key=lambda pair: in_dif[pair]))
    return chosen


def _bulk(cells: int) -> float:
    """Shares proportional to cells^(2/3) minimise the summed L1 noise of tables."""
    return float(cells ** (2 / 3))


def shares(cells: Sequence[int]) -> list[float]:
    """The share of each table in the zCDP of all, by its number of cells."""
    total = sum(_bulk(size) for size in cells)
    return [_bulk(size) / total for size in cells]


def combine(chosen: Sequence[Clique], sizes: Sequence[int], most: int) -> list[Clique]:
    """Cliques of chosen pairs in place of their pairs: largest first, of at most `most` cells, sharing at most two columns with those before."""
    joined: list[Clique] = []
    covered: set[int] = set()
    for clique in _cliques(chosen, sizes, most):
        if len(covered.intersection(clique)) <= 2:
            joined.append(clique)
            covered.update(clique)
    return joined + [pair for pair in chosen if not any(set(pair) <= set(clique) for clique in joined)]


def _cliques(chosen: Sequence[Clique], sizes: Sequence[int], most: int) -> list[Clique]:
    """All cliques of three columns or more whose table has at most `most` cells, largest first."""
    linked = set(chosen) | {(j, i) for i, j in chosen}
    grown: list[Clique] = sorted(chosen)
    found: list[Clique] = []
    while grown:
        larger = [(*clique, k) for clique in grown for k in range(clique[-1] + 1, len(sizes)) if all((i, k) in linked for i in clique)]
        grown = [clique for clique in larger if prod(sizes[i] for i in clique) <= most]
        found = grown + found
    return found


# --- write the rows ---------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PrivSynSampler(MarginalModel):
    """Tables that agree on their columns; rows are changed until they satisfy them."""

    proposals: int

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        codes = draw_codes(_strongest_tree(self.tables, self.columns), self.columns.sizes, n, rng)
        batch = max(n // BATCHES, min(n, SMALLEST_BATCH), 1)
        steps = -(-n * self.proposals // batch)
        tables = _Residuals(self.tables, codes)
        for step in range(steps):
            _update(codes, tables, batch, rng)
            runtime.progress(step + 1, steps)
        return self.columns.decode(codes, rng)


def _strongest_tree(tables: Mapping[Clique, Table], columns: Discretization) -> dict[Clique, Table]:
    """The spanning tree of the pairs that depend most, for the rows to start from; a pair that no table holds counts as independent."""
    pairs: dict[Clique, Table] = {}
    for i, j in combinations(range(len(columns.sizes)), 2):
        holder = next((clique for clique in tables if {i, j} <= set(clique)), None)
        others = tuple(axis for axis, k in enumerate(holder) if k not in (i, j)) if holder else ()
        pairs[i, j] = tables[holder].sum(axis=others) if holder else np.outer(columns.one_way(i), columns.one_way(j)) / columns.total
    dependence = np.array([independence_difference(table) for table in pairs.values()])
    return {clique: pairs[clique] for clique in spanning_tree(list(pairs), lambda allowed: int(np.argmax(np.where(allowed, dependence, -1.0))))}


class _Residuals:
    """Rows present minus rows wanted, in every cell of every table, flat; and the weight of a cell's squared residual in the error."""

    def __init__(self, tables: Mapping[Clique, Table], codes: Codes) -> None:
        n, widest = codes.shape[1], max(map(len, tables))
        wanted = np.concatenate([table.ravel() * (n / table.sum()) for table in tables.values()])
        first = np.cumsum([0, *(table.size for table in tables.values())])[:-1]
        self.first = first[:, None]
        self.columns = np.array([clique + (0,) * (widest - len(clique)) for clique in tables]).T
        strides = [[prod(table.shape[axis + 1 :]) for axis in range(table.ndim)] + [0] * (widest - table.ndim) for table in tables.values()]
        self.strides = np.array(strides).T[:, :, None]
        self.weight = 1 / (wanted + 1.0)
        self.residual = -wanted
        rows = 1 + _CHUNK // len(tables)
        for start in range(0, n, rows):
            self.residual += np.bincount(self.cells(codes[:, start : start + rows]).ravel(), minlength=len(wanted))

    def cells(self, codes: Codes) -> Index:
        """The flat cells of rows (d, b) in all tables, (tables, b)."""
        fused = self.first + codes[self.columns[0]] * self.strides[0]
        for columns, strides in zip(self.columns[1:], self.strides[1:], strict=True):
            fused += codes[columns] * strides
        return fused

    def move(self, before: Index, after: Index) -> None:
        """Account for rows that leave the cells `before` for the cells `after`."""
        np.add.at(self.residual, after.ravel(), 1.0)
        np.add.at(self.residual, before.ravel(), -1.0)

    def rise(self, before: Index, after: Index) -> NDArray[np.float64]:
        """How much the error rises with each row that moves from the cells `before` to `after`, if it moves alone, (b,)."""
        change = self.weight[after] * (2 * self.residual[after] + 1) - self.weight[before] * (2 * self.residual[before] - 1)
        return np.where(before == after, 0.0, change).sum(axis=0)


def _update(codes: Codes, tables: _Residuals, batch: int, rng: np.random.Generator) -> None:
    """Offers random rows GUM's two moves, to copy another row or some of its columns, and keeps what lowers the error of all tables together."""
    d, n = codes.shape
    rows = np.unique(rng.integers(n, size=batch))
    present, donors = codes[:, rows], codes[:, rng.integers(n, size=len(rows))]
    taken = (rng.random((d, len(rows))) < PARTIAL / d) | (rng.random(len(rows)) < WHOLE)
    offered = np.where(taken, donors, present)
    before, after = tables.cells(present), tables.cells(offered)
    better = tables.rise(before, after) < 0
    codes[:, rows[better]] = offered[:, better]
    tables.move(before[:, better], after[:, better])
