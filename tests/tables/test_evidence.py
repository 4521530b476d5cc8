"""What speaks for or against a claimed epsilon: audits beside the rows, the best attack, and rows that are struck out."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hand_made import HandMade, latex_rows
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.run.store import Store
from bench.tables.evidence import REFUTED, chosen_elsewhere
from bench.tables.leaderboard import Cell, Row, Table
from bench.tables.render import FORMATS, render
from bench.tables.stats import summarize_estimates

CONVINCED, UNSURE = REFUTED / 10, 0.5


def bound(epsilon: float, ceiling: float = 5.8, p_value: float = 1.0) -> dict[str, float]:
    return {"epsilon": epsilon, "ceiling": ceiling, "p_value": p_value}


@pytest.fixture
def bench(tmp_path: Path) -> HandMade:
    made = HandMade(Store(tmp_path))
    made.row("real", iql=[50.0, 51.0], domias=[[0.9, 0.5, 0.2]] * 2, model_loss=[[], []])
    made.row("pgm", 10.0, iql=[70.0, 72.0], domias=[[0.5, 0.1, 0.0]] * 2, model_loss=[[0.6, 0.2, 0.1]] * 2)
    made.row("gan", 10.0, iql=[20.0, 21.0], domias=[[0.5, 0.1, 0.0]] * 2, model_loss=[[0.6, 0.2, 0.1]] * 2)
    return made


def cell(table: Table, synth: str, scorer: str, score: str) -> Cell:
    (group,) = table.groups
    place = [(column.scorer, column.score) for column in group.columns].index((scorer, score))
    found = row(table, synth).cells[place]
    assert found is not None
    return found


def row(table: Table, synth: str) -> Row:
    (found,) = (row for group in table.groups for row in group.body if row.synth == synth)
    return found


def line(page: str, synth: str) -> str:
    return next(line for line in page.splitlines() if synth in line)


# --- audits -----------------------------------------------------------------------------------------------------------------------------------------


def test_the_largest_bound_stands_with_its_own_ceiling(bench: HandMade) -> None:
    bench.audit("pgm", 10.0, "one-run", bound(2.31, 5.8))
    bench.audit("pgm", 10.0, "many-run", bound(1.5, 9.0))
    found = cell(bench.table(), "pgm", "audited", "audited")
    assert found.summary is not None
    assert (found.summary.mean, found.ceiling, found.sources) == (2.31, 5.8, ("one-run",))
    for form in ("text", "markdown", "latex"):
        assert "2.31 (of 5.8)" in render(bench.table(), form)
        assert "(of 9.0)" not in render(bench.table(), form)
    (tidy,) = (line for line in csv.DictReader(io.StringIO(render(bench.table(), "csv"))) if (line["synth"], line["metric"]) == ("pgm", "audited"))
    assert (tidy["mean"], tidy["ceiling"]) == ("2.31", "5.8")


def test_of_equal_bounds_the_one_that_could_have_found_more_is_shown(bench: HandMade) -> None:
    """That neither found anything says more of the audit that might have."""
    bench.audit("pgm", 10.0, "one-run", bound(0.0, 5.8))
    bench.audit("pgm", 10.0, "many-run", bound(0.0, 9.0))
    found = cell(bench.table(), "pgm", "audited", "audited")
    assert (found.ceiling, found.sources) == (9.0, ("many-run",))


def test_a_bound_of_a_stale_audit_is_marked(bench: HandMade) -> None:
    """What was audited is then another method than today's; an audit that is yet to come marks nothing."""
    bench.audit("pgm", 10.0, "one-run", bound(2.31))
    bench.audit("gan", 10.0, "one-run", ...)
    table = bench.table(stale=tuple(audit["key"] for audit in bench.audits))
    assert [own.synth for own in table.groups[0].body if own.stale] == ["pgm"]
    assert "pgm †" in line(render(table, "text"), "pgm")


def test_an_audit_that_has_not_run_is_a_dash_and_one_that_failed_is_counted(bench: HandMade) -> None:
    bench.audit("pgm", 10.0, "one-run", ...)
    bench.audit("gan", 10.0, "one-run", bound(0.1))
    bench.audit("gan", 10.0, "many-run", None)
    pages = render(bench.table(), "markdown")
    assert "| — |" in line(pages, "pgm")
    assert "| — (1/2) |" in line(pages, "gan")
    assert "gan at ε = 10 (audited): ValueError" in pages
    assert cell(bench.table(), "gan", "audited", "audited").summary is None


def test_an_older_manifest_names_no_audits_and_prints_as_before(bench: HandMade) -> None:
    assert "audits" not in bench.manifest()
    assert not any("audited" in render(bench.table(), form) for form in FORMATS)


# --- rows whose claim does not hold -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p_value", "audits", "refuted"), [(CONVINCED, 2, True), (CONVINCED, 20, False), (UNSURE, 2, False)])
def test_a_refuted_row_is_struck_out_and_unranked_at_a_confidence_that_all_audits_share(
    bench: HandMade, p_value: float, audits: int, refuted: bool
) -> None:
    bench.audit("pgm", 10.0, "one-run", bound(12.0, p_value=p_value))
    for other in range(audits - 1):
        bench.audit("gan", 10.0, f"audit {other}", ...)
    table = bench.table()
    assert row(table, "pgm").verdict == ("refuted" if refuted else None)
    assert (row(table, "pgm").ranks is None) == refuted
    assert row(table, "gan").ranks == ((1, 1) if refuted else (2, 2))
    assert ("✗" in table.legend) == refuted


def test_a_row_that_spent_more_than_it_claims_is_struck_out(bench: HandMade) -> None:
    for seed in range(2):
        fit = next(leaf["fit"] for leaf in bench.leaves if leaf["synth"] == "pgm" and leaf["seeds"]["synthesizer"] == seed)
        bench.put(fit, "fit", {"epsilon_spent": 10.0 + seed, "accountant": "pld", "charges": []})
    assert row(bench.table(), "pgm").verdict == "overspent"
    assert row(bench.table(), "gan").ranks == (1, 1)


def test_every_form_strikes_the_row_out_and_says_so(bench: HandMade) -> None:
    bench.audit("pgm", 10.0, "one-run", bound(12.0, p_value=CONVINCED))
    table = bench.table()
    assert "✗ pgm" in line(render(table, "text"), "pgm")
    cells = [cell.strip() for cell in re.sub(" <!-- .* -->", "", line(render(table, "markdown"), "pgm")).strip("|").split(" | ")]
    assert all(cell.startswith("~~") and cell.endswith("~~") for cell in cells if cell)
    latex = render(table, "latex")
    assert r"\usepackage[normalem]{ulem}" in latex
    struck = next(row for row in latex_rows(latex) if "pgm" in row)
    assert all(cell.strip().startswith(r"\sout{") for cell in struck.removesuffix(r"\\").split("&") if cell.strip())
    tidy = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert {line["verdict"] for line in tidy if line["synth"] == "pgm"} == {"refuted"}
    assert {line["verdict"] for line in tidy if line["synth"] != "pgm"} == {""}
    (group,) = json.loads(render(table, "json"))["groups"]
    assert [row["verdict"] for row in group["body"] if row["verdict"]] == ["refuted"]
    for form in ("text", "markdown", "latex"):
        assert "never ranked" in " ".join(render(table, form).split())
        assert "✗" not in line(render(table, form), "gan")


# --- the best attack --------------------------------------------------------------------------------------------------------------------------------

AUCS = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 5), st.integers(1, 2)), elements=st.floats(0, 1, width=16))


@given(AUCS)
def test_the_attack_at_a_seed_is_the_best_at_all_others(aucs: np.ndarray) -> None:
    chosen = chosen_elsewhere(aucs)
    for seed, attack in enumerate(chosen):
        others = np.delete(aucs, seed, axis=1).mean(axis=(1, 2))
        assert others[attack] == pytest.approx(others.max())


@given(AUCS, st.data())
def test_what_is_scored_at_a_seed_has_no_say_in_the_choice_there(aucs: np.ndarray, data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, aucs.shape[1] - 1))
    changed = aucs.copy()
    changed[:, seed] = 1 - changed[:, seed]
    assert chosen_elsewhere(aucs)[seed] == chosen_elsewhere(changed)[seed]


def test_scores_of_the_chosen_attack_are_pooled_with_their_own_intervals(tmp_path: Path) -> None:
    """domias is best at seeds 0 and 1, model-loss at seed 2: left out, each seed sees the others alone."""
    made = HandMade(Store(tmp_path))
    made.row("pgm", 10.0, domias=[[0.70, 0.3, 0.1], [0.72, 0.3, 0.1], [0.50, 0.0, 0.0]], model_loss=[[0.60, 0.1, 0.0]] * 2 + [[0.80, 0.4, 0.2]])
    found = cell(made.table(), "pgm", "best-attack", "auc")
    assert found.sources == ("model-loss", "model-loss", "domias")
    values = np.array([0.60, 0.60, 0.50])[:, None, None]
    assert found.summary == summarize_estimates(values, values - 0.02, values + 0.02).within(0, 1)
    assert cell(made.table(), "pgm", "best-attack", "tpr_at_1").runs == pytest.approx(np.array([0.1, 0.1, 0.0])[:, None, None])
    assert made.table().groups[0].notes["best-attack"] == "by AUC, model-loss or domias for pgm at ε = 10"


def test_an_attack_that_is_rarely_wrong_is_not_hidden_by_one_that_finds_more(tmp_path: Path) -> None:
    """Copies of 3 % of the members: one attack finds these for certain, and has hardly an AUC."""
    made = HandMade(Store(tmp_path))
    made.row("pgm", 10.0, model_loss=[[0.515, 0.03, 0.03]] * 3, domias=[[0.52, 0.01, 0.001]] * 3)
    for score, (attack, value) in {"auc": ("domias", 0.52), "tpr_at_01": ("model-loss", 0.03)}.items():
        found = cell(made.table(), "pgm", "best-attack", score)
        assert found.summary is not None
        assert (found.summary.mean, set(found.sources)) == (pytest.approx(value), {attack})


def test_an_attack_that_can_say_nothing_of_a_method_takes_no_part(bench: HandMade) -> None:
    found = cell(bench.table(), "real", "best-attack", "auc")
    assert found.summary is not None
    assert (found.summary.mean, set(found.sources)) == (0.9, {"domias"})


def test_attacks_without_an_auc_take_no_part(tmp_path: Path) -> None:
    made = HandMade(Store(tmp_path))
    made.row("pgm", 10.0, inference=[0.9, 0.9])
    assert not any(column.kind == "evidence" for column in made.table().groups[0].columns)


def test_a_failed_attack_hides_the_best(tmp_path: Path) -> None:
    made = HandMade(Store(tmp_path))
    made.row("pgm", 10.0, domias=[[0.7, 0.3, 0.1]] * 3, model_loss=[[0.6, 0.1, 0.0], None, [0.6, 0.1, 0.0]])
    found = cell(made.table(), "pgm", "best-attack", "auc")
    assert (found.summary, found.n, found.planned) == (None, 2, 3)


def test_with_a_single_seed_there_is_no_other_to_choose_by(tmp_path: Path) -> None:
    made = HandMade(Store(tmp_path))
    made.row("pgm", 10.0, domias=[[0.7, 0.3, 0.1]], model_loss=[[0.6, 0.1, 0.0]])
    assert cell(made.table(), "pgm", "best-attack", "auc").summary is None
    assert "| — | — | — |" in line(render(made.table(), "markdown"), "pgm")
    assert "no other to choose by" in made.table().legend["best-attack"]
