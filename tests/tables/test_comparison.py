"""`bench compare`: differences on common seeds, told apart only where the interval says so, on one screen."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hand_made import HandMade

from bench.core.errors import InputError
from bench.run.store import Store
from bench.tables.comparison import WIDTH, comparison
from bench.tables.stats import paired_difference, probability_of_improvement

VERDICTS = ("first is better", "second is better", "cannot be told apart", "a run failed or is missing")


@pytest.fixture
def made(tmp_path: Path) -> HandMade:
    return HandMade(Store(tmp_path))


def told(made: HandMade, first: str = "pgm", second: str = "gan") -> dict[str, str]:
    """The lines of numbers, by the name of the score."""
    lines = comparison(made.table(), (first, second)).splitlines()
    return {re.split(r" [↑↓]", line)[0]: line for line in lines if line.endswith(VERDICTS)}


def numbers(line: str) -> list[float]:
    """Both means, the difference and the ends of its interval, as printed."""
    plain = re.split(r"[↑↓] †?", line)[1].replace("\N{MINUS SIGN}", "-").replace(" to ", " ")
    return [float(text) for text in plain.split()[:5]]


def conclusion(line: str) -> str:
    return next(words for words in VERDICTS if line.endswith(words))


def runs(*scores: float) -> np.ndarray:
    return np.array(scores, float)[:, None, None]


OURS, THEIRS = (60.0, 62.0, 64.0, 61.0, 63.0, 62.5), (50.0, 60.5, 54.0, 52.0, 50.5, 53.0)


def test_numbers_are_those_of_the_statistics(made: HandMade) -> None:
    made.row("pgm", 10.0, iql=list(OURS))
    made.row("gan", 10.0, iql=list(THEIRS))
    line = told(made)["iql"]
    difference, better = paired_difference(runs(*OURS), runs(*THEIRS)), probability_of_improvement([runs(*OURS)], [runs(*THEIRS)])
    assert difference.low is not None
    assert difference.high is not None
    assert numbers(line) == pytest.approx([np.mean(OURS), np.mean(THEIRS), difference.mean, difference.low, difference.high], abs=0.0501)
    assert f"{better.mean:.2f} ({better.low:.2f}-{better.high:.2f})  6x1x1  first is better".replace("0.", ".") in line


def test_rows_are_compared_on_the_seeds_that_both_have(made: HandMade) -> None:
    made.row("pgm", 10.0, iql=[*OURS[:3], 900.0])
    made.row("gan", 10.0, iql=list(THEIRS[:3]))
    line = told(made)["iql"]
    assert "3x1x1" in line
    assert numbers(line)[:3] == pytest.approx([np.mean(OURS[:3]), np.mean(THEIRS[:3]), np.mean(OURS[:3]) - np.mean(THEIRS[:3])], abs=0.0501)


def test_what_the_interval_leaves_open_cannot_be_told_apart(made: HandMade) -> None:
    made.row("pgm", 10.0, iql=[60.0, 40.0, 55.0], one_way=[0.9, 0.91, 0.92])
    made.row("gan", 10.0, iql=[50.0, 52.0, 53.0], one_way=[0.9, 0.91, 0.92])
    assert {name: conclusion(line) for name, line in told(made).items()} == dict.fromkeys(("iql", "one-way"), "cannot be told apart")


def test_one_seed_has_no_interval_and_tells_nothing_apart(made: HandMade) -> None:
    made.row("pgm", 10.0, iql=[90.0])
    made.row("gan", 10.0, iql=[10.0])
    line = told(made)["iql"]
    assert " to " not in line
    assert re.search(r"\+80\.0\s+1\.00\s+1x1x1  cannot be told apart$", line)


def test_lower_is_better_where_the_score_says_so(made: HandMade) -> None:
    made.row("pgm", 10.0, dynamics=[[0.1, 0.5], [0.11, 0.51], [0.12, 0.53]])
    made.row("gan", 10.0, dynamics=[[0.3, 0.2], [0.32, 0.22], [0.31, 0.2]])
    lines = told(made)
    assert conclusion(lines["dynamics median"]) == "first is better"
    assert "1.00  3x1x1" in lines["dynamics median"]
    assert conclusion(lines["invalid states"]) == "second is better"
    assert ".00  3x1x1" in lines["invalid states"]


def test_the_other_way_round_says_the_same(made: HandMade) -> None:
    made.row("pgm", 10.0, iql=[60.0, 62.0, 61.0], dynamics=[[0.3, 0.2], [0.32, 0.22], [0.31, 0.2]], one_way=[0.9, 0.8, 0.7])
    made.row("gan", 10.0, iql=[50.0, 51.0, 53.0], dynamics=[[0.1, 0.2], [0.12, 0.25], [0.11, 0.1]], one_way=[0.7, 0.8, 0.85])
    there, back = told(made), told(made, "gan", "pgm")
    assert there.keys() == back.keys()
    mirrored = {"first is better": "second is better", "second is better": "first is better"}
    for name, line in there.items():
        first, second, difference, low, high = numbers(line)
        assert numbers(back[name]) == [second, first, -difference, -high, -low]
        assert conclusion(back[name]) == mirrored.get(conclusion(line), conclusion(line))


def test_a_failed_run_is_told_and_not_averaged_away(made: HandMade) -> None:
    made.row("pgm", 10.0, iql=[60.0, None, 61.0], one_way=[0.9, 0.91, 0.92])
    made.row("gan", 10.0, iql=[50.0, 51.0, 53.0], one_way=[0.7, 0.71, 0.72])
    lines = told(made)
    assert "— (2/3)" in lines["iql"]
    assert conclusion(lines["iql"]) == "a run failed or is missing"
    assert conclusion(lines["one-way"]) == "first is better"


def test_what_one_row_has_not_and_what_bounds_no_epsilon_is_left_out(made: HandMade) -> None:
    made.row("pgm", 10.0, iql=[60.0, 62.0], nearest=[0.5, 0.51], dynamics=[[], []])
    made.row("gan", 10.0, iql=[50.0, 51.0], nearest=[0.5, 0.52], dynamics=[[], []], one_way=[0.7, 0.71])
    assert told(made).keys() == {"iql"}


def test_settings_of_an_agent_stand_in_a_note(made: HandMade) -> None:
    agent = "iql[batch_size=128,width=128]"
    for synth, runs in (("pgm", OURS), ("gan", THEIRS)):
        made.row(synth, 10.0, iql=list(runs))
    made.leaves = [{**leaf, "plugin": agent} for leaf in made.leaves]
    assert told(made).keys() == {"iql"}
    assert f"in full  {agent}" in comparison(made.table(), ("pgm", "gan"))


def test_stale_rows_are_marked(made: HandMade) -> None:
    made.row("pgm", 10.0, iql=[60.0, 62.0])
    made.row("gan", 10.0, iql=[50.0, 51.0])
    stale = made.leaves[0]["key"]
    assert "iql ↑ †" in comparison(made.table((stale,)), ("pgm", "gan"))
    assert "iql ↑ †" not in comparison(made.table(), ("pgm", "gan"))


def test_each_environment_has_a_block_that_fits_a_screen(made: HandMade) -> None:
    rng, long = np.random.default_rng(0), "pate-gan-pretrained[teachers=4000,queries=64,rounds=1000,fine_tune=false,width=128]"
    for env in ("maze2d-umaze", "maze2d-medium"):
        made.heading["env"] = env
        for synth in (long, "gan"):
            agents = {name: rng.normal(-40, 90, 6).tolist() for name in ("iql", "iql_over_goals")}
            made.row(synth, 10.0, **agents, one_way=rng.normal(0.9, 0.01, 6).tolist(), dynamics=rng.normal(130, 0.1, (6, 2)).tolist())
    text = comparison(made.table(), (long, "gan"))
    assert all(len(line) <= WIDTH for line in text.splitlines())
    blocks = [block for block in text.split("\n\n") if "seeds" in block.splitlines()[-1] or "maze2d" in block]
    assert [block.split(" ")[0] for block in blocks[:2]] == ["maze2d-umaze", "maze2d-medium"]
    assert len(text.splitlines()) <= 40


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("pgm", "gan"), "compare: 'pgm' has several rows; choose from 'pgm at 1(0)?', 'pgm at 1(0)?'"),
        (("pgm at 10", "gin"), "compare: no agent and no metric scored both 'pgm at 10' and 'gin'; choose from .*gan at 10"),
        (("gan", "gan at 10"), "compare: 'gan' and 'gan at 10' are one row; name two"),
    ],
)
def test_names_that_do_not_fit_are_refused(names: tuple[str, str], message: str, made: HandMade) -> None:
    for epsilon in (1.0, 10.0):
        made.row("pgm", epsilon, iql=[60.0, 62.0])
    made.row("gan", 10.0, iql=[50.0, 51.0])
    with pytest.raises(InputError, match=message):
        comparison(made.table(), names)


def test_rows_of_two_privacy_units_are_not_compared(made: HandMade) -> None:
    made.row("pgm", 10.0, iql=[60.0, 62.0])
    made.heading["unit"] = "trajectory"
    made.row("privorl-j", 10.0, iql=[50.0, 51.0])
    with pytest.raises(InputError, match="'pgm' and 'privorl-j' share no heading; choose rows of one environment, size and privacy unit"):
        comparison(made.table(), ("pgm", "privorl-j"))


def test_two_real_samples_share_no_seed_with_a_row_and_are_not_offered(made: HandMade) -> None:
    made.row("real", one_way=[0.99, 0.98])
    made.row("pgm", 10.0, one_way=[0.7, 0.71])
    assert "real vs real" in str(made.table())
    with pytest.raises(InputError, match=r"both 'pgm' and 'real vs real'; choose from real at inf, pgm at 10$"):
        comparison(made.table(), ("pgm", "real vs real"))


def test_attacks_alone_leave_nothing_to_compare(made: HandMade) -> None:
    for synth in ("pgm", "gan"):
        made.row(synth, 10.0, nearest=[0.5, 0.51])
    with pytest.raises(InputError, match="no agent and no metric scored both 'pgm' and 'gan'; run a sweep that asks for such scores"):
        comparison(made.table(), ("pgm", "gan"))


def test_a_claim_that_does_not_hold_is_told(made: HandMade) -> None:
    for synth in ("pgm", "gan"):
        made.row(synth, 10.0, iql=list(OURS))
    made.audit("pgm", 10.0, "one-run", {"epsilon": 12.0, "ceiling": 15.0, "p_value": 1e-9})
    assert "first: pgm at 10, whose claim is refuted; second: gan at 10\n" in comparison(made.table(), ("pgm", "gan"))
