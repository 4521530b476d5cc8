"""AIM: two-way marginals chosen one after another, each where the model of all earlier answers strays furthest from the data.

McKenna, Mullins, Sheldon and Miklau, "AIM: An Adaptive and Iterative Mechanism for Differentially Private Synthetic Data", VLDB 2022, with the
workload of all pairs; the model is fitted by private-pgm (McKenna, Sheldon and Miklau 2019) in the package `mbi`.

Privacy: one row is added or removed. Given the earlier answers the model is fixed, and the row moves one count of each pair's table by one, so each
score moves by at most 1: all m = d(d - 1)/2 scores of a round in one Gaussian vector have an L2 of sqrt(m), a pick by the exponential mechanism has
a sensitivity of 1, and the picked table has an L2 of 1. One-way histograms, scores and tables have 0.1, 0.09 and 0.81 of the zCDP budget. The
candidates, the end of the rounds and the fit depend on answers alone.

Differs from the paper in:
1. The rounds are a public constant and cost the same each, for the plan is declared before the first answer; the paper anneals its noise until the
   budget is spent. What was declared stays charged if the candidates end early.
2. All scores of a round are released in one Gaussian vector, which keeps the method on privacy-loss distributions; `exponential` picks as published.
3. Candidates are pairs not measured yet; the paper also has single columns and measures a marginal again.
4. One number bounds the size of the model throughout; the paper lets the bound grow with the budget spent.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from itertools import combinations
from math import pi, sqrt
from string import ascii_lowercase
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import InputError
from bench.core.privacy import Exponential, Gaussian, Plan, Request
from bench.core.protocols import Runtime
from synthesizers._parts.marginals import Clique, Measured, Table, margin

Selection = Literal["gaussian", "exponential"]
_MOST_CELLS = 2_000_000
"""Cells of a junction tree, 16 MB: room for seven triples of 64 bins, which makes a fit last ten seconds, not one."""
_STEPS, _TOLERANCE = 1000, 0.01
"""The most steps of mirror descent in a fit; it ends where fifty steps lower the loss by less than the tolerance, twice in a row."""
_STRIDE = 10.0
"""The first step of mirror descent, in multiples of the safe one, which grows by 1 % a step; the line search halves it where it is too long."""
_LEAST_COUNT = 0.1
"""Counts below it, in a noisy table or the model, do not enter the first guess of a potential, a ratio of the two."""
_LEAST_VARIANCE = 1e-9
"""Stands for a variance of zero: an infinite budget."""


def aim_requests(columns: int, rounds: int, select: Selection) -> dict[str, Request]:
    """The plan of the whole method, from public constants."""
    l2 = sqrt(columns * (columns - 1) / 2)
    gaussian, exponential = Gaussian(l2=l2, count=rounds, weight=0.09), Exponential(sensitivity=1.0, count=rounds, weight=0.09)
    return {
        "one_way": Gaussian(l2=sqrt(columns), weight=0.1),
        "scores": gaussian if select == "gaussian" else exponential,
        "tables": Gaussian(l2=1.0, count=rounds, weight=0.81),
    }


def adaptive_tables(
    pairs: Mapping[Clique, NDArray], plan: Plan, one_way: Sequence[Measured], total: float, rounds: int, select: Selection, runtime: Runtime
) -> dict[Clique, Table]:
    """The tables of a junction tree of the last model: they cover all columns, agree where they meet, and sum to `total`.

    Args:
        pairs: the exact tables of all pairs, for the plan alone.
        plan: the answers to `aim_requests`, of which `one_way` is used up.
        one_way: the noisy histogram of every column.
        total: the noisy number of rows.
        rounds: the pairs to measure; fewer once no other keeps the model within its size.
        select: how `aim_requests` asked for the scores.
        runtime: told of each round.
    """
    with _float64_mbi() as mbi:
        fit = _Fit(mbi, one_way, total)
        for done in range(rounds):
            allowed = np.array([fit.has_room_for(pair) for pair in pairs])
            if not allowed.any():
                break
            expected = fit.pair_tables()
            pair = list(pairs)[_pick(_scores(pairs, expected, plan.tables.scale), allowed, select, plan)]
            fit.add(pair, Measured(plan.tables(pairs[pair]), plan.tables.scale**2), expected[pair])
            runtime.progress(done + 1, rounds)
        return fit.tables


def _scores(pairs: Mapping[Clique, NDArray], expected: Mapping[Clique, Table], scale: float) -> NDArray[np.float64]:
    """By how much the model's error on each pair exceeds the error expected of measuring it, in L1; all weights of the workload are equal."""
    bias = sqrt(2 / pi) * scale
    return np.array([np.abs(table - expected[pair]).sum() - bias * table.size for pair, table in pairs.items()])


def _pick(scores: NDArray[np.float64], allowed: NDArray[np.bool_], select: Selection, plan: Plan) -> int:
    if select == "gaussian":
        return int(np.argmax(np.where(allowed, plan.scores(scores), -np.inf)))
    return plan.scores(np.where(allowed, scores, -np.inf))


# --- the model ------------------------------------------------------------------------------------------------------------------------------------


class _Fit:
    """The graphical model fitted to all noisy tables so far, and the junction tree of its marginals."""

    def __init__(self, mbi: Any, one_way: Sequence[Measured], total: float) -> None:
        self.mbi, self.total = mbi, total
        self.domain = mbi.Domain(range(len(one_way)), [len(measured.counts) for measured in one_way])
        self.part = np.arange(len(one_way))
        self.noisy: dict[Clique, tuple[Table, Table]] = {}
        self.potentials = mbi.CliqueVector(self.domain, (), {})
        for i, measured in enumerate(one_way):
            self._include((i,), measured, np.full(len(measured.counts), total / len(measured.counts)))
        self._refit()

    def add(self, pair: Clique, measured: Measured, expected: Table) -> None:
        """One more noisy table, of which the model so far would expect `expected`."""
        self._include(pair, measured, expected)
        self.part[self.part == self.part[pair[1]]] = self.part[pair[0]]
        self._refit()

    def has_room_for(self, pair: Clique) -> bool:
        """Whether the pair is new and keeps the model within its size; one that joins two parts adds no more than its own cells."""
        if pair in self.potentials.cliques:
            return False
        if self.part[pair[0]] != self.part[pair[1]]:
            return sum(table.size for table in self.tables.values()) + self.domain.size(pair) <= _MOST_CELLS
        return sum(map(self.domain.size, self._junction_tree(pair))) <= _MOST_CELLS

    def pair_tables(self) -> dict[Clique, Table]:
        """The model's tables of all pairs."""
        one_way = {i: margin(table, axis) for clique, table in self.tables.items() for axis, i in enumerate(clique)}
        tables: dict[Clique, Table] = {(i, j): np.outer(one_way[i], one_way[j]) / self.total for i, j in combinations(sorted(one_way), 2)}
        for i in one_way:
            tables.update({(i, j): table for j, table in _tables_with(i, self.tree, self.tables) if i < j})
        return tables

    def _include(self, clique: Clique, measured: Measured, expected: Table) -> None:
        """Keep counts and precision; the first guess of the potential is a step of iterative proportional fitting."""
        self.noisy[clique] = measured.counts, np.broadcast_to(1 / np.maximum(measured.variance, _LEAST_VARIANCE), measured.counts.shape)
        ratio = np.log(np.maximum(measured.counts, _LEAST_COUNT) / np.maximum(expected, _LEAST_COUNT))
        tables = {**self.potentials.tables, clique: self.mbi.Factor(self.domain.project(clique), ratio)}
        self.potentials = self.mbi.CliqueVector(self.domain, tuple(tables), tables)

    def _refit(self) -> None:
        curvature = max(float(precision.max()) for _, precision in self.noisy.values())
        loss = self.mbi.MarginalLossFn(tuple(self.noisy), _squared_error, self.noisy, curvature / _STRIDE)
        model = self.mbi.estimation.MirrorDescent().estimate(
            self.domain, loss, known_total=self.total, iters=_STEPS, warm_start=self.potentials, tol=_TOLERANCE
        )
        self.potentials = model.potentials
        self.tree = self._junction_tree()
        marginals = self.mbi.marginal_oracles.message_passing_hugin(self.potentials.expand(list(self.tree)), self.total)
        self.tables = {clique: np.asarray(marginals[clique].values) for clique in self.tree}

    def _junction_tree(self, *more: Clique) -> Any:
        """The cliques of the model and `more` in a junction tree: a networkx graph."""
        return self.mbi.junction_tree.make_junction_tree(self.domain, [*self.potentials.cliques, *more])[0]


def _squared_error(marginals: Any, noisy: Mapping[Clique, tuple[Any, Any]]) -> Any:
    """In standard deviations; a module's function of arrays, so that jax compiles a model once for all fits in a process."""
    return sum((precision * (marginals.project(clique).values - counts) ** 2).sum() / 2 for clique, (counts, precision) in noisy.items())


def _tables_with(column: int, tree: Any, tables: Mapping[Clique, Table]) -> Iterator[tuple[int, Table]]:
    """The tables of `column` with each column that it depends on, outwards along the junction tree.

    A clique tells of the column through the separator on the way to it: P(x_i, x_clique) = P(x_i | x_separator) P(x_clique).
    """
    root = next(clique for clique in tables if column in clique)
    ahead: list[tuple[Clique, Clique, Clique, Table]] = [(root, (), (column,), np.eye(tables[root].shape[root.index(column)]))]
    while ahead:
        clique, parent, separator, conditional = ahead.pop()
        yield from ((i, _joint(conditional, separator, tables[clique], clique, (i,))) for i in clique if i not in separator)
        for child in tree[clique]:
            if child != parent:
                shared = tuple(i for i in child if i in clique)
                joint = _joint(conditional, separator, tables[clique], clique, shared)
                ahead.append((child, clique, shared, joint / np.maximum(joint.sum(axis=0), np.finfo(float).tiny)))


def _joint(conditional: Table, separator: Clique, table: Table, clique: Clique, wanted: Clique) -> Table:
    """P(x_i, x_wanted) from P(x_i | x_separator) and P(x_clique)."""
    letter = dict(zip(clique, ascii_lowercase, strict=False))
    given, every, kept = ("".join(letter[i] for i in columns) for columns in (separator, clique, wanted))
    return np.einsum(f"Z{given},{every}->Z{kept}", conditional, table)


@contextmanager
def _float64_mbi() -> Iterator[Any]:
    """The package `mbi`, and float64 for as long as it is used: other users of jax keep their setting. What jax would log of the fit stays unsaid."""
    if find_spec("mbi") is None:
        raise InputError("mode: 'aim' needs the package mbi; pip install 'orl-bench[pgm]'")
    jax_logger = logging.getLogger("jax")
    level = jax_logger.level
    jax_logger.setLevel(logging.WARNING)
    try:
        jax = import_module("jax")
        with jax.enable_x64(True), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="JAX persistent compilation cache")  # jax's own default, and no folder is set
            yield import_module("mbi")
    finally:
        jax_logger.setLevel(level)
