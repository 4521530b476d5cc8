"""The contract of a metric: named, finite scores of its unit, at their best where synthetic and target rows are the same."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from bench.conformance.findings import Finding, findings, require
from bench.conformance.rows import own_rows, signature, unrelated_rows
from bench.core.data import Transitions, Unit
from bench.core.protocols import Environment, Metric
from bench.core.rng import rng_for


@dataclass(frozen=True, eq=False)
class Case:
    """A metric, held-out rows and rows that resemble them not at all."""

    metric: Metric
    environment: Environment

    @cached_property
    def target(self) -> Transitions:
        return own_rows(self.environment, "holdout")

    @cached_property
    def unrelated(self) -> Transitions:
        return unrelated_rows(self.target.schema, len(self.target), "unrelated")

    def score(self, synthetic: Transitions) -> dict[str, float]:
        return self.metric.score(synthetic, self.target, self.environment, rng_for("conformance", "metric"))


def check_metric(metric: Metric, environment: Environment) -> Iterator[Finding]:
    """All checks."""
    yield from findings((names_its_scores, compares_its_unit, is_best_on_the_target_itself, repeats_itself), Case(metric, environment))


def names_its_scores(case: Case) -> None:
    """Every score is finite and named in `better` as higher or lower; single transitions and fewer rows are scored too."""
    require(set(case.metric.better.values()) <= {"higher", "lower"}, f"better says {sorted(set(case.metric.better.values()))}, not higher or lower")
    for rows in (case.target, case.unrelated, case.unrelated.rows(slice(500))):
        scores = case.score(rows)
        require(set(scores) <= set(case.metric.better), f"scores {sorted(set(scores) - set(case.metric.better))} are not named in better")
        require(all(map(math.isfinite, scores.values())), f"not finite: {scores}")


def compares_its_unit(case: Case) -> None:
    """A metric of rows does not look at trajectories; a metric of trajectories has scores for them, and none for rows without them."""
    require(isinstance(case.metric.unit, Unit), f"unit is {case.metric.unit!r}, not a bench.Unit")
    with_trajectories, without = case.score(case.unrelated), case.score(case.unrelated.rows(slice(None)))
    if case.metric.unit is Unit.TRANSITION:
        require(with_trajectories == without, f"unit is {case.metric.unit}, but without trajectories the scores {with_trajectories} become {without}")
    else:
        require(bool(with_trajectories), "no score for trajectories")
        require(not without, f"unit is {case.metric.unit}, but rows without trajectories get the scores {without}")


def is_best_on_the_target_itself(case: Case) -> None:
    """No rows score better than the target's own, and unrelated or scrambled ones worse in at least one score."""
    best, leads = case.score(case.target), []
    for what, worse in (("unrelated", case.score(case.unrelated)), ("scrambled", case.score(_scrambled(case.unrelated)))):
        for name in sorted({*best} & {*worse}):
            leads.append(best[name] - worse[name] if case.metric.better[name] == "higher" else worse[name] - best[name])
            known = f"the target itself scores {best[name]:g}, {what} rows {worse[name]:g}"
            require(leads[-1] >= 0, f"{name}: {known}, and {case.metric.better[name]} is better")
    require(not leads or max(leads) > 0, "unrelated and scrambled rows score as well as the target itself")


def _scrambled(rows: Transitions) -> Transitions:
    """The same trajectories with the values of each column in another order."""
    table = rng_for("conformance", "scrambled").permuted(rows.table(), axis=0)
    return Transitions.from_table(rows.schema, table, rows.timeouts, rows.trajectories)


def repeats_itself(case: Case) -> None:
    """The same seed gives the same scores, and the rows are left as they were."""
    before = signature(case.target), signature(case.unrelated)
    require(case.score(case.unrelated) == case.score(case.unrelated), "two scores with equal seeds differ")
    require((signature(case.target), signature(case.unrelated)) == before, "score changed its rows in place")
