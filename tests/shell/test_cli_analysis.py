"""The commands that ask more of a finished sweep than its leaderboard."""

from __future__ import annotations

import csv
import io

import pytest
from conftest import Finished
from shell_support import bench, csv_of


def test_table_splits_the_variance(finished: Finished) -> None:
    scores = {line["metric"] for line in csv.DictReader(io.StringIO(csv_of(finished.results, "--variance")))}
    assert scores == {"score", "synthesizer", "sampling", "agent"}


def test_table_pools_environments(finished: Finished) -> None:
    scores = {line["metric"] for line in csv.DictReader(io.StringIO(csv_of(finished.results, "--aggregate")))}
    assert scores == {"iqm", "first_better"}


def test_plan_tells_what_separates_two_rows(finished: Finished) -> None:
    result = bench("plan", "--results", finished.results, "--separate", "independent", "uniform")
    assert result.code == 0, result.err
    assert "independent at 10 minus uniform at 0 is" in result.out
    assert "stages" not in result.out, "the sweep of the preset is not planned"


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("table", "--variance", "--aggregate"), "--variance, --aggregate: these are two tables"),
        (("plan", "--separate", "independent", "nobody"), "'nobody'; choose from"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(finished: Finished, arguments: tuple[str, ...], fragment: str) -> None:
    result = bench(*arguments, "--results", finished.results)
    assert result.code == 2
    assert fragment in result.err
    assert len(result.err.strip().splitlines()) == 1
