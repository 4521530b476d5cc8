"""The commands that ask more of a finished sweep than its leaderboard."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Finished
from shell_support import TINY, bench, csv_of, write_preset

from bench.run.spec import Seeds
from bench.tables.validation import LADDERS


def test_table_splits_the_variance(finished: Finished) -> None:
    scores = {line["metric"] for line in csv.DictReader(io.StringIO(csv_of(finished.results, "--variance")))}
    assert scores == {"score", "synthesizer", "sampling", "agent"}


def test_table_pools_environments(finished: Finished) -> None:
    scores = {line["metric"] for line in csv.DictReader(io.StringIO(csv_of(finished.results, "--aggregate")))}
    assert scores == {"iqm", "first_better"}


def test_table_ranks_by_each_half_of_the_seeds(finished: Finished) -> None:
    scores = {line["metric"] for line in csv.DictReader(io.StringIO(csv_of(finished.results, "--retest")))}
    assert scores == {"seed 0", "seed 1"}


def test_table_prints_those_of_the_paper(finished: Finished) -> None:
    scores = {line["metric"] for line in csv.DictReader(io.StringIO(csv_of(finished.results, "--paper", "resources")))}
    assert scores == {f"{phase}/{measure}" for phase in ("fit", "sample") for measure in ("minutes", "GB")}


@pytest.mark.parametrize("form", ["latex", "markdown"])
def test_verify_passes_what_table_wrote_and_names_what_was_changed(finished: Finished, form: str, tmp_path: Path) -> None:
    page, file = bench("table", "--results", finished.results, "--format", form).out, tmp_path / "page"
    file.write_text(f"An introduction with 3 numbers of its own.\n\n{page}\nAnd 1 sentence more.\n")
    sound = bench("verify", file, "--results", finished.results)
    assert (sound.code, sound.err) == (0, "")
    number = re.search(r"\.(\d)\d\d", page[page.index("one-way") :])
    assert number is not None
    place = page.index("one-way") + number.start(1)
    file.write_text(page[:place] + str((int(page[place]) + 1) % 10) + page[place + 1 :])
    wrong = bench("verify", file, "--results", finished.results)
    assert wrong.code == 1
    assert "one-way" in wrong.out
    assert number[0] in wrong.out.split("the records say")[1]


def test_plan_tells_what_separates_two_rows(finished: Finished) -> None:
    result = bench("plan", "--results", finished.results, "--separate", "independent", "uniform")
    assert result.code == 0, result.err
    assert "independent at 10 minus uniform at 0 is" in result.out
    assert "stages" not in result.out, "the sweep of the preset is not planned"


def test_compare_sets_two_rows_side_by_side(finished: Finished) -> None:
    result = bench("compare", "independent", "uniform", "--results", finished.results)
    assert (result.code, result.err) == (0, "")
    assert "first: independent at 10; second: uniform at 0" in result.out
    assert "2x1x1" in result.out


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("table", "--variance", "--aggregate"), "--variance, --aggregate, --retest, --paper: these are tables of their own"),
        (("table", "--variance", "--paper", "I"), "--variance, --aggregate, --retest, --paper: these are tables of their own"),
        (("table", "--paper", "II"), "--paper: 'II' is unknown; choose from I, III, XII, ablation, sweep, resources"),
        (("verify", "nowhere.tex"), "FILE: cannot read nowhere.tex"),
        (("verify", __file__), "holds no table that can be verified"),
        (("compare", "independent", "nobody"), "'nobody'; choose from"),
        (("plan", "--separate", "independent", "nobody"), "'nobody'; choose from"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(finished: Finished, arguments: tuple[str, ...], fragment: str) -> None:
    result = bench(*arguments, "--results", finished.results)
    assert result.code == 2
    assert fragment in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_validate_runs_once_prints_its_conclusion_and_continues(tmp_path: Path) -> None:
    """On `toy` with an agent that learns nothing to speak of: the numbers mean nothing."""
    preset = write_preset(replace(TINY, seeds=Seeds(synthesizer=1)), tmp_path)
    command = ("validate", "--preset", preset, "--results", tmp_path / "runs", "--jobs", 1)
    told = bench(*command, "--dry-run")
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("25 rows of 25 cells")
    assert not (tmp_path / "runs").exists()
    first = bench(*command)
    assert (first.code, first.err) == (0, "")
    assert f"toy · bc · {preset.stem} · runs a level: 1 · " in first.out
    assert all(f"\n{kind} " in first.out for kind in LADDERS)
    again = bench(*command)
    stages = int(told.out.split(" cells, ")[1].split()[0])
    assert f"{stages} stages ({stages} done)" in again.out
    assert again.out.split("toy · bc")[1] == first.out.split("toy · bc")[1]
