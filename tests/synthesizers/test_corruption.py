"""Corrupted copies of real rows: each kind spoils what it names, as much as its level says, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench import conformance
from bench.core.data import Column, Transitions
from bench.core.errors import InputError
from bench.core.privacy import Ledger
from bench.core.protocols import Runtime
from bench.core.registry import resolve
from synthesizers._parts.corruption import CORRUPTIONS

ROWS = 20_000
TOY = resolve("environments", "toy").instance
DATA: Transitions = replace(TOY.dataset(ROWS, 0, "train"), terminals=np.arange(ROWS) % 9 == 0)
MAZE: Transitions = resolve("environments", "maze2d-umaze").instance.dataset(ROWS, 0, "train")
ARRAYS = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
EVERY_KIND = pytest.mark.parametrize("kind", CORRUPTIONS)


def spoiled(kind: str, level: float, data: Transitions = DATA) -> Transitions:
    return CORRUPTIONS[kind](data, level, np.random.default_rng(0))


def steps(data: Transitions) -> np.ndarray:
    return data.next_observations - data.observations


def changed(rows: Transitions, *names: str) -> np.ndarray:
    """Which rows differ in any of these arrays from those of `DATA`."""
    return np.any([(getattr(rows, name).reshape(ROWS, -1) != getattr(DATA, name).reshape(ROWS, -1)).any(1) for name in names], axis=0)


def assert_kept(rows: Transitions, *names: str) -> None:
    for name in names:
        np.testing.assert_array_equal(getattr(rows, name), getattr(DATA, name), err_msg=name)


@EVERY_KIND
def test_level_0_changes_nothing(kind: str) -> None:
    rows = spoiled(kind, 0.0)
    if kind == "fewer-rows":  # another order, in which rows stand alone
        np.testing.assert_array_equal(np.unique(rows.table(), axis=0), np.unique(DATA.table(), axis=0))
    else:
        assert_kept(rows, *ARRAYS)
        np.testing.assert_array_equal(rows.trajectories, DATA.trajectories)


def test_independent_columns_leave_the_other_rows_as_they_are_to_the_bit() -> None:
    rows = spoiled("independent", 0.0, MAZE)
    np.testing.assert_array_equal(rows.next_observations, MAZE.next_observations)


@EVERY_KIND
def test_rows_are_as_many_and_the_generator_decides_which_are_spoiled(kind: str) -> None:
    before = DATA.table().copy()
    rows, again = spoiled(kind, 0.5), spoiled(kind, 0.5)
    other = CORRUPTIONS[kind](DATA, 0.5, np.random.default_rng(1))
    assert len(rows) == ROWS
    np.testing.assert_array_equal(rows.table(), again.table())
    assert (rows.table() != other.table()).any()
    np.testing.assert_array_equal(DATA.table(), before, err_msg="the rows themselves were changed")


@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_independent_columns_keep_their_marginals_and_nothing_that_joins_them(share: float) -> None:
    rows = spoiled("independent", share)
    touched = changed(rows, "observations", "actions", "rewards")
    assert touched.mean() == pytest.approx(share, abs=0.02)
    columns = np.column_stack([DATA.observations, DATA.actions, DATA.rewards])
    drawn = np.column_stack([rows.observations, rows.actions, rows.rewards])
    np.testing.assert_array_equal(np.sort(drawn[touched], axis=0), np.sort(columns[touched], axis=0))
    np.testing.assert_allclose(np.sort(steps(rows)[touched], axis=0), np.sort(steps(DATA)[touched], axis=0), atol=1e-6)
    np.testing.assert_array_equal(drawn[~touched], columns[~touched])
    np.testing.assert_allclose(steps(rows)[~touched], steps(DATA)[~touched], atol=1e-6)
    assert (rows.rewards != DATA.rewards)[touched].mean() > 0.99
    together = np.corrcoef(np.column_stack([drawn, steps(rows)])[touched].T)
    assert np.abs(together - np.eye(len(together))).max() < 5 / np.sqrt(touched.sum())
    assert np.abs(np.corrcoef(DATA.observations[:, 0], DATA.actions[:, 0]))[0, 1] > 0.5, "there was something to lose"
    assert_kept(rows, "terminals", "timeouts")


@pytest.mark.parametrize("level", [0.5, 4.0])
def test_noise_on_steps_is_so_many_of_their_standard_deviations_wide(level: float) -> None:
    uneven = replace(DATA, next_observations=DATA.observations + steps(DATA) * np.array([1, 10], np.float32))
    rows = spoiled("noisy-steps", level, uneven)
    noise = steps(rows) - steps(uneven)
    assert noise.std(0) == pytest.approx(level * steps(uneven).std(0), rel=0.03)
    assert np.abs(np.corrcoef(noise.T, steps(uneven).T) - np.eye(4))[:2].max() == pytest.approx(0, abs=0.05)
    assert_kept(rows, "observations", "actions", "rewards", "terminals", "timeouts")


@pytest.mark.parametrize("metres", [0.2, 0.8])
def test_blurred_positions_move_s_and_its_successor_together(metres: float) -> None:
    rows = spoiled("blurred-positions", metres, MAZE)
    moved = rows.observations - MAZE.observations
    assert moved[:, :2].std(0) == pytest.approx(metres, rel=0.03)
    assert abs(np.corrcoef(moved[:, :2].T)[0, 1]) < 0.05
    assert not moved[:, 2:].any(), "velocities stay"
    np.testing.assert_allclose(steps(rows), steps(MAZE), atol=2e-6)
    for name in ("actions", "rewards", "terminals", "timeouts"):
        np.testing.assert_array_equal(getattr(rows, name), getattr(MAZE, name))


def test_rows_without_positions_are_refused_where_positions_are_to_be_blurred() -> None:
    named = tuple(Column(f"joint {i}", -1.0, 1.0) for i in range(2))
    with pytest.raises(ValueError, match=r"^corruption: blurred-positions needs columns named x and y, which this environment has not; take another"):
        spoiled("blurred-positions", 0.1, replace(DATA, schema=replace(DATA.schema, observations=named)))


@pytest.mark.parametrize("share", [0.5, 0.99, 1.0])
def test_permuted_rewards_are_those_of_other_rows(share: float) -> None:
    rows = spoiled("permuted-rewards", share)
    touched = changed(rows, "rewards")
    assert touched.mean() == pytest.approx(share, abs=0.02)
    np.testing.assert_array_equal(np.sort(rows.rewards), np.sort(DATA.rewards))
    assert abs(np.corrcoef(rows.rewards[touched], DATA.rewards[touched])[0, 1]) < 5 / np.sqrt(touched.sum())
    assert_kept(rows, "observations", "actions", "next_observations", "terminals", "timeouts")


@pytest.mark.parametrize("level", [1.0, 30.0])
def test_noise_on_rewards_is_so_many_of_their_standard_deviations_wide(level: float) -> None:
    rows = spoiled("noisy-rewards", level)
    noise = rows.rewards - DATA.rewards
    assert noise.std() == pytest.approx(level * DATA.rewards.std(), rel=0.03)
    assert noise.mean() == pytest.approx(0, abs=5 * noise.std() / np.sqrt(ROWS))
    assert_kept(rows, "observations", "actions", "next_observations", "terminals", "timeouts")


@pytest.mark.parametrize(("loss", "kept"), [(0.0, ROWS), (0.9, 2_000), (0.997, 60), (1.0, 1)])
def test_fewer_rows_are_copies_of_those_that_are_left(loss: float, kept: int) -> None:
    rows = spoiled("fewer-rows", loss)
    found, copies = np.unique(rows.table(), axis=0, return_counts=True)
    assert len(found) == kept
    assert copies.max() - copies.min() <= 1, "each is there about as often as any other"
    assert {row.tobytes() for row in found} <= {row.tobytes() for row in DATA.table()}
    assert rows.trajectories is None


@EVERY_KIND
def test_spoiled_real_rows_hold_to_the_contract_but_noise_leaves_the_bounds(kind: str) -> None:
    plugin = resolve("synthesizers", f"real[corruption={kind},level=0.3]")
    broken = {finding.check: finding.detail for finding in conformance.check(plugin, TOY) if not finding.ok}
    assert broken.keys() == ({"samples"} if kind in ("blurred-positions", "noisy-rewards") else set())
    assert all(complaint.startswith("of 1000 sampled rows: column") and "outside" in complaint for complaint in broken.values())


def test_a_corruption_spoils_the_rows_that_real_draws() -> None:
    def drawn(name: str) -> Transitions:
        method = resolve("synthesizers", name).instance
        ledger = Ledger(None, 0, np.random.default_rng(0))
        sampler = method.fit(DATA, ledger, np.random.default_rng(0), public={}, pretrained=None, runtime=Runtime())
        again: Transitions = method.restore(DATA.schema, sampler.state()).sample(500, np.random.default_rng(1), runtime=Runtime())
        return again

    real, same, other = drawn("real"), drawn("real[corruption=noisy-rewards,level=0]"), drawn("real[corruption=noisy-rewards,level=1]")
    np.testing.assert_array_equal(real.table(), same.table())
    np.testing.assert_array_equal(real.observations, other.observations)
    assert (real.rewards != other.rewards).all()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ("corruption=foo", "corruption: 'foo' is none of independent, noisy-steps, blurred-positions, permuted-rewards, noisy-rewards, fewer-rows"),
        ("corruption=independent,level=-0.5", "level: -0.5 is negative; give 0 for rows as they are, or more"),
        ("level=nan", "level: nan is negative; give 0 for rows as they are, or more"),
    ],
)
def test_a_corruption_that_is_not_offered_is_refused_in_one_sentence(fields: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve("synthesizers", f"real[{fields}]")
    assert str(caught.value) == f"real[{fields}]: {sentence}"
