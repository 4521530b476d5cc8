"""The leaderboard of a section as sortable tables, one for each kind of score: together they would be wider than a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from bench.report.choice import standings
from bench.report.evidence import Section
from bench.report.markup import aligned, breakable, cell, number, row_name, sorter, table
from bench.report.provenance import Claims
from bench.tables.leaderboard import Cell, Column, Row
from bench.tables.render.words import LEFT, TITLES, Printed, alone, identity, label, printed_columns, titles

SHORT = ("#", "synthesizer", "ε")
"""What says which row it is, where guarantee and what was spent stand in another table of the section."""


class Board:
    """Prints one section; every number that it prints is a claim."""

    def __init__(self, section: Section, claims: Claims) -> None:
        self.group, self._claims = section.group, claims
        self._methods = {(method.row.synth, method.row.epsilon): method for method in section.methods}
        self._printed = printed_columns(section.group)
        self._standings = standings(section)

    def tables(self) -> Iterator[str]:
        """One for each kind of score, the first with all that is known of the rows."""
        names = [TITLES[column.kind] for column in self.group.columns]
        known = self._identity()
        for board, name in enumerate(dict.fromkeys(names)):
            places = [place for place, own in enumerate(names) if own == name]
            yield self._table(name, places, {header: cells for header, cells in known.items() if not board or header in SHORT})

    def scores(self, rows: Sequence[int], place: int) -> list[str]:
        """Cells of one score, points below points."""
        texts = aligned([self._printed[place][i] for i in rows])
        return [self._score(self.group.body[i], place, html, str(self._printed[place][i])) for i, html in zip(rows, texts, strict=True)]

    def differences(self, cells: Sequence[Cell | None], column: Column, titles_of: Sequence[str]) -> list[str]:
        """Cells that are in no table, printed as that column is."""
        rows = tuple(replace(self.group.body[0], cells=(each,)) for each in cells)
        printed: list[Printed] = printed_columns(replace(self.group, columns=(column,), body=rows))[0]
        made = zip(titles_of, cells, aligned(printed), strict=True)
        return [cell(number(html, self._claims.add_cell(title, each, column))) if each else cell("") for title, each, html in made]

    def _table(self, name: str, places: Sequence[int], known: dict[str, list[str]]) -> str:
        """A body for each of references, ranked rows and the rest; rows without any such score are left out."""
        body = self.group.body
        shown = [i for i, row in enumerate(body) if any(row.cells[place] for place in places)]
        columns = [*([cells[i] for i in shown] for cells in known.values()), *(self.scores(shown, place) for place in places)]
        lines = zip(shown, zip(*columns, strict=True), strict=True)
        sections = groupby(lines, key=lambda line: (body[line[0]].private, body[line[0]].ranks is None))
        bodies = ("".join(_line(i, body[i], cells) for i, cells in own) for _, own in sections)
        return table(self._head(name, list(known), places), bodies, "board", caption=name)

    def _head(self, board: str, known: Sequence[str], places: Sequence[int]) -> str:
        """Two lines: scorers above their scores, and the headers that sort."""
        only, over_all, columns = alone(self.group), titles(self.group), self.group.columns
        above = [over_all[i] if only[i] or columns[i].kind == "gain" else columns[i].scorer for i in places]
        spans = [(name if name != board else "", len(list(same))) for name, same in groupby(above)]
        over = (f"<th colspan={size} class=span><span>{breakable(name)}</span></th>" if name else f"<td colspan={size}></td>" for name, size in spans)
        first = f"<tr><td colspan={len(known)}></td>{''.join(over)}</tr>" if any(name for name, _ in spans) else ""
        own = (_header(name, "text", "name") if name in LEFT else _header(name, "lower", "id") for name in known)
        scores = (_header(label(columns[i], only[i]), columns[i].better or "higher") for i in places)
        return f"{first}<tr>{''.join(own)}{''.join(scores)}</tr>"

    def _identity(self) -> dict[str, list[str]]:
        """Cells of what a row is, by header: rank, name, guarantee, epsilons."""
        body, texts = self.group.body, identity(self.group)
        ranks = [self._ranked(row) for row in body]
        accounts = [self._accounted(row, text) for row, text in zip(body, texts.get("ε/traj", [""] * len(body)), strict=True)]
        claims = {header: ranks if header == "#" else accounts for header in texts}
        return {header: [self._known(header, *each) for each in zip(body, texts[header], claims[header], strict=True)] for header in texts}

    def _known(self, header: str, row: Row, text: str, claim: int | None) -> str:
        if header == "synthesizer":
            return row_name(text)
        if header in LEFT:
            return cell(breakable(text), kind="name")
        rank = row.ranks and row.ranks[0] + row.ranks[1] / 1e3
        value = {"#": rank, "ε": row.epsilon, "ε/traj": row.epsilon_trajectory, "spent": row.epsilon_spent}[header]
        return cell("" if claim is None or not text else number(breakable(text), claim), value, "id")

    def _ranked(self, row: Row) -> int | None:
        """What a rank is counted from, and the scores that it rests on."""
        place, method = self.group.headline, self._methods.get((row.synth, row.epsilon))
        if place is None or method is None or method.title not in self._standings:
            return None
        own, column, standing = row.cells[place], self.group.columns[place], self._standings[method.title]
        return self._claims.add(
            f"{method.title}: rank",
            own.keys if own else (),
            column.score,
            by=label(column, True),
            better=standing.better,
            alike=standing.alike,
            worse=standing.worse,
        )

    def _accounted(self, row: Row, trajectory: str) -> int:
        """The epsilons of a row with the fits whose charges they follow from; two real samples, which nothing was fitted to, with their records."""
        method = self._methods.get((row.synth, row.epsilon))
        keys = [leaf["fit"] for leaf in method.leaves] if method else [key for each in row.cells if each for key in each.keys]
        return self._claims.add(
            f"{method.title if method else row.synth}: privacy",
            dict.fromkeys(keys),
            claimed=row.epsilon,
            spent=row.epsilon_spent,
            trajectory=trajectory,
            delta=row.delta,
            accountant=row.accountant,
        )

    def _score(self, row: Row, place: int, html: str, text: str) -> str:
        own, column = row.cells[place], self.group.columns[place]
        if own is None:
            return cell("")
        title = f"{row.name}, {column.scorer}: {column.score.replace('_', ' ')}"
        claim = self._claims.add_cell(title, own, column, text=text, spent=row.epsilon_spent, delta=row.delta, stale=own.stale)
        return cell(number(html, claim), own.summary.mean if own.summary else None)


def _header(name: str, better: str, kind: str = "") -> str:
    return f"<th{f' class={kind}' if kind else ''} data-better={better}>{sorter(name)}</th>"


def _line(i: int, row: Row, cells: Sequence[str]) -> str:
    return f"<tr data-row={i}{' class=struck' if row.verdict else ''}>{''.join(cells)}</tr>\n"
