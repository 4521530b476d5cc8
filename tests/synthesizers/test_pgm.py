"""PGM: the right tree, declared sensitivities that are met and attained, a budget that adds up, and rows that keep what the tree holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import comb
from typing import Any

import dp_accounting as dpa
import numpy as np
import pytest
from dp_accounting import pld, rdp
from marginal_support import SCHEMAS, distance, exact_tables, random_rows
from method_support import (
    AWKWARD,
    budget,
    draw,
    fit,
    fitted,
    level_codes,
    level_rows,
    level_schema,
    movements,
    pairwise_tv,
    sensitivities,
    umaze,
    watched,
)

from bench.conformance.rows import faults
from bench.core.accounting import Charge
from bench.core.data import Schema, Transitions, concatenate
from bench.core.privacy import Ledger
from bench.core.protocols import Synthesizer
from synthesizers._parts.discretize import varying_grids
from synthesizers.independent import Independent
from synthesizers.pgm import PGM
from synthesizers.privsyn import PrivSyn

SELECTIONS: Sequence[Any] = ("gaussian", "exponential")
METHODS: Sequence[Synthesizer] = (PGM(), PGM(select="exponential"), PrivSyn())
KITCHEN = SCHEMAS["kitchen-partial"].with_rows(20_000)


# --- the tree -------------------------------------------------------------------------------------------------------------------------------------


def chain(order: Sequence[int], rows: int, rng: np.random.Generator) -> Transitions:
    """Columns of five levels, each of which repeats the one before it in `order` in nine of ten rows."""
    codes = rng.integers(5, size=(len(order), rows))
    for before, after in pairwise(order):
        codes[after] = np.where(rng.random(rows) < 0.9, codes[before], codes[after])
    return level_rows(codes, [5] * len(order))


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_the_tree_of_a_chain_is_the_chain(select: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(7).tolist()
    state = fitted(PGM(select=select), chain(order, 5000, rng), seed=seed).state()
    links = {"table " + " ".join(map(str, sorted(link))) for link in pairwise(order)}
    assert {name for name in state if name.startswith("table ")} == links


def test_without_noise_the_tables_are_those_of_the_rows_and_rows_keep_them() -> None:
    data = umaze(20_000)
    sampler = fitted(PGM(), data, np.inf)
    edges, sizes = list(sampler.tables), sampler.columns.sizes
    exact = exact_tables(sampler.columns.encode(data), sizes, edges)
    sampled = exact_tables(sampler.columns.encode(draw(sampler, len(data))), sizes, edges)
    assert len(edges) == len(sizes) - 1
    assert max(distance(sampler.tables[edge], exact[edge]) for edge in edges) < 1e-9
    assert max(distance(sampled[edge], exact[edge]) for edge in edges) < 0.02


def permuted(data: Transitions, order: Sequence[int]) -> Transitions:
    """The same rows under a schema that lists its observations in another order."""
    old = data.schema
    schema = replace(old, observations=tuple(old.observations[i] for i in order), differences=tuple(old.differences[i] for i in order))
    return replace(data, schema=schema, observations=data.observations[:, order], next_observations=data.next_observations[:, order])


def test_the_order_of_the_observations_does_not_matter() -> None:
    data, order = umaze(20_000), [2, 0, 3, 1]
    straight, other = fitted(PGM(), data, np.inf), fitted(PGM(), permuted(data, order), np.inf)
    names = [*order, 4, 5, 6, *(7 + i for i in order)]
    assert {frozenset(edge) for edge in straight.tables} == {frozenset(names[i] for i in edge) for edge in other.tables}
    once, again = (draw(straight, 20_000, seed) for seed in range(2))
    back = permuted(draw(other, 20_000), np.argsort(order).tolist())
    assert pairwise_tv(back, once) < 1.05 * pairwise_tv(again, once)


# --- privacy --------------------------------------------------------------------------------------------------------------------------------------


def neighbours(data: Transitions) -> list[Transitions]:
    """Less one of several rows, plus a row from anywhere in the schema."""
    rng = np.random.default_rng(0)
    return [
        *(data.without([int(rng.integers(len(data)))]) for _ in range(4)),
        *(concatenate([data, random_rows(data.schema, 1, rng)]) for _ in range(4)),
    ]


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("epsilon", [1.0, 100.0])
@pytest.mark.parametrize("name", ["umaze", "toy"])
def test_one_row_moves_the_questions_as_far_as_declared(name: str, epsilon: float, select: Any) -> None:
    """At both extremes of the noise, so of the bins and the tree: no answer moves further, and the declared sensitivities are attained."""
    data = umaze(400) if name == "umaze" else random_rows(SCHEMAS["toy"], 50, np.random.default_rng(0))
    declared, m = sensitivities(PGM(select=select), data), comb(len(varying_grids(data.schema, PGM.cells)), 2)
    furthest: dict[str, float] = {"one_way": 0.0, "scores": 0.0, "tables": 0.0}
    for neighbour in neighbours(data):
        for name, moves in movements(PGM(select=select), data, neighbour, epsilon).items():
            norm = np.inf if name == "scores" else 2
            furthest[name] = max(furthest[name], *(float(np.linalg.norm(move, norm)) for move in moves if move.size))
    each = declared["scores"] / m**0.5 if select == "gaussian" else declared["scores"]
    assert furthest == pytest.approx({**declared, "scores": each}, rel=1e-9)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_plan_is_a_function_of_the_schema_and_the_hyper_parameters(method: Synthesizer) -> None:
    rows = umaze(400)
    unrelated = random_rows(rows.schema, 1000, np.random.default_rng(0))
    plans = [watched(method, data).charges for data in (rows, unrelated, Transitions.empty(rows.schema))]
    assert plans[0] == plans[1] == plans[2]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_every_answer_that_is_charged_is_asked_for(method: Synthesizer) -> None:
    ledger = watched(method, umaze(400))
    assert {charge.name: charge.count for charge in ledger.charges} == Counter(name for name, _ in ledger.questions)


def by_hand(spent: Sequence[Charge], delta: float) -> float:
    """Epsilon by dp-accounting, one event for each answer; picks are zCDP by bounded range."""
    picks = any(charge.mechanism == "exponential" for charge in spent)
    relation = dpa.NeighboringRelation.ADD_OR_REMOVE_ONE
    accountant = rdp.RdpAccountant(neighboring_relation=relation) if picks else pld.PLDAccountant(relation)
    for charge in spent:
        if charge.pick_epsilon is not None:
            event: dpa.DpEvent = dpa.ZCDpEvent(charge.pick_epsilon**2 / 8)
        else:
            event = dpa.GaussianDpEvent(charge.noise_multiplier)
        accountant.compose(dpa.SelfComposedDpEvent(event, charge.count))
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 5.0, 10.0])
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_charges_add_up_to_the_budget(method: Synthesizer, epsilon: float) -> None:
    data = umaze(400)
    ledger = Ledger(budget(epsilon), len(data), np.random.default_rng(0))
    fit(method, data, ledger)
    assert 0.999 * epsilon < ledger.spent() <= epsilon
    assert by_hand(ledger.charges, 1e-6) == pytest.approx(ledger.spent(), rel=1e-5)


# --- what rows keep -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "seed"), [(PGM(), 0), (PGM(), 1), (PGM(), 2), (PrivSyn(), 0)])
def test_rare_terminals_and_levels_of_the_reward_keep_their_rates(method: PGM | PrivSyn, seed: int) -> None:
    rng, n = np.random.default_rng(seed), 20_000
    data = random_rows(KITCHEN, n, rng)
    data.terminals[:] = rng.random(n) < 0.01
    data.rewards[:] = rng.choice(5, n, p=[0.6, 0.25, 0.1, 0.04, 0.01])
    one_way, *_ = watched(method, data).charges
    noise = (one_way.noise_multiplier or 0) * one_way.sensitivity / n
    sampled = draw(fitted(method, data, seed=seed), n)
    assert noise < 0.001
    assert sampled.terminals.mean() == pytest.approx(data.terminals.mean(), abs=4 * noise)
    for level in KITCHEN.reward.levels or ():
        assert (sampled.rewards == level).mean() == pytest.approx((data.rewards == level).mean(), abs=4 * noise)
    assert set(np.unique(sampled.rewards)) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(("name", "width", "constants"), [("kitchen-partial", 131, 60), ("halfcheetah-medium-replay", 42, 1)])
def test_wide_tables_are_sampled_with_their_constants(name: str, width: int, constants: int) -> None:
    schema = SCHEMAS[name].with_rows(3000)
    sampled = draw(fitted(PGM(), random_rows(schema, 3000, np.random.default_rng(0))), 2000)
    known = [i for i, column in enumerate(schema.columns) if column.low == column.high]
    assert len(schema.columns) == width
    assert len(known) == constants
    assert (sampled.table()[:, known] == np.array([schema.columns[i].low for i in known], np.float32)).all()
    assert not faults(sampled)


def test_continuous_columns_have_more_values_than_bins() -> None:
    sampled = draw(fitted(PGM(), umaze(5000)), 5000)
    table = np.column_stack([sampled.observations, sampled.actions, sampled.next_observations])
    assert min(len(np.unique(column)) for column in table.T) > 50 * PGM.bins


def test_the_next_state_is_the_state_and_a_step() -> None:
    data = umaze(20_000)
    sampled = draw(fitted(PGM(), data), 20_000)
    reach = np.array([column.high for column in data.schema.differences])
    assert (np.abs(sampled.next_observations - sampled.observations) <= reach * (1 + 1e-5)).all()
    for state, following in zip(sampled.observations.T, sampled.next_observations.T, strict=True):
        assert np.corrcoef(state, following)[0, 1] > 0.98


def test_pairs_are_closer_than_those_of_independent_columns() -> None:
    data = umaze(50_000)
    pgm, independent = (pairwise_tv(draw(fitted(method, data), len(data)), data) for method in (PGM(), Independent()))
    assert pgm < 0.75 * independent


# --- limits ---------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.01, 100.0])
@pytest.mark.parametrize("rows", AWKWARD)
@pytest.mark.parametrize("method", [PGM(), PGM(select="exponential"), PGM(bins=2), PGM(bins=1)], ids=repr)
def test_awkward_rows_make_rows_inside_the_schema(method: Synthesizer, rows: str, epsilon: float) -> None:
    schema = SCHEMAS["toy"].with_rows(1000)
    sampler = fitted(method, AWKWARD[rows](schema), epsilon)
    assert all(np.isfinite(array).all() for array in sampler.state().values())
    for n in (0, 1, 7, 500):
        sampled = draw(sampler, n)
        assert len(sampled) == n
        assert not n or not faults(sampled)


def test_more_bins_than_a_byte_holds() -> None:
    data = umaze(20_000)
    sampler = fitted(PGM(bins=300), data, np.inf)
    assert max(sampler.columns.sizes) == 300
    assert not faults(draw(sampler, 1000))
    codes = sampler.columns.encode(draw(sampler, 20_000))
    assert len(np.unique(codes[0])) > 256


def test_a_tree_of_two_columns_is_their_table() -> None:
    schema: Schema = level_schema([3, 2], 1000)
    data = random_rows(schema, 1000, np.random.default_rng(0))
    sampler = fitted(PGM(), data, np.inf)
    drawn = level_codes(draw(sampler, 1000))
    assert distance(exact_tables(drawn, [3, 2], [(0, 1)])[0, 1], sampler.tables[0, 1]) < 0.01
