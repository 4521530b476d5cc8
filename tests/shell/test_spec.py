"""A sweep is a dataclass, a TOML file and a JSON text, and the three are one; a key names content and nothing else."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shell_support import TINY

from bench.core.accounting import ACCOUNTANTS
from bench.core.data import Unit
from bench.core.errors import InputError
from bench.run.plan import make_plan
from bench.run.spec import PRESETS, Node, Schedule, Seeds, Sweep, load_sweep

counts = st.integers(1, 10**7)
positive = st.floats(1e-6, exclude_min=False, allow_nan=False)
names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


def some(items: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, min_size=least, max_size=3).map(tuple)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    every, evaluations = draw(st.integers(1, 5000)), draw(st.integers(1, 50))
    return Schedule(every * evaluations, every, draw(counts), draw(st.integers(1, evaluations)))


sweeps = st.builds(
    Sweep,
    preset=names,
    env=some(names, 1),
    synth=some(names, 1),
    agents=some(names),
    metrics=some(names),
    attacks=some(names),
    epsilon=some(positive, 1),
    delta=st.none() | st.floats(1e-12, 0.5),
    unit=st.none() | st.sampled_from(Unit),
    accountant=st.sampled_from(ACCOUNTANTS),
    rows=some(st.integers(0, 10**7), 1),
    released=counts,
    evaluated=counts,
    dataset_seed=st.integers(0, 99),
    minutes=positive,
    seeds=st.builds(Seeds, *[st.integers(1, 10_000)] * 3),
    schedule=schedules(),
)


@given(sweep=sweeps)
@settings(max_examples=60, deadline=None)
def test_a_sweep_written_as_toml_reads_back_equal(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(sweep.to_toml(), encoding="utf-8")
    assert load_sweep(str(path), {}) == sweep


@pytest.mark.parametrize("preset", PRESETS)
def test_the_shipped_presets_load_and_read_back_equal(preset: str, tmp_path: Path) -> None:
    sweep = load_sweep(preset, {"env": ("toy",)})
    assert sweep.preset == preset
    path = tmp_path / "other-name.toml"
    path.write_text(sweep.to_toml())
    assert load_sweep(str(path), {}) == sweep


def test_the_smoke_preset_runs_every_method_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert {name.partition("[")[0] for name in load_sweep("smoke", {}).synth} == set(project["entry-points"]["bench.synthesizers"])


def test_changes_stand_above_the_preset_and_leave_the_rest() -> None:
    sweep = load_sweep("smoke", {"epsilon": (1, 2), "seeds": {"synthesizer": 7}})
    plain = load_sweep("smoke", {})
    assert sweep == replace(plain, epsilon=(1.0, 2.0), seeds=replace(plain.seeds, synthesizer=7))


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("env = ['toy']\nepsilonn = [1.0]", ["'epsilonn'", "epsilon"]),
        ("env = ['toy']\n[seeds]\nagents = 3", ["'agents'", "seeds", "agent"]),
        ("env = 'toy'", ["env = 'toy' is not a list, each text"]),
        ("env = ['toy']\nreleased = '10k'", ["released = '10k' is not a whole number"]),
        ("env = ['toy']\nreleased = true", ["released = True is not a whole number"]),
        ("env = ['toy']\nepsilon = ['ten']", ["epsilon = 'ten' is not a number"]),
        ("env = ['toy']\nunit = 'row'", ["unit = 'row' is not one of transition, trajectory"]),
        ("env = ['toy']\naccountant = 'prv'", ["accountant", "'prv'"]),
        ("env = ['toy']\nseeds = 3", ["seeds = 3 is not a table"]),
        ("env = ['toy']\nepsilon = [1.0, nan]", ["epsilon", "nan", "above 0"]),
        ("env = ['toy']\nepsilon = []", ["epsilon", "above 0"]),
        ("env = ['toy']\ndelta = -0.1", ["delta", "-0.1", "above 0"]),
        ("env = ['toy']\nrows = [-1]", ["rows", "-1 is negative"]),
        ("env = ['toy']\nrows = []", ["rows", "no number is named"]),
        ("env = ['toy']\nreleased = 0", ["released", "0", "above 0"]),
        ("env = ['toy']\nminutes = 0", ["minutes", "0", "above 0"]),
        ("env = ['toy']\n[seeds]\nagent = 1_000_000", ["seeds.agent", "1000000", "at most 10,000"]),
        ("env = ['toy']\n[seeds]\nagent = 0", ["seeds.agent", "0", "above 0"]),
        ("env = ['toy']\n[schedule]\nepisodes = -1", ["schedule.episodes", "-1", "above 0"]),
        ("env = ['toy']\n[schedule]\nsteps = 20\nevaluate_every = 10\nlast = 3", ["schedule.last", "3", "at most 2"]),
        ("epsilon = [1.0]", ["env", "--env"]),
        ("env = ['toy']\nsynth = []", ["synth", "--synth"]),
        ("env = [", ["not TOML", "mend"]),
    ],
)
def test_a_bad_preset_gets_one_sentence_with_argument_value_and_remedy(text: str, fragments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_sweep(str(path), {})
    assert all(fragment in str(error.value) for fragment in fragments), str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe not text", b"\x00"])
def test_a_preset_that_is_no_text_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bytes.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not TOML"):
        load_sweep(str(path), {})


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(InputError, match="'larptop' is neither smoke, laptop, paper nor a TOML file"):
        load_sweep("larptop", {})


def paths_of(value: Any) -> Iterator[tuple[Any, ...]]:
    """The way to every scalar and every empty container of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inner = [(key, *path) for key, item in items for path in paths_of(item)]
    yield from inner or [()]


def changed(value: Any, path: tuple[Any, ...]) -> Any:
    """A copy with another value at the end of `path`."""
    if not path:
        return "another value"
    copied = copy.copy(value)
    copied[path[0]] = changed(value[path[0]], path[1:])
    return copied


def test_a_key_depends_on_every_parameter_and_every_input() -> None:
    for node in make_plan(TINY).nodes.values():
        others = [replace(node, parameters=changed(node.parameters, path)) for path in paths_of(node.parameters)]
        others += [replace(node, inputs=changed(node.inputs, path)) for path in paths_of(node.inputs) if path]
        others += [replace(node, stage="another"), replace(node, version=node.version + 1)]
        assert len({node.key, *(other.key for other in others)}) == len(others) + 1


def test_a_key_does_not_depend_on_labels_time_limits_or_the_order_of_parameters() -> None:
    for node in make_plan(TINY).nodes.values():
        shuffled = dict(reversed(node.parameters.items()))
        assert Node(node.stage, node.version, shuffled, node.inputs, {"agents": "other"}, minutes=0.5).key == node.key


@pytest.mark.parametrize(
    "change", [{"preset": "other"}, {"minutes": 9.0}, {"agents": ()}, {"metrics": ()}, {"epsilon": (10.0, 20.0)}, {"rows": (400, 100)}]
)
def test_what_was_computed_is_found_again_by_a_larger_or_renamed_sweep(change: dict[str, Any]) -> None:
    small = replace(TINY, attacks=())
    shared = make_plan(replace(small, **change)).nodes.keys() & make_plan(small).nodes.keys()
    assert len(shared) >= len(make_plan(replace(small, agents=(), metrics=())).nodes)
