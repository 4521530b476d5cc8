"""Wide tables: panels one below the other, each of which can be read, none of which breaks what belongs together."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path

import pytest
from hand_made import HandMade, latex_rows
from hypothesis import given
from hypothesis import strategies as st

from bench.run.store import Store
from bench.tables.catalogue import NAMES
from bench.tables.render import WIDTH, render
from bench.tables.render.panels import PageColumn, Ruler, panels, same

RULER = Ruler(len, 60, gap=2, frame=4, header=9, name=28)
ATTACKS = ("nearest-record", "gen-lra", "dpi", "classifier", "rmia")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    """Five attacks with five scores each, eleven methods at two budgets, and long names."""
    made = HandMade(Store(tmp_path_factory.mktemp("wide")), public={"max_trajectory_length": 600})
    attacks = {name.replace("-", "_"): [[0.512, 0.212, 0.112, 0.012, 0.002]] * 3 for name in ATTACKS}
    variants = [f"privorl-n[curiosity=off,pretraining={i}]" for i in range(5)]
    rows = [(synth, None) for synth in ("real", "public-data", "uniform")]
    rows += [(synth, epsilon) for synth in ("pgm", "privsyn", "privorl-n", *variants) for epsilon in (1.0, 10.0)]
    for place, (synth, epsilon) in enumerate(rows):
        utility = [-10.5 - place, -10.0 - place, -99.0 - place]
        made.row(synth, epsilon, iql=utility, iql_over_goals=utility, one_way=[0.9] * 3, dynamics=[[130.4, 0.2]] * 3, **attacks)
        if epsilon:
            made.audit(synth, epsilon, "one-run", {"epsilon": 2.31, "ceiling": 25.8, "p_value": 1.0})
    return made


# --- packing ----------------------------------------------------------------------------------------------------------


def column(title: str, scorer: str, width: int, place: int | None) -> PageColumn:
    return PageColumn(title, scorer, ["#" if place is None else "score"], [""], False, width, place)


NAMES_OF_ROWS = [column("", "", 8, None), PageColumn("", "", ["spent"], [""], False, 10, None)]
SCORES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(5, 25)), min_size=1, max_size=12)


@given(SCORES)
def test_every_score_stands_in_one_panel_that_fits(drawn: list[tuple[str, str, int]]) -> None:
    scores = [column(title, scorer, width, place) for place, (title, scorer, width) in enumerate(drawn)]
    made = panels([*NAMES_OF_ROWS, *scores], RULER)
    assert [each.place for panel in made for each in panel if each.place is not None] == list(range(len(scores)))
    assert [[each.header[0] for each in panel if each.place is None] for panel in made] == [["#", "spent"], *[["#"]] * (len(made) - 1)]
    assert all(RULER.columns(panel) <= RULER.room for panel in made)


@given(SCORES)
def test_what_belongs_together_and_fits_a_panel_is_not_broken(drawn: list[tuple[str, str, int]]) -> None:
    """But for the first panel, which has less room and must hold something."""
    scores = [column(title, scorer, width, place) for place, (title, scorer, width) in enumerate(drawn)]
    made = panels([*NAMES_OF_ROWS, *scores], RULER)
    where = {each.place: number for number, panel in enumerate(made) for each in panel}
    for _, own in chain(same(scores, "title"), same(scores, "scorer")):
        if RULER.columns([NAMES_OF_ROWS[0], *own]) <= RULER.room and where[own[0].place] > 0:
            assert len({where[each.place] for each in own}) == 1


@pytest.mark.parametrize("form", ["text", "latex"])
def test_no_attack_is_broken_between_panels(wide: HandMade, form: str) -> None:
    """Its name stands above its columns once."""
    above = {"text": "─ {} ─", "latex": "{{{}}} "}[form]
    assert [render(wide.table(), form).count(above.format(attack)) for attack in ATTACKS] == [1] * len(ATTACKS)


# --- pages ------------------------------------------------------------------------------------------------------------


def test_each_panel_tells_which_row_it_is(wide: HandMade) -> None:
    headers = [row for row in latex_rows(render(wide.named("XII"), "latex")) if row.startswith("synthesizer")]
    assert len(headers) > 2
    assert r"guarantee & $\varepsilon$ & $\varepsilon$/traj & spent & @20\%" in headers[0]
    assert all(header.startswith((r"synthesizer & $\varepsilon$ & @20\%", r"synthesizer & $\varepsilon$ & TPR@20\%")) for header in headers[1:])


def test_a_float_has_no_more_rows_than_a_page_and_later_ones_continue_the_first(wide: HandMade) -> None:
    floats = re.findall(r"\\begin{table\*}(.*?)\\end{table\*}", render(wide.named("XII"), "latex"), re.DOTALL)
    assert len(floats) > 1
    assert all(len(latex_rows(each)) < 65 for each in floats)
    for sign in ("(continued)", r"\addtocounter{table}{-1}"):
        assert [sign in each for each in floats] == [False, *[True] * (len(floats) - 1)]


def test_text_keeps_within_its_width(wide: HandMade) -> None:
    assert all(max(map(len, render(wide.named(name), "text").splitlines())) <= WIDTH for name in NAMES)


PAGE = r"""\documentclass{article}\usepackage{booktabs,graphicx}\usepackage[normalem]{ulem}
\setlength{\textwidth}{6.5in}\setlength{\textheight}{9in}
\renewcommand{\resizebox}[3]{\sbox0{#3}\ifdim\wd0>\textwidth\errmessage{a panel of \the\wd0}\fi\usebox0}
\begin{document}
%s
\end{document}
"""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_latex_fits_a_page_without_being_shrunk(wide: HandMade, name: str, tmp_path: Path) -> None:
    (tmp_path / "page.tex").write_text(PAGE % render(wide.named(name), "latex"))
    made = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout[-2000:]
    assert (tmp_path / "page.pdf").exists()
    assert "Overfull" not in made.stdout
    assert "Float too large" not in made.stdout
