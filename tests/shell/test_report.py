"""`bench report` on a store in which a sweep ran to its end, rows and all."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Finished
from shell_support import COMMAND, bench

OF_ROWS = ("marginals", "pairs", "embedding")
OF_RECORDS = ("utility-epsilon", "learning-curves", "cost")


@pytest.fixture(scope="module")
def report(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page and its pictures as files."""
    folder = tmp_path_factory.mktemp("report")
    result = bench("report", "--results", finished.results, "--out", folder / "report.html", "--figures", folder / "figures")
    assert result.code == 0, result.err
    assert result.out.splitlines()[0].endswith("report.html")
    return folder


def test_every_picture_is_on_the_page_and_in_both_kinds_of_file(report: Path) -> None:
    page = (report / "report.html").read_text(encoding="utf-8")
    files = {path.name for path in (report / "figures").iterdir()}
    for name in (*OF_RECORDS, *OF_ROWS):
        assert f'-{name}"><h3>' in page
        assert {f"{Path(file).suffix}" for file in files if file.rpartition(".")[0].endswith(name)} == {".png", ".pdf", ".txt"}, name
    assert all((report / "figures" / file).stat().st_size > 1000 for file in files if not file.endswith(".txt"))


def test_without_rows_the_report_says_so_and_shows_the_rest(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.results, tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "blobs")
    result = bench("report", "--results", tmp_path / "store", "--out", tmp_path / "report.html")
    assert result.code == 0, result.err
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "the rows themselves are not in store/blobs" in page.replace("<wbr>", "")
    assert "Learning curves" in page
    assert str(tmp_path) not in page


def test_two_reports_of_one_store_are_equal(finished: Finished, report: Path, tmp_path: Path) -> None:
    """The second by a process of its own."""
    arguments = ["report", "--results", str(finished.results), "--out", str(tmp_path / "report.html")]
    subprocess.run([*COMMAND, *arguments], check=True, capture_output=True)
    assert (tmp_path / "report.html").read_bytes() == (report / "report.html").read_bytes()


def test_bad_places_are_told_in_one_sentence(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = bench("report", "--results", finished.results, "--out", tmp_path / "file" / "report.html")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "cannot be written" in result.err
    result = bench("report", "--results", tmp_path / "nothing")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "holds no sweep" in result.err
