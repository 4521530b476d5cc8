"""Colours that everybody tells apart, and panels that a page can take in."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.report.drawing import ACCENT, FAINT, INK, MUTED, PALETTE, SEQUENTIAL, Panel, Picture, save, to_svgs

DEFICIENT = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Of linear RGB, at full severity: Machado, Oliveira and Fernandes, IEEE Transactions on Visualization and Computer Graphics 15 (2009), table 1."""
PAPER, NIGHT = "#fdfdfb", "#15171a"


def linear(colour: object) -> NDArray[np.float64]:
    """Linear RGB of an sRGB colour (IEC 61966-2-1)."""
    rgb = np.array(to_rgb(colour))  # type: ignore[arg-type]
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB of linear RGB under D65 (CIE 15)."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(first: str, second: str) -> float:
    """Of relative luminances, 1 to 21 (WCAG 2.1)."""
    bright, dark = sorted((float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (first, second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("eye", ["normal", *DEFICIENT])
def test_no_two_colours_look_alike(eye: str) -> None:
    """A difference of 10 in CIELAB is several times what is just noticed (2.3)."""
    matrix = np.array(DEFICIENT.get(eye, np.eye(3)))
    seen = {colour: lab((matrix @ linear(colour)).clip(0, 1)) for colour in PALETTE}
    distances = {pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in combinations(PALETTE, 2)}
    assert min(distances.values()) > 10, min(distances, key=lambda pair: distances[pair])


def test_magnitudes_get_brighter_for_every_eye() -> None:
    colours = [linear(mpl.colormaps[SEQUENTIAL](x)) for x in np.linspace(0, 1, 32)]
    for matrix in [np.eye(3), *map(np.array, DEFICIENT.values())]:
        lightness = [lab((matrix @ colour).clip(0, 1))[0] for colour in colours]
        assert (np.diff(lightness) > 0).all()


def test_what_a_panel_is_about_is_seen_on_paper_and_at_night() -> None:
    assert contrast(ACCENT, PAPER) >= 3
    assert contrast(ACCENT, NIGHT) >= 3
    assert contrast(INK, PAPER) >= 12
    assert contrast(MUTED, PAPER) >= 4.5


def picture() -> Picture:
    def draw(axis: mpl.axes.Axes) -> None:
        axis.plot([0, 1], [0, 1], color=INK, marker="o")
        axis.fill_between([0, 1], [0, 0], [1, 1], color=FAINT)
        axis.scatter([0.5], [0.5], color=ACCENT, rasterized=True)

    return Picture("name", "title", "caption", (Panel('a $\\frac{ < & "', draw), Panel("b", draw)))


def test_panels_take_their_colours_from_the_page() -> None:
    for svg in to_svgs(picture(), "salt"):
        assert not re.search(f"{INK}|{MUTED}|{FAINT}", svg)
        assert {"var(--ink)", "var(--muted)", "var(--faint)"} <= set(re.findall(r"var\(--[a-z]+\)", svg))


def test_names_inside_panels_are_unique_and_found() -> None:
    drawn = "".join(to_svgs(picture(), "salt") + to_svgs(picture(), "other"))
    names = re.findall(r'\bid="([^"]*)"', drawn)
    assert len(names) == len(set(names))
    assert {*re.findall(r'href="#([^"]*)"', drawn), *re.findall(r"url\(#([^)]*)\)", drawn)} <= set(names)


def test_panels_of_a_picture_line_up() -> None:
    """Whatever room their labels would take: the spine on the left is where it is in the first."""
    labels = [Panel(label, lambda axis, label=label: axis.set_yticks([0], [label])) for label in ("narrow", "as wide as it gets")]
    spines = [re.findall(r"M ([0-9.]+) [0-9.]+\s+L \1 ", svg)[-1] for svg in to_svgs(Picture("n", "t", "c", tuple(labels)), "salt")]
    assert spines[0] == spines[1]


def test_a_file_has_its_axes_named_and_its_caption_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named: dict[str, str] = {}
    for direction in ("x", "y"):
        monkeypatch.setattr(Figure, f"sup{direction}label", lambda figure, text, direction=direction, **style: named.update({direction: text}))
    picture = Picture("curve", "A curve", "What it shows.", (Panel("a", lambda axis: None),), axes=("claimed ε", "iql"))
    files = save(picture, tmp_path, "maze")
    assert named == {"x": "claimed ε", "y": "iql"}
    assert [file.name for file in files] == ["maze-curve.png", "maze-curve.pdf", "maze-curve.txt"]
    assert files[-1].read_text(encoding="utf-8") == "A curve. What it shows.\n"
