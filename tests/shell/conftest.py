"""Fixtures of the shell tests: a registry that every test leaves as it was, and one finished store for all."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from shell_support import TINY, Result, bench, csv_of, write_preset


@dataclass(frozen=True)
class Finished:
    """A store in which `TINY` ran to its end. Only for reading: a test that writes works on a copy."""

    results: Path
    preset: Path
    output: Result
    csv: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    preset, results = write_preset(TINY, folder), folder / "my runs"
    output = bench("run", "--preset", preset, "--results", results, "--jobs", 2)
    assert output.code == 0, output.err
    return Finished(results, preset, output, csv_of(results))


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished store, to write in."""
    return Path(shutil.copytree(finished.results, tmp_path / "copied"))
