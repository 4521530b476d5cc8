"""Pictures that records alone can draw, before they are ink."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest
from hand_made import HandMade
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from bench.report.drawing import Picture
from bench.report.evidence import Evidence
from bench.report.pictures_of_records import pictures_of_records
from bench.run.store import Store
from bench.tables.validation import LADDERS, corrupted

AGENTS = ["iql[width=128]", "td3-bc[alpha=10.0]", "rebrac", "awac", "edac", "cql", "bc"]
"""One more than there are colours."""


@pytest.fixture
def made(tmp_path: Path) -> HandMade:
    return HandMade(Store(tmp_path / "store"))


def validation(made: HandMade, agents: list[str], kinds: Collection[str] = LADDERS) -> Picture:
    """That of a validation of these agents under these kinds of corruption, two runs a level."""
    for name in ("real", *(corrupted(kind, level) for kind in kinds for level in LADDERS[kind])):
        for agent in agents:
            for seed in range(2):
                made.leaf(name, "none", None, "iql-over-goals", seed, 50.0 + seed, f"{name}-{agent}-{seed}", "fit")
                made.leaves[-1]["plugin"] = agent
    made.anchors()
    made.store.put_sweep("sweep", made.manifest())
    (picture,) = pictures_of_records(Evidence.read(made.store).sections[0], [])
    return picture


def drawn(picture: Picture, place: int) -> Axes:
    axis: Axes = Figure().add_subplot()
    picture.panels[place].draw(axis)
    return axis


def test_every_agent_of_a_validation_has_a_line_of_its_own_and_its_name_beside_it(made: HandMade) -> None:
    picture = validation(made, AGENTS)
    for place in range(len(LADDERS)):
        lines = drawn(picture, place).get_lines()
        assert len({(to_hex(line.get_color()), str(line._unscaled_dash_pattern)) for line in lines}) == len(AGENTS)  # type: ignore[attr-defined]
    legend = drawn(picture, 0).get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [f"goals/{agent.partition('[')[0]}" for agent in AGENTS]
    assert drawn(picture, 1).get_legend() is None, "once"


def test_a_kind_that_the_rows_cannot_bear_has_no_panel(made: HandMade) -> None:
    kinds = [kind for kind in LADDERS if kind != "blurred-positions"]
    assert [panel.title for panel in validation(made, AGENTS[:1], kinds).panels] == kinds


def test_a_single_agent_needs_no_legend(made: HandMade) -> None:
    picture = validation(made, AGENTS[:1])
    assert drawn(picture, 0).get_legend() is None
    assert picture.caption.startswith("goals/iql against the level")
