"""Which one to use: the first thing on the page says what the runs show, and no more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hand_made import HandMade
from page_support import Reader, plain, report, two_budgets

from bench.report import choice
from bench.tables.validation import LADDERS, Validity


@pytest.fixture
def bench(tmp_path: Path) -> HandMade:
    return two_budgets(tmp_path)


def advice(made: HandMade) -> str:
    return plain(re.sub("<[^>]*>", "", report(made).split("Which one to use")[1].split("<caption>")[0]))


def test_the_advice_names_what_the_runs_cannot_tell_from_the_best(bench: HandMade) -> None:
    page = advice(bench)
    assert "At ε = 1, pgm has the best mean of iql of all rows under this budget over 3 runs, but these cannot tell it from 1 other" in page
    assert "Surely worse, each at 95 % confidence: independent" in page
    assert "At ε = 10, pgm has the best mean of iql of all rows under this budget over 3 runs; no other has all its runs." in page


def test_the_advice_tells_a_row_from_others_only_where_there_are_others(bench: HandMade) -> None:
    bench.row("independent", 10.0, iql=[-4.0, -5.0, -6.5])
    assert "and these tell it from every other. Surely worse, each at 95 % confidence: independent" in advice(bench)
    bench.row("gan", 10.0, iql=[90.0, None, 91.0])
    assert "and these tell it from every other that has all its runs. " in advice(bench)
    assert "Without a complete score: gan." in advice(bench)


def test_the_advice_names_what_does_as_well_without_private_rows(bench: HandMade) -> None:
    assert "without any sensitive row" not in advice(bench)
    bench.row("public-only", iql=[61.0, 60.5, 62.0])
    assert "Not surely worse, and without any sensitive row: public-only, whose mean is even better." in advice(bench)
    bench.row("uniform", iql=[69.0, 71.5, 71.0])
    both = "without any sensitive row: uniform, whose mean is even better; public-only, whose mean is even better."
    assert advice(bench).count(both) == 1
    assert advice(bench).count("without any sensitive row: uniform.") == 1, (
        "at the larger budget pgm has the better mean and surely beats public-only"
    )


def test_who_chooses_by_scores_of_rows_of_a_file_is_told_what_no_epsilon_counts(bench: HandMade) -> None:
    """README says so to their owner; the page, which recommends, has to."""
    assert "These scores come from the rows of a file." not in report(bench)
    for place in (*bench.leaves, *bench.environments.values()):
        place["source"] = "file"
    assert "These scores come from the rows of a file. Where those are sensitive, who chooses by the scores" in report(bench)


def test_the_advice_shows_how_far_the_next_is_behind_and_what_rows_cost(bench: HandMade) -> None:
    advised = report(bench).split("Which one to use")[1].split("<caption>")[0]
    candidates, worse = (Reader(body).rows for body in re.findall("<tbody>(.*?)</tbody>", advised)[:2])
    assert [[cells[0], plain(cells[2])] for _, cells in candidates] == [["pgm", ""], ["gan", "0.2 ±5.9ᵗ"]]
    assert [[cells[0], plain(cells[2])] for _, cells in worse] == [["independent", "66.2 ±5.6ᵗ"]]
    assert "10.0 min" in [cell for _, cells in candidates for cell in cells]


@pytest.mark.parametrize(
    ("preset", "correlation", "above", "said"),
    [
        ("laptop", -1.0, None, f"This score is validated on maze2d-medium: it falls as real rows are corrupted, in each of {len(LADDERS)} ways"),
        ("laptop", -0.7, None, f"{len(LADDERS) - 1} of {len(LADDERS)} kinds of corruption of real rows, but not surely under noisy-rewards (-0.70)"),
        ("laptop", -0.9, 0.5, "but not surely under noisy-rewards (level 0.5 scores more)"),
        ("my-own", -1.0, None, "has not been validated on maze2d-medium with the agent trained as by laptop: nobody has shown that it falls"),
    ],
)
def test_the_advice_trusts_a_score_as_far_as_it_was_validated(
    bench: HandMade, monkeypatch: pytest.MonkeyPatch, preset: str, correlation: float, above: float | None, said: str
) -> None:
    """A verdict holds for the preset that trained the agents; the same agent after fewer steps is another score."""
    kinds = {**dict.fromkeys(LADDERS, -1.0), "noisy-rewards": correlation}
    higher = {"noisy-rewards": above}
    found = [Validity("maze2d-medium", "iql", preset, kind, (0.0, 1.0), (2.0, 1.0), 3, rho, None, higher.get(kind)) for kind, rho in kinds.items()]
    monkeypatch.setattr(choice, "shipped_validities", lambda: found)
    assert said in advice(bench)
