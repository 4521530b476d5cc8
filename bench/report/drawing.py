"""How pictures are drawn: one style, panels that know how to draw themselves, and the two ways to lay them out.

A `Picture` is a row of `Panel`s. On a page every panel is an SVG of its own, so that the page decides how many stand side by side; in a file they
share one figure, whose caption is a text beside it. Both call the same `draw`. Equal panels give equal bytes.

Lines and text of an SVG take their colours from the page (`--ink`, `--muted`, `--faint`), which is how one drawing serves light and dark.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

INK, MUTED, FAINT = "#1c2024", "#6c727a", "#d8dbdf"
"""Text and what is drawn first; axes and what is drawn for comparison; fillings behind them."""
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Told apart by the colour-blind: Okabe and Ito, "Color Universal Design" (2008), less black, which is the ink, and yellow, which paper swallows."""
ACCENT = "#1f7fc1"
"""Of the one method that a panel is about: as clear on white as on black."""
SEQUENTIAL = "cividis"
"""Of magnitudes: lightness rises evenly, for the colour-blind too (Nuñez et al., PLOS ONE 13, 2018)."""
DASHES = ((), (5, 2), (1.5, 1.5), (5, 1.5, 1, 1.5), (1, 3))
"""Of the budgets, largest first; as many as the published grid has."""
COLUMNS, LETTERS = 4, 34
"""Panels beside each other in a file, and how many letters of a title fit above one."""
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: a file looks the same everywhere
    "font.size": 7.5,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8,
    "axes.unicode_minus": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Panel:
    """One drawing with its title."""

    title: str
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Picture:
    """Panels of one kind.

    Attributes:
        name: in links and file names.
        caption: what is drawn, what the axes are, and from how many runs.
        panels: none where `missing` says what would be needed.
        axes: what all panels have across and upwards; written in files, where the caption is not in sight.
        size: width and height of a panel, inches.
        keys: records behind it.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...] = ()
    axes: tuple[str, str] = ("", "")
    size: tuple[float, float] = (2.5, 1.9)
    keys: tuple[str, ...] = ()
    missing: str = ""


def to_svgs(picture: Picture, salt: str) -> list[str]:
    """The panels as elements for a page; `salt` keeps the names inside them apart from those of other pictures.

    The first is laid out, and the others take its margins: they line up on the page, and a layout costs as much as a drawing.
    """
    made: list[str] = []
    place: Bbox | None = None
    for i, panel in enumerate(picture.panels):
        with mpl.rc_context({**_STYLE, "svg.hashsalt": f"{salt}-{i}"}):
            figure = Figure(figsize=picture.size, layout="constrained" if place is None else None, facecolor="none")
            axis = figure.add_subplot(facecolor="none")
            panel.draw(axis)
            if place is not None:
                axis.set_position(place)
            drawn = io.StringIO()
            figure.savefig(drawn, format="svg", dpi=200, metadata={"Date": None})
        place = axis.get_position(original=True)
        made.append(_for_page(drawn.getvalue(), panel.title))
    return made


def _for_page(svg: str, title: str) -> str:
    """Without what a page does not need: prolog, metadata, sizes, names that nothing refers to; with its colours."""
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    view = re.search(r'viewBox="([^"]*)"', body)
    assert view is not None
    body = body[body.index(">") + 1 :]
    body = re.sub(r'<g id="[^"]*_\d+">', "<g>", body)
    body = body.replace("xlink:href", "href")
    for colour, name in ((INK, "ink"), (MUTED, "muted"), (FAINT, "faint")):
        body = body.replace(colour, f"var(--{name})")
    return f'<svg viewBox="{view[1]}" role="img" aria-label="{escape(title)}">{body.strip()}'


def save(picture: Picture, folder: Path, prefix: str) -> list[Path]:
    """The picture as PNG and PDF, and its caption; the paths that were written."""
    columns = min(COLUMNS, len(picture.panels))
    lines = math.ceil(len(picture.panels) / columns)
    width, height = picture.size
    paths = [folder / f"{prefix}-{picture.name}.{suffix}" for suffix in ("png", "pdf", "txt")]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width * columns, (height + 0.3) * lines), layout="constrained", facecolor="white")
        axes = figure.subplots(lines, columns, squeeze=False)
        for axis in axes.flat[len(picture.panels) :]:
            axis.axis("off")
        for axis, panel in zip(axes.flat, picture.panels, strict=False):
            panel.draw(axis)
            axis.set_title(fill(panel.title.replace(",", ", ").replace(",  ", ", "), LETTERS))
        for label, text in zip((figure.supxlabel, figure.supylabel), picture.axes, strict=True):
            label(text, fontsize=8)
        figure.savefig(paths[0], dpi=200, metadata={"Software": None})
        figure.savefig(paths[1], dpi=200, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    paths[2].write_text(f"{picture.title}. {picture.caption}\n", encoding="utf-8")
    return paths
