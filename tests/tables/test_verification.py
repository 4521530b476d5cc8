"""`bench verify`: a page that `bench table` wrote passes, and any digit changed in it is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hand_made import HandMade
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.core.accounting import Charge
from bench.run.store import Store
from bench.tables.catalogue import NAMES
from bench.tables.render import HEADERS, render
from bench.tables.verification import Difference, verify

FORMS = ("markdown", "latex")


def filled(folder: Path) -> HandMade:
    """Two environments, with failures, audits, a row that is struck out, and keys that are all digits, as real ones may be."""
    made = HandMade(Store(folder), public={"max_trajectory_length": 20})
    for env in ("maze2d-medium", "maze2d-large"):
        made.heading["env"] = env
        made.row("real", iql=[49.0, 50.0, 51.0], one_way=[0.99, 0.99, 0.98], domias=[[0.9, 0.5, 0.2]] * 3)
        made.row("uniform", iql=[-5.0, -5.5, -6.0], one_way=[0.5, 0.5, 0.5], domias=[[0.5, 0.1, 0.0]] * 3)
        made.row("pgm", 10.0, iql=[70.0, 72.0, 71.0], one_way=[0.95, 0.96, 0.95], domias=[[0.52, 0.1, 0.0]] * 3)
        made.row("pgm[degree=3]", 10.0, iql=[60.0, 62.0, 61.0], one_way=[0.94, 0.96, 0.95], domias=[[0.51, 0.1, 0.0]] * 3)
        made.row("privorl-n", 10.0, iql=[20.0, 21.0, 22.0], one_way=[0.9, None, 0.9], domias=[[0.5, 0.1, 0.0]] * 3)
        made.audit("pgm", 10.0, "one-run", {"epsilon": 2.31, "ceiling": 5.8, "p_value": 1.0})
        made.audit("privorl-n", 10.0, "one-run", {"epsilon": 12.5, "ceiling": 15.0, "p_value": 1e-9})
    return made


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    return filled(tmp_path_factory.mktemp("verified"))


@pytest.fixture(scope="module")
def pages(bench: HandMade) -> list[str]:
    return [render(bench.named(name), form) for name in NAMES for form in FORMS]


def differences(made: HandMade, page: str) -> list[Difference]:
    file = made.store.root / "page"
    file.write_text(page)
    return verify(file, made.store)[1]


def test_what_table_wrote_passes(bench: HandMade, pages: list[str]) -> None:
    assert {page: differences(bench, page) for page in pages} == {page: [] for page in pages}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_digit_changed_is_found(bench: HandMade, pages: list[str], data: st.DataObject) -> None:
    page = data.draw(st.sampled_from(pages))
    place = data.draw(st.sampled_from([i for i, character in enumerate(page) if character.isdigit()]))
    digit = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != page[place]]))
    assert differences(bench, page[:place] + digit + page[place + 1 :])


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_number_is_told_with_its_row_and_column(bench: HandMade, form: str) -> None:
    page = render(bench.named("III"), form)
    (found,) = differences(bench, page.replace(".953", ".963", 1))
    assert (found.row, found.column) == ("pgm at ε = 10", "maze2d-medium one-way ↑")
    assert ".963" in found.printed
    assert ".953" in found.recorded


@pytest.mark.parametrize("form", FORMS)
def test_a_record_that_changed_or_is_gone_is_found(form: str, tmp_path: Path) -> None:
    made = filled(tmp_path)
    page = render(made.named("I"), form)
    made.put("maze2d-medium-1000000-transition-pgm-10.0-iql-1", "train", {"score": 73.5})
    assert differences(made, page)
    (tmp_path / "records" / "maze2d-medium-1000000-transition-pgm-10.0-iql-1.json").unlink()
    assert any("— (2/3)" in found.recorded or "--- (2/3)" in found.recorded for found in differences(made, page))


@pytest.mark.parametrize("form", FORMS)
def test_a_sign_lost_and_a_row_left_out_are_found(bench: HandMade, form: str) -> None:
    page = render(bench.named("I"), form)
    assert differences(bench, page.replace("\N{MINUS SIGN}5.5" if form == "markdown" else "$-$5.5", "5.5", 1))
    rows = [line for line in page.splitlines(keepends=True) if not line.startswith(("| uniform", "uniform"))]
    assert differences(bench, "".join(rows))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("number", "other"), [("1,000,000 rows", "10,000 rows"), ("constant 61.0", "constant 161"), ("most 20", "most 2,000")])
def test_a_number_beside_the_table_is_found_however_it_is_written(bench: HandMade, form: str, number: str, other: str) -> None:
    page = render(bench.named("leaderboard"), form)
    assert number in page
    assert [found.row for found in differences(bench, page.replace(number, other, 1))] == ["a line beside the table"]


@pytest.mark.parametrize(("form", "header", "other"), [*((form, "iql", "one-way") for form in FORMS), ("latex", "utility", "fidelity")])
def test_a_header_that_is_another_column_s_is_found(bench: HandMade, form: str, header: str, other: str) -> None:
    page = render(bench.named("leaderboard"), form)
    swapped = page.replace(header, "?").replace(other, header).replace("?", other)
    assert {found.row for found in differences(bench, swapped)} >= {HEADERS}
    assert not differences(bench, page.replace(f"{header} ", "Return "))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("was", "claimed"), [("transition", "trajectory"), ("maze2d-medium", "kitchen-partial")])
def test_another_unit_or_environment_beside_the_table_is_found(bench: HandMade, form: str, was: str, claimed: str) -> None:
    page = render(bench.named("leaderboard"), form)
    for place in range(page.count(was)):
        before, behind = was.join(page.split(was)[: place + 1]), was.join(page.split(was)[place + 1 :])
        assert differences(bench, before + claimed + behind)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other", ["td3-bc", "goals/iql", "correlation"])
def test_a_header_that_names_another_scorer_is_found(bench: HandMade, form: str, other: str) -> None:
    page = render(bench.named("leaderboard"), form)
    assert {found.row for found in differences(bench, page.replace("iql ", f"{other} "))} == {HEADERS}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["I", "leaderboard"])
def test_a_row_that_names_another_method_is_found(bench: HandMade, form: str, name: str) -> None:
    page = render(bench.named(name), form)
    assert {(found.row, found.column) for found in differences(bench, page.replace("uniform ", "privsyn "))} == {("uniform at ε = 0", "synthesizer")}
    assert not differences(bench, page.replace("uniform ", "The floor "))


@pytest.mark.parametrize("form", FORMS)
def test_a_row_that_is_struck_out_no_more_is_found(bench: HandMade, form: str) -> None:
    page = render(bench.named("I"), form)
    whole = page.replace("~~", "").replace("✗ ", "").replace(r"\sout", "").replace(r"$\times$ ", "")
    assert {(found.row, found.column) for found in differences(bench, whole)} == {("privorl-n at ε = 10", "synthesizer")}


@pytest.mark.parametrize("form", FORMS)
def test_another_guarantee_is_found(bench: HandMade, form: str) -> None:
    page = render(bench.named("I"), form)
    assert "data-free" in page
    (found,) = differences(bench, page.replace("data-free", "DP", 1))
    assert (found.row, found.column) == ("uniform at ε = 0", "guarantee")


@pytest.mark.parametrize("form", FORMS)
def test_more_than_a_number_is_not_the_number(form: str, tmp_path: Path) -> None:
    made = HandMade(Store(tmp_path), public={"max_trajectory_length": 1000})
    made.row("pgm", 10.0, [Charge("counts", "gaussian", 1.0, 1, noise_multiplier=4.0)], iql=[70.0])
    page = render(made.named("leaderboard"), form)
    cell = ("> 50 |", "50 |") if form == "markdown" else ("$>$ 50 &", "50 &")
    assert cell[0] in page
    assert [found.column for found in differences(made, page.replace(*cell))] == ["ε/traj"]


@pytest.mark.parametrize("form", FORMS)
def test_a_row_that_is_struck_out_now_is_compared_with_itself(form: str, tmp_path: Path) -> None:
    made = filled(tmp_path)
    page = render(made.named("leaderboard"), form)
    made.audits.clear()
    for env in ("maze2d-medium", "maze2d-large"):
        made.heading["env"] = env
        made.audit("pgm", 10.0, "one-run", {"epsilon": 12.5, "ceiling": 15.0, "p_value": 1e-9})
        made.audit("privorl-n", 10.0, "one-run", {"epsilon": 12.5, "ceiling": 15.0, "p_value": 1e-9})
    made.named("leaderboard")
    columns = {(found.row, found.column) for found in differences(made, page)}
    assert ("pgm at ε = 10", "audited ≥") in columns
    assert not {column for row, column in columns if row.startswith(("pgm", "uniform"))} - {"#", "audited ≥", "synthesizer"}


@pytest.mark.parametrize("form", FORMS)
def test_marks_and_an_author_s_own_words_are_no_numbers(bench: HandMade, form: str) -> None:
    """Another machine has other sources, and an editor other tastes."""
    page = render(bench.named("I"), form)
    changed = page.replace("real |", "real † |").replace("real &", r"real $\dagger$ &")
    changed = changed.replace("**", "").replace("<u>", "").replace(r"\textbf", r"\emph")
    assert not differences(bench, changed.replace("### ", "My own 2 words on 7 mazes\n\n### ").replace(r"\centering", "\\centering\nMy own 2 words"))


def test_a_document_may_hold_several(bench: HandMade, pages: list[str]) -> None:
    file = bench.store.root / "page"
    file.write_text("\n\n".join(pages))
    assert verify(file, bench.store) == (len(pages), [])


def test_a_sweep_that_the_store_does_not_have_is_a_difference(pages: list[str], tmp_path: Path) -> None:
    other = HandMade(Store(tmp_path))
    assert [found.column for found in differences(other, pages[0])] == ["sweep"]
