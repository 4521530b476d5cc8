"""A run that is killed at any moment and started again ends with the table of a run that was left alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from shell_support import QUICK, bench, csv_of, start, write_preset


class _Subject:
    """A command that was run once undisturbed: how long it took and what its table says."""

    def __init__(self, folder: Path, *options: object) -> None:
        self._folder, self._options = folder, options
        started = time.monotonic()
        process = start(*self._command(folder / "whole"))
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        self.seconds, self.csv = time.monotonic() - started, csv_of(folder / "whole")

    def killed_at(self, fraction: float) -> str:
        """The csv of a run that was killed after this fraction of its time, and then finished.

        The second run starts at once, while workers of the first may still be writing.
        """
        results = self._folder / f"killed-{fraction:.3f}"
        process = start(*self._command(results))
        time.sleep(fraction * self.seconds)
        process.kill()
        process.communicate()
        again = bench(*self._command(results))
        assert again.code == 0, again.err
        return csv_of(results)

    def _command(self, results: Path) -> Sequence[object]:
        return ("run", *self._options, "--results", results)


def moments(count: int) -> list[float]:
    """Fractions of a run, one drawn in each of `count` equal parts of it."""
    return [float(value) for value in (np.arange(count) + np.random.default_rng(2).random(count)) / count]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> _Subject:
    folder = tmp_path_factory.mktemp("quick")
    return _Subject(folder, "--preset", write_preset(QUICK, folder), "--jobs", 1)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> _Subject:
    return _Subject(tmp_path_factory.mktemp("smoke"), "--preset", "smoke")


@pytest.mark.parametrize("fraction", moments(2))
def test_a_killed_run_continues_to_the_same_table(fraction: float, quick: _Subject) -> None:
    assert quick.killed_at(fraction) == quick.csv


@pytest.mark.slow
@pytest.mark.parametrize("fraction", moments(20))
def test_the_smoke_preset_killed_at_20_moments_ends_with_the_same_table(fraction: float, smoke: _Subject) -> None:
    assert smoke.killed_at(fraction) == smoke.csv
