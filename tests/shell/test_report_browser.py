"""The report as a reader meets it: in headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import PROGRAM, Page, chromium
from conftest import Finished
from shell_support import bench

pytestmark = [pytest.mark.browser, pytest.mark.skipif(PROGRAM is None, reason="no chromium, chromium-browser or google-chrome on PATH")]
WIDTHS = (400, 1400)


@pytest.fixture(scope="module")
def report(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("browser") / "report.html"
    assert bench("report", "--results", finished.results, "--out", out).code == 0
    return out


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def column(page: Page, board: int, header: str) -> list[list[str]]:
    """What the bodies of a table hold under a header, top to bottom, as they are sorted by."""
    script = """(board, header) => {
        const table = document.querySelectorAll('.board')[board];
        const place = [...table.tHead.rows].at(-1).cells;
        const i = [...place].findIndex(cell => cell.textContent.startsWith(header));
        return [...table.tBodies].map(body => [...body.rows].map(row => row.cells[i].dataset.value ?? row.cells[i].textContent));
    }"""
    found: list[list[str]] = page.run(f"({script})({board}, {header!r})")
    return found


def click(page: Page, header: str, board: int = 0) -> None:
    page.run(f"[...document.querySelectorAll('.board')[{board}].querySelectorAll('.sort')].find(b => b.textContent.startsWith({header!r})).click()")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_renders_without_a_complaint_and_nothing_sticks_out(page: Page, report: Path, width: int, dark: bool) -> None:
    page.open(report, width, dark)
    assert page.complaints == []
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("document.querySelectorAll('figure svg').length") >= 6
    assert page.run("[...document.querySelectorAll('figure svg')].every(svg => svg.getBoundingClientRect().height > 40)")


@pytest.mark.parametrize("width", WIDTHS)
def test_text_is_large_enough_to_read(page: Page, report: Path, width: int) -> None:
    page.open(report, width)
    sizes = """[...document.querySelectorAll('svg text')].map(text => {
        const svg = text.ownerSVGElement;
        return parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    })"""
    assert page.run(f"Math.min(...{sizes})") >= 8
    assert page.run("Math.min(...[...document.querySelectorAll('p, td, th, dd')].map(each => parseFloat(getComputedStyle(each).fontSize)))") >= 11


def test_a_click_on_a_header_sorts_numbers_as_numbers_inside_their_bodies(page: Page, report: Path) -> None:
    page.open(report, 1400)
    before = column(page, 0, "bc")
    click(page, "bc")
    best_first = column(page, 0, "bc")
    assert [sorted(body, key=float, reverse=True) for body in before] == best_first
    click(page, "bc")
    assert [body[::-1] for body in best_first] == column(page, 0, "bc")
    assert page.run("document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == "ascending"


def test_all_tables_of_a_section_follow(page: Page, report: Path) -> None:
    page.open(report, 1400)
    click(page, "synthesizer")
    click(page, "synthesizer")
    names = [[name for name in body if name != "real vs real"] for body in column(page, 0, "synthesizer")]
    assert names == [sorted(body, reverse=True) for body in names]
    assert [[name for name in body if name != "real vs real"] for body in column(page, 1, "synthesizer")] == names


def test_a_click_on_a_number_shows_its_records(page: Page, report: Path) -> None:
    page.open(report, 1400)
    claims = page.run("data.claims.length")
    for i in range(claims):
        page.run(f"show(data.claims[{i}])")
        told = page.run("document.querySelector('#provenance').textContent")
        keys = page.run(f"data.claims[{i}].keys")
        assert keys
        assert [key for key in keys if key not in told] == []
        assert "undefined" not in told
        assert "NaN" not in told
        page.run("document.querySelector('#provenance').close()")
    page.run("document.querySelector('.board td [data-claim]').click()")
    assert page.run("document.querySelector('#provenance').open")
    assert page.complaints == []


@pytest.mark.parametrize(("header", "told"), [("#", "not told apart"), ("ε", "ε claimed"), ("spent", "charges")])
def test_ranks_and_epsilons_tell_where_they_come_from(page: Page, report: Path, header: str, told: str) -> None:
    page.open(report, 1400)
    page.run(f"""(() => {{
        const table = document.querySelector('.board');
        const place = [...[...table.tHead.rows].at(-1).cells].findIndex(cell => cell.textContent === {header!r});
        [...table.querySelectorAll('tbody tr')].find(row => row.textContent.includes('DP')).cells[place].querySelector('button').click();
    }})()""")
    assert told in page.run("[...document.querySelectorAll('#provenance > div > dl dt')].map(term => term.textContent)")
    assert page.complaints == []


def test_it_prints(page: Page, report: Path, tmp_path: Path) -> None:
    page.open(report, 1400, dark=True)
    page.print(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.ask("Emulation.setEmulatedMedia", media="print")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.run("getComputedStyle(document.querySelector('.hint')).display") == "none"
    page.ask("Emulation.setDeviceMetricsOverride", width=1017, height=700, deviceScaleFactor=1, mobile=False)  # A4 landscape within its margins
    assert page.run("Math.max(...[...document.querySelectorAll('table')].map(table => table.getBoundingClientRect().right))") <= 1017
