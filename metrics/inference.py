"""Attribute inference: an attacker who knows a row but for one secret bit reads the bit off the released rows.

Linear reconstruction after Annamalai, Gadotti and Rocher, "A Linear Reconstruction Approach for Attribute Inference Attacks against Synthetic Data",
USENIX Security 2024 (arXiv 2301.10053): every conjunction of known values is a query, the released rows answer it with noise, and the bits that fit
all answers best in L1 solve a linear program.

What can be inferred of anybody, member or not, is what the data are published for. So the same attack is run on rows that no fit has seen, and what
it gets right there is subtracted: the advantage is accuracy on members less accuracy on non-members, 0 by chance, 1 at most.

Differs from the paper in: 1. all targets are attacked at once instead of one with a secret drawn anew, against a baseline of non-members instead of
1/2; 2. columns are continuous, so queries use quantiles of the reference, at resolutions and in numbers of columns drawn at random, instead of all
3-way marginals; 3. the targets are few of the rows behind a release, so counts say nothing about them: queries ask for the mean bit of a cell;
4. the program is solved for a thousand targets at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, hstack, vstack

from bench.core.data import Bool, Float, Transitions, View
from bench.core.protocols import Estimate, Runtime, Target
from metrics._membership import draw_candidates
from metrics._parts import Better, Counts, blocks, require_rows

Codes = NDArray[np.uint8]
Answers = NDArray[np.float64]

LEVELS = 8
"""Finest resolution: 2**8 quantiles of a column, which fill a byte."""
WIDEST = 7
"""Columns of a conjunction at most: the number of a cell then fits into 56 bits."""


@dataclass(frozen=True)
class AttributeInference:
    """Linear reconstruction of one bit of rows that are otherwise known: accuracy on members less accuracy on non-members.

    Known are s and the other actions. The reward and s' are not: the dynamics compute an action from s and s', so with these nothing would be secret.
    """

    members: int = 10_000
    """Rows of `train`, and as many of `holdout`: an advantage of pure chance then has a standard deviation of at most 0.007."""
    secret: str = ""
    """A column of s or a; empty for the first action. The bit says whether it exceeds its mean in the reference."""
    cuts: int = 16
    """Ways to cut the known columns into cells; each asks one query for each cell that holds a target."""
    group: int = 1_000
    """Targets of one linear program, whose time grows faster than their number."""
    resamples: int = 400
    """Bootstrap resamples: ten fall beyond each end of a 95 % interval."""

    version: ClassVar[int] = 1
    needs: ClassVar[Literal["samples", "sampler"]] = "samples"
    better: ClassVar[Better] = {"advantage": "lower"}

    def views(self, target: View) -> Mapping[str, View]:
        """No shadow models."""
        return {}

    def attack(
        self,
        target: Target,
        shadows: Mapping[str, Target],
        members: Transitions,
        non_members: Transitions,
        reference: Transitions,
        rng: np.random.Generator,
        *,
        runtime: Runtime,
    ) -> dict[str, Estimate]:
        """The advantage, with a 95 % percentile interval of a bootstrap over trajectories.

        Raises:
            ValueError: the target holds no samples, a table is empty or non-finite, or `secret` is no column of s or a.
        """
        released = target.samples
        if released is None:
            raise ValueError("target: samples is None; attribute inference needs released rows, as its `needs` says")
        require_rows(samples=released, members=members, non_members=non_members, reference=reference)
        inside, outside = draw_candidates(members, non_members, self.members, rng)
        coding = Coding.of(reference, self.secret)
        cuts = [draw_cut(len(coding.edges), rng) for _ in range(self.cuts)]
        bits, codes = coding.bits(released), coding.codes(released)

        def correct(data: Transitions, rows: Counts) -> Bool:
            targets = data.rows(rows.ravel())
            cells = [cells_of(cut, coding.codes(targets)) for cut in cuts]
            shares = [share_in(own, cells_of(cut, codes), bits) for cut, own in zip(cuts, cells, strict=True)]
            guesses = self._reconstruct(np.stack(cells), np.stack(shares), rng) > 0.5
            right: Bool = (guesses == coding.bits(targets)).reshape(rows.shape)
            return right

        return {"advantage": difference(correct(members, inside), correct(non_members, outside), self.resamples, rng)}

    def _reconstruct(self, cells: Counts, shares: Answers, rng: np.random.Generator) -> Answers:
        """The bits in [0, 1] (n,) of targets, given the cell and the share there under every cut, (cuts, n) each."""
        bits = np.empty(cells.shape[1])
        order = rng.permutation(len(bits))
        for some in blocks(len(bits), self.group):
            targets = order[some]
            bits[targets] = reconstruct(*queries(cells[:, targets], shares[:, targets]))
        return bits


# --- what is known, and what is secret --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coding:
    """How rows are read: the secret bit, and the known columns in quantiles of the reference."""

    secret: int
    """Among the columns of s and a."""
    threshold: float
    edges: tuple[NDArray[np.float64], ...]
    """The inner edges of 2**LEVELS quantiles of each known column."""

    @classmethod
    def of(cls, reference: Transitions, secret: str) -> Coding:
        """The attacker's reading of the population; `secret` is the name of a column, or empty for the first action."""
        schema = reference.schema
        names = [column.name for column in (*schema.observations, *schema.actions)]
        secret = secret or schema.actions[0].name
        if secret not in names:
            raise ValueError(f"secret: {secret!r} is no column of s or a; choose from {', '.join(names)}")
        known = _columns(reference)
        threshold = float(known.pop(names.index(secret)).mean(dtype=np.float64))
        inner = np.arange(1, 2**LEVELS) / 2**LEVELS
        return cls(names.index(secret), threshold, tuple(np.quantile(values, inner) for values in known))

    def bits(self, data: Transitions) -> Bool:
        """The secrets (n,)."""
        exceeds: Bool = _columns(data)[self.secret] > self.threshold
        return exceeds

    def codes(self, data: Transitions) -> Codes:
        """The quantiles (known, n) of the known values, 0 to 2**LEVELS - 1."""
        known = _columns(data)
        del known[self.secret]
        return np.stack([np.searchsorted(edges, values).astype(np.uint8) for edges, values in zip(self.edges, known, strict=True)])


def _columns(data: Transitions) -> list[Float]:
    """Those of s and a, without a copy."""
    return [*data.observations.T, *data.actions.T]


# --- queries ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """Cells of the known columns: every conjunction of values of these `columns`, each cut into 2**level quantiles."""

    columns: NDArray[np.int64]
    level: int


def draw_cut(known: int, rng: np.random.Generator) -> Cut:
    """Columns and level at random: wide cells hold many targets and tell of the population, narrow ones hold few and tell of those."""
    columns = rng.choice(known, rng.integers(1, min(known, WIDEST) + 1), replace=False)
    return Cut(columns, int(rng.integers(1, LEVELS + 1)))


def cells_of(cut: Cut, codes: Codes) -> Counts:
    """The number (n,) of the cell in which each row lies."""
    cells = np.zeros(codes.shape[1], np.int64)
    for column in cut.columns:
        cells = (cells << cut.level) | (codes[column] >> (LEVELS - cut.level))
    return cells


def share_in(cells: Counts, released_cells: Counts, bits: Bool) -> Answers:
    """The share (n,) of released rows in each target's cell whose bit is set; NaN where there are none."""
    distinct, place = np.unique(cells, return_inverse=True)
    found = np.minimum(np.searchsorted(distinct, released_cells), len(distinct) - 1)
    hit = distinct[found] == released_cells
    total = np.bincount(found[hit], minlength=len(distinct))
    ones = np.bincount(found[hit], weights=bits[hit], minlength=len(distinct))
    return np.divide(ones, total, out=np.full(len(distinct), np.nan), where=total > 0)[place]


def queries(cells: Counts, shares: Answers) -> tuple[csr_array, Answers]:
    """The matrix (queries, m) that averages over the targets of each answered query, and the answers.

    Averages, not sums: a query about few targets weighs as much as one about many, which tells less of each of them.
    """
    matrices, answers = [], []
    for cell, share in zip(cells, shares, strict=True):
        answered = np.flatnonzero(~np.isnan(share))
        _, first, row, size = np.unique(cell[answered], return_index=True, return_inverse=True, return_counts=True)
        matrices.append(csr_array((1 / size[row], (row, answered)), shape=(len(first), cells.shape[1])))
        answers.append(share[answered][first])
    return vstack(matrices, format="csr"), np.concatenate(answers)


def reconstruct(asked: csr_array, answers: Answers) -> Answers:
    """The bits in [0, 1] (m,) that minimise sum |asked @ bits - answers|.

    Raises:
        ValueError: the solver gave up.
    """
    count, targets = asked.shape
    if not count:
        return np.full(targets, 0.5)
    slack = eye_array(count, format="csr")
    solution = linprog(
        np.repeat([0.0, 1.0], [targets, count]),
        A_ub=vstack([hstack([asked, -slack]), hstack([-asked, -slack])], format="csr"),
        b_ub=np.concatenate([answers, -answers]),
        bounds=[(0, 1)] * targets + [(0, None)] * count,
        method="highs",
    )
    if solution.x is None:
        raise ValueError(f"attribute inference: the linear program of {targets} targets has no solution ({solution.message})")
    bits: Answers = solution.x[:targets]
    return bits


# --- estimate ---------------------------------------------------------------------------------------------------------


def difference(inside: Bool, outside: Bool, resamples: int, rng: np.random.Generator) -> Estimate:
    """Mean of `inside` less mean of `outside`, (trajectories, rows each); trajectories are resampled, on both sides."""
    sides = [side.mean(axis=1) for side in (inside, outside)]
    draws = [np.subtract(*(side[rng.integers(len(side), size=len(side))].mean() for side in sides)) for _ in range(resamples)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(sides[0].mean() - sides[1].mean()), float(low), float(high))
