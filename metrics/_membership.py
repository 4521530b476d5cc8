"""What membership attacks share: can an attacker tell a row of `train`, a member, from a row of `holdout`?

A member is the positive class, and every score is larger for likelier members. (The published evaluation of PrivORL labels non-members 1, so its
"TPR" is a detection rate of non-members.) Members and non-members are drawn alike: as many trajectories from either part, as many rows from each.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.data import Float, Schema, Transitions, View, concatenate
from bench.core.protocols import Estimate, Runtime, Target
from metrics._parts import Better, Counts, auc_of_counts, require_rows, score_counts, score_ranks

Scores = NDArray[np.float64]

FALSE_POSITIVE_RATES = {"tpr_at_20": 0.2, "tpr_at_10": 0.1, "tpr_at_1": 0.01, "tpr_at_01": 0.001}
"""Where the ROC curve is read: as PrivORL does in its Table XII."""
BETTER: Better = {"auc": "lower", **dict.fromkeys(FALSE_POSITIVE_RATES, "lower")}
"""The scores of every membership attack."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The rows to tell apart, k of each of t trajectories: those at the indices `inside` (t, k) of the members, `outside` (t, k) of the others."""

    members: Transitions
    inside: Counts
    non_members: Transitions
    outside: Counts

    @property
    def sides(self) -> tuple[tuple[Transitions, Counts], ...]:
        """Members and non-members: the data, and the indices (t k,) in it."""
        return (self.members, self.inside.ravel()), (self.non_members, self.outside.ravel())

    def rows(self) -> Transitions:
        """All of them, standing alone: the members first."""
        return concatenate([data.rows(index) for data, index in self.sides])


@dataclass(frozen=True, eq=False)
class Known:
    """What an attacker holds beside the candidates: the release, shadow models by name, and rows of the same population that no target has seen."""

    target: Target
    shadows: Mapping[str, Target]
    reference: Transitions
    runtime: Runtime


@dataclass(frozen=True)
class MembershipAttack(ABC):
    """Draws members and non-members alike, has `scores` rate them, and reports AUC and TPR with bootstrap intervals over trajectories."""

    members: int = 10_000
    """Rows of `train`, and as many of `holdout`: an AUC of pure chance then has a standard deviation of 0.004, and 0.1 % FPR is 10 rows, not 1."""
    together: int = 1
    """Rows of one trajectory that are judged together, by their mean score: 1 attacks rows, 32 attacks trajectories, `members` / 32 a side."""
    resamples: int = 400
    """Bootstrap resamples: ten fall beyond each end of a 95 % interval."""

    version: ClassVar[int]
    needs: ClassVar[Literal["samples", "sampler"]]
    better: ClassVar[Better] = BETTER

    def views(self, target: View) -> Mapping[str, View]:
        """No shadow models."""
        return {}

    @abstractmethod
    def scores(self, candidates: Candidates, known: Known, rng: np.random.Generator) -> Scores:
        """One score (n,) for each candidate row, members first; larger for likelier members. `known.target` holds what `needs` names."""

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
        """The scores of `BETTER`, each with its interval.

        Raises:
            ValueError: the target lacks what `needs` names, a table is empty or non-finite, or no trajectory has `together` rows.
        """
        if getattr(target, self.needs) is None:
            raise ValueError(f"target: {self.needs} is None; this attack needs it, as its `needs` says")
        released = {} if target.samples is None else {"samples": target.samples}
        require_rows(members=members, non_members=non_members, reference=reference, **released)
        inside, outside = draw_candidates(members, non_members, self.members, rng, self.together)
        candidates = Candidates(members, inside, non_members, outside)
        scores = self.scores(candidates, Known(target, shadows, reference, runtime), rng)
        sides = scores[: inside.size].reshape(inside.shape), scores[inside.size :].reshape(outside.shape)
        if self.together > 1:
            sides = sides[0].mean(axis=1, keepdims=True), sides[1].mean(axis=1, keepdims=True)
        return estimates(*sides, self.resamples, rng)


@dataclass(frozen=True)
class BlackBoxAttack(MembershipAttack):
    """An attack on the released rows S with the help of reference rows R, of the same population and seen by no fit."""

    needs: ClassVar[Literal["samples", "sampler"]] = "samples"

    @abstractmethod
    def row_scores(self, candidates: Transitions, released: Transitions, reference: Transitions, rng: np.random.Generator) -> Scores:
        """One score (n,) for each candidate row, larger for likelier members."""

    def scores(self, candidates: Candidates, known: Known, rng: np.random.Generator) -> Scores:
        """What `row_scores` says."""
        assert known.target.samples is not None, "`attack` has seen to it"
        return self.row_scores(candidates.rows(), known.target.samples, known.reference, rng)


# --- candidates -------------------------------------------------------------------------------------------------------


def draw_candidates(members: Transitions, non_members: Transitions, rows: int, rng: np.random.Generator, together: int = 1) -> tuple[Counts, Counts]:
    """Row indices (t, k) on either side: k rows of each of t trajectories, t and k common to both sides, t * k `rows` rounded up.

    k is the least that reaches `rows`, or `together` where rows are judged together; where nothing reaches `rows` (few or short trajectories)
    t * k is the most that can be had. Trajectories shorter than k are passed over on both sides alike. Rows that stand alone have length one.

    Raises:
        ValueError: one side has no trajectory of `together` rows.
    """
    sides = [_extents(data) for data in (members, non_members)]
    longest = min(int(lengths.max()) for _, lengths in sides)
    if together > longest:
        raise ValueError(f"together: {together} rows are to be judged together, but a side has no trajectory longer than {longest}; lower it")
    depth = np.array([together]) if together > 1 else np.arange(1, min(rows, longest) + 1)
    width = np.min([len(lengths) - np.searchsorted(np.sort(lengths), depth) for _, lengths in sides], axis=0)
    best = np.argmax(np.minimum(width * depth, rows))
    k = int(depth[best])
    t = min(int(width[best]), math.ceil(rows / k))
    inside, outside = (_draw_rows(starts, lengths, t, k, rng) for starts, lengths in sides)
    return inside, outside


def _extents(data: Transitions) -> tuple[Counts, Counts]:
    """First row and length of each trajectory."""
    offsets = np.arange(len(data) + 1) if data.trajectories is None else data.trajectories
    return offsets[:-1], np.diff(offsets)


def _draw_rows(starts: Counts, lengths: Counts, t: int, k: int, rng: np.random.Generator) -> Counts:
    """k distinct rows of each of t trajectories, (t, k): systematic sampling, in which each row of a trajectory is equally likely."""
    chosen = rng.choice(np.flatnonzero(lengths >= k), t, replace=False)
    length = lengths[chosen, None]
    return starts[chosen, None] + (np.arange(k) * length + rng.integers(length)) // k


def subsample(data: Transitions, rows: int, rng: np.random.Generator) -> Transitions:
    """At most `rows` rows, drawn without replacement."""
    return data if len(data) <= rows else data.rows(rng.choice(len(data), rows, replace=False))


def scaled(data: Transitions, schema: Schema) -> Float:
    """The table (n, D) with every range that `schema` declares mapped to [0, 1]; a constant column keeps its unit."""
    low, high = np.array([(column.low, column.high) for column in schema.columns], np.float32).T
    table: Float = (data.table() - low) / np.where(high > low, high - low, np.float32(1))
    return table


# --- estimates --------------------------------------------------------------------------------------------------------


def tpr_at_fpr(member_scores: ArrayLike, non_member_scores: ArrayLike, fpr: float) -> float:
    """The share of members that an attacker finds who takes a share `fpr` of the non-members for members: the ROC curve at `fpr`.

    Of equal scores the attacker takes some by a coin, so the curve is straight there. A score that tells nothing has a TPR of `fpr` if all are equal,
    and of (floor(n fpr) + 1) / (n + 1) on average if n non-members all differ: about 1 / n where `fpr` is less.

    Raises:
        ValueError: a side is empty or holds a NaN.
    """
    return _tpr(*score_counts(member_scores, non_member_scores), fpr)


def estimates(member_scores: Scores, non_member_scores: Scores, resamples: int, rng: np.random.Generator) -> dict[str, Estimate]:
    """The scores named in `BETTER` of attack scores (trajectories, rows each), with 95 % percentile intervals of a bootstrap over trajectories.

    Rows of one trajectory resemble each other, so trajectories are resampled, on both sides. The interval is descriptive: at a TPR of 0 or an AUC
    of 1 it has no width.
    """
    inside, outside, ranks = score_ranks(member_scores, non_member_scores)

    def statistics(a: Counts, b: Counts) -> tuple[float, ...]:
        hits, alarms = (np.bincount(side.ravel(), minlength=ranks) for side in (a, b))
        return auc_of_counts(hits, alarms), *(_tpr(hits, alarms, fpr) for fpr in FALSE_POSITIVE_RATES.values())

    draws = [statistics(*(side[rng.integers(len(side), size=len(side))] for side in (inside, outside))) for _ in range(resamples)]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    values = statistics(inside, outside)
    return {name: Estimate(*map(float, triple)) for name, *triple in zip(BETTER, values, low, high, strict=True)}


def _tpr(hits: Counts, alarms: Counts, fpr: float) -> float:
    """From the numbers of members and non-members at each distinct score, the highest first."""
    allowed = fpr * alarms.sum() * (1 + 1e-12)  # 0.29 * 100 is 28.999999999999996
    false, true = (np.concatenate([[0], np.cumsum(counts)]) for counts in (alarms, hits))
    return float(np.interp(allowed, false, true) / hits.sum())
