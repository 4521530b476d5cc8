"""The wheel holds the four packages and nothing else, and a stranger's distribution beside it is as much a part of the benchmark as a built-in."""

from __future__ import annotations

import ast
import csv
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

import pytest

import bench

ROOT = Path(__file__).resolve().parent.parent
OUTSIDER = ROOT / "tests" / "outsider"
PACKAGES = {"bench", "synthesizers", "metrics", "agents"}
OFFLINE = ("--quiet", "--no-deps", "--no-index")


def run(*command: str | Path) -> str:
    """What a command prints, run far from the sources and without the tests' own Python variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    finished = subprocess.run(list(map(str, command)), cwd=tempfile.gettempdir(), env=clean, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of the project and of the outsider, built from copies: setuptools leaves its scraps beside the sources."""
    place = tmp_path_factory.mktemp("wheels")
    hidden = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs")
    for name, source in (("project", ROOT), ("outsider", OUTSIDER)):
        copy = shutil.copytree(source, place / name, ignore=hidden)
        run(sys.executable, "-m", "pip", "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", place, copy)
    return place


@pytest.fixture(scope="session")
def installed(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of a virtual environment with both wheels; what they depend on is borrowed from the environment of the tests."""
    place = tmp_path_factory.mktemp("installed")
    venv.create(place, symlinks=True)
    scheme = {"base": str(place), "platbase": str(place)}
    Path(sysconfig.get_path("purelib", "venv", scheme), "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    scripts = Path(sysconfig.get_path("scripts", "venv", scheme))
    run(sys.executable, "-m", "pip", "--python", scripts / "python", "install", *OFFLINE, "--ignore-installed", *wheels.glob("*.whl"))
    return scripts


SUFFIXES = (".py", ".toml", ".json", ".typed", ".html", ".css", ".js")


def sources(folder: Path) -> set[str]:
    return {path.relative_to(folder.parent).as_posix() for path in folder.rglob("*") if path.suffix in SUFFIXES}


def test_the_wheel_holds_the_four_packages_whole_and_nothing_else(wheels: Path) -> None:
    with zipfile.ZipFile(next(wheels.glob("orl_bench-*.whl"))) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())
    assert held == set().union(*(sources(ROOT / package) for package in PACKAGES))
    assert {"bench/py.typed", "bench/presets/smoke.toml", "bench/presets/laptop.toml", "bench/presets/paper.toml"} <= held


def test_the_outsider_needs_no_more_than_the_public_api() -> None:
    imports = [node for node in ast.walk(ast.parse((OUTSIDER / "outsider_synth.py").read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module if isinstance(node, ast.ImportFrom) else alias.name for node in imports for alias in node.names}
    assert {name for name in names if name and name.partition(".")[0] in PACKAGES} == {"bench"}
    taken = {alias.name for node in imports if isinstance(node, ast.ImportFrom) and node.module == "bench" for alias in node.names}
    assert taken <= set(bench.__all__)


@pytest.mark.slow
def test_an_installed_outsider_is_listed_checked_and_run(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import bench, agents; print(bench.__file__, agents.__file__)")
    assert str(ROOT) not in where, "the checkout shadows the wheel"
    command = installed / "bench"
    assert "linear-gaussian" in run(command, "list")
    run(command, "check", "linear-gaussian")
    run(command, "run", "--preset", "smoke", "--synth", "real,independent,public-only[pretraining_steps=10],linear-gaussian", "--results", tmp_path)
    table = csv.DictReader(run(command, "table", "--format", "csv", "--results", tmp_path).splitlines())
    synths = {row["synth"] for row in table}
    assert {"linear-gaussian", "independent", "real"} <= synths
