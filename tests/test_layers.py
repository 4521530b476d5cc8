"""The layers: who may import whom, and that every import is a declared dependency."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = ("bench.envs", "synthesizers", "metrics", "agents")
OURS = ("bench", *FAMILIES[1:])


def imports(source: str, package: str) -> Iterator[str]:
    """Every module that a source text in `package` imports, wherever it stands; `from a import b` counts as both a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package.replace(".", "/")).rglob("*.py"))


def imports_of(files: list[Path]) -> list[tuple[str, str]]:
    """(file, module) for every import of `files`."""
    found = []
    for path in files:
        place = path.relative_to(ROOT)
        found += [(str(place), module) for module in imports(path.read_text(), ".".join(place.parent.parts))]
    return found


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import agents.bc", "agents.bc"),
        ("from bench import envs", "bench.envs"),
        ("def f():\n    from ..envs import toy", "bench.envs.toy"),
    ],
)
def test_the_reader_of_imports_sees_every_form(source: str, module: str) -> None:
    assert module in imports(source, "bench.core")


def test_the_contracts_of_import_linter_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    finished = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout


def modules_in(package: str) -> set[str]:
    """The modules and packages that stand in a package."""
    return {
        path.stem for path in (ROOT / package).iterdir() if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").is_file()
    }


def test_every_module_of_the_framework_is_in_the_contracts() -> None:
    house, *rooms, forbidden = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    placed = {module for line in house["layers"] for module in line.split(" | ")}
    modules = {f"bench.{name}" for name in modules_in("bench") - {"examples"}}  # `bench new` copies the examples, which stand outside
    assert placed == modules | set(FAMILIES)
    assert set(forbidden["source_modules"]) == placed - {"bench.core", *FAMILIES}
    for room in rooms:
        (package,) = room["containers"]
        assert {module for line in room["layers"] for module in line.split(" | ")} == modules_in(package.replace(".", "/"))


def test_the_framework_names_no_plugin() -> None:
    outside = [*files_of("bench.envs"), *files_of("bench.examples")]
    framework = [path for path in files_of("bench") if path not in outside]
    assert [found for found in imports_of(framework) if within(found[1], FAMILIES)] == []


def test_the_kernel_stands_on_numpy_and_dp_accounting_alone() -> None:
    allowed = ("bench.core", "numpy", "dp_accounting", *sys.stdlib_module_names)
    assert [found for found in imports_of(files_of("bench.core")) if not within(found[1], allowed)] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plugin_family_stands_on_the_kernel_alone(family: str) -> None:
    ours = [found for found in imports_of(files_of(family)) if within(found[1], OURS)]
    assert ours, "nothing was read"
    assert [found for found in ours if not within(found[1], ("bench.core", family))] == []


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {_normal(re.split(r"[<>=!~;\[ ]", dependency)[0]) for dependency in project["dependencies"]}
    owners = packages_distributions()
    everything = imports_of([path for package in OURS for path in files_of(package)])
    foreign = {module.partition(".")[0] for _, module in everything} - {*OURS, *sys.stdlib_module_names}
    assert {name: owners.get(name) for name in foreign if not {_normal(owner) for owner in owners.get(name, [])} & declared} == {}


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
