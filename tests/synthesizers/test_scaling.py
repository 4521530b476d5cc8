"""Scaling: there and back without loss, inside the schema whatever a network says, and constants that come from histograms alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from marginal_support import EVERY_SCHEMA, SCHEMAS, binned, random_rows
from method_support import AWKWARD, level_rows, level_schema, umaze
from numpy.typing import NDArray

from bench.conformance.rows import faults
from bench.core.data import Column, Schema, Transitions
from bench.envs.maze2d import LARGE, MEDIUM
from bench.envs.toy import TOY
from synthesizers._parts.discretize import exact_columns, modelled_column, modelled_columns
from synthesizers._parts.scaling import Scaling, varying


@cache
def toy(rows: int) -> Transitions:
    return TOY.dataset(rows, 0, "train")


@cache
def siblings_of_umaze() -> list[Transitions]:
    return [maze.dataset(2000, 0, "train") for maze in (MEDIUM, LARGE)]


OWN_ROWS = pytest.mark.parametrize("data", [umaze(5000), toy(2000)], ids=["umaze", "toy"])


def decoded(scaling: Scaling, z: NDArray) -> Transitions:
    return scaling.decode(np.asarray(z, np.float32))


def unit_scaling(schema: Schema) -> Scaling:
    """z is the value itself."""
    d = len(varying(schema))
    return Scaling(schema, np.zeros(d, np.float32), np.ones(d, np.float32))


def own_scaling(data: Transitions) -> Scaling:
    """From histograms without noise."""
    return Scaling.of_histograms(exact_columns(data, 4096, 64))


def pooled_scaling(public: Sequence[Transitions]) -> Scaling:
    """That of several datasets."""
    return Scaling.pooled([own_scaling(data) for data in public])


def columns(data: Transitions) -> NDArray[np.float64]:
    """The varying modelled columns side by side, (n, d)."""
    return np.column_stack([modelled_column(data, i).astype(np.float64) for i in varying(data.schema)])


def inside_bounds(data: Transitions) -> NDArray[np.bool_]:
    """Which of the varying modelled columns lie strictly inside their bounds, (n, d)."""
    low, high = np.array([(column.low, column.high) for column in varying(data.schema).values()], np.float32).T
    return (columns(data) > low) & (columns(data) < high)


# --- there and back -------------------------------------------------------------------------------------------------------------------------------


@OWN_ROWS
def test_rows_come_back_to_the_precision_of_float32(data: Transitions) -> None:
    scaling = own_scaling(data)
    back = decoded(scaling, scaling.encode(data)).table()
    widths = np.array([max(column.high - column.low, 1e-9) for column in data.schema.columns])
    assert (np.abs(back - data.table()) / widths).max() < 1e-6
    assert not faults(decoded(scaling, scaling.encode(data)))


@EVERY_SCHEMA
def test_rows_of_any_schema_come_back_and_levels_exactly(schema: Schema) -> None:
    data = random_rows(schema, 500, np.random.default_rng(0))
    back = decoded(own_scaling(data), own_scaling(data).encode(data))
    for column, values, expected in zip(schema.columns, back.table().T, data.table().T, strict=True):
        assert np.abs(values - expected).max() <= (0 if column.levels else 2e-6 * (column.high - column.low))


@OWN_ROWS
def test_encoded_rows_are_float32_of_mean_0_and_deviation_about_1(data: Transitions) -> None:
    z = own_scaling(data).encode(data)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z.mean(0), 0, atol=0.01)
    np.testing.assert_allclose(z.std(0), 1, atol=0.1)


@OWN_ROWS
def test_a_value_inside_its_bounds_is_shifted_and_scaled(data: Transitions) -> None:
    scaling, inside = own_scaling(data), inside_bounds(data)
    affine = (columns(data) - scaling.mean) / scaling.scale
    np.testing.assert_allclose(scaling.encode(data)[inside], affine[inside], atol=1e-5)


@OWN_ROWS
def test_values_on_a_bound_stand_apart_so_that_an_inexact_network_still_meets_it(data: Transitions) -> None:
    """Clipped actions gather there; none of them may come back as almost the bound."""
    scaling, on_bound = own_scaling(data), np.abs(data.actions) == 1
    halves = np.array([(column.high - column.low) / 2 for column in varying(data.schema).values()])
    slips = 0.01 * halves / scaling.scale * np.random.default_rng(0).uniform(-1, 1, (len(data), len(halves)))
    back = decoded(scaling, scaling.encode(data) + slips)
    assert on_bound.mean() > 0.01
    assert np.array_equal(back.actions[on_bound], data.actions[on_bound])


@pytest.mark.parametrize(("name", "width"), [("toy", 7), ("maze2d-medium", 11), ("halfcheetah-medium-replay", 41), ("kitchen-partial", 71)])
def test_known_constants_are_left_out_and_come_back_exactly(name: str, width: int) -> None:
    schema = SCHEMAS[name]
    data = random_rows(schema, 300, np.random.default_rng(0))
    scaling = own_scaling(data)
    z = scaling.encode(data)
    known = [i for i, column in enumerate(schema.columns) if column.low == column.high]
    back = decoded(scaling, np.random.default_rng(0).normal(size=z.shape)).table()
    assert z.shape == (300, width) == (300, len(scaling.mean))
    assert known
    assert (back[:, known] == np.array([schema.columns[i].low for i in known], np.float32)).all()


def test_a_single_level_inside_wider_bounds_is_a_known_constant_too() -> None:
    schema = replace(level_schema([5], 1), reward=Column("reward", 0.0, 4.0, levels=(3.0,)))
    assert len(varying(schema)) == 1
    assert (decoded(unit_scaling(schema), np.ones((10, 1))).rewards == 3).all()


def test_the_step_is_modelled_and_not_the_next_state() -> None:
    """A row whose step is small keeps it small, wherever the state is moved to."""
    data = toy(2000)
    scaling = own_scaling(data)
    z = scaling.encode(data)
    z[:, :2] = 0
    back = decoded(scaling, z)
    np.testing.assert_allclose(back.observations, np.broadcast_to(scaling.mean[:2], back.observations.shape), atol=1e-5)
    np.testing.assert_allclose(back.next_observations - back.observations, data.next_observations - data.observations, atol=1e-6)


@OWN_ROWS
def test_a_row_is_encoded_alike_whatever_rows_are_beside_it(data: Transitions) -> None:
    scaling = pooled_scaling([data.rows(slice(0, 1000))])
    before = {name: values.copy() for name, values in scaling.state().items()}
    z, some = scaling.encode(data), np.random.default_rng(0).permutation(len(data))[:100]
    assert np.array_equal(scaling.encode(data.rows(some)), z[some])
    assert all(np.array_equal(values, before[name]) for name, values in scaling.state().items())


@EVERY_SCHEMA
def test_no_rows_are_encoded_and_decoded(schema: Schema) -> None:
    z = unit_scaling(schema).encode(Transitions.empty(schema))
    assert z.shape == (0, len(varying(schema)))
    assert len(decoded(unit_scaling(schema), z)) == 0


@OWN_ROWS
def test_the_state_restores_the_same_rows(data: Transitions) -> None:
    scaling = own_scaling(data)
    again = Scaling.restore(data.schema, scaling.state())
    z = np.random.default_rng(0).normal(size=(100, len(scaling.mean)))
    np.testing.assert_allclose(decoded(again, z).table(), decoded(scaling, z).table(), atol=1e-5)
    assert {values.dtype for values in scaling.state().values()} == {np.dtype(np.float32)}


# --- inside the schema ----------------------------------------------------------------------------------------------------------------------------


@EVERY_SCHEMA
@pytest.mark.parametrize("size", [1.0, 1e3, 1e30])
def test_whatever_a_network_says_becomes_a_row_inside_the_schema(schema: Schema, size: float) -> None:
    rng = np.random.default_rng(0)
    scaling = pooled_scaling([random_rows(schema, 100, rng)])
    assert not faults(decoded(scaling, size * rng.normal(size=(1000, len(scaling.mean)))))


@EVERY_SCHEMA
@pytest.mark.parametrize("side", ["low", "high"])
def test_values_beyond_a_bound_become_the_bound(schema: Schema, side: str) -> None:
    """All but the terminal, whose bounds are probabilities, and s', which moves no further than the difference allows."""
    back = decoded(unit_scaling(schema), np.full((3, len(varying(schema))), -1e6 if side == "low" else 1e6))
    for i in range(len(schema.observations) + len(schema.actions) + 1):
        expected = np.float32(getattr(modelled_columns(schema)[i], side))
        assert (modelled_column(back, i) == expected).all()


def test_a_value_becomes_the_nearest_level() -> None:
    schema = level_schema([3, 5], 1)
    z = np.random.default_rng(0).uniform(-2, 7, (500, 2)).astype(np.float32)
    assert np.array_equal(decoded(unit_scaling(schema), z).actions, np.clip(np.rint(z), 0, [2, 4]))


@pytest.mark.parametrize("share", [0.0, 0.004, 0.3, 1.0])
@pytest.mark.parametrize("spread", [0.001, 0.1, 10.0])
def test_terminals_have_their_share_however_inexact_a_network_is_about_them(share: float, spread: float) -> None:
    """Where each is drawn with what the network says, noise about 0 becomes false ones; rounding at one half makes rare ones vanish."""
    n, rng = 20_000, np.random.default_rng(0)
    data = replace(random_rows(SCHEMAS["kitchen-partial"], n, rng), terminals=np.arange(n) < share * n)
    scaling = own_scaling(data)
    z = scaling.encode(data)
    z[:, -1] += spread * rng.normal(size=n)
    found = decoded(scaling, z).terminals
    assert found.sum() == data.terminals.sum()
    if spread < 0.01:
        assert np.array_equal(found, data.terminals), "and they are the rows that are most like one"


def test_a_terminal_is_moved_by_its_share_and_not_scaled() -> None:
    data = random_rows(SCHEMAS["kitchen-partial"], 500, np.random.default_rng(0))
    np.testing.assert_allclose(own_scaling(data).encode(data)[:, -1], data.terminals - data.terminals.mean(), atol=1e-6)


# --- constants of public rows ---------------------------------------------------------------------------------------------------------------------


def of_values(values: NDArray, levels: int = 100) -> Transitions:
    """Rows of a single varying column."""
    return level_rows(np.asarray(values)[None], [levels])


def test_each_public_dataset_has_equal_weight_however_many_rows_it_has() -> None:
    few, many = np.array([10, 20]), np.tile([80, 90], 2500)
    scaling = pooled_scaling([of_values(few), of_values(many)])
    assert scaling.mean == pytest.approx([(15 + 85) / 2])
    assert scaling.scale == pytest.approx([np.std([10, 20, 80, 90])])


def boxes(schema: Schema) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower ends and widths of the varying columns' boxes."""
    low, high = np.array([(column.low, column.high) for column in varying(schema).values()]).T
    return low, high - low


def test_moments_are_about_those_of_the_pooled_rows_box_on_box() -> None:
    parts = siblings_of_umaze()
    scaling = pooled_scaling(parts)
    low, width = boxes(parts[0].schema)
    pooled = np.concatenate([(columns(part) - boxes(part.schema)[0]) / boxes(part.schema)[1] for part in parts])  # of equal size, so of equal weight
    assert (np.abs((scaling.mean - low) / width - pooled.mean(0)) < 0.01 * pooled.std(0)).all()
    np.testing.assert_allclose(scaling.scale / width, pooled.std(0), rtol=0.1)


def test_what_larger_siblings_look_like_fits_a_smaller_box() -> None:
    """A model of them alone is released in the box of the sensitive maze, where absolute positions would be clipped to its rim."""
    larger, own = siblings_of_umaze(), umaze(5000)
    scaling = Scaling.restore(own.schema, pooled_scaling(larger).state())
    told = np.concatenate([own_scaling(sibling).encode(sibling) for sibling in larger])
    positions = [0, 1]
    assert (~inside_bounds(decoded(scaling, told)))[:, positions].mean() < 0.02


def test_repeating_or_reordering_public_datasets_changes_nothing() -> None:
    first, second = siblings_of_umaze()
    once = pooled_scaling([first, second]).state()
    for again in ([second, first], [first, second, first, second]):
        for name, values in pooled_scaling(again).state().items():
            np.testing.assert_allclose(values, once[name], rtol=1e-5, atol=1e-6)


def test_a_column_that_public_rows_hold_constant_is_scaled_by_its_box() -> None:
    """Sensitive rows may well vary in it: they fill -1 to 1."""
    scaling = pooled_scaling([of_values(np.full(50, 7)), of_values(np.full(9, 7))])
    assert scaling.mean == pytest.approx([99 / 2])
    assert scaling.scale == pytest.approx([99 / 2])
    assert scaling.encode(of_values(np.array([0, 99]))).ravel() == pytest.approx([-1, 1])


@pytest.mark.parametrize("rows", sorted(set(AWKWARD) - {"no row"}))
@EVERY_SCHEMA
def test_awkward_public_rows_give_constants_that_can_be_divided_by(schema: Schema, rows: str) -> None:
    data = AWKWARD[rows](schema)
    scaling = own_scaling(data)
    assert np.isfinite(scaling.mean).all()
    assert (scaling.scale > 0).all()
    assert np.abs(scaling.encode(data)).max() < 1e3


def test_siblings_with_larger_boxes_give_rows_inside_the_own_box() -> None:
    own = umaze(5000)
    scaling = Scaling.restore(own.schema, pooled_scaling(siblings_of_umaze()).state())
    z = scaling.encode(own)
    assert max(column.high for column in LARGE.schema.columns) > max(column.high for column in own.schema.columns)
    np.testing.assert_allclose(decoded(scaling, z).table(), own.table(), atol=1e-5)
    assert not faults(decoded(scaling, np.random.default_rng(0).normal(size=z.shape)))


# --- constants of histograms ----------------------------------------------------------------------------------------------------------------------


@OWN_ROWS
def test_a_histogram_without_noise_gives_the_moments_of_its_rows(data: Transitions) -> None:
    """Up to a fraction of the 4,096 cells of each column."""
    paid, exact = Scaling.of_histograms(binned(data, 64, steps=4096)), own_scaling(data)
    cells = np.array([(column.high - column.low) / 4096 for column in varying(data.schema).values()])
    assert (np.abs(paid.mean - exact.mean) < cells / 2).all()
    assert (np.abs(paid.scale - exact.scale) < cells / 2).all()


def test_mass_far_out_does_not_widen_the_scale() -> None:
    """Noise leaves some in every wide range: here one row in 300, at the end."""
    near = np.random.default_rng(0).integers(0, 10, 3000)
    far = of_values(np.where(np.arange(3000) % 300, near, 999), levels=1000)
    assert columns(far).std() > 50
    assert own_scaling(far).scale == pytest.approx([near.std()], rel=0.02)


def test_a_histogram_of_levels_gives_their_exact_moments_and_the_share_of_terminals() -> None:
    data = random_rows(SCHEMAS["kitchen-partial"], 1000, np.random.default_rng(0))
    paid, reward = Scaling.of_histograms(binned(data, 64)), list(varying(data.schema)).index(69)
    assert modelled_columns(data.schema)[69].name == "reward"
    assert paid.mean[reward] == pytest.approx(data.rewards.mean(), rel=1e-5)
    assert paid.scale[reward] == pytest.approx(data.rewards.std(), rel=1e-5)
    assert (paid.mean[-1], paid.scale[-1]) == (pytest.approx(data.terminals.mean()), 1)


@pytest.mark.parametrize("rows", AWKWARD)
@EVERY_SCHEMA
def test_histograms_of_awkward_rows_give_constants_that_can_be_divided_by(schema: Schema, rows: str) -> None:
    scaling = Scaling.of_histograms(binned(AWKWARD[rows](schema), 64))
    assert np.isfinite(scaling.mean).all()
    assert (scaling.scale > 0).all()
    assert np.isfinite(scaling.encode(AWKWARD[rows](schema))).all()
