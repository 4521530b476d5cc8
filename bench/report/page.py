"""The page: one HTML file that holds everything and asks the network for nothing.

    Evidence -> header, one article for each section (choice, leaderboard, pictures, cost, audits), legend -> template

Numbers are those of `bench table`, printed by the same functions. Every number is a button; what stands behind it is embedded as JSON (`Claims`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from importlib import resources
from itertools import groupby
from string import Template
from typing import Any

from bench.leaderboard import Cell, Column, Group, Notes, Row
from bench.render import LEFT, _alone, _identity, _label, _printed, _printed_columns, _titles, heading
from bench.report.audited import Audited
from bench.report.choice import Candidate, Choice, choices, soundness
from bench.report.drawing import Picture, to_svg
from bench.report.evidence import PHASES, Evidence, Method, Section
from bench.report.provenance import Claims
from bench.table import REFERENCES

FIGURE_SPACE = "\N{FIGURE SPACE}"
SHORT_IDENTITY = ("#", "synthesizer", "ε")
"""What says which row it is, where guarantee and what was spent stand in another table of the group."""
KINDS = {"goals": "utility", "utility": "utility", "gain": "utility", "fidelity": "fidelity", "attack": "privacy attacks"}
"""The table of a group is cut into one for each of these, as wide as a page."""


def build_page(evidence: Evidence, audited: dict[str, list[Audited]], pictures: dict[str, list[Picture]]) -> str:
    """The whole file; `audited` and `pictures` are those of each section, by its slug."""
    claims = Claims(evidence)
    articles = [_Article(section, audited[section.slug], pictures[section.slug], claims).html() for section in evidence.sections]
    parts = resources.files("bench.report")
    names = " · ".join(dict.fromkeys(section.group.env for section in evidence.sections))
    return Template(parts.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{names or 'nothing yet'} — orl-bench"),
        style=parts.joinpath("page.css").read_text(encoding="utf-8"),
        script=parts.joinpath("page.js").read_text(encoding="utf-8"),
        contents=_contents(evidence.sections),
        state=_state(evidence),
        articles="\n".join(articles),
        legend=_notes(evidence.table.legend),
        data=json.dumps(claims.data(), ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    )


def _contents(sections: Sequence[Section]) -> str:
    lines = (f'<li><a href="#{section.slug}">{escape(_name(section.group))}</a></li>' for section in sections)
    return f"<ol>{''.join(lines)}</ol>" if len(sections) > 1 else ""


def _name(group: Group) -> str:
    rows = f"{group.rows:,}" if group.rows else "nominal"
    return f"{group.env}, {group.unit}-level privacy, {rows} rows"


def _state(evidence: Evidence) -> str:
    """When the sweep was started, and how much of it is there."""
    keys = {leaf["key"] for leaf in evidence.manifest["leaves"]}
    there = [record for key in keys if (record := evidence.store.get(key))]
    failed, stale = sum(not record.ok for record in there), sum(cell.stale for cell in _cells(evidence))
    facts = [
        f"Sweep started {evidence.manifest['started'].replace('T', ' ').replace('+00:00', ' UTC')}",
        f"{len(there) - failed:,} of {len(keys):,} scores" + (", complete" if len(there) == len(keys) and not failed else ""),
        *([f"{failed:,} failed"] if failed else []),
        *([f"{len(keys) - len(there):,} still to come"] if len(there) < len(keys) else []),
        *([f"{stale:,} cells † rest on older source"] if stale else []),
    ]
    return escape(" · ".join(facts))


def _cells(evidence: Evidence) -> Iterator[Cell]:
    return (cell for group in evidence.table.groups for row in group.body for cell in row.cells if cell)


def _notes(notes: Notes, behind: Mapping[str, str] | None = None) -> str:
    """A list of terms; `behind` is what follows the text of some of them."""
    lines = "".join(f"<dt>{escape(term)}</dt><dd>{_prose(text)}{(behind or {}).get(term, '')}</dd>" for term, text in notes.items())
    return f"<dl>{lines}</dl>" if lines else ""


class _Article:
    """One section of the page; what it prints is added to the claims."""

    def __init__(self, section: Section, audited: Sequence[Audited], pictures: Sequence[Picture], claims: Claims) -> None:
        self.section, self.group, self.audited, self.pictures, self.claims = section, section.group, audited, pictures, claims
        self._costs_of: dict[str, int] = {}

    def html(self) -> str:
        own, _, rest = heading(self.group).partition(" · ")
        blocks = [self._choices(), *self._boards(), self._notes(), *map(self._picture, self.pictures)]
        body = "\n".join(block for block in blocks if block)
        return f'<article id="{self.section.slug}">\n<h2>{escape(own)}</h2>\n<p class="sub">{escape(rest)}</p>\n{body}\n</article>'

    def _number(self, html: str, claim: int) -> str:
        return f"<button data-claim={claim}>{html}</button>"

    def _notes(self) -> str:
        """Those of the group; behind the policies stand records of their own."""
        keys = [key for name in REFERENCES.values() if (key := self.section.anchors.get(name))]
        claim = self._number(f"{len(keys)} records", self.claims.add("Policies that need no data", keys)) if keys else ""
        return _notes(self.group.notes, {"policies": f" {claim}"})

    # --- which one to use ---

    def _choices(self) -> str:
        made = [self._choice(choice) for choice in choices(self.section)]
        if not made:
            return ""
        return f'<section class="choice"><h3>Which one to use</h3>{"".join(made)}<p>{_prose(soundness(self.section))}</p></section>'

    def _choice(self, choice: Choice) -> str:
        first, headline = choice.candidates[0], self.section.headline
        assert headline is not None
        others = len(choice.candidates) - 1
        sure = (
            "and the runs tell it from every other row."
            if not others
            else f"but the runs cannot tell it from {others} {'other' if others == 1 else 'others'}, listed below it: fidelity and cost may decide."
        )
        text = (
            f"At ε = {choice.epsilon:g}, <strong>{escape(first.method.row.synth)}</strong> has the best mean of {_breakable(headline.scorer)}, {sure}"
        )
        surely = f" Surely worse: {escape(', '.join(choice.worse))}." if choice.worse else ""
        unknown = f" Without all runs: {escape(', '.join(choice.unknown))}." if choice.unknown else ""
        return f"<p>{text}{surely}{unknown}</p>{self._candidates(choice.candidates, headline)}"

    def _candidates(self, candidates: Sequence[Candidate], headline: Column) -> str:
        """The headline score, how far the first is ahead, each metric's first score, and the cost."""
        rows = [self.group.body.index(candidate.method.row) for candidate in candidates]
        scorers = {column.scorer: place for place, column in reversed(list(enumerate(self.group.columns))) if column.kind == "fidelity"}
        fidelity = sorted(scorers.values())
        names = [_label(headline, True), "behind the first", *(_label(self.group.columns[place], True) for place in fidelity)]
        head = "".join(f"<th>{_breakable(name)}</th>" for name in [*names, "fit and sample", "memory at most"])
        columns = [self._scores(rows, self.group.columns.index(headline)), self._behind(candidates, headline)]
        columns += [self._scores(rows, place) for place in fidelity]
        columns.append([self._duration(candidate.method, candidate.method.cost.release) for candidate in candidates])
        columns.append([self._memory(candidate.method) for candidate in candidates])
        lines = zip(candidates, zip(*columns, strict=True), strict=True)
        body = "".join(f"<tr>{_row_name(candidate.method.row.synth)}{''.join(cells)}</tr>" for candidate, cells in lines)
        return f'<div class="scroll"><table><thead><tr><th class=name>synthesizer</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'

    def _behind(self, candidates: Sequence[Candidate], headline: Column) -> list[str]:
        cells = [candidate.behind and Cell(candidate.behind, candidate.score.n, candidate.score.planned) for candidate in candidates]
        texts, made = _aligned([_printed(cell, headline) for cell in cells]), []
        for candidate, cell, text in zip(candidates, cells, texts, strict=True):
            title = f"{candidate.method.title}: how far the first is ahead, over common seeds"
            keys = (*candidates[0].score.keys, *candidate.score.keys)
            made.append(f"<td>{self._number(text, self.claims.add_cell(title, replace(cell, keys=keys), headline))}</td>" if cell else "<td></td>")
        return made

    # --- the leaderboard ---

    def _boards(self) -> Iterator[str]:
        names = [KINDS.get(column.kind, column.kind) for column in self.group.columns]
        for name in dict.fromkeys(names):
            yield self._board(name, [place for place, own in enumerate(names) if own == name])

    def _board(self, name: str, places: Sequence[int]) -> str:
        """One kind of score: identity to the left, a body for each of references, ranked rows and the rest."""
        shown = [i for i, row in enumerate(self.group.body) if any(row.cells[place] for place in places)]
        identity = {header: [cells[i] for i in shown] for header, cells in self._identity().items() if name == "utility" or header in SHORT_IDENTITY}
        lines = list(zip(shown, zip(*identity.values(), *(self._scores(shown, place) for place in places), strict=True), strict=True))
        sections = groupby(lines, key=lambda line: (self.group.body[line[0]].private, self.group.body[line[0]].ranks is None))
        bodies = "".join(f"<tbody>{''.join(f'<tr data-row={i}>{chr(10).join(cells)}</tr>' for i, cells in own)}</tbody>" for _, own in sections)
        head = self._head(name, list(identity), places)
        return f'<div class="scroll"><table class="board"><caption>{escape(name)}</caption>{head}{bodies}</table></div>'

    def _head(self, board: str, identity: Sequence[str], places: Sequence[int]) -> str:
        """Two lines: scorers above their scores, and the headers that sort."""
        alone, titles = _alone(self.group), _titles(self.group)
        above = {}
        for place in places:
            column = self.group.columns[place]
            above[place] = titles[place] if alone[place] or column.kind == "gain" else column.scorer
        spans = ((name if name != board else "", len(list(same))) for name, same in groupby(above.values()))
        over = "".join(
            f"<td colspan={size}></td>" if not name else f"<th colspan={size} class=span><span>{_breakable(name)}</span></th>" for name, size in spans
        )
        first = f"<tr><td colspan={len(identity)}></td>{over}</tr>" if set(above.values()) != {board} else ""
        own = (
            f"<th class={'name' if name in LEFT else 'id'} data-better={'text' if name in LEFT else 'lower'}>{_sorter(name)}</th>"
            for name in identity
        )
        scores = (f"<th data-better={self.group.columns[i].better}>{_sorter(_label(self.group.columns[i], alone[i]))}</th>" for i in places)
        return f"<thead>{first}<tr>{''.join(own)}{''.join(scores)}</tr></thead>"

    def _identity(self) -> dict[str, list[str]]:
        """Cells of what a row is: rank, name, guarantee, epsilons."""
        made = {}
        for header, texts in _identity(self.group).items():
            cells = [self._identity_cell(header, row, text) for row, text in zip(self.group.body, texts, strict=True)]
            made[header] = cells
        return made

    def _identity_cell(self, header: str, row: Row, text: str) -> str:
        if header == "synthesizer":
            return _row_name(text)
        if header in LEFT:
            return f"<td class=name>{escape(text)}</td>"
        rank = row.ranks and row.ranks[0] + row.ranks[1] / 1e3
        value = {"#": rank, "ε": row.epsilon, "ε/traj": row.epsilon_trajectory, "spent": row.epsilon_spent}[header]
        method = next((method for method in self.section.methods if method.row is row), None)
        if header not in ("ε", "#") and method and text:
            fits = dict.fromkeys(leaf["fit"] for leaf in method.leaves)
            text = self._number(escape(text), self.claims.add(f"{method.title}: privacy spent", fits, spent=row.epsilon_spent, delta=row.delta))
        else:
            text = escape(text)
        return f"<td class=id{_data_value(value)}>{text}</td>"

    def _scores(self, rows: Sequence[int], place: int) -> list[str]:
        """Cells of one score, points below points."""
        printed, column = _printed_columns(self.group)[place], self.group.columns[place]
        texts = _aligned([printed[i] for i in rows])
        return [self._score(self.group.body[i], place, column, text, str(printed[i])) for i, text in zip(rows, texts, strict=True)]

    def _score(self, row: Row, place: int, column: Column, html: str, text: str) -> str:
        cell = row.cells[place]
        if cell is None:
            return "<td></td>"
        title = f"{row.synth} at ε = {row.epsilon:g}, {column.scorer}: {column.score.replace('_', ' ')}".replace("inf", "∞")
        claim = self.claims.add_cell(title, cell, column, text=text, spent=row.epsilon_spent, delta=row.delta, stale=cell.stale)
        return f"<td{_data_value(cell.summary and cell.summary.mean)}>{self._number(html, claim)}</td>"

    # --- pictures and the tables that belong to them ---

    def _picture(self, picture: Picture) -> str:
        anchor = f"{self.section.slug}-{picture.name}"
        if picture.missing:
            return f'<section id="{anchor}"><h3>{escape(picture.title)}</h3><p class="missing">{_prose(picture.missing)}</p></section>'
        drawn = "".join(self._panel(picture, i, f"{anchor}-{i}") for i in range(len(picture.panels)))
        claim = self.claims.add(picture.title, picture.keys)
        table = {"cost": self._costs, "audits": self._audits}.get(picture.name, str)()
        records = self._number(f"{len(picture.keys):,} records", claim)
        return (
            f'<section id="{anchor}"><h3>{escape(picture.title)}</h3><p class="caption">{_prose(picture.caption)} {records}</p>'
            f'<div class="panels" style="--width:{picture.size[0]}">{drawn}</div>{table}</section>'
        )

    def _panel(self, picture: Picture, i: int, salt: str) -> str:
        panel = picture.panels[i]
        title = f"<figcaption>{escape(panel.title)}</figcaption>" if len(picture.panels) > 1 else ""
        return f"<figure>{title}{to_svg(panel, picture.size, salt)}</figure>"

    def _costs(self) -> str:
        used = [phase for phase in PHASES if any(method.cost.seconds[phase] for method in self.section.methods)]
        head = "".join(f"<th data-better=lower>{_sorter(name)}</th>" for name in [*used, "memory at most"])
        lines = "".join(self._cost(method, used) for method in self.section.methods if method.cost.keys)
        names = f"<thead><tr><th class=name data-better=text>{_sorter('method')}</th>{head}</tr></thead>"
        return f'<div class="scroll"><table class="board">{names}<tbody>{lines}</tbody></table></div>'

    def _cost(self, method: Method, phases: Iterable[str]) -> str:
        cells = "".join(self._duration(method, method.cost.seconds[phase]) for phase in phases)
        return f"<tr>{_row_name(method.title)}{cells}{self._memory(method)}</tr>"

    def _duration(self, method: Method, seconds: float) -> str:
        text = "0" if not seconds else f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
        return f"<td{_data_value(seconds)}>{self._number(text, self._cost_claim(method))}</td>"

    def _memory(self, method: Method) -> str:
        memory = method.cost.memory
        if memory is None:
            return "<td></td>"
        return f"<td{_data_value(memory)}>{self._number(f'{memory / 2**30:.1f} GiB', self._cost_claim(method))}</td>"

    def _cost_claim(self, method: Method) -> int:
        """One for all numbers of a row."""
        if method.title not in self._costs_of:
            self._costs_of[method.title] = self.claims.add(f"{method.title}: cost", method.cost.keys)
        return self._costs_of[method.title]

    def _audits(self) -> str:
        names = ("method", "audit", "audited on", "claimed", "recomputed", "audited", "ceiling", "p", "verdict")
        head = "".join(f"<th{' class=name' if i < 3 else ''}>{escape(name)}</th>" for i, name in enumerate(names))
        lines = "".join(self._audit(audit) for audit in self.audited)
        return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'

    def _audit(self, audit: Audited) -> str:
        claim = self.claims.add(f"{audit.method}: audit {audit.audit}", [audit.key])
        words = "".join(f"<td class=name>{escape(text)}</td>" for text in (audit.audit, audit.where))
        values = (
            f"{audit.claimed:g}",
            f"{audit.recomputed:.3f}",
            f"{audit.found:.2f}",
            f"{audit.ceiling:.2f}",
            f"{audit.p_value:.2g}",
            audit.verdict,
        )
        numbers = "".join(f"<td>{self._number(escape(text), claim)}</td>" for text in values)
        return f"<tr>{_row_name(audit.method)}{words}{numbers}</tr>"


def _sorter(text: str) -> str:
    return f"<button class=sort>{_breakable(text)}</button>"


def _row_name(text: str) -> str:
    return f"<th scope=row class=name>{_breakable(text)}</th>"


def _breakable(text: str) -> str:
    """Escaped, with places where a long variant's name may go on in the next line."""
    arrows = re.sub(" ([↑↓])", "\N{NO-BREAK SPACE}\\1", escape(text))
    return re.sub(r"([\[,/])", r"\1<wbr>", arrows)


def _prose(text: str) -> str:
    """Escaped; what stands between backticks is code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", _breakable(text))


def _data_value(number: float | None) -> str:
    """What a cell is sorted by, if it has a number; a browser reads Infinity."""
    if number is None:
        return ""
    return f' data-value="{number:.6g}"' if math.isfinite(number) else ' data-value="Infinity"'


def _aligned(cells: Sequence[Any]) -> list[str]:
    """Printed cells of a column: values end at one place with points below points, and what follows them begins there."""
    decimals = [len(cell.value.partition(".")[2]) for cell in cells]
    width = max((len(cell.rest.strip()) for cell in cells), default=0)
    values = [cell.value + FIGURE_SPACE * (max(decimals) - own if own else 0) for cell, own in zip(cells, decimals, strict=True)]
    rests = [f' <i style="--wide:{width}ch">{escape(cell.rest.strip())}</i>' if width else "" for cell in cells]
    return [f"{escape(value)}{rest}" if value else "" for value, rest in zip(values, rests, strict=True)]
