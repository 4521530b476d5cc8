"""Small pieces of the page: escaped text, numbers that can be clicked and sorted by, cells that align."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape

from bench.tables.render.words import Printed

FIGURE_SPACE, NO_BREAK = "\N{FIGURE SPACE}", "\N{NO-BREAK SPACE}"


def breakable(text: str) -> str:
    """Escaped. A long variant's name may go on in the next line; 1,000 rows, an arrow or a dagger, ε = 10 and 95 % stay whole."""
    whole = re.sub(r" (?=[↑↓†])|(?<=ε) (?==)|(?<=ε =) |(?<=\d) (?=%|rows)", NO_BREAK, escape(text))
    return re.sub(r"([\[/]|,(?!\d))", r"\1<wbr>", whole)


def prose(text: str) -> str:
    """Escaped; what stands between backticks is code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", breakable(text))


def number(html: str, claim: int) -> str:
    """A number that shows what stands behind it."""
    return f"<button data-claim={claim}>{html}</button>"


def sorter(text: str) -> str:
    """A header that sorts its table."""
    return f"<button class=sort>{breakable(text)}</button>"


def row_name(text: str) -> str:
    return f"<th scope=row class=name>{breakable(text)}</th>"


def cell(html: str, value: float | None = None, kind: str = "") -> str:
    """A cell of a table with the number that it is sorted by, if any; a browser reads Infinity."""
    sorted_by = "" if value is None else f' data-value="{value:.6g}"' if math.isfinite(value) else ' data-value="Infinity"'
    return f"<td{f' class={kind}' if kind else ''}{sorted_by}>{html}</td>"


def table(head: str, bodies: Iterable[str], kind: str = "", caption: str = "") -> str:
    """A table that scrolls sideways where the page is narrow."""
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    groups = "".join(f"<tbody>{body}</tbody>" for body in bodies)
    return f'<div class="scroll"><table class="{kind}">{named}<thead>{head}</thead>{groups}</table></div>'


def aligned(cells: Sequence[Printed]) -> list[str]:
    """Printed cells of a column: values end at one place with points below points, and what follows them begins there."""
    decimals = [len(each.value.partition(".")[2]) for each in cells]
    width = max((len(each.rest.strip()) for each in cells), default=0)
    values = [each.value + FIGURE_SPACE * (max(decimals) - own if own else 0) for each, own in zip(cells, decimals, strict=True)]
    rests = [f' <i style="--wide:{width}ch">{escape(each.rest.strip())}</i>' if width else "" for each in cells]
    return [f"{escape(value)}{rest}" if value else "" for value, rest in zip(values, rests, strict=True)]


def duration(seconds: float) -> str:
    """As long as it takes to say."""
    if not seconds:
        return "0"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
