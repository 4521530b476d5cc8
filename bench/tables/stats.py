"""Statistics of nested runs: what a few expensive runs can say, and how surely.

A score has three random layers: the synthesizer's seed (DP noise is part of the method), the sampling seed inside it, the agent's seed inside that.
The runs of one score are therefore an array (synthesizer, sampling, agent), called *runs* below; index i is seed i. Runs on one fit share its noise,
so the fits alone count as independent: with fewer than `FEW` of them an interval is Student's t over their means, from then on a bootstrap over
fits, and one fit has none, however many agents were trained on it. Fits are drawn with replacement and keep the runs that they have: to draw those
again as well would count their variance twice (Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 3.8), and is measured to
cover 99 % instead of 95 % where agents make most of the noise.

The plain percentile bootstrap of a mean is too narrow for few fits: its 95 % interval is measured to cover 83 % at 5 fits with one agent each. The
levels are therefore those of Hesterberg (What Teachers Should Know About the Bootstrap, The American Statistician 69, 2015; `ExpandProbs` of his
R package resample), measured to cover 91 % to 93 % at 5 fits and 94 % to 95 % from 10 on, however many agents each has.

The runs of a method on several tasks, an agent on one environment after another, are a sequence of such arrays, called *tasks*. Their statistics are
those of Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice (NeurIPS 2021), with their stratified bootstrap: each
task is resampled by itself, fit by fit. Tasks must not share fits: what all of them owe to one fit would be taken for agreement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, fdtri, nctdtr, ndtr, ndtri, stdtrit

Float64 = NDArray[np.float64]
Interval = Literal["t", "bootstrap", "run", "run+t", "run+bootstrap", "mean squares"]

LAYERS = ("synthesizer", "sampling", "agent")
CONFIDENCE = 0.95
POWER = 0.8
"""How often a difference that is there is to be found."""
FEW = 5
"""From this many synthesizer runs on the bootstrap has enough to resample."""
_ROUNDING = 1e-9
"""A spread that is a smaller share of its difference is what rounding leaves of none; the noncentral t is no number there."""
RESAMPLES = 10_000
"""The widened levels reach the 0.1 % quantile at 5 runs: ten resamples lie beyond it."""


@dataclass(frozen=True)
class Summary:
    """A mean over runs with its 95 % interval.

    `interval` says how it was made: Student's t or the bootstrap over runs; `run` is the interval that a single run brought along, `run+...` joins
    the two; `mean squares` is that of a part of the variance. None, as are both ends, where a single run brought none.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    interval: Interval | None = None

    @property
    def half_width(self) -> float | None:
        """The wider side of the interval: never flatters a skewed one."""
        return None if self.low is None or self.high is None else max(self.mean - self.low, self.high - self.mean)

    def within(self, least: float, most: float) -> Summary:
        """The same, with ends that do not leave the range of the score."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, least), high=min(self.high, most))

    @property
    def root(self) -> Summary:
        """That of the standard deviation, if this is one of a variance."""
        low, high = (None if end is None else math.sqrt(end) for end in (self.low, self.high))
        return replace(self, mean=math.sqrt(self.mean), low=low, high=high)

    @property
    def excludes_zero(self) -> bool:
        """True if the interval lies on one side of 0; without an interval nothing is excluded."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def summarize(runs: Float64) -> Summary:
    """Mean and interval of runs (synthesizer, sampling, agent), none of them missing.

    Raises:
        ValueError: not three layers, no run, or a score that is not finite.
    """
    if runs.ndim != 3 or not runs.size or not np.isfinite(runs).all():
        raise ValueError(f"runs: shape {runs.shape} or its values are unfit; give finite scores (synthesizer, sampling, agent)")
    if len(runs) == 1:
        return Summary(float(runs.mean()))
    low, high = _interval_of_mean(runs)
    return Summary(float(runs.mean()), float(low), float(high), "t" if len(runs) < FEW else "bootstrap")


def summarize_estimates(values: Float64, lows: Float64, highs: Float64) -> Summary:
    """Mean and interval of runs that each bring an interval of their own, such as an attack's bootstrap over its records.

    All runs are scored on rows of the same few trajectories, so that their own errors hardly average out: each side of the interval is
    sqrt(mean(own^2) + between^2), with `between` the same side of the interval over runs. It errs on the wide side, since some of the own error shows
    between runs too.
    """
    over_runs = summarize(values)
    own = math.sqrt(np.mean((values - lows) ** 2)), math.sqrt(np.mean((highs - values) ** 2))
    if over_runs.low is None or over_runs.high is None:
        return Summary(over_runs.mean, over_runs.mean - own[0], over_runs.mean + own[1], "run")
    low = over_runs.mean - math.hypot(own[0], over_runs.mean - over_runs.low)
    high = over_runs.mean + math.hypot(own[1], over_runs.high - over_runs.mean)
    return Summary(over_runs.mean, low, high, "run+t" if over_runs.interval == "t" else "run+bootstrap")


def paired_difference(runs: Float64, others: Float64) -> Summary:
    """Mean of runs - others over their common seeds, with its interval: a tie where that does not exclude 0."""
    first, second = common_seeds(runs, others)
    return summarize(first - second)


def private_gain(runs: Float64, public: Float64, real: Float64) -> Summary | None:
    """(J - J_public) / (J_real - J_public): the share of what private data can add to public data that a method has earned.

    The interval is that of the ratio's linearisation over common seeds (delta method). None where the denominator is not surely above 0: where
    private data add nothing there is no share of it, and where they harm, the worst method would seem to earn most.
    """
    scores, floor, ceiling = common_seeds(runs, public, real)
    earned, possible = scores - floor, ceiling - floor
    least = summarize(possible).low
    if least is None or least <= 0:
        return None
    ratio = earned.mean() / possible.mean()
    return summarize(ratio + (earned - ratio * possible) / possible.mean())


# --- several methods, several tasks -----------------------------------------------------------------------------------


def rank_sets(methods: Sequence[Float64]) -> list[tuple[int, int]]:
    """The best and the worst rank of each method, 1 for the highest mean, that the paired intervals leave open.

    Best: 1 + the methods that are surely better; worst: all of them less those that are surely worse. Each pair is judged by itself, at 95 %.
    """
    better = surely_better(methods)
    return [(1 + int(above), len(methods) - int(below)) for above, below in zip(better.sum(axis=0), better.sum(axis=1), strict=True)]


def surely_better(methods: Sequence[Float64]) -> NDArray[np.bool_]:
    """Whether the paired interval of each method (row) less each other (column) lies above 0."""
    better = np.zeros((len(methods), len(methods)), bool)
    for first, runs in enumerate(methods):
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for other in range(first + 1, len(methods)):
            by_shape.setdefault(tuple(map(min, runs.shape, methods[other].shape)), []).append(other)
        for shape, others in by_shape.items():
            if shape[0] > 1:  # a single fit has no interval
                common = tuple(map(slice, shape))
                low, high = _interval_of_mean(np.stack([runs[common] - methods[other][common] for other in others]))
                better[first, others], better[others, first] = low > 0, high < 0
    return better


def iqm(tasks: Sequence[Float64]) -> Summary:
    """Interquartile mean: the mean of the middle half of the runs of all tasks."""
    scores = np.concatenate([runs.ravel() for runs in tasks])
    resampled = np.concatenate([_resampled(runs.shape, task) for task, runs in enumerate(tasks)])
    (mean,) = _middle_means(scores, np.ones((scores.size, 1)))
    return _over_tasks(mean, _middle_means(scores, resampled), tasks)


def probability_of_improvement(tasks: Sequence[Float64], others: Sequence[Float64]) -> Summary:
    """P(X > Y) of a run X of the first method and a run Y of the other in the same task, ties counted half; seeds that both have are compared.

    It is U / (n_x n_y) of Mann and Whitney, averaged over tasks. It has no interval where all resamples say the same, as they do where every run of
    one method is better: with that point for an interval, a true .95 is measured to be covered in half of all cases at 5 fits.
    """
    pairs = [common_seeds(*pair) for pair in zip(tasks, others, strict=True)]
    wins = [(np.sign(ours.ravel()[:, None] - theirs.ravel()) + 1) / 2 for ours, theirs in pairs]
    drawn = [_resampled(ours.shape, task) for task, (ours, _) in enumerate(pairs)]
    resampled = [((won @ counts) * counts).sum(axis=0) / won.size for won, counts in zip(wins, drawn, strict=True)]
    mean, resampled_mean = np.mean([won.mean() for won in wins]), np.mean(resampled, axis=0)
    return _over_tasks(mean, resampled_mean, [ours for ours, _ in pairs]) if np.ptp(resampled_mean) else Summary(float(mean))


# --- where the variance comes from, and what more seeds buy -----------------------------------------------------------


def variance_parts(runs: Float64) -> dict[str, Summary | None]:
    """The variance that each of `LAYERS` adds to a run: nested random effects, estimated by analysis of variance, negative parts set to 0.

    The spread of a layer's means is its own part and what the layers inside leave of theirs after averaging (Searle, Casella & McCulloch, Variance
    Components, 1992, chapter 4). A layer with one seed has no spread: its part is None, and is counted in the next layer outside that has several.
    """
    parts: list[Summary | None] = []
    inside, freedom_inside = 0.0, 1
    for layer in (2, 1, 0):
        seeds, freedom = runs.shape[layer], (runs.shape[layer] - 1) * math.prod(runs.shape[:layer])
        if seeds == 1:
            parts.append(None)
            continue
        spread = float(runs.mean(axis=tuple(range(layer + 1, 3))).var(axis=layer, ddof=1).mean())
        possible = max(spread, inside)  # a smaller one is luck, and no reason to be surer that the part is 0
        low, high = (_end_of_part((possible, freedom), (inside, freedom_inside), end) for end in (-1, 1))
        parts.append(Summary(possible - inside, max(low, 0.0), high, "mean squares"))
        inside, freedom_inside = spread / seeds, freedom
    return dict(zip(LAYERS, reversed(parts), strict=True))


def _end_of_part(outside: tuple[float, int], inside: tuple[float, int], end: Literal[-1, 1]) -> float:
    """The lower (-1) or upper end of the interval of a difference of two independent mean squares, each with its degrees of freedom.

    It is that of Ting et al. (Confidence intervals on linear combinations of variance components that are unrestricted in sign, Journal of
    Statistical Computation and Simulation 35, 1990): exact where the second is 0,
    and 0 where the F test of the two is on the verge of seeing a difference.
    """
    (spread, freedom), (inner, inner_freedom) = outside, inside
    level = (1 - end * CONFIDENCE) / 2
    own, other = 1 - freedom / chdtri(freedom, 1 - level), 1 - inner_freedom / chdtri(inner_freedom, level)
    ratio = fdtri(freedom, inner_freedom, level)
    both = ((ratio - 1) ** 2 - (own * ratio) ** 2 - other**2) / ratio
    return float(spread - inner + end * math.sqrt(max((own * spread) ** 2 + (other * inner) ** 2 + both * spread * inner, 0.0)))


def seeds_needed(difference: float, variance: float) -> int:
    """The fewest fits of both methods whose paired t-test finds a difference, not 0, with `POWER`; `variance` is that of one fit's difference.

    Power is that of the noncentral t distribution (Cohen, Statistical Power Analysis, 1988, chapter 2). The search begins at the number that would do
    if the variance were known; Student's t always takes more.
    """
    if math.sqrt(variance) <= _ROUNDING * abs(difference):
        return 2
    effect = abs(difference) / math.sqrt(variance)
    enough_if_known = math.floor(((ndtri((1 + CONFIDENCE) / 2) + ndtri(POWER)) / effect) ** 2)
    return next(fits for fits in count(max(2, enough_if_known)) if _power(effect, fits) >= POWER)


def _power(effect: float, fits: int) -> float:
    """How often the interval lies on the right side of 0."""
    return float(1 - nctdtr(fits - 1, effect * math.sqrt(fits), _t_quantile(fits - 1)))


# --- resampling -------------------------------------------------------------------------------------------------------


def common_seeds(*grids: Float64) -> tuple[Float64, ...]:
    """The part of each array (synthesizer, sampling, agent) whose seeds all of them have."""
    layers = [slice(min(sizes)) for sizes in zip(*(grid.shape for grid in grids), strict=True)]
    return tuple(grid[tuple(layers)] for grid in grids)


def _t_quantile(freedom: int) -> float:
    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _over_tasks(statistic: np.floating, resampled: Float64, tasks: Sequence[Float64]) -> Summary:
    """A statistic of several tasks with its interval; there is none with fewer than `FEW` fits, or with a task that has a single one."""
    fits = [len(runs) for runs in tasks]
    if min(fits) == 1 or sum(fits) < FEW:
        return Summary(float(statistic))
    low, high = _bootstrap_interval(resampled, np.ones(RESAMPLES, int), fits)
    return Summary(float(statistic), float(low), float(high), "bootstrap")


def _middle_means(scores: Float64, counts: Float64) -> Float64:
    """For each column of counts (scores, resamples), the mean of the middle half of the scores, each taken as often as it was drawn."""
    order, drawn = np.argsort(scores), counts[:, 0].sum()
    cut = drawn // 4
    below = np.clip(counts[order].cumsum(axis=0), cut, drawn - cut)
    return scores[order] @ np.diff(below, axis=0, prepend=cut) / (drawn - 2 * cut)


def _interval_of_mean(runs: Float64) -> tuple[Float64, Float64]:
    """Ends (...) of the intervals of the means of runs (..., synthesizer, sampling, agent), of several fits each."""
    *several, fits, samples, agents = runs.shape
    if fits < FEW:
        half = _t_quantile(fits - 1) * runs.mean(axis=(-2, -1)).std(axis=-1, ddof=1) / math.sqrt(fits)
        mean = runs.mean(axis=(-3, -2, -1))
        return mean - half, mean + half
    counts, times = _distinct((fits, samples, agents))
    return _bootstrap_interval(runs.reshape(*several, -1) @ counts / len(counts), times, [fits])


def _bootstrap_interval(resampled: Float64, times: NDArray[np.int64], fits: Sequence[int]) -> tuple[Float64, Float64]:
    """Ends (...) of the interval from values (..., n) of a statistic, each given by so many of the `RESAMPLES`; `fits` counts those of each task."""
    freedom = sum(fits) - len(fits)
    tail = ndtr(-math.sqrt(sum(fits) / freedom) * _t_quantile(freedom))
    lowest = int(tail * RESAMPLES)
    order = resampled.argsort(axis=-1)
    ascending, drawn = np.take_along_axis(resampled, order, axis=-1), times[order].cumsum(axis=-1)
    places = ((drawn <= rank).sum(axis=-1, keepdims=True) for rank in (lowest, RESAMPLES - 1 - lowest))
    low, high = (np.take_along_axis(ascending, place, axis=-1)[..., 0] for place in places)
    return low, high


@cache
def _distinct(shape: tuple[int, int, int]) -> tuple[Float64, NDArray[np.int64]]:
    """The resamples that differ, (runs, n), and how many times each was drawn: 5 fits have 126 of them, 10 fits almost `RESAMPLES`."""
    return np.unique(_resampled(shape), axis=1, return_counts=True)


@cache
def _resampled(shape: tuple[int, int, int], task: int = 0) -> Float64:
    """How often each run (synthesizer, sampling, agent) occurs in each resample, (runs, RESAMPLES).

    Fits are drawn with replacement and bring all their runs along. What is resampled can be had from these counts, so that one set of draws for each
    task, from a generator of its own, serves every score of a table.
    """
    fits, samples, agents = shape
    drawn = np.random.default_rng(task).integers(fits, size=(RESAMPLES, fits))
    counts = np.stack([(drawn == fit).sum(axis=1, dtype=float) for fit in range(fits)])
    return counts.repeat(samples * agents, axis=0)
