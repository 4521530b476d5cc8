"""PrivORL-j beside its privacy: what makes a public phase, what a release is like, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from privorl_j_support import TINY, VARIANTS, case_of, ending_case, pretrained_of

from bench.conformance.rows import differing_arrays, faults, signature
from bench.core.data import Transitions
from bench.core.errors import InputError
from bench.core.protocols import Runtime, State
from synthesizers._parts import window_models
from synthesizers._parts.window_models import WindowPretraining

# --- the public phase -----------------------------------------------------------------------------------------------------------------------------


def phase_of(**changed: Any) -> WindowPretraining:
    phase = replace(TINY, **changed).pretraining
    assert phase is not None
    return phase


def pretrained(seed: int = 0, public: Mapping[str, Transitions] | None = None, **changed: Any) -> State:
    rows = case_of(TINY).public if public is None else public
    return phase_of(**changed).run(rows, np.random.default_rng(seed), runtime=Runtime())


@pytest.mark.parametrize("curiosity", ["off", "paper", "code"])
def test_pretraining_repeats_itself_and_another_seed_differs_in_the_weights_alone(curiosity: str) -> None:
    once, again, other = (pretrained(seed, curiosity=curiosity) for seed in (0, 0, 1))
    assert not differing_arrays(once, again)
    assert {"lengths", "mean", "scale"} == once.keys() - set(differing_arrays(once, other))


def test_novel_windows_enter_in_the_second_half_of_pretraining(monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep what is known and padded of the public windows that they are drawn for."""
    renewed: list[int] = []
    redrawn = window_models._redrawn

    def watched(model: Any, windows: Any, generator: Any) -> Any:
        renewed.append(len(windows))
        novel = redrawn(model, windows, generator)
        content, flags, condition = model.layout.split(novel)
        before = model.layout.split(windows)
        drawn = model.layout.is_drawn(flags)
        assert drawn.float().mean() > 0.5
        assert bool((content != before[0])[drawn].all())
        assert bool((content == before[0])[~drawn].all())
        assert bool((flags == before[1]).all())
        assert bool((condition == before[2]).all())
        return novel

    monkeypatch.setattr(window_models, "_redrawn", watched)
    assert differing_arrays(pretrained(curiosity="paper"), pretrained(curiosity="off"))
    assert len(renewed) == 5


def test_siblings_weigh_alike_in_scaling_and_lengths_however_many_trajectories_they_have() -> None:
    east, north = case_of(TINY).public.values()
    halves = east.without(np.flatnonzero(np.arange(len(east)) % 20 >= 10))
    once, twice = (halves.joined(np.tile(np.arange(20), times)) for times in (1, 2))
    few, many = (pretrained(public={"east": part, "north": north}, pretraining_steps=1) for part in (once, twice))
    for name in ("mean", "scale", "lengths"):
        np.testing.assert_allclose(few[name], many[name], rtol=1e-5)
    assert few["lengths"][0, [9, 19]].tolist() == [0.5, 0.5]


# --- releases -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 19, 20, 21, 200, 250])
def test_any_number_of_rows_is_drawn_in_whole_trajectories_but_for_the_last(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_models, "_AT_ONCE", 3)
    case = case_of(TINY)
    rows = case.sample(case.fit(case.data, epsilon=np.inf).sampler, n)
    offsets = rows.require_trajectories()
    inside = np.setdiff1d(np.arange(n), offsets[1:] - 1)
    assert len(rows) == offsets[-1] == n
    assert not faults(rows)
    assert set(np.diff(offsets)[:-1]) <= {20}
    assert np.array_equal(np.flatnonzero(rows.timeouts), offsets[1:] - 1)
    assert rows.next_observations[inside].tobytes() == rows.observations[inside + 1].tobytes()
    assert len(np.unique(rows.actions, axis=0)) >= n / 2, "a chunk is not the one before it"


def test_trajectories_end_in_terminals_and_timeouts_as_often_as_the_sensitive_ones() -> None:
    case = ending_case()
    rows = case.sample(case.fit(case.data, epsilon=np.inf).sampler, 5001)
    last = rows.require_trajectories()[1:] - 1
    own = case.data.require_trajectories()[1:] - 1
    assert not faults(rows)
    assert np.array_equal(np.flatnonzero(rows.terminals | rows.timeouts), last)
    assert not (rows.terminals & rows.timeouts).any()
    assert rows.terminals[last].mean() == pytest.approx(case.data.terminals[own].mean(), abs=0.06)
    assert rows.timeouts[-1] != rows.terminals[-1]


@pytest.mark.parametrize("epsilon", [0.1, np.inf])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_release_stays_inside_the_schema(variant: str, epsilon: float) -> None:
    case = case_of(replace(VARIANTS[variant], sampling_steps=2))
    rows = case.sample(case.fit(case.data, epsilon=epsilon).sampler, 300)
    assert len(rows) == 300
    assert not faults(rows)


def test_no_trajectory_is_longer_than_the_sensitive_schema_allows_whatever_the_siblings_had() -> None:
    case = case_of(TINY)
    shorter = replace(case.schema, max_trajectory_length=6)
    assert pretrained_of(case)["lengths"].shape == (1, 20)
    rows = TINY.restore(shorter, pretrained_of(case)).sample(100, np.random.default_rng(0), runtime=Runtime())
    assert not faults(rows)
    assert set(np.diff(rows.require_trajectories())[:-1]) == {6}


def test_more_sampling_steps_draw_other_rows_of_the_same_trajectories() -> None:
    case = case_of(TINY)
    few, many = (replace(TINY, sampling_steps=steps).restore(case.schema, pretrained_of(case)) for steps in (2, 8))
    one, other = (case.sample(sampler, 100) for sampler in (few, many))
    assert np.array_equal(one.require_trajectories(), other.require_trajectories())
    assert signature(one) != signature(other)


@pytest.mark.parametrize("name", ["model.read_rows.weight", "model.frequencies", "mean", "scale", "lengths"])
def test_a_model_of_which_an_array_is_missing_is_refused(name: str) -> None:
    """A loader that is not strict would sample the weights that nobody trained, as the published code does."""
    case = case_of(TINY)
    state = {key: values for key, values in pretrained_of(case).items() if key != name}
    with pytest.raises((KeyError, RuntimeError), match=name.removeprefix("model.")):
        TINY.restore(case.schema, state).sample(1, np.random.default_rng(0), runtime=Runtime())


def test_a_model_with_an_array_of_another_name_or_shape_is_refused() -> None:
    case = case_of(TINY)
    state = pretrained_of(case)
    for spoiled in ({**state, "model._module.read_rows.weight": np.zeros(1)}, {**state, "model.read_rows.bias": np.zeros(3, np.float32)}):
        with pytest.raises(RuntimeError, match="read_rows"):
            TINY.restore(case.schema, spoiled).sample(1, np.random.default_rng(0), runtime=Runtime())


# --- refusals -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("horizon", "width", "blocks", "patch", "pretraining_batch", "rank")),
        *((name, 0) for name in ("steps", "batch", "windows", "sampling_steps", "physical_batch")),
        *((name, -1) for name in ("pretraining_steps", "share", "beta", "decay")),
        *((name, value) for name in ("clip_norm", "pretraining_rate", "learning_rate") for value in (0.0, np.nan)),
        ("width", 100),
        ("horizon", 5),
        ("share", np.nan),
    ],
)
def test_a_hyper_parameter_out_of_range_is_refused_by_name_and_value(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"^{name}: {value} "):
        replace(TINY, **{name: value})


def test_pretraining_without_siblings_is_refused() -> None:
    with pytest.raises(InputError, match="public: there are no sibling datasets"):
        pretrained(public={})


def test_siblings_of_other_columns_are_refused() -> None:
    case = case_of(TINY)
    with pytest.raises(InputError, match="public: the siblings have 7 varying columns, the sensitive rows 8"):
        TINY.restore(ending_case().schema, pretrained_of(case)).sample(1, np.random.default_rng(0), runtime=Runtime())
