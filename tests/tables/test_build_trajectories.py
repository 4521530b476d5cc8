"""Beside the epsilon of one transition stands that of a whole trajectory: from recorded charges and the public maximum length."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import pytest
from hand_made import HandMade, latex_rows

from bench.core.accounting import Charge
from bench.core.groups import group_epsilon
from bench.run.store import Store
from bench.tables.render import FORMATS, render

LONGEST = 20
LOUD, QUIET = (Charge("counts", "gaussian", 1.0, 2, noise_multiplier=noise) for noise in (40.0, 60.0))
FAINT = Charge("counts", "gaussian", 1.0, 1, noise_multiplier=1.0)
"""Of a trajectory of 20 rows it hides nothing."""


def filled(made: HandMade) -> HandMade:
    made.row("real", iql=[49.0, 50.0])
    made.row("uniform", iql=[-5.0, -6.0])
    made.row("pgm", 10.0, charges=[FAINT, FAINT], iql=[70.0, 72.0])
    made.row("pgm", 1.0, charges=[QUIET, LOUD], iql=[60.0, 62.0])
    made.row("pgm", math.inf, charges=[Charge("best", "exponential", 1.0, 1, pick_epsilon=math.inf)], iql=[80.0, 82.0])
    return made


@pytest.fixture
def bench(tmp_path: Path) -> HandMade:
    return filled(HandMade(Store(tmp_path), public={"max_trajectory_length": LONGEST}))


def trajectory_epsilons(made: HandMade) -> dict[tuple[str, str], str]:
    """By synthesizer and epsilon, as the csv has them."""
    lines = csv.DictReader(io.StringIO(render(made.table(), "csv")))
    return {(line["synth"], line["epsilon"]): line["epsilon_trajectory"] for line in lines if line["metric"] == "score"}


def test_each_row_has_the_largest_epsilon_of_its_fits(bench: HandMade) -> None:
    largest = group_epsilon([LOUD], 1e-7, "pld", LONGEST)
    assert group_epsilon([QUIET], 1e-7, "pld", LONGEST) < largest < 10
    found = trajectory_epsilons(bench)
    assert found.pop(("pgm", "1")) == f"{largest:.6g}"
    assert found == {("real", "inf"): "inf", ("uniform", "0"): "0", ("pgm", "10"): "inf", ("pgm", "inf"): "inf"}


def test_people_read_it_beside_epsilon_and_beyond_hope_is_no_infinity(bench: HandMade) -> None:
    largest = f"{group_epsilon([LOUD], 1e-7, 'pld', LONGEST):.4g}"
    wanted = [
        ["synthesizer", "guarantee", "ε", "ε/traj", "spent"],
        ["real", "none", "∞", "∞", "∞"],
        ["pgm", "DP", "∞", "∞", "∞"],
        ["pgm", "DP", "10", ">50", "9.9"],
        ["pgm", "DP", "1", largest, "0.99"],
        ["uniform", "data-free", "0", "0", "0"],
    ]
    table = bench.table()
    for form, separator in (("text", r" {2,}"), ("markdown", r"\|"), ("latex", "&")):
        page = render(table, form).replace(r"$\varepsilon$", "ε").replace(r"$\infty$", "∞").replace("$>$", ">").replace("> 50", ">50")
        cells = [[cell.strip() for cell in re.split(separator, line)] for line in page.splitlines()]
        found = [line[line.index(first) : line.index(first) + 5] for first, *_ in wanted for line in cells if first in line]
        assert all(line in found for line in wanted), form


def test_the_note_says_how_long_a_trajectory_may_be(bench: HandMade) -> None:
    (group,) = bench.table().groups
    assert group.notes["ε/traj"] == "bounds what adding or removing one whole trajectory of at most 20 rows can change; > 50: no protection"
    assert all("one whole trajectory of at most 20 rows" in re.sub(r"\s+", " ", render(bench.table(), form)) for form in FORMATS if form != "csv")


@pytest.mark.parametrize(
    ("unit", "public"),
    [
        pytest.param("trajectory", {"max_trajectory_length": LONGEST}, id="trajectories-are-the-unit"),
        pytest.param("transition", {}, id="older-manifest"),
    ],
)
def test_where_it_says_nothing_there_is_no_such_column(unit: str, public: dict[str, int], tmp_path: Path) -> None:
    made = filled(HandMade(Store(tmp_path), heading={"unit": unit}, public=public))
    assert set(trajectory_epsilons(made).values()) == {""}
    assert not any("/traj" in render(made.table(), form) for form in FORMATS)
    (group,) = json.loads(render(made.table(), "json"))["groups"]
    assert group["max_trajectory_length"] is None


def test_json_has_the_length_and_every_epsilon(bench: HandMade) -> None:
    (group,) = json.loads(render(bench.table(), "json"))["groups"]
    assert group["max_trajectory_length"] == LONGEST
    assert [row["epsilon_trajectory"] for row in group["body"] if row["synth"] != "pgm"] == ["inf", 0.0]


def test_every_line_of_a_page_has_as_many_cells_as_the_header(bench: HandMade) -> None:
    assert {row.count("&") for row in latex_rows(render(bench.table(), "latex"))} == {7}
    markdown = [line for line in render(bench.table(), "markdown").splitlines() if line.startswith("|")]
    assert {line.count("|") for line in markdown} == {9}
    assert r"\begin{tabular}{rllrrrrr}" in render(bench.table(), "latex")
    assert r"\cmidrule(lr){7-8}" in render(bench.table(), "latex")
