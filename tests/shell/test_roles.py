"""Which rows an attack and a metric are handed, and which interval reference policies have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from shell_support import BARE, nodes_of, record_of, run_here

from bench import Transitions, register
from bench.core.data import Unit
from bench.core.protocols import Estimate
from bench.envs.toy import TOY, Toy
from bench.run.stages import normalized_score


@dataclass(frozen=True)
class Eyewitness:
    """An attack that remembers whom it was told to be a member."""

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "samples"
    better: ClassVar[dict[str, str]] = {"auc": "lower"}
    seen: ClassVar[dict[str, Transitions]] = {}

    def views(self, target: Any) -> dict[str, Any]:
        return {}

    def attack(self, target: Any, shadows: Any, members: Any, non_members: Any, reference: Any, rng: Any, *, runtime: Any) -> dict[str, Estimate]:
        self.seen.update(train=members, holdout=non_members, reference=reference)
        return {"auc": Estimate(0.5, 0.4, 0.6)}


@dataclass(frozen=True)
class Onlooker:
    """A metric that remembers what it was told to be real."""

    version: ClassVar[int] = 1
    unit: ClassVar[Unit] = Unit.TRANSITION
    better: ClassVar[dict[str, str]] = {"score": "higher"}
    seen: ClassVar[list[tuple[Transitions, Transitions]]] = []

    def score(self, synthetic: Transitions, target: Transitions, environment: Any, rng: Any) -> dict[str, float]:
        self.seen.append((synthetic, target))
        return {"score": 0.0}


class Lottery(Toy):
    """Every batch of episodes has one return, which is drawn."""

    drawn: ClassVar[list[float]] = []

    def rollout(self, policies: Any, episodes: int, rng: np.random.Generator) -> NDArray[Any]:
        self.drawn.append(float(rng.normal(-9, 3)))
        return np.full((len(policies), episodes), self.drawn[-1])


def is_of(data: Transitions, part: str) -> bool:
    whole = {row.tobytes() for row in TOY.dataset(BARE.evaluated, 0, part).table()}
    return {row.tobytes() for row in data.table()} <= whole


def test_members_were_fitted_and_others_were_not(tmp_path: Path) -> None:
    register("attacks", "eyewitness")(Eyewitness)
    run_here(replace(BARE, attacks=("eyewitness",), metrics=()), tmp_path)
    assert Eyewitness.seen.keys() == {"train", "holdout", "reference"}
    for part, data in Eyewitness.seen.items():
        rows = BARE.evaluated if part == "holdout" else BARE.rows[0]
        assert np.array_equal(data.table(), TOY.dataset(rows, 0, part).table()), part


def test_a_release_is_held_against_rows_that_no_fit_has_seen_and_the_ceiling_is_another_part(tmp_path: Path) -> None:
    register("metrics", "onlooker")(Onlooker)
    Onlooker.seen.clear()
    run_here(replace(BARE, metrics=("onlooker",)), tmp_path)
    assert len(Onlooker.seen) == 2, "the ceiling, and one release"
    assert all(is_of(target, "holdout") for _, target in Onlooker.seen)
    assert [is_of(synthetic, "reference") for synthetic, _ in Onlooker.seen] == [True, False]


def test_references_have_the_t_interval_over_their_batches(tmp_path: Path) -> None:
    register("environments", "lottery")(Lottery)
    plan, store, _ = run_here(replace(BARE, env=("lottery",), agents=("bc",), metrics=()), tmp_path)
    (node,) = nodes_of(plan, "references")
    batches = normalized_score(np.array(Lottery.drawn[:10]), Toy().reference_scores)
    low, high = stats.t.interval(0.95, 9, loc=batches.mean(), scale=stats.sem(batches))
    for policy in record_of(store, node).result["policies"].values():
        assert (policy["score"], policy["low"], policy["high"]) == pytest.approx((batches.mean(), low, high))
