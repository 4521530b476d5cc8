"""What tests of the page share: a store of hand-made records, its page, and how to read it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from hand_made import HandMade

from bench.report import write_report
from bench.run.store import Store


def two_budgets(folder: Path) -> HandMade:
    """Two budgets, floors and the real data; one run failed, one is yet to come."""
    made = HandMade(Store(folder / "store"))
    made.row("real", iql=[49.0, 50.0, 51.0], one_way=[0.99, 0.99, 0.98], nearest=[0.97, 0.98, 0.97])
    made.row("public-data", iql=[10.0, 11.0, 12.0], one_way=[0.8, 0.8, 0.81], nearest=[0.5, 0.5, 0.51])
    made.row("pgm", 1.0, iql=[60.0, 61.0, 62.0], one_way=[0.93, 0.94, 0.93], nearest=[0.5, None, 0.5])
    made.row("gan", 1.0, iql=[58.0, 63.5, 61.0], one_way=[0.9, ..., 0.9], nearest=[0.5, 0.5, 0.5])
    made.row("independent", 1.0, iql=[-4.0, -5.0, -6.5], one_way=[0.98, 0.98, 0.98], nearest=[0.5, 0.49, 0.51])
    made.row("pgm", 10.0, iql=[70.0, 72.0, 71.0], one_way=[0.95, 0.96, 0.95], nearest=[0.5, 0.5, 0.5])
    return made


def report(made: HandMade, **changes: Any) -> str:
    """The page of a sweep."""
    made.store.put_sweep("sweep", made.manifest() | changes)
    out = made.store.root.parent / "report.html"
    write_report(made.store, out, None)
    return out.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """What a page holds: its tables (rows of cell texts, with the attributes of rows and cells), its tags, and its data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[tuple[dict[str, str | None], list[str]]] = []
        self.data: dict[str, Any] = {}
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append((dict(attrs), []))
        if tag in ("td", "th"):
            self.rows[-1][1].append("")
        self._inside = tag if tag in ("td", "th") or tag == "script" else self._inside
        if tag == "script" and dict(attrs).get("id") == "data":
            self._inside = "data"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "script"):
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in ("td", "th"):
            self.rows[-1][1][-1] += data
        if self._inside == "data":
            self.data = json.loads(data)

    def lines(self, name: str) -> list[list[str]]:
        """The rows of all tables that begin with this name."""
        return [cells for _, cells in self.rows if name in cells[:2]]


def plain(text: str) -> str:
    """Without what aligns numbers."""
    return " ".join(text.replace("\N{FIGURE SPACE}", "").split())
