"""The privacy card says what the record of a fit says, and leaves open what epsilon leaves open."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from bench.core.accounting import Charge, epsilon_spent
from bench.core.groups import group_epsilon
from bench.core.protocols import Environment
from bench.core.registry import resolve
from bench.release.privacy_card import Card, privacy_card
from bench.run.store import Record

CHARGES = (
    Charge("one_way", "gaussian", 2.0, 1, noise_multiplier=4.0),
    Charge("gradients", "dp-sgd", 1.0, 100, noise_multiplier=2.0, rate=0.01),
)
CHARGED = {"the noise itself", "which rows were fitted", "other releases of the same rows"}
STREAMS = ("maze2d-open", "maze2d-open-d4rl")


def fit(
    unit: str | None = "transition",
    public: tuple[str, ...] = (),
    label: str = "pgm",
    env: str = "toy",
    secret: str = "",
    plugin: str = "pgm",
    **identity: Any,
) -> Record:
    """The record of a fit of `CHARGES`, data-free without a unit."""
    budget = unit and {"epsilon": 10.0, "delta": 1e-5, "unit": unit, "accountant": "pld"}
    parameters = {
        "environment": {"plugin": env, "version": 1, "fields": {}},
        "rows": 2000,
        "synthesizer": {"plugin": plugin, "version": 3, "fields": {"bins": 32}, **identity},
        "budget": budget,
        "seed": 0,
        **({"secret": secret} if secret else {}),
    }
    charges = [asdict(charge) for charge in CHARGES] if unit else []
    result = {"epsilon_spent": 9.9 if unit else 0.0, "accountant": "pld" if unit else None, "charges": charges}
    inputs = {"data": "aa", **{f"public/{name}": "bb" for name in public}}
    return Record("kk", "fit", "ok", None, parameters, inputs, {"synthesizers": label, "environments": env}, result, True)


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
    assert not CHARGED & left_open(card)
    assert "no noise protects one" in card.warning


def test_rows_are_the_nominal_ones_and_those_released(toy: Environment) -> None:
    assert "**rows** 2,000 fitted (nominal), 500 released" in privacy_card(fit(), 500, toy).to_markdown()


def test_rows_that_hold_a_next_state_alone_are_told(toy: Environment) -> None:
    """Half the rows of a file of single transitions: who reads it without D4RL's reader would take their zeros for actions."""
    assert "**file** a row with a timeout holds the next state of the row before it" in privacy_card(fit(), 500, toy).to_markdown()


def test_who_has_several_trajectories_is_told_that_epsilon_speaks_of_one(toy: Environment) -> None:
    several = "several trajectories of one person"
    assert several in left_open(privacy_card(fit("trajectory"), 500, toy))
    assert several not in left_open(privacy_card(fit("transition"), 500, toy))


def test_public_data_is_named_and_not_covered(toy: Environment) -> None:
    card = privacy_card(fit(public=("toy-east", "toy-north")), 500, toy)
    assert card.public_data == ("toy-east", "toy-north")
    assert {"public pre-training data", "rows that are public too"} <= left_open(card)
    assert "toy-east, toy-north: epsilon says nothing" in card.to_markdown()
    assert not {"public pre-training data", "rows that are public too"} & left_open(privacy_card(fit(), 500, toy))
    assert "rows that are public too" not in left_open(privacy_card(fit(public=("toy-east",), secret="f1f1f1"), 500, toy))


FIELDS = {
    "default": (fit(), False),
    "variant": (fit(label="pgm[bins=8]"), True),
    "plugin file": (fit(digest="ab12"), True),
    "other distribution": (fit(plugin="linear-gaussian", label="linear-gaussian"), True),
    "tuned here": (fit(env="maze2d-umaze"), True),
    "tuned here too": (fit(env="maze2d-large"), True),
    "tuned elsewhere": (fit(env="maze2d-medium"), False),
}


@pytest.mark.parametrize(("record", "open_choice"), FIELDS.values(), ids=FIELDS)
def test_hyper_parameters_are_covered_only_where_the_suite_chose_them_on_other_rows(record: Record, open_choice: bool, toy: Environment) -> None:
    card = privacy_card(record, 500, toy)
    assert ("choice of hyper-parameters" in left_open(card)) == open_choice
    assert ("maze2d-umaze and maze2d-large" in card.to_markdown()) == (record.plugins["synthesizers"] == "pgm" and "digest" not in str(record))


@pytest.mark.parametrize("outsider", [fit(digest="ab12"), fit(plugin="linear-gaussian")], ids=["plugin file", "other distribution"])
def test_nobody_vouches_for_what_a_method_from_outside_takes_from_the_rows(outsider: Record, toy: Environment) -> None:
    taken = {"bounds and normalizer", "bin edges", "choice of checkpoint"}
    assert taken <= left_open(privacy_card(outsider, 500, toy))
    assert privacy_card(outsider, 500, toy).to_markdown().count("as the method says") == len(taken)
    assert not taken & left_open(privacy_card(fit(), 500, toy))
    assert taken & left_open(privacy_card(fit(env="ward"), 500, toy)) == {"bounds and normalizer"}


def first_sentence(card: Card) -> str:
    return card.to_markdown().splitlines()[2].partition(". ")[0]


def test_the_first_sentence_says_against_whom_epsilon_holds(toy: Environment) -> None:
    repeatable, secret = (privacy_card(fit(secret=fingerprint), 500, toy) for fingerprint in ("", "f1f1f1"))
    assert first_sentence(repeatable) == "Repeatable, for public data only: who knows the settings can subtract the noise"
    assert first_sentence(secret).startswith("Against whoever does not hold its secret, this release has differential privacy with epsilon = 10")
    assert (repeatable.secret, secret.secret) == (False, True)
    assert "--secret FILE" in repeatable.warning
    assert "Who holds the secret can subtract the noise" in secret.warning
    assert "f1f1f1" not in secret.to_markdown() + json.dumps(secret.to_json())


@pytest.mark.parametrize("unit", ["transition", "trajectory"])
def test_states_that_neighbours_share_are_left_open_wherever_units_are_pieces_of_one_stream(unit: str, toy: Environment) -> None:
    shared = f"states that {'rows' if unit == 'transition' else 'trajectories'} share"
    open_in = [shared in left_open(privacy_card(fit(unit, env=name), 500, resolve("environments", name).instance)) for name in ("toy", *STREAMS)]
    assert open_in == [unit == "transition", True, True]
    assert shared in left_open(privacy_card(fit(unit, env="ward"), 500, toy)), "what an environment from outside does not declare, nobody vouches for"


def test_the_mazes_that_declare_a_stream_are_one() -> None:
    data = resolve("environments", "maze2d-umaze").instance.dataset(2_000, 0, "train")
    first = data.require_trajectories()[1:-1]
    assert len(first) > 5
    np.testing.assert_array_equal(data.observations[first], data.next_observations[first - 1])


def test_what_was_charged_leaves_its_noise_its_rows_and_other_releases_open(toy: Environment) -> None:
    assert left_open(privacy_card(fit(), 500, toy)) >= CHARGED


def test_what_no_fit_can_cover_stands_on_every_card(toy: Environment) -> None:
    for record in (fit(), fit("trajectory"), fit(None)):
        card = privacy_card(record, 500, toy)
        assert "choice of this release" in left_open(card)
        assert ("number of rows" in left_open(card)) == (card.guarantee == "DP")
        assert card.warning in card.to_markdown()


def test_a_card_of_rows_that_nobody_gave_speaks_of_none(toy: Environment) -> None:
    text = privacy_card(fit(None), 500, toy).to_markdown()
    assert "**rows** none fitted, 500 released" in text
    assert "source of the sensitive rows" not in text
