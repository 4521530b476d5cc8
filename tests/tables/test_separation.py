"""`bench plan --separate`: the seeds it names do separate the rows, and cost what it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hand_made import SECONDS, HandMade
from numpy.typing import NDArray

from bench.core.errors import InputError
from bench.run.store import Store
from bench.tables.separation import separation
from bench.tables.stats import paired_difference

Array = NDArray[np.float64]
GAP, FIT, AGENT = 4.0, 3.0, 6.0
"""The difference of two methods, and the standard deviations that fits and agents give to it."""


@pytest.fixture
def made(tmp_path: Path) -> HandMade:
    return HandMade(Store(tmp_path))


def runs_with(fits: int, agents: int) -> Array:
    """Runs (synthesizer, 1, agent) whose mean and analysis of variance are GAP, FIT and AGENT to the last digit."""
    means, inside = np.linspace(-1, 1, fits), np.linspace(-1, 1, agents) if agents > 1 else np.zeros(1)
    means *= np.sqrt(FIT**2 + AGENT**2 / agents) / means.std(ddof=1)
    inside *= AGENT / inside.std(ddof=1) if agents > 1 else 1
    return GAP + means[:, None, None] + inside


def told(made: HandMade, *names: str) -> str:
    first, second = names or ("pgm", "gan")
    return separation(made.table(), (first, second), made.store)


def plans(text: str) -> dict[int, tuple[list[int], list[int], list[int]]]:
    """Seeds, seeds more than now, and minutes, by agent seeds."""
    found = re.findall(r"agent seeds per fit: (\d); synthesizer seeds: (.*), (.*) more than now; (.*) minutes", text)
    return {int(agents): tuple([int(n) for n in span.split(" to ")] for span in spans) for agents, *spans in found}  # type: ignore[misc]


def pair(made: HandMade, difference: Array) -> None:
    common = np.random.default_rng(0).normal(50, 9, difference.shape)
    made.grid("pgm", 10.0, common + difference)
    made.grid("gan", 10.0, common)


def test_a_difference_of_stale_runs_is_marked(made: HandMade) -> None:
    pair(made, runs_with(6, 3))
    assert "†" not in told(made)
    assert "under iql †, with" in separation(made.table((made.leaves[0]["key"],)), ("pgm", "gan"), made.store)


def test_an_agent_with_settings_goes_by_its_short_name(made: HandMade) -> None:
    pair(made, runs_with(6, 3))
    for leaf in made.leaves:
        leaf["plugin"] = "iql[width=128]"
    assert "points under iql, with" in told(made)


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_so_many_seeds_with_so_many_agents_separate_the_rows_in_80_percent_of_the_draws(made: HandMade) -> None:
    """From runs whose split is the truth; .036 is four deviations of 2000 coins, and an integer number of seeds has some power to spare."""
    pair(made, runs_with(6, 3))
    rng = np.random.default_rng(1)
    for agents, ((fits,), _, _) in plans(told(made)).items():
        draws = GAP + FIT * rng.normal(size=(2000, fits, 1, 1)) + AGENT * rng.normal(size=(2000, fits, 1, agents))
        separated = np.mean([paired_difference(runs, np.zeros_like(runs)).excludes_zero for runs in draws])
        assert 0.764 < separated < 0.87


def test_agents_save_seeds_where_they_make_the_noise(made: HandMade) -> None:
    pair(made, runs_with(6, 3))
    (one,), (three,) = (plans(told(made))[agents][0] for agents in (1, 3))
    assert three < 0.7 * one


def test_with_one_agent_so_far_what_more_would_save_is_a_range(made: HandMade) -> None:
    """From all of the variance to none."""
    pair(made, runs_with(6, 1))
    seeds = {agents: plan[0] for agents, plan in plans(told(made)).items()}
    (one,), (least, most) = seeds[1], seeds[3]
    assert least < one == most
    assert "is not known" in told(made)
    made.leaves.clear()
    pair(made, runs_with(6, 3))
    (known,) = plans(told(made))[3][0]
    assert least <= known <= most


def test_samples_are_averaged_as_they_are_now(made: HandMade) -> None:
    """Three samples of a fit that differ as three agents do ask for as many seeds with one agent each."""
    pair(made, runs_with(6, 3))
    (known,) = plans(told(made))[3][0]
    made.leaves.clear()
    pair(made, runs_with(6, 3).transpose(0, 2, 1))
    assert plans(told(made))[1][0] == [known]


def test_what_is_enough_already_asks_for_no_more(made: HandMade) -> None:
    pair(made, runs_with(30, 1) + 40)
    assert plans(told(made))[1] == ([3], [0], [0])
    assert "they are separated" in told(made)


# --- cost -------------------------------------------------------------------------------------------------------------


def test_minutes_are_those_of_the_fits_samples_and_agents_to_come(made: HandMade) -> None:
    """Two methods; fits that are there already get the agents that they lack."""
    pair(made, runs_with(6, 1))
    fit, sample, train = (2 * SECONDS[stage] / 60 for stage in ("fit", "sample", "train"))
    found = plans(told(made))
    ((seeds,), (more,), (minutes,)) = found[1]
    assert more == seeds - 6 > 0
    assert minutes == pytest.approx(more * (fit + sample + train), abs=1)
    most, more, minutes = (span[-1] for span in found[3])
    assert minutes == pytest.approx(more * (fit + sample) + (3 * most - 6) * train, abs=1)


def test_every_fit_has_a_public_phase_of_its_own(made: HandMade, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two budgets of a method share it: of the six at each, the two have six together."""
    pair(made, runs_with(6, 1))
    (_, (more,), (before,)) = plans(told(made))[1]
    monkeypatch.setitem(SECONDS, "pretrain", 300.0)
    for seed in range(6):
        phase = made.put(f"phase-{seed}", "pretrain", {})
        for record in [record for record in made.store.records() if record.stage == "fit" and record.key.endswith(f"-fit-{seed}")]:
            made.put(record.key, "fit", record.result, {"pretrained": phase})
    assert plans(told(made))[1][2] == [pytest.approx(before + more * 5, abs=1)]


def test_every_fit_gets_as_many_samples_as_now(made: HandMade) -> None:
    pair(made, runs_with(6, 3).transpose(0, 2, 1))
    (seeds,), (more,), (minutes,) = plans(told(made))[1]
    assert more == seeds - 6 > 0
    assert minutes == pytest.approx(more * 2 * (SECONDS["fit"] + 3 * SECONDS["sample"] + 3 * SECONDS["train"]) / 60, abs=1)


def test_agents_that_are_there_are_not_trained_again(made: HandMade) -> None:
    pair(made, runs_with(6, 3))
    (seeds,), (more,), (minutes,) = plans(told(made))[1]
    assert more == seeds - 6 > 0
    assert minutes == pytest.approx(more * 2 * sum(SECONDS.values()) / 60, abs=1)


# --- what cannot be answered ------------------------------------------------------------------------------------------


def test_no_number_is_named_for_a_difference_that_rounds_to_0(made: HandMade) -> None:
    pair(made, runs_with(6, 1) - GAP + 0.04)
    assert not plans(told(made))
    assert "is 0 as far as the table shows it" in told(made)


def test_one_common_seed_is_not_enough(made: HandMade) -> None:
    pair(made, np.full((1, 1, 3), GAP))
    assert not plans(told(made))
    assert "one common synthesizer seed" in told(made)
    assert "--seeds 3" in told(made)


def test_a_missing_run_is_named(made: HandMade) -> None:
    runs = runs_with(6, 1)
    runs[2] = np.nan
    pair(made, runs)
    assert not plans(told(made))
    assert "A run failed or is missing" in told(made)


@pytest.mark.parametrize("role", ["sample", "fit"])
def test_a_missing_record_behind_the_rows_is_named(role: str, made: HandMade) -> None:
    pair(made, runs_with(3, 1))
    sample = made.store.get(made.leaves[0]["key"]).inputs["sample"]  # type: ignore[union-attr]
    lost = sample if role == "sample" else made.store.get(sample).inputs["fit"]  # type: ignore[union-attr]
    table = made.table()
    (made.store.root / "records" / f"{lost}.json").unlink()
    with pytest.raises(InputError, match=f"^--results: record {lost} behind these rows is not in .*; run the same sweep again$"):
        separation(table, ("pgm", "gan"), made.store)


def test_rows_are_named_as_the_table_prints_them(made: HandMade) -> None:
    pair(made, runs_with(6, 1))
    made.grid("pgm", 1.0, runs_with(6, 1) + 30)
    assert told(made, "pgm at 10", "gan") == told(made, "pgm at 10", "gan at 10") != told(made, "pgm at 1", "gan")
    with pytest.raises(InputError, match=r"--separate: 'pgm' has several rows; choose from 'pgm at 10', 'pgm at 1'|'pgm at 1', 'pgm at 10'"):
        told(made, "pgm", "gan")
    with pytest.raises(InputError, match=r"--separate: .*'pgn'.*; choose from .*gan at 10"):
        told(made, "pgn", "gan")


def test_every_group_that_has_both_rows_answers(made: HandMade) -> None:
    for rows in (10_000, 100_000):
        made.heading["rows"] = rows
        pair(made, runs_with(6, 1))
    assert [line.split(" · ")[2] for line in told(made).splitlines() if " · " in line] == [
        "10,000 rows fitted, 200,000 released",
        "100,000 rows fitted, 200,000 released",
    ]


def test_without_agents_there_is_no_answer(made: HandMade) -> None:
    made.row("uniform", one_way=[0.5, 0.5])
    made.row("independent", 10.0, one_way=[0.9, 0.8])
    with pytest.raises(InputError, match="no agent was trained on both 'uniform' and 'independent'"):
        told(made, "uniform", "independent")
