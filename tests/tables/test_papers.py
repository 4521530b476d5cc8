"""The tables of the paper: our scores in its layout, the published ones beside them, the best in bold."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from hand_made import HandMade

from bench.core.errors import InputError
from bench.report.evidence import Evidence
from bench.run.store import Store
from bench.tables.catalogue import NAMES, PAPERS, finished_table
from bench.tables.leaderboard import Cell, Group, Row, Table, method_names
from bench.tables.published import published
from bench.tables.render import FORMATS, render
from bench.tables.stats import Summary, paired_difference

MEDIUM, LARGE = "maze2d-medium", "maze2d-large"


@pytest.fixture
def bench(tmp_path: Path) -> HandMade:
    """Two environments, two epsilons, a variant, and a method that the larger maze does not have."""
    made = HandMade(Store(tmp_path))
    for env in (MEDIUM, LARGE):
        made.heading["env"] = env
        made.row("real", iql=[50.0, 51.0], one_way=[0.99, 0.99], domias=[[0.9, 0.5, 0.2]] * 2)
        made.row("public-only", iql=[10.5, 11.0], one_way=[0.6, 0.6], domias=[[0.5, 0.0, 0.0]] * 2)
        made.row("uniform", iql=[-5.0, -5.5], one_way=[0.5, 0.5], domias=[[0.5, 0.0, 0.0]] * 2)
        for epsilon in (10.0, 1.0):
            made.row("pgm", epsilon, iql=[60.0, 62.0], one_way=[0.95, 0.96], domias=[[0.5, 0.0, 0.0]] * 2)
            made.row("privorl-n", epsilon, iql=[60.5, 61.0], one_way=[0.90, 0.91], domias=[[0.6, 0.1, 0.0]] * 2)
            made.row("privorl-n[curiosity=off]", epsilon, iql=[30.5, 31.0], one_way=[0.90, None], domias=[[0.5, 0.1, 0.0]] * 2)
    made.heading["env"] = MEDIUM
    made.row("privsyn", 10.0, iql=[3.0, 3.5], one_way=[0.8, 0.8], domias=[[0.5, 0.0, 0.0]] * 2)
    return made


def only_group(table: Table) -> Group:
    (group,) = table.groups
    return group


def named(table: Table, synth: str, epsilon: float) -> Row:
    (row,) = (row for group in table.groups for row in group.body if (row.synth, row.epsilon) == (synth, epsilon))
    return row


def cell_of(table: Table, synth: str, epsilon: float, **column: str) -> Cell | None:
    group = only_group(table)
    (place,) = (i for i, own in enumerate(group.columns) if all(getattr(own, name) == value for name, value in column.items()))
    return named(table, synth, epsilon).cells[place]


def mean(cell: Cell | None) -> float:
    assert cell is not None
    assert cell.summary is not None
    return cell.summary.mean


# --- layout -----------------------------------------------------------------------------------------------------------------------------------------


def test_environments_stand_side_by_side_and_rows_by_epsilon(bench: HandMade) -> None:
    table = bench.named("I")
    assert [(column.env, column.kind) for column in only_group(table).columns] == [(MEDIUM, "utility"), (MEDIUM, "published"), (LARGE, "utility")]
    order = [(row.synth, row.epsilon) for row in only_group(table).body]
    assert order[:3] == [("real", math.inf), ("public-only", 0.0), ("uniform", 0.0)]
    assert [epsilon for _, epsilon in order[3:]] == [1.0] * 3 + [10.0] * 4
    assert cell_of(table, "privsyn", 10.0, env=LARGE) is None
    assert mean(cell_of(table, "privsyn", 10.0, env=MEDIUM, kind="utility")) == 3.25


def test_an_epsilon_of_a_trajectory_is_that_of_its_environment_or_none(bench: HandMade) -> None:
    """Trajectories are as long as their environment says, so that rows on several have none in common."""
    for length, block in enumerate(bench.environments.values(), 20):
        block["max_trajectory_length"] = length
    assert {row.epsilon_trajectory for row in only_group(bench.named("I")).body} == {None}
    assert "ε/traj" not in only_group(bench.named("I")).notes
    assert "ε/traj" not in render(bench.named("I"), "text"), "no column that nothing explains"
    bench.leaves = [leaf for leaf in bench.leaves if leaf["env"] == MEDIUM]
    assert named(bench.named("I"), "pgm", 10.0).epsilon_trajectory is not None
    assert "at most 20 rows" in only_group(bench.named("I")).notes["ε/traj"]


def test_what_a_row_spent_is_the_most_that_it_spent_on_any_environment(bench: HandMade) -> None:
    """One number stands for all of them, and a bound that holds on one alone is none."""
    for env, spent in ((MEDIUM, 9.2), (LARGE, 9.97)):
        for seed in range(2):
            bench.put(f"{env}-1000000-transition-pgm-10.0-fit{seed}", "fit", {"epsilon_spent": spent, "accountant": "pld", "charges": []})
    assert named(bench.named("I"), "pgm", 10.0).epsilon_spent == 9.97


SCORES = {"I": {"score"}, "III": {"one_way"}, "XII": {"tpr_at_1", "tpr_at_01"}, "ablation": {"score", "minus_base", "one_way"}}


@pytest.mark.parametrize(("name", "scores"), SCORES.items())
def test_each_paper_table_shows_its_own_scores(bench: HandMade, name: str, scores: set[str]) -> None:
    columns = [column for group in bench.named(name).groups for column in group.columns]
    assert {column.score for column in columns if column.kind != "published"} == scores


@pytest.mark.parametrize("name", NAMES)
def test_every_table_is_printed_in_every_form(bench: HandMade, name: str) -> None:
    pages = {form: render(bench.named(name), form) for form in FORMATS}
    assert all(page.strip() for page in pages.values())
    assert pages["latex"].isascii()
    assert f"bench table {name} of sweep" in pages["latex"]


def test_what_the_units_separate_stays_apart(bench: HandMade) -> None:
    bench.heading |= {"unit": "trajectory"}
    bench.row("privorl-j", 10.0, iql=[1.0, 2.0])
    assert [group.unit for group in bench.named("I").groups] == ["transition", "trajectory"]


def test_failures_are_counted_in_paper_tables_too(bench: HandMade) -> None:
    assert "— (1/2)" in render(bench.named("III"), "text")


def test_membership_inference_begins_with_what_the_paper_prints(tmp_path: Path) -> None:
    """The best attack at the four published rates, the published numbers, then each attack; an AUC only where an attack has nothing else."""
    made = HandMade(Store(tmp_path))
    for synth, epsilon in (("privorl-n", 10.0), ("pgm", 10.0), ("pgm", 1.0)):
        made.row(synth, epsilon, nearest=[[0.5]] * 2, dpi=[[0.5, 0.2, 0.1, 0.01, 0.001]] * 2, rmia=[[0.6, 0.3, 0.2, 0.1, 0.01]] * 2)
    columns = only_group(made.named("XII")).columns
    levels = ["tpr_at_20", "tpr_at_10", "tpr_at_1", "tpr_at_01"]
    assert [(column.scorer, column.score) for column in columns if column.kind != "published"] == [
        ("best-attack", "auc"),
        ("nearest", "auc"),
        *(("dpi", level) for level in levels),
        *(("rmia", level) for level in levels),
    ], "where one attack has no rates, the best of all cannot be told at them"
    made.leaves = [leaf for leaf in made.leaves if leaf["plugin"] != "nearest"]
    columns = only_group(made.named("XII")).columns
    assert [column.score for column in columns if column.scorer == "best-attack"] == levels
    assert "best-attack" not in only_group(made.named("XII")).notes, "the note names the choice by AUC, and no AUC is shown"
    assert [kind for kind, _ in groupby(column.kind for column in columns)] == ["evidence", "published", "attack"]
    for name in ("leaderboard", "sweep"):
        briefly = [column.score for column in only_group(made.named(name)).columns if column.scorer == "best-attack"]
        assert briefly == ["auc", "tpr_at_1", "tpr_at_01"]


def test_a_single_environment_is_named_above_the_table_alone(bench: HandMade, tmp_path: Path) -> None:
    alone = HandMade(Store(tmp_path / "alone"))
    alone.row("privorl-n", 10.0, iql=[60.0, 61.0])
    alone.row("real", iql=[60.0, 61.0])
    assert {column.env for column in only_group(alone.named("I")).columns} == {""}
    assert {column.env for column in only_group(bench.named("I")).columns} == {MEDIUM, LARGE}
    assert render(alone.named("I"), "text").count(MEDIUM) == 2, "in the heading and in what the score is deaf to"


MISSING = {"I": "trains no agent", "XII": "runs no membership", "ablation": "beside a variant", "sweep": "once"}


@pytest.mark.parametrize(("name", "fragment"), MISSING.items())
def test_what_the_sweep_does_not_have_is_told_in_one_sentence(tmp_path: Path, name: str, fragment: str) -> None:
    made = HandMade(Store(tmp_path))
    made.row("pgm", 10.0, one_way=[0.9])
    with pytest.raises(InputError, match=fragment):
        made.named(name)


# --- best and ties ----------------------------------------------------------------------------------------------------------------------------------


def test_the_best_is_bold_and_what_cannot_be_told_from_it_underlined(bench: HandMade) -> None:
    """pgm is best at 61; privorl-n is 0.5 below on one seed, 1 above on the other; without curiosity it is surely lower."""
    table = bench.named("I")
    for epsilon in (1.0, 10.0):
        names = ("pgm", "privorl-n", "privorl-n[curiosity=off]")
        cells = [cell_of(table, name, epsilon, env=MEDIUM, kind="utility") for name in names]
        assert [cell.mark for cell in cells if cell] == ["best", "tie", None]
    assert cell_of(table, "real", math.inf, env=MEDIUM, kind="utility").mark is None  # type: ignore[union-attr]
    markdown, latex = render(table, "markdown"), render(table, "latex")
    assert re.search(r"\*\*61\.0 ±12\.7ᵗ\*\*", markdown)
    assert re.search(r"<u>60\.8 ±3\.2ᵗ</u>", markdown)
    assert r"\textbf{61.0$\pm$12.7$^{t}$}" in latex
    assert r"\underline{60.8$\pm$3.2$^{t}$}" in latex
    assert "<b>61.0 ±12.7ᵗ</b>" in render(table, "html")
    assert "<u>60.8 ±3.2ᵗ</u>" in render(table, "html")


def test_no_method_is_the_best_at_escaping_an_attack(bench: HandMade) -> None:
    cells = [cell for group in bench.named("XII").groups for row in group.body for cell in row.cells if cell]
    assert sum(cell.summary is not None for cell in cells) > 3
    assert {cell.mark for cell in cells} == {None}


def test_a_struck_row_is_never_the_best(bench: HandMade) -> None:
    bench.audit("pgm", 10.0, "one-run", {"epsilon": 20.0, "ceiling": 30.0, "p_value": 1e-9})
    table = bench.named("I")
    assert named(table, "pgm", 10.0).verdict == "refuted"
    assert cell_of(table, "privorl-n", 10.0, env=LARGE).mark == "best"  # type: ignore[union-attr]
    assert "~~61.0 ±12.7ᵗ~~" in render(table, "markdown")
    assert "<s>61.0 ±12.7ᵗ</s>" in render(table, "html")


@pytest.mark.parametrize("env", [MEDIUM, LARGE])
def test_a_claim_that_fails_on_any_environment_strikes_out_the_row_of_all(bench: HandMade, env: str) -> None:
    """The row is one: a method that was refuted on the second environment would else be in bold there."""
    bench.heading["env"] = env
    bench.audit("pgm", 10.0, "one-run", {"epsilon": 20.0, "ceiling": 30.0, "p_value": 1e-9})
    table = bench.named("I")
    assert named(table, "pgm", 10.0).verdict == "refuted"
    assert cell_of(table, "pgm", 10.0, env=LARGE).mark is None  # type: ignore[union-attr]


def test_a_struck_row_stands_below_all_others_at_its_epsilon(bench: HandMade) -> None:
    """Whoever reads from the top down meets first what may be believed."""
    bench.audit("pgm", 10.0, "one-run", {"epsilon": 20.0, "ceiling": 30.0, "p_value": 1e-9})
    rows = [row.synth for row in only_group(bench.named("I")).body if row.epsilon == 10.0]
    assert rows == ["privorl-n", "privorl-n[curiosity=off]", "privsyn", "pgm"]


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_nowhere_struck_out_without_a_word(bench: HandMade, name: str) -> None:
    bench.audit("privorl-n", 10.0, "one-run", {"epsilon": 12.0, "ceiling": 15.0, "p_value": 1e-9})
    page = render(bench.named(name), "text")
    assert all(words in page for words in ("✗ privorl-n", "privorl-n at ε = 10 is refuted", "the claimed ε does not hold"))


# --- published numbers ------------------------------------------------------------------------------------------------------------------------------


def test_a_published_number_stands_beside_its_row_alone_with_its_source(bench: HandMade) -> None:
    table = bench.named("I")
    assert mean(cell_of(table, "privorl-n", 10.0, kind="published")) == 90.7
    assert all(cell_of(table, *row, kind="published") is None for row in (("privorl-n", 1.0), ("pgm", 10.0), ("privorl-n[curiosity=off]", 10.0)))
    assert "scripts/Table-I.sh" in only_group(table).notes["published"]
    assert "last ten evaluations" in only_group(table).notes["published"]
    (line,) = (line for line in csv.DictReader(io.StringIO(render(table, "csv"))) if line["metric"] == "published/iql/score")
    assert (line["mean"], line["n"]) == ("90.7", "0")
    assert "scripts/Table-I.sh" in line["sources"]
    assert "last ten evaluations" in line["sources"]


def test_a_method_with_fields_stands_for_itself_where_its_other_rows_add_to_them(tmp_path: Path) -> None:
    made = HandMade(Store(tmp_path))
    for name in ("privorl-n[width=2048]", "privorl-n[width=2048,curiosity=off]", "pgm[mode=aim]", "pgm[bins=8]"):
        made.row(name, 10.0, iql=[60.5, 61.0])
    assert method_names(only_group(made.table()).body) == {
        "privorl-n[width=2048]": "privorl-n",
        **{name: name for name in ("privorl-n[width=2048,curiosity=off]", "pgm[mode=aim]", "pgm[bins=8]")},
    }
    assert mean(cell_of(made.named("I"), "privorl-n[width=2048]", 10.0, kind="published")) == 90.7
    assert [row.synth for row in only_group(made.named("ablation")).body] == ["privorl-n[width=2048]", "privorl-n[width=2048,curiosity=off]"]


def test_a_published_number_stands_in_the_block_of_its_unit_alone(bench: HandMade) -> None:
    """At equal epsilon a trajectory is protected by far more noise than a row: the numbers are of different things."""
    bench.heading["unit"] = "trajectory"
    bench.row("privorl-n", 10.0, iql=[60.0, 61.0])
    rows, trajectories = bench.named("I").groups
    assert "published" in {column.kind for column in rows.columns}
    assert {column.kind for column in trajectories.columns} == {"utility"}


def test_a_published_name_does_not_lengthen_ours(bench: HandMade) -> None:
    """It stands below a title of its own."""
    bench.leaves = [{**leaf, "plugin": leaf["plugin"].replace("iql", "iql[batch=8]")} for leaf in bench.leaves]
    assert render(bench.named("I"), "text").count("iql[batch=8]") == 1, "in the note"


@pytest.mark.parametrize("name", ["I", "III", "XII", "resources"])
def test_no_line_of_a_csv_goes_by_the_name_of_another(bench: HandMade, name: str) -> None:
    """Fit and minutes are what the paper calls its numbers, too."""
    lines = list(csv.DictReader(io.StringIO(render(bench.named(name), "csv"))))
    names = [tuple(line[part] for part in ("env", "rows", "unit", "synth", "epsilon", "agent", "metric")) for line in lines]
    assert len(set(names)) == len(names)
    assert any(line["metric"].startswith("published/") for line in lines)


def test_published_membership_inference_has_the_paper_s_levels(bench: HandMade) -> None:
    columns = [column.score for column in only_group(bench.named("XII")).columns if column.kind == "published"]
    assert columns == ["TPR@20%", "TPR@10%", "TPR@1%", "TPR@.1%"]
    assert "NON-members" in only_group(bench.named("XII")).notes["published"]


def test_every_published_number_has_a_source_a_method_and_a_table() -> None:
    assert all(entry.source and entry.computed and entry.table in PAPERS for entry in published())
    assert len({(e.table, e.synth, e.epsilon, e.scorer, e.score) for e in published()}) == len(published())


# --- ablation, sweep, resources ---------------------------------------------------------------------------------------------------------------------


def test_variants_stand_below_their_method_with_the_paired_difference(bench: HandMade) -> None:
    """One that was never fine-tuned claims 0, and stands below the method at each of its budgets."""
    body = bench.named("ablation").groups[0].body
    lines = [(row.synth, row.epsilon) for row in body]
    assert lines[:3] == [("privorl-n", 1.0), ("privorl-n[curiosity=off]", 1.0), ("public-only", 0.0)]
    assert lines[3:] == [("privorl-n", 10.0), ("privorl-n[curiosity=off]", 10.0), ("public-only", 0.0)]
    base, *others = (row.cells for row in body[:3])
    assert base[1] is None
    for cells in others:
        assert cells[0] is not None
        assert base[0] is not None
        assert cells[0].runs is not None
        assert base[0].runs is not None
        assert cells[1].summary == paired_difference(cells[0].runs, base[0].runs)  # type: ignore[union-attr]


def test_a_difference_names_what_it_is_taken_from(bench: HandMade) -> None:
    """A variant that claims epsilon 0 stands below the method at each budget, and a program sees neither order nor neighbours."""
    found = csv.DictReader(io.StringIO(render(bench.named("ablation"), "csv")))
    bases = [line["sources"] for line in found if (line["synth"], line["metric"]) == ("public-only", "minus_base")]
    assert bases == 2 * ["privorl-n at 1", "privorl-n at 10"]  # in each environment


def test_a_difference_is_as_old_as_what_it_is_taken_from(bench: HandMade) -> None:
    base = next(leaf["key"] for leaf in bench.leaves if (leaf["synth"], leaf["epsilon"], leaf["kind"]) == ("privorl-n", 1.0, "utility"))
    found = csv.DictReader(io.StringIO(render(finished_table("ablation", bench.manifest(), bench.store, stale=(base,)), "csv")))
    old = [line for line in found if line["metric"] == "minus_base" and line["stale"] == "true"]
    assert {(line["synth"], line["env"]) for line in old} == {(synth, MEDIUM) for synth in ("privorl-n[curiosity=off]", "public-only")}


def test_a_sweep_goes_through_every_epsilon_of_a_method(bench: HandMade) -> None:
    rows = [(row.synth, row.epsilon) for row in bench.named("sweep").groups[0].body]
    variants = ("privorl-n", "privorl-n[curiosity=off]")
    assert rows == [("pgm", 1.0), ("pgm", 10.0), *((name, epsilon) for name in variants for epsilon in (1.0, 10.0))]


def test_resources_are_those_that_the_records_tell(bench: HandMade) -> None:
    """A fit takes ten minutes, as made by hand; a method without a public phase has no time for it."""
    table = bench.named("resources")
    row = table.groups[0].body[-1]
    scores = [(column.scorer, column.score) for column in table.groups[0].columns]
    assert mean(row.cells[scores.index(("fit", "minutes"))]) == 10.0
    assert row.cells[scores.index(("pretrain", "minutes"))] is None
    assert mean(named(Table(table.groups[:1], {}), "pgm", 10.0).cells[scores.index(("sample", "GB"), 6)]) == 11.1


def test_memory_is_the_least_that_a_run_of_the_phase_has_done_with(bench: HandMade) -> None:
    """Seed 0 fitted in a process that had been larger before. The report says the same, of the larger of the phases that release."""
    for seed, gigabytes in enumerate((3.0, 1.25)):
        record = bench.store.get(f"{MEDIUM}-1000000-transition-pgm-10.0-fit{seed}")
        assert record is not None
        bench.store.put(replace(record, provenance={**record.provenance, "peak_bytes": int(gigabytes * 1e9)}))
    group = bench.named("resources").groups[0]
    (place,) = (i for i, column in enumerate(group.columns) if (column.kind, column.scorer, column.score) == ("resources", "fit", "GB"))
    assert named(Table((group,), {}), "pgm", 10.0).cells[place].summary == Summary(1.25)  # type: ignore[union-attr]
    (method,) = (method for method in Evidence.read(bench.store).sections[0].methods if (method.row.synth, method.row.epsilon) == ("pgm", 10.0))
    assert method.cost.memory == 1_250_000_000
