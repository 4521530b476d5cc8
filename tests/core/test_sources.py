"""What a plugin's digest stands on: the statements of its file and of what it imports of its own package, and nothing that merely lies beside."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from bench.core import sources
from bench.core.registry import resolve
from bench.core.sources import source_digest

Digest = Callable[[str], str]
"""Digest, read anew, of the class `Method` in a file of the folder of the test."""


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Digest]:
    """A package `ours` with methods, bricks and a subpackage, and a file outside it with a brick beside it."""
    for path, source in {
        "ours/__init__.py": "",
        "ours/method.py": "from ours._parts.used import f\nclass Method: pass",
        "ours/relative.py": "from . import _brick\nfrom ._parts import used as also_used\nclass Method: pass",
        "ours/lazy.py": "class Method:\n    def fit(self):\n        import ours._parts.used",
        "ours/sibling.py": "from ours.method import Method as Base\nclass Method: pass",
        "ours/of_the_package.py": "from ours import NAME\nclass Method: pass",
        "ours/stranger.py": "import numpy\nfrom oursque import x\nfrom elsewhere._brick import y\nclass Method: pass",
        "ours/deep/__init__.py": "",
        "ours/deep/method.py": "from .._parts import used\nfrom ...ours import _brick\nclass Method: pass",
        "ours/_brick.py": "",
        "ours/_parts/__init__.py": "",
        "ours/_parts/used.py": "from ours._parts.below import g",
        "ours/_parts/below.py": "from ours._parts import used",
        "ours/_parts/unused.py": "",
        "elsewhere/_brick.py": "",
        "outside.py": "import _brick, sys\nfrom _parts.used import f\nfrom ours import method\nclass Method: pass",
        "_brick.py": "",
        "_parts/used.py": "",
        "_parts/unused.py": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)

    def read(file: str) -> str:
        forget()
        return source_digest(class_in(tmp_path / file, monkeypatch))

    yield read
    forget()


def forget() -> None:
    """Files are read once in the life of a process."""
    for remembered in (sources._digest, sources._imports, sources._statements):
        remembered.cache_clear()


def class_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> type:
    """A class that says that it comes from this file, which nobody runs."""
    module = ModuleType("read_only")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "read_only", module)
    return type("Method", (), {"__module__": "read_only"})


@pytest.mark.parametrize(
    ("method", "bricks"),
    [
        ("ours/method.py", {"_parts/used.py", "_parts/below.py"}),
        ("ours/relative.py", {"_brick.py", "_parts/used.py", "_parts/below.py"}),
        ("ours/lazy.py", {"_parts/used.py", "_parts/below.py"}),
        ("ours/sibling.py", {"method.py", "_parts/used.py", "_parts/below.py"}),
        ("ours/of_the_package.py", {"__init__.py"}),
        ("ours/stranger.py", set()),
        ("ours/deep/method.py", {"_brick.py", "_parts/used.py", "_parts/below.py"}),
    ],
)
def test_a_digest_changes_with_what_is_imported_and_with_nothing_else(method: str, bricks: set[str], digest: Digest, tmp_path: Path) -> None:
    changed = set()
    for path in [*(tmp_path / "ours").rglob("*.py"), *(tmp_path / "elsewhere").rglob("*.py")]:
        before, source = digest(method), path.read_text()
        path.write_text(source + "\nchanged = 1")
        if digest(method) != before:
            changed.add(path)
        path.write_text(source)
    assert changed == {tmp_path / method, *(tmp_path / "ours" / brick for brick in bricks)}


BARE = """
import a
class Method:
    noise: float = 1.0
    def fit(self):
        return 2 * self.noise, 'a # b'
"""
EXPLAINED = """
'''Method, which reads like its paper: \N{GREEK SMALL LETTER SIGMA}.

    import b
'''
import a  # not b

class Method:
    noise: float = 1.0  # \N{GREEK SMALL LETTER SIGMA}
    "Of an attribute."
    # A line of its own

    def fit(self):
        "\N{GREEK SMALL LETTER SIGMA}"  # one line
        return 2 * self.noise, 'a # b'  # twice
"""


@pytest.mark.parametrize(
    ("source", "equal"),
    [
        (BARE, True),
        (EXPLAINED, True),
        (BARE.replace("# b", "# c"), False),
        (EXPLAINED.replace("return 2", "return 3"), False),
        (EXPLAINED.replace("float = 1.0", "float = 2.0"), False),
        (BARE.replace("        return", "        'beside'; return"), False),
    ],
)
def test_what_explains_a_statement_is_no_part_of_the_digest(source: str, equal: bool, digest: Digest, tmp_path: Path) -> None:
    """A statement that a comment or a text stands beside counts, and so does a text that is a value."""
    (tmp_path / "ours/method.py").write_text(BARE, encoding="utf-8")
    before = digest("ours/method.py")
    (tmp_path / "ours/method.py").write_text(source, encoding="utf-8")
    assert (digest("ours/method.py") == before) is equal


def test_a_new_brick_is_nobodys_until_it_is_imported(digest: Digest, tmp_path: Path) -> None:
    before = digest("ours/method.py")
    (tmp_path / "ours/_parts/new.py").write_text("")
    assert digest("ours/method.py") == before
    (tmp_path / "ours/_parts/below.py").write_text("from . import new")
    with_new = digest("ours/method.py")
    (tmp_path / "ours/_parts/new.py").write_text("x = 1")
    assert len({before, with_new, digest("ours/method.py")}) == 3


def test_a_file_outside_packages_takes_the_bricks_beside_it_and_no_other_module(digest: Digest, tmp_path: Path) -> None:
    changed = set()
    for path in tmp_path.rglob("*.py"):
        before, source = digest("outside.py"), path.read_text()
        path.write_text(source + "\nchanged = 1")
        if digest("outside.py") != before:
            changed.add(str(path.relative_to(tmp_path)))
        path.write_text(source)
    assert changed == {"outside.py", "_brick.py", "_parts/used.py"}


def test_a_copy_elsewhere_has_the_same_digest(digest: Digest, tmp_path: Path) -> None:
    before = digest("ours/relative.py")
    (tmp_path / "other").mkdir()
    (tmp_path / "ours").rename(tmp_path / "other/ours")
    assert digest("other/ours/relative.py") == before


@pytest.mark.parametrize(
    ("group", "name", "own", "foreign"),
    [
        ("synthesizers", "pgm", "synthesizers/_parts/aim.py", "synthesizers/_parts/teachers.py"),
        ("synthesizers", "uniform", "synthesizers/uniform.py", "synthesizers/_parts/checks.py"),
        ("environments", "maze2d-medium", "bench/envs/_maze_physics.py", "bench/core/data.py"),
        ("agents", "iql", "agents/_parts.py", "agents/bc.py"),
    ],
)
def test_built_ins_stand_on_their_own_family_and_not_on_the_framework(group: str, name: str, own: str, foreign: str) -> None:
    root = Path(sources.__file__).parents[2]
    files = sources._closure(sources._file_of(type(resolve(group, name).instance)))
    assert root / own in files
    assert root / foreign not in files
