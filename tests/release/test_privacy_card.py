"""The privacy card says what the record of a fit says, and leaves open what epsilon leaves open."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import Any

import pytest

from bench.core.accounting import Charge, epsilon_spent
from bench.core.groups import group_epsilon
from bench.core.protocols import Environment
from bench.release.privacy_card import Card, privacy_card
from bench.run.store import Record

CHARGES = (
    Charge("one_way", "gaussian", 2.0, 1, noise_multiplier=4.0),
    Charge("gradients", "dp-sgd", 1.0, 100, noise_multiplier=2.0, rate=0.01),
)


def fit(unit: str | None = "transition", public: tuple[str, ...] = (), label: str = "pgm", **identity: Any) -> Record:
    """The record of a fit of `CHARGES`, data-free without a unit."""
    budget = unit and {"epsilon": 10.0, "delta": 1e-5, "unit": unit, "accountant": "pld"}
    parameters = {
        "environment": {"plugin": "toy", "version": 1, "fields": {}},
        "rows": 2000,
        "synthesizer": {"plugin": "pgm", "version": 3, "fields": {"bins": 32}, **identity},
        "budget": budget,
        "seed": 0,
    }
    charges = [asdict(charge) for charge in CHARGES] if unit else []
    result = {"epsilon_spent": 9.9 if unit else 0.0, "accountant": "pld" if unit else None, "charges": charges}
    inputs = {"data": "aa", **{f"public/{name}": "bb" for name in public}}
    return Record("kk", "fit", "ok", None, parameters, inputs, {"synthesizers": label, "environments": "toy"}, result, True)


def left_open(card: Card) -> set[str]:
    return {caveat.item for caveat in card.not_covered if caveat.outside}


def test_epsilon_is_recomputed_from_the_events(toy: Environment) -> None:
    card = privacy_card(fit(), 500, toy)
    assert (card.epsilon_claimed, card.epsilon_recomputed) == (10.0, epsilon_spent(CHARGES, 1e-5, "pld"))
    assert card.events == CHARGES
    assert "pld of dp-accounting" in str(card.accountant)
    assert f"recomputed from the events: {card.epsilon_recomputed:.5g}" in card.to_markdown()
    assert all(f"| {charge.name} | {charge.mechanism} | " in card.to_markdown() for charge in CHARGES)


def test_where_the_unit_is_a_row_the_card_says_what_becomes_of_a_trajectory(toy: Environment) -> None:
    card, longest = privacy_card(fit(), 500, toy), toy.schema.max_trajectory_length
    assert card.epsilon_of_a_trajectory == group_epsilon(CHARGES, 1e-5, "pld", longest)
    assert f"of at most {longest} rows" in card.to_markdown()
    assert privacy_card(fit("trajectory"), 500, toy).epsilon_of_a_trajectory is None
    assert "whole trajectory" not in privacy_card(fit("trajectory"), 500, toy).to_markdown()
    worthless = replace(card, epsilon_of_a_trajectory=math.inf)
    assert "> 50: no protection" in worthless.to_markdown()
    assert json.loads(json.dumps(worthless.to_json(), allow_nan=False))["epsilon_of_a_trajectory"] == "inf"


@pytest.mark.parametrize("unit", ["transition", "trajectory"])
def test_neighbours_are_those_of_the_unit(unit: str, toy: Environment) -> None:
    card = privacy_card(fit(unit), 500, toy)
    assert (card.unit, card.neighbours) == (unit, f"add or remove one {unit}")
    assert f"differ by one {unit} (add or remove)" in card.to_markdown()


def test_a_data_free_method_has_epsilon_0_and_no_events(toy: Environment) -> None:
    card = privacy_card(fit(None, public=("toy-east",)), 500, toy)
    assert (card.guarantee, card.epsilon_claimed, card.epsilon_recomputed, card.events, card.delta) == ("data-free", 0.0, 0.0, (), None)
    assert "epsilon is 0" in card.to_markdown()
    assert "## Events" not in card.to_markdown()
    assert not {"the noise itself", "other releases of the same rows"} & left_open(card)


def test_rows_are_the_nominal_ones_and_those_released(toy: Environment) -> None:
    assert "**rows** 2,000 fitted (nominal), 500 released" in privacy_card(fit(), 500, toy).to_markdown()


def test_public_data_is_named_and_not_covered(toy: Environment) -> None:
    card = privacy_card(fit(public=("toy-east", "toy-north")), 500, toy)
    assert card.public_data == ("toy-east", "toy-north")
    assert {"public pre-training data", "refusal of shared rows"} <= left_open(card)
    assert "toy-east, toy-north: epsilon says nothing" in card.to_markdown()
    assert not {"public pre-training data", "refusal of shared rows"} & left_open(privacy_card(fit(), 500, toy))


@pytest.mark.parametrize(
    ("record", "open_choice"), [(fit(), False), (fit(label="pgm[bins=8]"), True), (fit(digest="ab12"), True)], ids=["default", "variant", "outsider"]
)
def test_hyper_parameters_are_covered_only_where_the_suite_chose_them(record: Record, open_choice: bool, toy: Environment) -> None:
    assert ("choice of hyper-parameters" in left_open(privacy_card(record, 500, toy))) == open_choice


def test_what_was_charged_leaves_its_noise_and_other_releases_open(toy: Environment) -> None:
    assert {"the noise itself", "other releases of the same rows"} <= left_open(privacy_card(fit(), 500, toy))


def test_what_no_fit_can_cover_stands_on_every_card(toy: Environment) -> None:
    for record in (fit(), fit("trajectory"), fit(None)):
        card = privacy_card(record, 500, toy)
        assert {"choice of this release", "number of rows"} <= left_open(card)
        assert not {"bounds and normalizer", "bin edges", "choice of checkpoint"} & left_open(card)
        assert "can subtract the noise" in card.to_markdown()
        assert "can subtract the noise" in card.to_json()["warning"]
