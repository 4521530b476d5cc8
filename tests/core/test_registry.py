"""Plugins by name: brackets, types, labels that resolve to themselves, and every way in which a name can go wrong."""

from __future__ import annotations

import importlib.metadata
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core import registry
from bench.core.errors import InputError
from bench.core.registry import canonical_json, jsonable, load_file, names, register, resolve, split_names, told


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Example:
    bins: int = 8
    rate: float = 0.5
    fast: bool = True
    mode: Literal["mst", "aim"] = "mst"
    order: Literal[1, 2] = 1
    sizes: tuple[int, ...] = (1, 2)
    colour: Colour = Colour.RED
    note: str = "plain"

    version: ClassVar[int] = 3


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`example` and `example-large` are registered for one test; entry points are read anew."""
    monkeypatch.setattr(registry, "_declared", {})
    register("synthesizers", "example")(Example)
    register("synthesizers", "example-large")(Example(bins=64))
    registry._entry_points.cache_clear()
    yield
    registry._entry_points.cache_clear()


# --- brackets -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("example[bins=16]", "bins", 16),
        ("example[rate=1e-5]", "rate", 1e-5),
        ("example[rate=inf]", "rate", math.inf),
        ("example[fast=False]", "fast", False),
        ("example[mode=aim]", "mode", "aim"),
        ("example[order=2]", "order", 2),
        ("example[sizes=(3,4,5)]", "sizes", (3, 4, 5)),
        ("example[sizes=()]", "sizes", ()),
        ("example[colour=blue]", "colour", Colour.BLUE),
        (" example[ bins = 16 , sizes = (3, 4), fast=true ] ", "sizes", (3, 4)),
        ("example-large[rate=1]", "bins", 64),
    ],
)
def test_fields_are_read_as_their_declared_type(text: str, field: str, value: Any) -> None:
    read = getattr(resolve("synthesizers", text).instance, field)
    assert read == value
    assert type(read) is type(value)


@given(
    st.builds(
        Example,
        bins=st.integers(),
        rate=st.floats(allow_nan=False),
        fast=st.booleans(),
        mode=st.sampled_from(["mst", "aim"]),
        order=st.sampled_from([1, 2]),
        sizes=st.lists(st.integers(), max_size=4).map(tuple),
        colour=st.sampled_from(Colour),
    )
)
@settings(derandomize=True, deadline=None)
def test_a_label_resolves_to_the_plugin_that_it_labels(instance: Example) -> None:
    label = registry._label("example", Example(), instance)
    again = resolve("synthesizers", label)
    assert again.instance == instance
    assert again.label == label
    assert split_names([label]) == (label,)


def test_labels_leave_out_what_is_as_registered() -> None:
    assert resolve("synthesizers", "example[bins=8,mode=aim]").label == "example[mode=aim]"
    assert resolve("synthesizers", "example-large[bins=64]").label == "example-large"
    assert resolve("synthesizers", "example-large[bins=8]").label == "example-large[bins=8]"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a,b c"], ("a", "b", "c")),
        (["a[x=1,y=2],b"], ("a[x=1,y=2]", "b")),
        (["a[x=1,y=(2,3)],b"], ("a[x=1,y=(2,3)]", "b")),
        (["a[x=(1, 2), y=3] b", "c"], ("a[x=(1, 2), y=3]", "b", "c")),
        ([" , a ,, b ,"], ("a", "b")),
        ([], ()),
    ],
)
def test_names_are_split_outside_brackets(texts: list[str], expected: tuple[str, ...]) -> None:
    assert split_names(texts) == expected


# --- bad names ------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("exampel", "'exampel' is unknown and no --plugin file registers it; did you mean example"),
        ("zzz", "'zzz' is unknown and no --plugin file registers it; choose from"),
        ("example[bin=3]", "no field 'bin'; did you mean bins"),
        ("example[version=4]", "no field 'version'"),
        ("example[bins=many]", "bins=many is not a whole number; the registered value is 8"),
        ("example[bins=1.5]", "bins=1.5 is not a whole number"),
        ("example[fast=maybe]", "fast=maybe is not true or false"),
        ("example[mode=pgm]", "mode=pgm is not one of mst, aim"),
        ("example[colour=green]", "colour=green is not one of red, blue"),
        ("example[sizes=(1,b)]", "sizes=(1,b) is not a list, each a whole number"),
        ("example[bins]", "fields are written field=value"),
        ("example[bins=3,rate=1,bins=4]", "'example[bins=3,rate=1,bins=4]': bins is given twice; write each field once"),
        ("example[bins=3", "is no plugin name"),
        ("", "is no plugin name"),
    ],
)
def test_a_bad_name_is_answered_with_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        resolve("synthesizers", text)


@dataclass(frozen=True)
class Positive:
    bins: int = 8

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ValueError(f"bins: {self.bins} is not positive")


def test_a_value_that_the_plugin_refuses_is_answered_with_its_sentence() -> None:
    register("synthesizers", "positive")(Positive)
    with pytest.raises(InputError, match=r"^positive\[bins=0\]: bins: 0 is not positive$"):
        resolve("synthesizers", "positive[bins=0]")


def test_a_field_that_no_text_stands_for_is_told() -> None:
    @register("synthesizers", "placed")
    @dataclass(frozen=True)
    class Placed:
        folder: Path = Path()

    with pytest.raises(InputError, match=r"^placed: folder cannot be written in brackets, since it is of type Path; register"):
        resolve("synthesizers", "placed[folder=x]")


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean synthesizers"):
        register("synthesizer", "example")(Example)


# --- where plugins come from ----------------------------------------------------------------------------------------------------------------------


def test_decorated_plugins_come_after_the_installed_ones() -> None:
    assert names("synthesizers")[-2:] == ["example", "example-large"]
    assert "independent" in names("synthesizers")
    assert "example" not in names("agents")


def test_identity_changes_with_every_field_and_with_the_source_of_an_external_plugin() -> None:
    plugin = resolve("synthesizers", "example")
    assert plugin.external
    assert plugin.identity["digest"] == plugin.digest
    assert plugin.identity["version"] == 3
    assert resolve("synthesizers", "example[bins=9]").identity != plugin.identity
    assert "digest" not in resolve("synthesizers", "uniform").identity


def test_a_plugin_file_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom bench.core.registry import register\n"
        "@register('synthesizers', 'mine')\n@dataclass(frozen=True)\nclass Mine:\n    size: int = 1\n    version = 1\n"
    )
    load_file(file)
    plugin = resolve("synthesizers", "mine[size=2]")
    assert (plugin.instance.size, plugin.owner, plugin.external) == (2, str(file), True)
    load_file(file)  # twice is no collision


def test_two_plugin_files_of_one_name_keep_their_own_digests(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        file = tmp_path / folder / "mine.py"
        file.parent.mkdir()
        file.write_text(
            "from dataclasses import dataclass\nfrom bench.core.registry import register\n"
            f"@register('synthesizers', '{folder}')\n@dataclass(frozen=True)\nclass Mine:\n    version = 1\n"
        )
        load_file(file)
    one, other = (resolve("synthesizers", name) for name in ("one", "other"))
    assert one.digest != other.digest
    assert "one" in one.owner


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (None, "there is no file"),
        ("import nothing_of_the_kind", "does not import (ModuleNotFoundError"),
        ("import sys\nsys.exit(0)", "does not import (SystemExit: 0 (mine.py, line 2)); mend the file"),
        ("\nfrom bench import Transition", "(mine.py, line 2)); mend the file"),
        ("from bench import register\n@register('synthesizers', 'two words')\nclass Mine: pass", "cannot name a plugin; leave out spaces"),
        ("def f(:", "does not import (SyntaxError"),
        ("from bench.core.registry import register\n@register('synthesizers', 'uniform')\nclass Mine: pass", "belongs to orl-bench already"),
        ("from bench.core.registry import register\n@register('synthesizers', 'example')\nclass Mine: pass", "belongs to both"),
    ],
)
def test_a_bad_plugin_file_is_answered_with_one_sentence(tmp_path: Path, source: str | None, sentence: str) -> None:
    file = tmp_path / "mine.py"
    if source is not None:
        file.write_text(source)
    with pytest.raises(InputError, match=re.escape(sentence)) as refusal:
        load_file(file)
    assert str(file) in str(refusal.value)


def entry_point(value: str, owner: str, name: str = "twin") -> Any:
    """As `importlib.metadata` gives them, of a distribution that is not installed."""
    point: Any = importlib.metadata.EntryPoint(name, value, "bench.synthesizers")
    return point._for(SimpleNamespace(name=owner, locate_file=lambda path: Path("/site") / path))


def install(monkeypatch: pytest.MonkeyPatch, *points: Any) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: list(points) if group == "bench.synthesizers" else [])
    registry._entry_points.cache_clear()


def test_a_name_of_two_distributions_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, entry_point("alpha.method:A", "alpha-dist"), entry_point("beta.method:B", "beta-dist"))
    with pytest.raises(InputError) as refusal:
        resolve("synthesizers", "twin")
    assert "alpha-dist (alpha.method:A)" in str(refusal.value)
    assert "beta-dist (beta.method:B)" in str(refusal.value)


def test_an_entry_point_that_is_listed_twice_is_one_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, *[entry_point("synthesizers.uniform:Uniform", "orl-bench")] * 2)
    assert resolve("synthesizers", "twin").owner == "orl-bench"


def test_built_in_names_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, entry_point("x:X", "outsider", "aaa"), entry_point("synthesizers.uniform:Uniform", "orl-bench", "zzz"))
    assert names("synthesizers")[:2] == ["zzz", "aaa"]


@pytest.mark.parametrize("value", ["no_such_package.method:A", "bench.core.rng:NoSuchClass"])
def test_a_plugin_that_does_not_import_names_where_it_was_expected(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    install(monkeypatch, entry_point(value, "alpha-dist"))
    with pytest.raises(InputError) as refusal:
        resolve("synthesizers", "twin")
    assert "/site/" + value.partition(":")[0].replace(".", "/") in str(refusal.value)
    assert "alpha-dist" in str(refusal.value)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("raise RuntimeError('too old a driver')", "alpha-dist does not load (RuntimeError: too old a driver); mend that distribution"),
        (
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    n: int = 0\n    def __post_init__(self): raise ValueError('n: 0')",
            "refuses its own defaults (n: 0); mend them",
        ),
    ],
)
def test_a_distribution_that_fails_otherwise_is_answered_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, sentence: str
) -> None:
    (tmp_path / "alpha_failing.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "alpha_failing", raising=False)
    install(monkeypatch, entry_point("alpha_failing:A", "alpha-dist"))
    with pytest.raises(InputError, match=re.escape(sentence)):
        resolve("synthesizers", "twin")


# --- JSON -----------------------------------------------------------------------------------------------------------------------------------------


def test_one_value_has_one_text() -> None:
    assert canonical_json({"b": (1, 2), "a": math.inf, "c": frozenset({2, 1})}) == '{"a":"inf","b":[1,2],"c":[1,2]}'
    assert canonical_json(Example()) == canonical_json(jsonable(Example()))
    assert jsonable(Example())["colour"] == "red"


def test_a_plugin_that_cannot_be_configured_is_one_sentence() -> None:
    @registry.register("agents", "plain-class")
    class Plain:
        version = 1

    @registry.register("agents", "needs-a-field")
    @dataclass(frozen=True)
    class Needy:
        width: int
        version: ClassVar[int] = 1

    try:
        for name, word in (("plain-class", "no dataclass"), ("needs-a-field", "without a default")):
            with pytest.raises(InputError, match=word):
                registry.resolve("agents", name)
    finally:
        for name in ("plain-class", "needs-a-field"):
            registry._declared.pop(("agents", name))


@pytest.mark.parametrize("value", [Path("data.hdf5"), {1.0: object()}])
def test_a_field_that_cannot_be_in_a_key_is_one_sentence(value: object) -> None:
    @register("environments", "odd-field")
    @dataclass(frozen=True)
    class OddField:
        odd: Any = field(default_factory=lambda: value)
        version: ClassVar[int] = 1

    with pytest.raises(InputError, match=r"odd-field: a field cannot be in a key \(.*not JSON serializable\); use numbers, text and tuples"):
        _ = resolve("environments", "odd-field").identity


def test_the_content_of_an_environments_files_is_part_of_its_identity() -> None:
    @register("environments", "on-a-file")
    @dataclass(frozen=True)
    class OnAFile:
        path: str = "here"
        version: ClassVar[int] = 1

        def content(self) -> str:
            if self.path == "nowhere":
                raise FileNotFoundError("there is no file nowhere")
            return f"digest of {self.path}"

    try:
        assert resolve("environments", "on-a-file").identity["content"] == "digest of here"
        with pytest.raises(InputError, match=re.escape("on-a-file[path=nowhere]: there is no file nowhere")):
            _ = resolve("environments", "on-a-file[path=nowhere]").identity
    finally:
        registry._declared.pop(("environments", "on-a-file"))


def test_what_a_plugin_file_raises_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import numpy as np\n\ndef fit():\n    return np.ones(2).reshape(3)\n")
    load_file(file)
    (fit,) = (module.fit for module in sys.modules.values() if getattr(module, "__file__", None) == str(file))
    with pytest.raises(ValueError, match="reshape") as raised:
        fit()
    assert told(raised.value) == f"ValueError: {raised.value} (mine.py, line 4)"
    with pytest.raises(ValueError, match="int") as raised:
        int("x")
    assert told(raised.value) == f"ValueError: {raised.value}"
