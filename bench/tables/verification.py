"""Whether the tables in a LaTeX or Markdown file still say what the records say.

    file -> its tables, each framed by comments that name it and its sweep -> the same tables made again -> every difference

A score is compared with its keys, cell by cell, and with the signs without which a number says something else: "more than", and that its row is
struck out. A row's guarantee is compared as a word; a method or a header may be reworded, but not to another method, column or scorer. Of
all other lines of a table (captions, notes) those count that differ from one made again in numbers, privacy units and environments alone: what an
author has written in between is an author's own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bench.core import registry
from bench.core.data import Unit
from bench.core.errors import InputError
from bench.core.protocols import Guarantee
from bench.run.spec import OVER_GOALS
from bench.run.store import Store
from bench.tables.catalogue import NAMES, make_table
from bench.tables.leaderboard import STRUCK
from bench.tables.render import HEADERS, MINUS, named_rows, render
from bench.tables.render.markup import BEGIN, END

_FRAMES = {"markdown": ("<!-- ", " -->"), "latex": ("% ", "")}
_KEYS = {"markdown": re.compile(r"(?:^| )<!-- (.*) -->$"), "latex": re.compile(r" ?(?<!\\)% (.*)$")}
_SEPARATORS = {"markdown": re.compile(r"(?<!\\)\|"), "latex": re.compile(r"(?<!\\)&")}
_SPAN = re.compile(r"\\multicolumn\{\d+\}\{c\}\{(.*)\}")
"""A header over several columns."""
_SIGNS = {"$-$": "-", MINUS: "-", "$>$": ">", r"$\times$": STRUCK}
"""How pages write what goes with a number."""
_GUARANTEES = {guarantee.value for guarantee in Guarantee}
_SCORER_GROUPS = ("agents", "metrics", "attacks", "audits")
_NUMBER = re.compile(rf"{STRUCK}|(?:> )?-?(?:\d+,)*\d*\.?\d+")


@dataclass(frozen=True)
class Difference:
    """What a file says and the records do not; row and column as the table names them."""

    row: str
    column: str
    printed: str
    recorded: str

    def __str__(self) -> str:
        return f"{self.row}, {self.column}: the file says {self.printed}, the records say {self.recorded}"


@dataclass(frozen=True)
class _Score:
    """A cell of a page and the keys that stand with it."""

    text: str
    keys: str = ""

    @property
    def claim(self) -> tuple[list[str], str, str]:
        """Its numbers, their keys, and the guarantee if it is one."""
        word = _bare(self.text)
        return _numbers(self.text), self.keys, word if word in _GUARANTEES else ""


@dataclass(frozen=True)
class _Page:
    """A table as it stands in a file: rows of cells, headers among them, and the lines around them."""

    name: str
    sweep: str
    form: str
    rows: list[list[_Score]]
    lines: list[str]


def verify(path: Path, store: Store) -> tuple[int, list[Difference]]:
    """How many tables a file holds, and every number in them that is not that of its record.

    Raises:
        InputError: a file that cannot be read, or holds no table of `bench table`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"FILE: cannot read {path} ({getattr(error, 'strerror', None) or error}); give a LaTeX or Markdown file") from error
    pages = list(_pages(text.splitlines()))
    if not pages:
        raise InputError(f"FILE: {path} holds no table that can be verified; write one with `bench table --format latex` or markdown")
    return len(pages), list(chain.from_iterable(_differences(page, store) for page in pages))


def _differences(page: _Page, store: Store) -> Iterator[Difference]:
    manifest = store.sweep(page.sweep)
    if manifest is None or page.name not in NAMES:
        yield Difference(f"table {page.name}", "sweep", page.sweep, f"nothing: {store.root} has no such sweep")
        return
    table = make_table(page.name, manifest, store)
    (made,) = _pages(render(table, page.form).splitlines())
    yield from _differing_cells(page, made, list(named_rows(table, page.form)))
    yield from _differing_lines(page, made)


def _differing_cells(page: _Page, made: _Page, names: Sequence[tuple[str, list[str]]]) -> Iterator[Difference]:
    if (shape := [len(row) for row in page.rows]) != (recorded := [len(row) for row in made.rows]):
        yield Difference(f"table {page.name}", "shape", f"{len(shape)} rows of {shape} cells", f"{len(recorded)} rows of {recorded}")
        return
    for printed, place in zip(page.rows, _places(page, made, names), strict=True):
        row, columns = names[place]
        for column, theirs, ours in zip(columns, printed, made.rows[place], strict=False):
            renamed = _other_header(theirs, ours, made.rows[place]) if row == HEADERS else column == "synthesizer" and _other_method(theirs, ours)
            if renamed or theirs.claim != ours.claim:
                shown = [cell.text if theirs.keys == ours.keys else f"{cell.text} of {cell.keys}" for cell in (theirs, ours)]
                yield Difference(row, column, *shown)


def _other_method(theirs: _Score, ours: _Score) -> bool:
    """A method may be reworded, but not to the name of another."""
    return _names_another(theirs, ours, ("synthesizers",))


def _other_header(theirs: _Score, ours: _Score, headers: list[_Score]) -> bool:
    """A header may be reworded, but to the name of no other column, and of no other scorer."""
    name, *others = (_SPAN.sub(r"\1", cell.text) for cell in (theirs, *headers))
    return theirs.text != ours.text and name != "" and (name in others or _names_another(theirs, ours, _SCORER_GROUPS))


def _names_another(theirs: _Score, ours: _Score, groups: Sequence[str]) -> bool:
    """Whether the one names a plugin of these groups that the other does not."""
    plugins = _any_of(name for group in groups for name in registry.names(group))
    return not set(plugins.findall(theirs.text)) <= set(plugins.findall(ours.text))


def _places(page: _Page, made: _Page, names: Sequence[tuple[str, list[str]]]) -> list[int]:
    """Where the rows of a page stand in the other one: the n-th of a synthesizer and epsilon is the n-th there, whatever stands between them."""
    places: dict[tuple[str, ...], list[int]] = {}
    for place, row in enumerate(made.rows):
        places.setdefault(_identity(row, names[place][1]), []).append(place)
    found = [places.get(_identity(row, names[place][1]), []) for place, row in enumerate(page.rows)]
    return [own.pop(0) if own else place for place, own in enumerate(found)]


def _identity(row: list[_Score], columns: Sequence[str]) -> tuple[str, ...]:
    """Synthesizer and epsilon."""
    return tuple(_bare(row[columns.index(name)].text) for name in ("synthesizer", "ε") if name in columns[: len(row)])


def _bare(cell: str) -> str:
    """Its text without the marks and markup of a row that is struck out, stale or best."""
    return re.sub(r"\\[a-z]+|[^\w\[\]=,.()-]", "", cell)


def _differing_lines(page: _Page, made: _Page) -> Iterator[Difference]:
    """Lines that are alike but for what they claim, the first with the first, the second with the second."""
    recorded: dict[str, list[str]] = {}
    for line in made.lines:
        recorded.setdefault(_skeleton(line), []).append(line)
    before: Counter[str] = Counter()
    for line in page.lines:
        alike = recorded.get(_skeleton(line), [])
        place = before[_skeleton(line)]
        before[_skeleton(line)] += 1
        if place < len(alike) and _claims(line) != _claims(alike[place]):
            yield Difference("a line beside the table", "", line, alike[place])


# --- pages ----------------------------------------------------------------------------------------------------------------------------------------


def _pages(lines: Sequence[str]) -> Iterator[_Page]:
    """Every table between its two comments."""
    for form, (before, behind) in _FRAMES.items():
        begin = re.compile(re.escape(before) + BEGIN.format(r"(\S+)", r"(\S*)") + re.escape(behind))
        starts = [(i, found) for i, line in enumerate(lines) if (found := begin.fullmatch(line.strip()))]
        for start, found in starts:
            stop = next((i for i in range(start, len(lines)) if lines[i].strip() == f"{before}{END}{behind}"), len(lines))
            inside = [line.strip() for line in lines[start + 1 : stop]]
            rows, others = (_markdown_rows if form == "markdown" else _latex_rows)(inside)
            yield _Page(found[1], found[2], form, rows, others)


def _markdown_rows(lines: Sequence[str]) -> tuple[list[list[_Score]], list[str]]:
    """A row is a line; its keys stand in the last cell, those of different scores separated by semicolons."""
    rows = []
    for line in (line for line in lines if line.startswith("|")):
        *cells, last = [cell.strip() for cell in _SEPARATORS["markdown"].split(line.removeprefix("|").removesuffix("|"))]
        found = _KEYS["markdown"].search(last)
        keys = [own.strip() for own in found[1].split(";")] if found else []
        texts = [*cells, last[: found.start()] if found else last]
        rows.append(list(map(_Score, texts, [*[""] * len(texts), *keys][-len(texts) :])))
    return rows, [line for line in lines if not line.startswith("|")]


def _latex_rows(lines: Sequence[str]) -> tuple[list[list[_Score]], list[str]]:
    """A row ends with two backslashes; a line of it that has one score may end with its keys."""
    rows: list[list[_Score]] = []
    others: list[str] = []
    row: list[_Score] = []
    for line in lines:
        found = _KEYS["latex"].search(line)
        content = line[: found.start()] if found else line
        if not content.endswith(("&", r"\\")):
            others.append(line)
            continue
        *cells, last = [cell.strip() for cell in _SEPARATORS["latex"].split(content.removesuffix("&").removesuffix(r"\\"))]
        row += [*map(_Score, cells), _Score(last, found[1] if found else "")]
        if content.endswith(r"\\"):
            rows.append(row)
            row = []
    return rows, others


def _numbers(text: str) -> list[str]:
    """With the signs that go with them."""
    return _NUMBER.findall(_plain(text))


def _claims(line: str) -> list[str]:
    """The numbers of a line, then its units and environments."""
    return _numbers(line) + _claiming_words().findall(line)


def _skeleton(line: str) -> str:
    """What is left without them."""
    return _NUMBER.sub("#", _claiming_words().sub("#", _plain(line)))


def _claiming_words() -> re.Pattern[str]:
    return _any_of([*(unit.value for unit in Unit), *registry.names("environments")])


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Any of these, as a word of its own and not within a longer name; over the goals an agent has another one."""
    names = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    return re.compile(rf"(?<![\w/-])(?:{OVER_GOALS})?(?:{names})(?!\w)")


def _plain(text: str) -> str:
    """With one way to write each sign."""
    for written, sign in _SIGNS.items():
        text = text.replace(written, sign)
    return text
