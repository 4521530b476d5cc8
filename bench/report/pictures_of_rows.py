"""Pictures of released rows beside held-out real ones: marginals, pairs of columns, one embedding, and the maze."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bench.core.data import Column, Transitions
from bench.report.drawing import ACCENT, FAINT, INK, MUTED, PALETTE, SEQUENTIAL, Panel, Picture
from bench.report.embedding import PERPLEXITY, tsne
from bench.report.evidence import Section
from bench.report.pictures_of_records import MOST, left_out
from bench.report.released import (
    HELD_OUT,
    MARGINAL_BINS,
    FloorPlan,
    Releases,
    drawn_columns,
    floor_plan,
    pairwise_errors,
    picked,
    read_releases,
    shares,
    some_trajectories,
    standardised_sample,
    table_of,
)
from bench.tables.build import REAL

POINTS, PATHS = 4_000, 40
"""Rows and trajectories drawn in a panel."""
_NO_RELEASE = " It is drawn from real rows, too: it is no release."


def pictures_of_rows(section: Section) -> list[Picture]:
    """All of one section, in the order of reading; without the rows, what is missing."""
    releases = read_releases(section, MOST)
    if isinstance(releases, str):
        gone = f"{releases} Without rows there are no marginals, no errors of pairs of columns, no embedding and no positions to draw."
        return [Picture("rows", "Released rows", "", missing=gone)]
    made = [_marginals(releases), _pairs(releases), _embedding(releases)]
    plan = floor_plan(section.group.env)
    if plan is not None:
        made.append(_positions(releases, plan))
    rest = left_out([*_synthetic(releases), *releases.left_out])
    pictures = [*(replace(picture, caption=picture.caption + rest) for picture in made), *(_trajectories(releases, plan) if plan else [])]
    return [picture if picture.missing else replace(picture, caption=picture.caption + _NO_RELEASE) for picture in pictures]


def _about(releases: Releases) -> str:
    """What the caption of the first picture of rows says of all of them."""
    gone = f" Not drawn: {'; '.join(releases.gone)}." if releases.gone else ""
    fitted = "; those that `real` released were fitted, too" if REAL in releases.rows else ""
    seen = f"Real rows in grey are held out, and no method saw them{fitted}."
    return f" Released rows are those of seed 0. {seen}{gone}"


def _synthetic(releases: Releases) -> dict[str, Transitions]:
    return {title: rows for title, rows in releases.rows.items() if title != HELD_OUT}


# --- marginals --------------------------------------------------------------------------------------------------------


def _marginals(releases: Releases) -> Picture:
    columns, real = drawn_columns(releases.schema), table_of(releases.rows[HELD_OUT])
    tables = {title: table_of(rows) for title, rows in _synthetic(releases).items()}
    panels = []
    for j, column in enumerate(columns):
        lines = {title: shares(table[:, j], column) for title, table in tables.items()}
        panels.append(Panel(column.name, _ridges(column, shares(real[:, j], column), lines)))
    caption = (
        f"One line for each method over the same held-out real rows in grey: shares of {MARGINAL_BINS} equal bins between the declared bounds, "
        f"square-root scale, so that rare values show. d… are steps s' - s.{_about(releases)}"
    )
    return Picture("marginals", "Marginals, real and synthetic", caption, tuple(panels), size=(3.4, 0.45 + 0.27 * len(tables)), keys=releases.keys)


def _ridges(column: Column, real: NDArray, lines: dict[str, NDArray]) -> Callable[[Axes], None]:
    edges = np.linspace(column.low, column.high, MARGINAL_BINS + 1)
    tallest = np.sqrt(max(real.max(), *(line.max() for line in lines.values()), 1e-9) if lines else max(real.max(), 1e-9))

    def draw(axis: Axes) -> None:
        for place, line in enumerate(lines.values()):
            axis.stairs(0.88 * np.sqrt(real) / tallest - place, edges, baseline=-place, fill=True, color=FAINT)
            axis.stairs(0.88 * np.sqrt(line) / tallest - place, edges, baseline=None, color=ACCENT, linewidth=0.8)
        axis.set_yticks(-np.arange(len(lines)), list(lines), va="bottom", fontsize=6.5)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        axis.set(xlim=(column.low, column.high), ylim=(0.9 - len(lines), 1))
        axis.xaxis.set_major_locator(MaxNLocator(5))

    return draw


# --- pairs of columns -------------------------------------------------------------------------------------------------


def _pairs(releases: Releases) -> Picture:
    columns, real = drawn_columns(releases.schema), table_of(releases.rows[HELD_OUT])
    errors = {title: pairwise_errors(table_of(rows), real, columns) for title, rows in _synthetic(releases).items()}
    most = max((float(np.nanmax(error)) for error in errors.values()), default=1.0) or 1.0
    names = [column.name for column in columns]
    panels = tuple(Panel(f"{title} · mean {np.nanmean(error):.3f}", _heat(error, names, most)) for title, error in errors.items())
    caption = (
        f"Total variation distance of the two-way histograms of each pair of columns of (s, a, r, s' - s); dark is good, the same scale, "
        f"0 to {most:.2f}, in all panels."
    )
    return Picture("pairs", "Errors of pairs of columns", caption, panels, size=(2.6, 2.2), keys=releases.keys)


def _heat(error: NDArray, names: Sequence[str], most: float) -> Callable[[Axes], None]:
    def draw(axis: Axes) -> None:
        mesh = axis.pcolormesh(error[::-1], cmap=SEQUENTIAL, vmin=0, vmax=most, edgecolors="none", rasterized=True)
        bar = axis.figure.colorbar(mesh, cax=axis.inset_axes((1.03, 0, 0.045, 1)), ticks=MaxNLocator(4))
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=6)
        middle = np.arange(len(names)) + 0.5
        axis.set_xticks(middle, names, rotation=90, fontsize=6.5)
        axis.set_yticks(middle, names[::-1], fontsize=6.5)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set_aspect("equal")

    return draw


# --- embedding --------------------------------------------------------------------------------------------------------


def _embedding(releases: Releases) -> Picture:
    name, title = "embedding", "One embedding of all rows"
    sample = standardised_sample(releases)
    size = len(sample[HELD_OUT])
    if size * len(sample) <= 3 * PERPLEXITY:
        return Picture(name, title, "", missing="There are too few rows for an embedding.")
    places = dict(zip(sample, np.split(tsne(np.concatenate(list(sample.values()))), len(sample)), strict=True))
    caption = (
        f"t-SNE (perplexity {PERPLEXITY:g}) of {size} rows of every method and of held-out real rows together, columns (s, a, r, s' - s) in units of "
        "the real standard deviations. Each panel shows one method in front of the real rows, in grey; where the two do not mix, rows can be told "
        "apart. Axes have no unit; distances between far groups say nothing."
    )
    real = places.pop(HELD_OUT)
    everything = np.concatenate([real, *places.values()])
    middle, reach = (everything.min(0) + everything.max(0)) / 2, float(np.ptp(everything, axis=0).max()) * 0.52
    panels = tuple(Panel(method, _cloud(real, own, middle, reach)) for method, own in places.items())
    return Picture(name, title, caption, panels, size=(2.4, 2.4), keys=releases.keys)


def _cloud(real: NDArray, own: NDArray, middle: NDArray, reach: float) -> Callable[[Axes], None]:
    def draw(axis: Axes) -> None:
        axis.scatter(real[:, 0], real[:, 1], s=7, color=MUTED, alpha=0.45, linewidths=0, rasterized=True)
        axis.scatter(own[:, 0], own[:, 1], s=7, color=ACCENT, alpha=0.85, linewidths=0, rasterized=True)
        axis.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach), xticks=[], yticks=[], aspect="equal")
        axis.spines[:].set_visible(False)

    return draw


# --- the maze ---------------------------------------------------------------------------------------------------------


def _positions(releases: Releases, plan: FloorPlan) -> Picture:
    caption = (
        f"Up to {POINTS:,} rows of each; grey is where the simulator lets no state be: walls, and the reach of the ball around them. x runs down and "
        "y to the right, as D4RL writes its mazes."
    )
    panels = tuple(Panel(title, _points(picked(rows, POINTS).observations[:, :2], plan)) for title, rows in releases.rows.items())
    return Picture("positions", "Positions in the maze", caption, panels, size=_plan_size(plan), keys=releases.keys)


def _trajectories(releases: Releases, plan: FloorPlan) -> list[Picture]:
    paths = {title: own for title, rows in releases.rows.items() if (own := some_trajectories(rows, PATHS))}
    if len(paths) < 2:
        return []
    shown = "that is drawn here and " if releases.left_out else "that "
    caption = (
        f"Up to {PATHS} whole trajectories of each method {shown}releases them; a dot where each starts. A step that does not begin where the "
        "last one ended shows as a straight line."
    )
    panels = tuple(Panel(title, _paths(own, plan)) for title, own in paths.items())
    return [Picture("trajectories", "Trajectories in the maze", caption, panels, size=_plan_size(plan), keys=releases.keys)]


def _plan_size(plan: FloorPlan) -> tuple[float, float]:
    """Of a panel: x is vertical."""
    return 2.4, 2.4 * (plan.x.high - plan.x.low) / (plan.y.high - plan.y.low)


def _walls(axis: Axes, plan: FloorPlan) -> None:
    extent = (plan.y.low, plan.y.high, plan.x.high, plan.x.low)
    axis.contourf(
        np.linspace(*extent[:2], plan.free.shape[0]), np.linspace(extent[3], extent[2], plan.free.shape[1]), ~plan.free.T, (0.5, 1.5), colors=[FAINT]
    )
    axis.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[], aspect="equal")
    axis.spines[:].set_visible(True)


def _points(positions: NDArray, plan: FloorPlan) -> Callable[[Axes], None]:
    def draw(axis: Axes) -> None:
        _walls(axis, plan)
        axis.scatter(positions[:, 1], positions[:, 0], s=0.9, color=ACCENT, linewidths=0, rasterized=True)

    return draw


def _paths(paths: Sequence[NDArray], plan: FloorPlan) -> Callable[[Axes], None]:
    def draw(axis: Axes) -> None:
        _walls(axis, plan)
        colours = list(islice(cycle(PALETTE), len(paths)))
        axis.add_collection(LineCollection([path[:, ::-1] for path in paths], colors=colours, linewidths=0.6, alpha=0.85, rasterized=True))
        starts = np.array([path[0] for path in paths])
        axis.scatter(starts[:, 1], starts[:, 0], s=8, color=colours, edgecolors=INK, linewidths=0.4, zorder=3)

    return draw
