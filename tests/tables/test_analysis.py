"""Other tables of the same runs: the split of the variance, what all environments say together, and the two halves of the seeds."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hand_made import HandMade
from numpy.typing import NDArray
from scipy.stats import kendalltau

from bench.core.errors import InputError
from bench.run.store import Store
from bench.tables.analysis import aggregate_table, retest_table, variance_table
from bench.tables.leaderboard import Group, Row, Table
from bench.tables.render import FORMATS, render
from bench.tables.stats import LAYERS, iqm, probability_of_improvement, variance_parts


def scores(seed: int, shape: tuple[int, int, int] = (3, 2, 2), mean: float = 50.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return mean + 9 * rng.normal(size=(shape[0], 1, 1)) + 5 * rng.normal(size=(*shape[:2], 1)) + rng.normal(size=shape)


@pytest.fixture
def made(tmp_path: Path) -> HandMade:
    return HandMade(Store(tmp_path))


def only_group(table: Table) -> Group:
    (group,) = table.groups
    return group


def named(group: Group, synth: str) -> Row:
    (row,) = [row for row in group.body if row.synth == synth]
    return row


def lines(table: Table, **wanted: str) -> list[dict[str, str]]:
    found = csv.DictReader(io.StringIO(render(table, "csv")))
    return [line for line in found if all(line[name] == value for name, value in wanted.items())]


# --- variance ---------------------------------------------------------------------------------------------------------


def test_each_layer_has_its_standard_deviation_beside_the_score(made: HandMade) -> None:
    made.grid("pgm", 10.0, scores(0))
    table = variance_table(made.table())
    assert [column.score for column in only_group(table).columns] == ["score", *LAYERS]
    printed = {line["metric"]: line for line in lines(table, agent="iql")}
    assert printed["score"]["mean"] == f"{scores(0).mean():.6g}"
    for layer, part in variance_parts(scores(0)).items():
        assert part is not None
        for name in ("mean", "low", "high"):
            assert printed[layer][name] == f"{math.sqrt(getattr(part, name)):.6g}"
    assert re.search(r" \d+\.\d \(\d+\.\d to \d+\.\d\)$", render(table, "text"), re.MULTILINE)


def test_a_layer_with_one_seed_is_said_to_be_unknown_not_0(made: HandMade) -> None:
    made.grid("pgm", 10.0, scores(0, (3, 1, 2)))
    table = variance_table(made.table())
    cells = named(only_group(table), "pgm").cells[1:]
    assert [cell and cell.summary is not None for cell in cells] == [True, False, True]
    assert re.search(r" \d+\.\d \(.*\) +n/a +\d\.\d \(.*\)$", render(table, "text"), re.MULTILINE)
    assert "n/a" in table.legend


def test_every_agent_is_split_and_other_scores_are_left_out(made: HandMade) -> None:
    made.row("real", iql=[49.0, 50.0, 52.0], one_way=[0.9, 0.9, 0.8])
    made.row("pgm", 10.0, iql=[40.0, 50.0, 60.0], one_way=[0.9, 0.9, 0.8])
    group = only_group(variance_table(made.table()))
    assert [column.kind for column in group.columns] == ["utility", *["variance"] * 3]
    assert [row.synth for row in group.body] == ["real", "pgm"], "the ceiling of the metrics has no agent"
    deviation = named(group, "pgm").cells[1]
    assert deviation is not None
    assert deviation.summary is not None
    assert deviation.summary.mean == pytest.approx(10)
    assert group.body[1].ranks == (1, 1)


def test_a_missing_run_leaves_its_variance_out(made: HandMade) -> None:
    made.row("pgm", 10.0, iql=[40.0, None, 60.0])
    made.row("uniform", iql=[1.0, 2.0, 3.0])
    table = variance_table(made.table())
    assert [cell and (cell.summary, cell.failed) for cell in named(only_group(table), "pgm").cells] == [(None, 1)] * 4
    assert render(table, "text").count("— (2/3)") == 4
    assert "failed" in only_group(table).notes


# --- all environments together ----------------------------------------------------------------------------------------


def two_mazes(made: HandMade, rows: tuple[int, int] = (1_000_000, 1_000_000)) -> Table:
    for maze, number in enumerate(rows):
        made.heading |= {"env": f"maze-{maze}", "rows": number}
        made.row("real", iql=[20.0, 21.0, 22.0])
        made.grid("pgm", 10.0, scores(maze, (3, 1, 1), 40))
        made.grid("gan", 10.0, scores(9 + maze, (3, 1, 1), 45))
    return aggregate_table(made.table())


def test_environments_are_pooled_by_the_interquartile_mean(made: HandMade) -> None:
    table = two_mazes(made)
    for synth, seed, mean in (("pgm", 0, 40), ("gan", 9, 45)):
        tasks = [scores(seed + maze, (3, 1, 1), mean) for maze in range(2)]
        first, _ = named(only_group(table), synth).cells
        assert first is not None
        assert first.summary == iqm(tasks)
        assert (first.n, first.planned, len(first.keys)) == (6, 6, 6)
    assert "maze-0, maze-1 · transition-level privacy · 1,000,000 rows fitted" in render(table, "text")


def test_the_first_private_row_is_held_against_every_other(made: HandMade) -> None:
    group = only_group(two_mazes(made))
    first, second = ([scores(seed + maze, (3, 1, 1), mean) for maze in range(2)] for seed, mean in ((9, 45), (0, 40)))
    best, other = ("gan", "pgm") if iqm(first).mean > iqm(second).mean else ("pgm", "gan")
    ours, theirs = (first, second) if best == "gan" else (second, first)
    assert [row.synth for row in group.body] == ["real", best, other]
    assert named(group, best).cells[1] is None
    better = named(group, other).cells[1]
    assert better is not None
    assert better.summary == probability_of_improvement(ours, theirs)


def test_who_is_better_is_as_old_as_either(made: HandMade) -> None:
    first = only_group(two_mazes(made)).body[1].synth
    leaf = next(leaf for leaf in made.leaves if leaf["synth"] == first)
    (better,) = (row.cells[1] for row in only_group(aggregate_table(made.table((leaf["key"],)))).body if row.cells[1] and row.private)
    assert better.stale


def test_nominal_numbers_of_rows_stand_together_and_others_apart(made: HandMade) -> None:
    nominal = two_mazes(made, (1_000_000, 4_000_000))
    assert "nominal rows fitted" in render(nominal, "text")
    for maze in range(2):
        made.heading |= {"env": f"maze-{maze}", "rows": 10_000}
        made.grid("pgm", 10.0, scores(maze, (3, 1, 1), 40))
    both = aggregate_table(made.table())
    assert [(group.env, group.rows) for group in both.groups] == [("maze-0, maze-1", 0), ("maze-0, maze-1", 10_000)]


def test_units_of_privacy_are_never_pooled(made: HandMade) -> None:
    for maze, unit in enumerate(("transition", "trajectory")):
        made.heading |= {"env": f"maze-{maze}", "unit": unit}
        made.row("pgm", 10.0, iql=[40.0, 50.0, 60.0])
    assert [(group.env, group.unit) for group in aggregate_table(made.table()).groups] == [("maze-0", "transition"), ("maze-1", "trajectory")]


def test_a_row_with_a_missing_run_has_no_mean_and_is_not_first(made: HandMade) -> None:
    for maze in range(2):
        made.heading["env"] = f"maze-{maze}"
        made.row("pgm", 10.0, iql=[90.0, 91.0, None if maze else 92.0])
        made.row("gan", 10.0, iql=[10.0, 11.0, 12.0])
    table = aggregate_table(made.table())
    assert [row.synth for row in only_group(table).body] == ["gan", "pgm"]
    assert [cell and (cell.summary, cell.n, cell.planned) for cell in named(only_group(table), "pgm").cells] == [(None, 5, 6), None]
    assert "— (5/6)" in render(table, "text")


def test_a_row_whose_claim_fails_on_any_environment_is_struck_out_and_stands_last(made: HandMade) -> None:
    """Though it has the best mean; the others are held against the best of those whose claim holds."""
    two_mazes(made)
    made.row("refuted", 10.0, iql=[90.0, 91.0, 92.0])
    made.heading["env"] = "maze-0"
    made.row("refuted", 10.0, iql=[90.0, 91.0, 92.0])
    made.heading["env"] = "maze-1"
    made.audit("refuted", 10.0, "one-run", {"epsilon": 20.0, "ceiling": 30.0, "p_value": 1e-9})
    body = only_group(aggregate_table(made.table())).body
    assert [row.verdict for row in body if row.private] == [None, None, "refuted"]


def test_an_agent_is_pooled_with_itself_and_only_where_every_environment_has_it(made: HandMade) -> None:
    """The maze has a goal set, whose score stands first there; toy has none."""
    for envs in (("toy", "maze"), ("maze", "toy")):
        made.leaves.clear()
        for env in envs:
            made.heading["env"] = env
            for synth, mean in (("pgm", 50.0), ("gan", 40.0)):
                goals = {"iql_over_goals": [90.0, 91.0, 92.0]} if env == "maze" else {}
                made.row(synth, 10.0, **goals, iql=[mean, mean + 1, mean + 2])
        group = only_group(aggregate_table(made.table()))
        assert [(column.scorer, column.score) for column in group.columns] == [("iql", "iqm"), ("iql", "first_better")]
        assert {row.synth: row.cells[0] and row.cells[0].summary and row.cells[0].summary.mean for row in group.body} == {"pgm": 51, "gan": 41}
        assert group.notes["left out"].startswith("goals/iql;")


def test_environments_without_a_common_agent_are_not_pooled(made: HandMade) -> None:
    for env, scorer in (("maze", "iql_over_goals"), ("toy", "iql")):
        made.heading["env"] = env
        made.row("pgm", 10.0, **{scorer: [1.0, 2.0, 3.0]})
    with pytest.raises(InputError, match="--aggregate: maze, toy have no agent in common"):
        aggregate_table(made.table())


def test_a_failure_is_told_with_its_environment(made: HandMade) -> None:
    for env in ("first", "second"):
        made.heading["env"] = env
        made.row("pgm", 10.0, iql=[90.0, 91.0, None if env == "second" else 92.0])
    assert only_group(aggregate_table(made.table())).notes["failed"].startswith("second: pgm at ε = 10 (iql): ValueError")
    assert only_group(aggregate_table(made.table())).notes["budget"].startswith("ε bounds"), "what is said of all is said once"


# --- two halves of the seeds ------------------------------------------------------------------------------------------


def test_the_halves_of_the_seeds_are_scored_and_compared(made: HandMade) -> None:
    made.row("real", iql=[90.0, 91.0, 92.0, 90.0, 91.0, 92.0])
    made.row("pgm", 10.0, iql=[60.0, 61.0, 62.0, 50.0, 51.0, 52.0])
    made.row("gan", 10.0, iql=[59.0, 60.0, 61.0, 70.0, 71.0, 72.0])
    group = only_group(retest_table(made.table()))
    assert [column.score for column in group.columns] == ["seeds 0 to 2", "seeds 3 to 5"]
    assert {row.synth: [cell and cell.summary and cell.summary.mean for cell in row.cells] for row in group.body} == {
        "real": [91, 91],
        "gan": [60, 71],
        "pgm": [61, 51],
    }
    order = kendalltau([91, 61, 60], [91, 51, 71]).statistic
    assert (
        group.notes["τ"]
        == f"Kendall's rank correlation of the two orders is {order:.2f} over 3 rows. 1 of 3 pairs change their order: gan at 10 / pgm at 10."
    )
    assert group.notes["sure"].startswith("the first half tells 3 pairs apart")
    assert group.notes["sure"].endswith("the second has 2 of them in the same order, and tells 1 apart in the other.")


def test_a_repetition_with_the_same_order_has_no_flips(made: HandMade) -> None:
    made.row("pgm", 10.0, iql=[60.0, 61.0, 62.0, 63.0, 61.0])
    made.row("gan", 10.0, iql=[50.0, 51.0, 52.0, 53.0, 90.0])
    group = only_group(retest_table(made.table()))
    assert group.notes["τ"] == "Kendall's rank correlation of the two orders is 1.00 over 2 rows. 0 of 1 pairs change their order."
    gan = named(group, "gan").cells
    assert [cell and cell.n for cell in gan] == [2, 2], "the last seed is left out"
    assert [cell and cell.runs is not None and cell.runs.mean() for cell in gan] == [50.5, 52.5]


def test_an_order_that_turns_within_the_noise_is_not_told_apart_in_the_other(made: HandMade) -> None:
    """The second half puts gan first by 2 points, with seeds that differ by 25: it upholds nothing, and refutes nothing."""
    made.row("pgm", 10.0, iql=[60.0, 61.0, 62.0, 50.0, 60.0, 70.0])
    made.row("gan", 10.0, iql=[50.0, 51.0, 52.0, 40.0, 61.0, 85.0])
    sure = only_group(retest_table(made.table())).notes["sure"]
    assert sure.startswith("the first half tells 1 pairs apart")
    assert sure.endswith("the second has 0 of them in the same order, and tells 0 apart in the other.")


def test_rows_that_are_all_equal_have_no_order_to_agree_on(made: HandMade) -> None:
    for synth in ("pgm", "gan"):
        made.row(synth, 10.0, iql=[0.0, 0.0])
    assert only_group(retest_table(made.table())).notes["τ"].startswith("Kendall's rank correlation of the two orders is undefined")


def test_a_row_with_a_missing_run_is_not_retested(made: HandMade) -> None:
    made.row("real", iql=[90.0, 91.0])
    made.row("pgm", 10.0, iql=[60.0, 61.0])
    made.row("gan", 10.0, iql=[50.0, None])
    assert [row.synth for row in only_group(retest_table(made.table())).body] == ["real", "pgm"]


def test_one_seed_has_no_halves(made: HandMade) -> None:
    made.row("real", iql=[90.0])
    made.row("pgm", 10.0, iql=[60.0])
    with pytest.raises(InputError, match=r"--retest: .*--seeds"):
        retest_table(made.table())


# --- all of them -------------------------------------------------------------------------------------------------------------


def test_all_can_be_had_in_every_format(made: HandMade) -> None:
    aggregate = two_mazes(made)
    for table in (aggregate, variance_table(made.table()), retest_table(made.table())):
        for form in FORMATS:
            assert "pgm" in render(table, form)
    assert "#" not in render(aggregate, "text"), "nothing is ranked there"


def test_all_say_what_their_epsilons_bound(made: HandMade) -> None:
    made.public["max_trajectory_length"] = 20
    made.row("pgm", 10.0, iql=[40.0, 50.0, 60.0, 50.0])
    made.row("gan", 10.0, iql=[40.0, 51.0, 60.0, 52.0])
    for view in (variance_table, aggregate_table, retest_table):
        assert {"budget", "ε/traj"} <= set(only_group(view(made.table())).notes)


def test_the_name_of_an_agent_is_not_cut_above_its_layers(made: HandMade) -> None:
    made.row("pgm", 10.0, iql=[40.0, 50.0, 60.0])
    for length in range(20, 50):
        made.leaves[:] = [{**leaf, "plugin": "x" * length} for leaf in made.leaves]
        assert re.search(rf"─ {'x' * length} ─", render(variance_table(made.table()), "text"))


def test_without_agents_there_is_nothing_to_split_or_pool(made: HandMade) -> None:
    made.row("uniform", one_way=[0.5, 0.5])
    for view, option in ((variance_table, "--variance"), (aggregate_table, "--aggregate"), (retest_table, "--retest")):
        with pytest.raises(InputError, match=f"{option}: .*--agents"):
            view(made.table())
