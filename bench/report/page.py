"""The page: one HTML file that holds everything and asks the network for nothing.

    Evidence -> header, one article for each section (advice, leaderboard, pictures with their tables), legend -> template

Numbers are those of `bench table`, printed by the same functions. Every number is a button; what stands behind it is embedded as JSON (`Claims`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template

from bench.report.advice import advice
from bench.report.audited import Audited
from bench.report.boards import Board
from bench.report.costs import Costs
from bench.report.drawing import Picture, to_svgs
from bench.report.evidence import Evidence, Section
from bench.report.markup import breakable, cell, number, prose, row_name, table
from bench.report.provenance import Claims
from bench.run.spec import REFERENCES
from bench.tables.leaderboard import Cell, Group, Notes
from bench.tables.render.words import heading


def build_page(evidence: Evidence, audited: Mapping[str, Sequence[Audited]], pictures: Mapping[str, Sequence[Picture]]) -> str:
    """The whole file; `audited` and `pictures` are those of each section, by its slug."""
    claims = Claims(evidence)
    articles = [_article(section, audited[section.slug], pictures[section.slug], claims) for section in evidence.sections]
    parts = resources.files("bench.report")
    names = ", ".join(dict.fromkeys(section.group.env for section in evidence.sections))
    return Template(parts.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{names or 'nothing yet'} · orl-bench"),
        style=parts.joinpath("page.css").read_text(encoding="utf-8"),
        script=parts.joinpath("page.js").read_text(encoding="utf-8"),
        contents=_contents(evidence.sections),
        state=escape(" · ".join(_state(evidence))),
        articles="\n".join(articles),
        legend=_notes(evidence.table.legend),
        data=json.dumps(claims.data(), ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    )


def _contents(sections: Sequence[Section]) -> str:
    lines = (f'<li><a href="#{section.slug}">{breakable(_name(section.group))}</a></li>' for section in sections)
    return f"<nav><ol>{''.join(lines)}</ol></nav>" if len(sections) > 1 else ""


def _name(group: Group) -> str:
    rows = f"{group.rows:,}" if group.rows else "nominal"
    return f"{group.env}, {group.unit}-level privacy, {rows} rows"


def _state(evidence: Evidence) -> Iterator[str]:
    """When the sweep was started, and how much of it is there."""
    keys = {leaf["key"] for leaf in evidence.manifest["leaves"]}
    there = [record for key in keys if (record := evidence.store.get(key))]
    failed, stale = sum(not record.ok for record in there), sum(each.stale for each in _cells(evidence))
    yield f"Sweep started {evidence.manifest['started'].replace('T', ' ').replace('+00:00', ' UTC')}"
    yield f"{len(there) - failed:,} of {len(keys):,} scores" + (", complete" if len(there) == len(keys) and not failed else "")
    if failed:
        yield f"{failed:,} failed"
    if len(there) < len(keys):
        yield f"{len(keys) - len(there):,} still to come"
    if stale:
        yield f"{stale:,} cells rest on older source (†)"


def _cells(evidence: Evidence) -> Iterator[Cell]:
    return (each for group in evidence.table.groups for row in group.body for each in row.cells if each)


def _notes(notes: Notes, behind: Mapping[str, str] | None = None) -> str:
    """A list of terms; `behind` is what follows the text of some of them."""
    lines = "".join(f"<dt>{escape(term)}</dt><dd>{prose(text)}{(behind or {}).get(term, '')}</dd>" for term, text in notes.items())
    return f"<dl>{lines}</dl>" if lines else ""


def _article(section: Section, audited: Sequence[Audited], pictures: Sequence[Picture], claims: Claims) -> str:
    """One section; what it prints is added to the claims."""
    board, costs = Board(section, claims), Costs(claims)
    name, _, rest = heading(section.group).partition(" · ")
    policies = [key for kind in REFERENCES.values() if (key := section.anchors.get(kind))]
    behind = {"policies": " " + number(_count(policies), claims.add("Policies that need no data", policies))} if policies else {}
    tables = {"cost": lambda: costs.table(section), "audits": lambda: _audits(audited, claims)}
    drawn = [_picture(picture, section.slug, claims, tables[picture.name]() if picture.name in tables else "") for picture in pictures]
    blocks = [advice(section, board, costs), *board.tables(), _notes(section.group.notes, behind), *drawn]
    body = "\n".join(block for block in blocks if block)
    return f'<article id="{section.slug}">\n<h2>{breakable(name)}</h2>\n<p class="sub">{breakable(rest)}</p>\n{body}\n</article>'


def _count(keys: Sequence[str]) -> str:
    return f"{len(keys):,} record{'' if len(keys) == 1 else 's'}"


def _picture(picture: Picture, slug: str, claims: Claims, numbers: str) -> str:
    """A title, what is drawn, the panels, and the table of its numbers if it has one; or what is missing."""
    anchor = f"{slug}-{picture.name}"
    if picture.missing:
        return f'<section id="{anchor}"><h3>{escape(picture.title)}</h3><p class="missing">{prose(picture.missing)}</p></section>'
    caption = f"{picture.caption} The numbers are in the table below." if numbers else picture.caption
    records = number(_count(picture.keys), claims.add(picture.title, picture.keys))
    several = len(picture.panels) > 1
    titles = [f"<figcaption>{breakable(panel.title)}</figcaption>" if several else "" for panel in picture.panels]
    panels = "".join(f"<figure>{title}{svg}</figure>" for title, svg in zip(titles, to_svgs(picture, anchor), strict=True))
    return (
        f'<section id="{anchor}"><h3>{escape(picture.title)}</h3><p class="caption">{prose(caption)} {records}</p>'
        f'<div class="panels" style="--width:{picture.size[0]}">{panels}</div>{numbers}</section>'
    )


def _audits(audited: Sequence[Audited], claims: Claims) -> str:
    names = ("method", "audit", "audited on", "claimed", "recomputed", "audited", "ceiling", "any noise", "p", "verdict")
    head = "".join(f"<th{' class=name' if i < 3 else ''}>{name}</th>" for i, name in enumerate(names))
    return table(f"<tr>{head}</tr>", ["".join(_audit(audit, claims.add(f"{audit.method}: {audit.audit}", [audit.key])) for audit in audited)])


def _audit(audit: Audited, claim: int) -> str:
    words = "".join(cell(breakable(text), kind="name") for text in (audit.audit, audit.where))
    bounds = (f"{bound:.2f}" for bound in (audit.found, audit.ceiling, audit.any_noise))
    values = (f"{audit.claimed:g}", f"{audit.recomputed:.3f}", *bounds, f"{audit.p_value:.2g}", audit.verdict)
    return f"<tr>{row_name(audit.method)}{words}{''.join(cell(number(text, claim)) for text in values)}</tr>"
