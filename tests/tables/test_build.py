"""The leaderboard: what it shows of hand-made records, and that every format shows the same."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from hand_made import HandMade, latex_rows

from bench.core.errors import InputError
from bench.run.store import Store
from bench.tables import build
from bench.tables.leaderboard import Group, Row, Table
from bench.tables.render import CSV_COLUMNS, FORMATS, MINUS, WIDTH, render
from bench.tables.stats import summarize
from bench.tables.validation import LADDERS, Validity


@pytest.fixture
def bench(tmp_path: Path) -> HandMade:
    """Three methods, two floors and the real data, three seeds each; one run failed, one is yet to come."""
    made = HandMade(Store(tmp_path))
    made.row("real", iql=[49.0, 50.0, 51.0], one_way=[0.99, 0.99, 0.98], dynamics=[[0.0, 0.0]] * 3, nearest=[0.97, 0.98, 0.97])
    made.row("public-data", iql=[10.0, 11.0, 12.0], one_way=[0.8, 0.8, 0.81], dynamics=[[0.02, 0.4]] * 3, nearest=[0.5, 0.5, 0.51])
    made.row("independent", 10.0, iql=[-4.0, -5.0, -6.5], one_way=[0.98, 0.98, 0.98], dynamics=[[1.4, 0.2]] * 3, nearest=[0.5, 0.49, 0.51])
    made.row("uniform", iql=[-5.0, -5.0, -6.0], one_way=[0.5, 0.5, 0.5], dynamics=[[33.0, 0.4]] * 3, nearest=[0.5, 0.5, 0.5])
    made.row("pgm", 10.0, iql=[70.0, 72.0, 71.0], one_way=[0.95, 0.96, 0.95], dynamics=[[0.1, 0.2]] * 3, nearest=[0.5, None, 0.5])
    made.row("gan", 10.0, iql=[20.0, None, 22.0], one_way=[0.9, ..., 0.9], dynamics=[[], [], []], nearest=[0.5, 0.5, 0.5])
    made.row("pgm", float("inf"), iql=[80.0, 82.0, 81.0], one_way=[0.97, 0.97, 0.97], dynamics=[[0.1, 0.1]] * 3, nearest=[0.6, 0.6, 0.6])
    return made


def only_group(table: Table) -> Group:
    (group,) = table.groups
    return group


def named(group: Group, synth: str, epsilon: float = 10.0) -> Row:
    (row,) = [row for row in group.body if (row.synth, row.epsilon) == (synth, epsilon)]
    return row


def lines(table: Table, **wanted: str) -> list[dict[str, str]]:
    found = csv.DictReader(io.StringIO(render(table, "csv")))
    return [line for line in found if all(line[name] == value for name, value in wanted.items())]


def text_line(table: Table, start: str, epsilon: str = " 10 ") -> str:
    return next(line for line in render(table, "text").splitlines() if re.search(rf"\b{start}\b", line) and epsilon in line)


# --- rows and ranks ---------------------------------------------------------------------------------------------------


def test_references_stand_first_without_a_rank_then_private_rows_best_first(bench: HandMade) -> None:
    body = only_group(bench.table()).body
    order = ["real vs real", "real", "pgm", "pgm", "public-data", "independent", "uniform", "gan"]
    assert [row.synth for row in body] == order
    assert [row.ranks is None for row in body] == [True] * 3 + [False] * 4 + [True]
    assert [row.epsilon for row in body[:3]] == [float("inf")] * 3


def test_a_row_has_the_ranks_that_paired_intervals_leave_open(bench: HandMade) -> None:
    """uniform is 0, 0.5 and -1 away from independent, public-data some 60 from pgm and 15 from independent."""
    group = only_group(bench.table())
    ranks = [named(group, *row).ranks for row in (("pgm",), ("public-data", 0.0), ("independent",), ("uniform", 0.0))]
    assert ranks == [(1, 1), (2, 2), (3, 4), (3, 4)]
    assert re.match(" *3-4  uniform", text_line(bench.table(), "uniform", " 0 "))
    assert re.match(" *1  pgm", text_line(bench.table(), "1  pgm"))


def test_one_run_never_separates_rows(tmp_path: Path) -> None:
    made = HandMade(Store(tmp_path))
    made.row("pgm", 10.0, iql=[90.0])
    made.row("independent", 10.0, iql=[1.0])
    assert [row.ranks for row in only_group(made.table()).body if row.ranks] == [(1, 2), (1, 2)]


def test_the_lowest_is_first_where_lower_is_better(tmp_path: Path) -> None:
    """No headline is such a score today; ranks follow the column's own word."""
    made = HandMade(Store(tmp_path))
    made.row("uniform", one_way=[0.5, 0.5])
    made.row("independent", 10.0, one_way=[0.9, 0.9])
    for leaf in made.leaves:
        leaf["better"] = {"one_way": "lower"}
    assert [(row.synth, row.ranks) for row in only_group(made.table()).body if row.ranks] == [("uniform", (1, 1)), ("independent", (2, 2))]


def test_without_an_agent_one_way_similarity_ranks(tmp_path: Path) -> None:
    made = HandMade(Store(tmp_path))
    made.row("uniform", one_way=[0.5, 0.5], dynamics=[[0.1, 0.1]] * 2)
    made.row("independent", 10.0, one_way=[0.9, 0.9], dynamics=[[0.2, 0.2]] * 2)
    group = only_group(made.table())
    assert [(row.synth, row.ranks) for row in group.body] == [("real vs real", None), ("independent", (1, 1)), ("uniform", (2, 2))]
    assert [column.kind for column in group.columns] == ["fidelity"] * 3
    assert "gain" not in made.table().legend


def test_what_may_not_be_compared_stands_in_groups_of_its_own(tmp_path: Path) -> None:
    made = HandMade(Store(tmp_path))
    for change in ({"unit": "transition"}, {"unit": "trajectory"}, {"rows": 10_000}, {"env": "maze2d-large"}):
        made.heading |= change
        made.row("independent", 10.0, iql=[1.0, 2.0])
    table = made.table()
    heading = [(group.env, group.rows, group.unit) for group in table.groups]
    assert heading == [
        ("maze2d-medium", 1_000_000, "transition"),
        ("maze2d-medium", 1_000_000, "trajectory"),
        ("maze2d-medium", 10_000, "trajectory"),
        ("maze2d-large", 10_000, "trajectory"),
    ]
    assert all(len(group.body) == 1 for group in table.groups if "real vs real" not in str(group))
    text = render(table, "text")
    assert text.count("transition-level privacy") == 1
    assert text.count("trajectory-level privacy") == 3


# --- cells ------------------------------------------------------------------------------------------------------------


def test_a_cell_pools_its_runs(bench: HandMade) -> None:
    expected = summarize(np.array([70.0, 72.0, 71.0])[:, None, None])
    assert named(only_group(bench.table()), "pgm").cells[0].summary == expected  # type: ignore[union-attr]
    assert "71.0±2.5ᵗ" in text_line(bench.table(), "1  pgm")


def test_failed_and_missing_runs_are_counted_never_averaged(bench: HandMade) -> None:
    row = named(only_group(bench.table()), "gan")
    utility, gain, one_way = row.cells[:3]
    assert [(cell.n, cell.failed, cell.summary) for cell in (utility, gain, one_way) if cell] == [(2, 1, None)] * 3
    assert text_line(bench.table(), "gan").count("— (2/3)") == 3
    (line,) = lines(bench.table(), synth="gan", metric="score")
    assert (line["mean"], line["low"], line["n"], line["failed"]) == ("", "", "2", "1")
    assert "gan at ε = 10 (iql): ValueError: column 'x' of the release holds NaN" in only_group(bench.table()).notes["failed"]


def test_what_an_agent_lacked_in_the_rows_of_some_methods_is_told_once(bench: HandMade) -> None:
    """ReBRAC's critics have no penalty where rows stand alone: another loss than on the real rows beside them."""
    assert "lacking" not in only_group(bench.table()).notes
    for leaf in bench.leaves:
        record = bench.store.get(leaf["key"])
        if leaf["synth"] in ("uniform", "independent") and record and record.ok and leaf["kind"] == "utility":
            bench.store.put(replace(record, result={**record.result, "notes": {"critic_penalty": "0: the rows stand alone"}}))
    told = "iql: critic_penalty 0: the rows stand alone (independent at ε = 10, uniform at ε = 0)"
    assert only_group(bench.table()).notes["lacking"] == told
    assert only_group(bench.named("variance")).notes["lacking"] == told


def test_a_score_that_does_not_exist_is_no_failure(bench: HandMade) -> None:
    row = named(only_group(bench.table()), "gan")
    cell = row.cells[3]
    assert cell is not None
    assert (cell.summary, cell.failed) == (None, 0)
    assert "n/a" in text_line(bench.table(), "gan")


def test_a_stale_record_marks_its_row_alone(bench: HandMade) -> None:
    leaf = next(leaf for leaf in bench.leaves if leaf["synth"] == "independent" and leaf["kind"] == "fidelity")
    for key in (leaf["key"], leaf["fit"]):
        table = bench.table(stale=(key,))
        assert [row.synth for row in only_group(table).body if row.stale] == ["independent"]
        assert "independent †" in render(table, "text")
        assert {line["synth"] for line in lines(table, stale="true")} == {"independent"}
    assert "†" not in render(bench.table(), "text")


def test_a_stale_ceiling_and_stale_reference_policies_are_marked(bench: HandMade) -> None:
    ceiling = bench.table(stale=("maze2d-medium-one-way-ceiling",))
    assert [row.synth for row in only_group(ceiling).body if row.stale] == ["real vs real"]
    policies = bench.table(stale=("maze2d-medium-references",))
    assert "on the own task † random 1.0±0.5" in only_group(policies).notes["policies"]
    assert "over the goals random" in only_group(policies).notes["policies"]
    assert "†" in policies.legend


def test_private_gain_is_measured_from_public_data_to_real_data(bench: HandMade) -> None:
    gains = {line["synth"]: line["mean"] for line in lines(bench.table(), metric="private_gain") if line["epsilon"] != "inf"}
    assert gains == {"public-data": "0", "independent": "-0.41453", "uniform": "-0.418803", "pgm": "1.53846", "gan": ""}


def test_a_floor_with_fields_is_a_floor_where_no_other_row_is_of_its_method(bench: HandMade) -> None:
    bench.row("public-only[width=2048]", iql=[30.0, 31.0, 32.0])
    assert {line["mean"] for line in lines(bench.table(), metric="private_gain", synth="public-only[width=2048]")} == {"0"}


def test_corrupted_real_rows_are_not_the_real_data_of_a_gain(bench: HandMade) -> None:
    made = HandMade(bench.store, {"env": "maze2d-umaze"})
    for synth, scores in (("real[corruption=independent,level=0.9]", [30.0, 31.0, 32.0]), ("public-data", [10.0, 11.0, 12.0])):
        made.row(synth, iql=scores)
    made.row("pgm", 10.0, iql=[50.0, 51.0, 52.0])
    assert {line["mean"] for line in lines(made.table(), metric="private_gain")} == {""}


@pytest.mark.parametrize("anchor", ["real", "public-data"])
def test_a_gain_is_as_old_as_its_anchors(bench: HandMade, anchor: str) -> None:
    leaf = next(leaf for leaf in bench.leaves if leaf["synth"] == anchor and leaf["plugin"] == "iql")
    (gain,) = lines(bench.table(stale=(leaf["key"],)), metric="private_gain", synth="pgm", epsilon="10")
    assert gain["stale"] == "true"


def test_private_gain_has_no_other_zero_while_a_floor_misses_a_run(bench: HandMade) -> None:
    """The better floor may be the one that is not finished: the lower one in its place would make every gain larger."""
    bench.row("public-only", iql=[30.0, 31.0, ...])
    table = bench.table()
    assert {line["mean"] for line in lines(table, metric="private_gain")} == {""}


def test_private_gain_is_a_dash_where_real_data_are_not_surely_better(bench: HandMade) -> None:
    bench.row("public-only", iql=[30.0, 90.0, 45.0])
    table = bench.table()
    assert {line["mean"] for line in lines(table, metric="private_gain")} == {""}
    assert re.search(r"71\.0±2\.5ᵗ +— ", text_line(table, "pgm"))


def test_the_ceiling_has_scores_where_metrics_have(bench: HandMade) -> None:
    assert {line["metric"]: line["mean"] for line in lines(bench.table(), synth="real vs real")} == {
        "one_way": "0.99",
        "dynamics/dynamics_median": "0.99",
        "dynamics/invalid_states": "0.99",
    }


def test_each_number_of_rows_has_the_ceiling_of_its_own_real_samples(tmp_path: Path) -> None:
    made = HandMade(Store(tmp_path))
    for rows, score in ((1_000_000, 0.99), (10_000, 0.9)):
        made.heading["rows"] = rows
        made.row("pgm", 10.0, one_way=[0.8, 0.8])
        made.environments["maze2d-medium", rows]["ceilings"] = {"one-way": made.put(f"ceiling-{rows}", "fidelity", {"scores": {"one_way": score}})}
    ceilings = [named(group, "real vs real", float("inf")).cells[0] for group in made.table().groups]
    assert [cell and cell.summary and cell.summary.mean for cell in ceilings] == [0.99, 0.9]


def test_attacks_join_their_own_error_and_the_spread_of_runs(bench: HandMade) -> None:
    (line,) = lines(bench.table(), synth="real", metric="nearest/auc")
    spread = summarize(np.array([0.97, 0.98, 0.97])[:, None, None]).half_width
    assert spread is not None
    assert float(line["high"]) - float(line["mean"]) == pytest.approx(np.hypot(0.02, spread), abs=1e-6)
    assert line["interval"] == "run+t"


def test_intervals_of_a_rate_end_at_0_and_those_of_an_advantage_go_below(tmp_path: Path) -> None:
    made = HandMade(Store(tmp_path))
    made.row("uniform", nearest=[0.0, 0.01, 0.01], inference=[0.0, 0.01, 0.01])
    lows = {line["metric"]: float(line["low"]) for line in lines(made.table())}
    assert lows["nearest/auc"] == 0
    assert lows["inference/advantage"] < -0.01


# --- formats ----------------------------------------------------------------------------------------------------------


def test_the_tidy_csv_has_these_columns_and_a_line_for_each_row_and_score(bench: HandMade) -> None:
    wanted = (
        "env,source,preset,rows,synth,unit,guarantee,epsilon,delta,epsilon_spent,epsilon_trajectory,accountant,"
        "metric,agent,mean,low,high,interval,n,failed,stale,better,ceiling,sources,verdict"
    )
    text = render(bench.table(), "csv")
    assert text.splitlines()[0] == wanted == ",".join(CSV_COLUMNS)
    assert len(text.splitlines()) == 1 + 7 * 7 + 3
    (line,) = lines(bench.table(), synth="pgm", epsilon="10", metric="score")
    assert ",".join(line.values()).startswith("maze2d-medium,local-simulator,laptop,1000000,pgm,transition,DP,10,1e-07,9.9,,pld,score,iql,71,68.5")
    claims = {line["synth"]: (line["epsilon"], line["delta"], line["epsilon_spent"]) for line in lines(bench.table(), metric="score")}
    assert claims["real"] == ("inf", "", "inf")
    assert claims["uniform"] == ("0", "", "0")


def test_equal_records_give_equal_bytes_however_long_they_took(bench: HandMade, tmp_path: Path) -> None:
    first = {form: render(bench.table(), form) for form in FORMATS}
    for path in (tmp_path / "records").glob("*.json"):
        path.write_text(path.read_text().replace('"seconds": 1.0', '"seconds": 2.0'))
    assert {form: render(bench.table(), form) for form in FORMATS} == first


def test_every_page_shows_the_same_numbers(bench: HandMade) -> None:
    table = bench.table()
    latex = render(table, "latex").replace(r"$\pm$", "±").replace("$-$", MINUS).replace("$^{t}$", "ᵗ")
    pages = [render(table, "text"), render(table, "markdown"), latex]
    numbers = [sorted(re.sub(" ", "", number) for number in re.findall(rf"{MINUS}?\d*\.\d+ ?±\d*\.\d+ᵗ?|\(\d/\d\)", page)) for page in pages]
    assert numbers[0] == numbers[1] == numbers[2]
    assert f"{MINUS}5.2±3.1ᵗ" in numbers[0]
    assert len(numbers[0]) == 7 * 7 - 2 + 4, "all but the two scores that do not exist, and the policies'"


def test_json_is_the_table_with_every_run_and_its_record(bench: HandMade) -> None:
    (group,) = json.loads(render(bench.table(), "json"))["groups"]
    row = next(row for row in group["body"] if row["synth"] == "gan")
    assert row["cells"][0]["runs"] == [[[20.0]], [[None]], [[22.0]]]
    assert bench.store.get(row["cells"][0]["keys"][2]) is not None
    assert [column["score"] for column in group["columns"]] == ["score", "private_gain", "one_way", "dynamics_median", "invalid_states", "auc", "auc"]


@pytest.mark.parametrize("width", [WIDTH, 110])
def test_text_keeps_within_its_width_and_cuts_nothing(bench: HandMade, width: int) -> None:
    text = render(bench.table(), "text", width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for cell in (str(value) for value in ("71.0±2.5ᵗ", "— (2/3)", ".953±.014ᵗ", "33.00 ±.00ᵗ")):
        assert cell in text


def test_text_puts_points_below_points(tmp_path: Path) -> None:
    made = HandMade(Store(tmp_path))
    for synth, error in (("independent", 1.4), ("pgm", 0.1), ("gan", 33.0), ("noise", 333.0)):
        made.row(synth, 10.0, dynamics=[[error, 0.0]] * 2)
    scores = [line.split("±")[0] for line in render(made.table(), "text").splitlines() if "±" in line and "DP" in line]
    assert {(line.index("."), len(line)) for line in scores} == {(scores[0].index("."), len(scores[0]))}
    assert len(scores) == 4


def test_latex_is_plain_ascii_with_equally_many_cells_in_each_row_of_a_tabular(bench: HandMade) -> None:
    bench.row("odd_name[a=50%&b]", 10.0, iql=[1.0, 2.0, None])
    text = render(bench.table(), "latex")
    assert text.isascii()
    for alignment, inside in re.findall(r"\\begin{tabular}{(\w+)}(.*?)\\end{tabular}", text, re.DOTALL):
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in latex_rows(inside)} == {len(alignment)}
    assert r"odd\_name[a=50\%\&b]" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_markdown_rows_are_equally_wide_and_names_are_no_markup(bench: HandMade) -> None:
    bench.row("odd[a=x|y<b>]", 10.0, iql=[1.0, 2.0, None])
    bench.leaves = [{**leaf, "plugin": leaf["plugin"].replace("nearest", "near|<est>")} for leaf in bench.leaves]
    page = re.sub("<!--.*?-->", "", render(bench.table(), "markdown"))
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in page.splitlines() if row.startswith("|")} == {13}
    assert "<" not in page


def test_html_has_the_cells_of_markdown_and_the_keys_of_every_score(bench: HandMade) -> None:
    bench.row("odd[a=x|y<b>]", 10.0, iql=[1.0, 2.0, None])
    table = bench.table()
    page = render(table, "html")
    lines = [list(map(unescape, re.findall("<t[hd][^>]*>(.*?)</t[hd]>", line))) for line in re.findall("<tr>(.*?)</tr>", page)]
    markdown = [line for line in re.sub(" <!--.*?-->", "", render(table, "markdown")).splitlines() if line.startswith("| ") and "---" not in line]
    assert lines == [[unescape(cell.strip()).replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in markdown]
    scores = [cell for group in table.groups for row in group.body for cell in row.cells if cell and cell.keys]
    assert sorted(map(unescape, re.findall('title="(.*?)"', page))) == sorted(" ".join(cell.keys) for cell in scores)


def test_a_table_says_whether_the_score_that_ranks_was_validated(bench: HandMade, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only_group(bench.table()).notes["validity"] == "iql was not asked whether it falls as rows get worse: `bench validate` does"
    valid = [Validity("maze2d-medium", "iql", "laptop", kind, (0.0, 1.0), (2.0, 1.0), 3, -1.0, None) for kind in LADDERS]
    spoiled = replace(valid[0], above=1.0)
    for found, said in ((valid, "valid"), ([spoiled, *valid[1:]], "not valid"), ([*valid, replace(spoiled, env="maze2d-large")], "valid")):
        monkeypatch.setattr(build, "shipped_validities", lambda found=found: found)
        assert only_group(bench.table()).notes["validity"] == f"iql is {said} under the preset laptop"


def test_footnotes_say_what_the_score_cannot_tell_and_explain_only_marks_that_occur(bench: HandMade, tmp_path: Path) -> None:
    table = bench.table()
    assert "random 1.0±0.5, constant 61.0±1.0" in only_group(table).notes["policies"]
    assert "deaf to fidelity" in table.legend["utility"]
    assert set(table.legend) == {"utility", "gain", "fidelity", "best-attack", "attack", "#", "runs", "ᵗ", "— (k/n)"}
    made = HandMade(Store(tmp_path / "other"))
    made.row("independent", 10.0, iql=[1.0, 2.0, 3.0, 4.0, 6.0])
    assert set(made.table().legend) == {"utility", "gain", "#", "runs"}


def test_an_unknown_format_is_refused_with_the_known_ones(bench: HandMade) -> None:
    with pytest.raises(InputError, match="'xml' is unknown; choose from text, markdown, latex, html, csv, json"):
        render(bench.table(), "xml")


def test_settings_of_an_agent_stand_in_a_note_where_its_name_is_enough(bench: HandMade) -> None:
    def renamed(table: Table, *names: str) -> Table:
        """The first columns go to these agents, and the gain to the first."""
        scorers = [*names, *(names[0] if column.scorer == "iql" else column.scorer for column in table.groups[0].columns[len(names) :])]
        columns = tuple(replace(column, scorer=scorer) for column, scorer in zip(table.groups[0].columns, scorers, strict=True))
        return replace(table, groups=(replace(table.groups[0], columns=columns),))

    alone, several = renamed(bench.table(), "iql[batch=8]"), renamed(bench.table(), "iql[batch=8]", "iql[batch=9]")
    for form in ("text", "markdown", "latex"):
        assert render(alone, form).replace("batch=8", "").count("batch") == 0
        assert re.search(r"in full\W.*iql\[batch=8\]", render(alone, form))
        assert "in full" not in render(several, form), "two of one name keep what tells them apart"
    assert "iql[batch=8]" in render(alone, "csv")
