"""White-box attacks: what overfits is seen, what has no row or much noise is not, and a model that cannot answer is left alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from white_box_support import Attacked

from bench.core.data import View, concatenate
from bench.core.protocols import Attack, Runtime, Target
from bench.envs.maze2d import UMAZE
from bench.envs.toy import TOY
from metrics._membership import BETTER, Candidates, Known
from metrics.white_box import RMIA, FocalPoints, ModelLoss, ShadowFeatures, WhiteBoxAttack
from synthesizers.independent import Independent
from synthesizers.pgm import PGM
from synthesizers.privorl_n import PrivORLN
from synthesizers.privsyn import PrivSyn
from synthesizers.uniform import Uniform

ATTACKS: tuple[WhiteBoxAttack, ...] = (ModelLoss(), RMIA(), ShadowFeatures(steps=100), FocalPoints())
EVERY_ATTACK = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
OVERFIT = PrivORLN(width=128, blocks=3, pretraining_steps=0, steps=600, batch=500, decay=0.9)


@cache
def attacked(method: Any, epsilon: float = np.inf, rows: int = 1000) -> Attacked:
    return Attacked(method, UMAZE, rows, epsilon)


# --- power ------------------------------------------------------------------------------------------------------------


def test_an_overfit_diffusion_model_is_seen_by_its_loss() -> None:
    assert attacked(OVERFIT).run(ModelLoss())["auc"].value >= 0.7


@EVERY_ATTACK
@pytest.mark.parametrize("method", [Independent(), PGM(), PrivSyn()], ids=lambda method: type(method).__name__)
def test_marginals_without_noise_are_seen(method: Any, attack: WhiteBoxAttack) -> None:
    scores = attacked(method).run(attack)
    assert scores.keys() == BETTER.keys()
    assert scores["auc"].low > 0.7


@EVERY_ATTACK
def test_marginals_under_much_noise_are_not_seen(attack: WhiteBoxAttack) -> None:
    auc = attacked(PGM(), epsilon=0.05).run(attack)["auc"]
    assert auc.low <= 0.5 <= auc.high


@EVERY_ATTACK
def test_a_model_of_public_rows_alone_tells_nothing(attack: WhiteBoxAttack) -> None:
    """Ten draws of candidates on one model: an interval of 95 % misses 0.5 in more than two of them less than once in a hundred tests."""
    method = PrivORLN(width=16, blocks=1, fine_tune=False, pretraining_steps=20, pretraining_batch=64, curiosity="off")
    case = Attacked(method, TOY, 2000)
    if attack.asks == "cells":
        assert case.run(attack) == {}
        return
    found = [case.run(replace(attack, members=300), seed)["auc"] for seed in range(10)]
    assert sum(auc.low <= 0.5 <= auc.high for auc in found) >= 8


# --- what is asked for ------------------------------------------------------------------------------------------------


@EVERY_ATTACK
def test_a_model_that_cannot_answer_has_no_score(attack: WhiteBoxAttack) -> None:
    assert isinstance(attack, Attack)
    assert Attacked(Uniform(), TOY, 100).run(attack) == {}


def test_a_target_without_a_model_is_refused() -> None:
    rows = TOY.dataset(100, 0, "train")
    with pytest.raises(ValueError, match="target: sampler is None"):
        ModelLoss().attack(Target(None, None), {}, rows, rows, rows, np.random.default_rng(0), runtime=Runtime())


@pytest.mark.parametrize("attack", ATTACKS[:3], ids=lambda attack: type(attack).__name__)
def test_the_same_rows_on_both_sides_score_alike(attack: WhiteBoxAttack) -> None:
    """Shared noise: what is scored is the row, not the luck of its draw."""
    case = attacked(OVERFIT.audit_size())
    index = np.arange(50)[:, None]
    candidates = Candidates(case.parts["train"], index, case.parts["train"], index)
    shadows = {name: case.fitted(view) for name, view in attack.views(View("environment", "train", case.rows)).items()}
    target = case.fitted(View("environment", "train", case.rows))
    scores = attack.scores(candidates, Known(target, shadows, case.parts["reference"], Runtime()), np.random.default_rng(0))
    assert np.array_equal(scores[:50], scores[50:])


# --- shadow models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shadows", [2, 3, 4])
@pytest.mark.parametrize("rows", [400, 80], ids=["generated", "a-file's-share"])
def test_every_shadow_has_seen_the_reference_part_but_its_own_block(shadows: int, rows: int) -> None:
    attack = RMIA(shadows=shadows)
    part = replace(TOY.dataset(rows, 0, "reference"), schema=TOY.schema.with_rows(400))
    views = attack.views(View("toy", "train", 400))
    assert {view.part for view in views.values()} == {"reference"}
    seen = {name: Target(None, None, view.apply(part)) for name, view in views.items()}
    blocks = [data.rows(rows).table() for data, rows in attack.blocks(seen)]
    for k, block in enumerate(blocks):
        holders = [name for name, shadow in seen.items() if shadow.rows and block.tobytes() in shadow.rows.table().tobytes()]
        assert holders == [name for name in views if name != str(k)]
    assert len(np.unique(np.concatenate(blocks), axis=0)) == sum(map(len, blocks)) >= 48


def test_one_shadow_is_refused() -> None:
    with pytest.raises(ValueError, match="shadows: 1 leaves no block"):
        RMIA(shadows=1)


def test_rmia_orders_candidates_as_the_published_score_does() -> None:
    """The share of a population z for which (P(x | M) / P(x)) / (P(z | M) / P(z)) > 1, with one reference model that stands for both shadows."""
    case, attack = attacked(PGM(bins=4), epsilon=1.0), RMIA()
    own = View("environment", "train", case.rows)
    target, shadow = case.fitted(own), case.fitted(replace(own, part="reference"))
    population, index = case.parts["reference"], np.arange(200)[:, None]

    def likelihood(model: Target, data: Any) -> Any:
        sampler: Any = model.sampler
        return np.exp(-sampler.loss(data, np.arange(200), np.random.default_rng(0), runtime=Runtime()).mean(1))

    ratio_x, ratio_z = (likelihood(target, data) / likelihood(shadow, data) for data in (case.parts["train"], population))
    published = (ratio_x[:, None] > ratio_z).mean(axis=1)
    candidates = Candidates(case.parts["train"], index, case.parts["holdout"], index)
    scores = attack.scores(candidates, Known(target, {"0": shadow, "1": shadow}, population, Runtime()), np.random.default_rng(0))[:200]
    assert (np.diff(published[np.argsort(scores)]) >= 0).all()
    assert len(np.unique(published)) > 50


# --- what a score is made of ---------------------------------------------------------------------------------------------------------------------


def candidates_of(case: Attacked) -> Candidates:
    index = np.arange(50)[:, None]
    return Candidates(case.parts["train"], index, case.parts["holdout"], index)


def test_the_size_of_the_reference_does_not_matter_to_focal_points() -> None:
    """The reference part of a file is a fifth of what is fitted."""
    case = attacked(PGM())
    target, reference = case.fitted(View("environment", "train", case.rows)), case.parts["reference"]
    known = [Known(target, {}, data, Runtime()) for data in (reference, concatenate([reference] * 3))]
    once, thrice = (FocalPoints().scores(candidates_of(case), each, np.random.default_rng(0)) for each in known)
    assert once == pytest.approx(thrice)


def test_every_shadow_has_the_same_say_in_rmia() -> None:
    case = attacked(PGM(bins=4), epsilon=1.0)
    own = View("environment", "train", case.rows)
    reference = replace(own, part="reference")
    target, one, other = (case.fitted(view) for view in (own, reference, replace(reference, drop=tuple(range(300)))))

    def scores(*shadows: Target) -> Any:
        known = Known(target, dict(zip("01", shadows, strict=True)), case.parts["reference"], Runtime())
        return RMIA().scores(candidates_of(case), known, np.random.default_rng(0))

    assert scores(one, other) == pytest.approx(scores(other, one))
    assert not np.allclose(scores(one, other), scores(one, one))
