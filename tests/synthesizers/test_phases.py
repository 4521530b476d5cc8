"""What every method with a public and a private phase keeps to: what the public one depends on, what the other sees, and how noisy it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from dp_transformer_support import TINY as DP_TRANSFORMER
from dp_transformer_support import case_of as dp_transformer_case
from privorl_j_support import TINY as PRIVORL_J
from privorl_j_support import case_of as privorl_j_case
from privorl_n_support import TINY as PRIVORL_N
from privorl_n_support import case_of as privorl_n_case
from sgd_support import gradients_of, tape_of

from bench.conformance.rows import differing_arrays, faults
from bench.conformance.synthesizers import Case
from bench.core.data import Transitions, Unit
from bench.core.errors import InputError
from bench.core.privacy import Ledger
from bench.core.protocols import Guarantee, Runtime


@dataclass(frozen=True)
class Method:
    """A tiny variant in its case, and another value for each of its fields: those on which the public phase depends, and the others."""

    case: Case
    of_pretraining: Mapping[str, Any]
    of_fine_tuning: Mapping[str, Any]


_TRAINING = {"width": 24, "blocks": 2, "pretraining_steps": 11, "pretraining_batch": 65, "decay": 0.8}
_CURIOUS = {"curiosity": "code", "share": 0.1, "beta": 2.0}
_PRIVATE = {"fine_tune": False, "steps": 7, "batch": 50, "clip_norm": 0.5, "physical_batch": 64}
_OF_WINDOWS = {"trained": "all", "rank": 1, "windows": 5, "learning_rate": 2e-3}
METHODS = {
    "privorl-n": Method(
        privorl_n_case(PRIVORL_N),
        {**_TRAINING, **_CURIOUS, "layer_norm": False, "waves": False, "precision": "bfloat16", "learning_rate": 2e-3},
        {**_PRIVATE, "sampler": "published", "sampling_steps": 9},
    ),
    "privorl-j": Method(
        privorl_j_case(PRIVORL_J),
        {**_TRAINING, **_CURIOUS, "horizon": 6, "patch": 4, "denoiser": "conv", "pretraining_rate": 2e-3},
        {**_PRIVATE, **_OF_WINDOWS, "sampling_steps": 9},
    ),
    "dp-transformer": Method(
        dp_transformer_case(DP_TRANSFORMER),
        {**_TRAINING, "horizon": 5, "bins": 17, "pretraining_rate": 1e-3},
        {**_PRIVATE, **_OF_WINDOWS},
    ),
}


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    return METHODS[request.param]


def test_every_field_is_known_to_be_of_the_public_phase_or_not(method: Method) -> None:
    assert method.of_fine_tuning.keys() | method.of_pretraining.keys() == {field.name for field in fields(method.case.synthesizer)}


def test_the_public_phase_depends_on_its_own_fields_and_on_no_other(method: Method) -> None:
    own = method.case.synthesizer
    for name, value in {**method.of_pretraining, **method.of_fine_tuning}.items():
        variant = replace(own, **{name: value})
        assert variant != own, name
        assert (variant.pretraining == own.pretraining) == (name in method.of_fine_tuning), name


def test_without_fine_tuning_nobodys_data_is_seen_and_no_budget_asked_for(method: Method) -> None:
    case, released = method.case, replace(method.case.synthesizer, fine_tune=False)
    assert (released.guarantee, released.units) == (Guarantee.DATA_FREE, frozenset(Unit))
    assert case.pretrained is not None
    for data in (Transitions.empty(case.schema), case.data):
        closed = Ledger(None, 0, np.random.default_rng(0))
        sampler = released.fit(data, closed, np.random.default_rng(0), public={}, pretrained=case.pretrained, runtime=Runtime())
        assert not differing_arrays(sampler.state(), case.pretrained)
        assert (closed.charges, closed.spent()) == ((), 0.0)
        assert not faults(case.sample(sampler, 100))


def test_without_pretraining_nothing_public_is_needed(method: Method) -> None:
    alone = replace(method.case.synthesizer, pretraining_steps=0)
    assert not alone.needs_public
    assert alone.pretraining is None
    spent = [case.recorded.ledger.spent() for case in (Case(alone, method.case.environment, method.case.unit), method.case)]
    assert spent[0] == pytest.approx(spent[1], rel=0.01), "the same budget, if one question more has to be paid from it"


def test_a_model_that_was_trained_on_nothing_is_refused(method: Method) -> None:
    with pytest.raises(InputError, match="fine_tune: false with pretraining_steps=0 leaves a model that was trained on nothing"):
        replace(method.case.synthesizer, fine_tune=False, pretraining_steps=0)


def test_the_pretrained_model_alone_is_refused_where_there_is_none(method: Method) -> None:
    released, nothing = replace(method.case.synthesizer, fine_tune=False), Transitions.empty(method.case.schema)
    with pytest.raises(InputError, match="pretrained: a model that is not fine-tuned is its pre-training"):
        released.fit(nothing, None, np.random.default_rng(0), public={}, pretrained=None, runtime=Runtime())


def test_the_noise_is_of_the_charged_size_and_as_independent_as_the_seeds_of_the_ledger(method: Method) -> None:
    """What the first step released, less what it asked, for two seeds."""
    case, noises = method.case, []
    for seed in range(2):
        fit = case.fit(case.data, ledger_seed=seed)
        released = next(answer for name, answer in tape_of(fit) if name == "gradients")
        noises.append(released.double().numpy() - next(asked for name, asked in fit.ledger.questions if name == "gradients"))
    charge, size = gradients_of(case.recorded), len(noises[0])
    assert charge.noise_multiplier is not None
    for noise in noises:
        assert noise.std() == pytest.approx(charge.noise_multiplier * charge.sensitivity, rel=4 / (2 * size) ** 0.5)
    assert abs(np.corrcoef(noises)[0, 1]) < 4 / size**0.5
