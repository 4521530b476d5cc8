"""Pictures of a finished sweep: where the released rows lie in the maze, and how the agents learned from them.

    pip install -c constraints.txt -e '.[pictures]'
    python results/pictures.py STORE FOLDER

draws, for each maze and number of rows of the store's newest sweep, `maze-ENV-ROWS.png` (one panel for held-out rows and one for each method at each
epsilon, seed 0), `trajectories-ENV-ROWS.png` (the same panels with whole trajectories, where the sweep has trajectory-level rows) and
`curves-ENV-ROWS.png` (mean and range over seeds of the score against gradient steps, the headline agent). Of a sweep of `bench validate` it draws
`validation-ENV.png` instead (each agent's score against the level of each kind of corruption).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

from bench.core.registry import resolve
from bench.envs._maze_layout import maze
from bench.leaderboard import UTILITIES
from bench.spec import OVER_GOALS
from bench.store import Store
from bench.validation import LADDERS, spoiled

mpl.use("agg")
POINTS, PATHS = 8_000, 40
"""Rows and trajectories drawn in a panel."""
COLUMNS, PANEL, LETTERS = 4, 2.6, 32
"""Panels beside each other, their width in inches, and how many letters of a title fit above one."""
OFFSET = 0.7
"""The cell (i, j) of a maze begins at position (i, j) less this. Pictures begin at 0, so they show 0.3 of the outer walls."""
PALETTE = (*mpl.colormaps["tab10"].colors, *mpl.colormaps["Dark2"].colors)
SAFE_PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
"""Of trajectories: told apart by the colour-blind (Okabe and Ito, "Color Universal Design", 2008), less black, which outlines starts, and yellow."""
DASHES = ("-", "--", "-.", ":", (0, (1, 4)))
"""Of the budgets, smallest first; as many as the published grid has."""
Leaf = Mapping[str, Any]
Line = tuple[str, float]
"""A method and its epsilon."""
Arrays = Mapping[str, NDArray]
"""Rows as the store keeps them, by the names of `Transitions`."""


def main(store: str, folder: str) -> None:
    kept, out = Store(store), Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    leaves = [leaf for leaf in kept.newest_sweep()["leaves"] if kept.has(leaf["key"]) and kept.get(leaf["key"]).ok]
    for env, rows in dict.fromkeys((leaf["env"], leaf["rows"]) for leaf in leaves):
        block = [leaf for leaf in leaves if (leaf["env"], leaf["rows"]) == (env, rows)]
        if any(spoiled(kind, levels[0]) == leaf["synth"] for leaf in block for kind, levels in LADDERS.items()):
            draw_validation(kept, block).savefig(out / f"validation-{env}.png", dpi=110)
            continue
        draw_maze(env, panels_of(kept, block), draw_positions).savefig(out / f"maze-{env}-{rows}.png", dpi=110)
        whole = panels_of(kept, [leaf for leaf in block if leaf["unit"] == "trajectory"])
        if whole:
            released = {name: data for name, data in whole.items() if "trajectories" in data}
            draw_maze(env, released, draw_paths).savefig(out / f"trajectories-{env}-{rows}.png", dpi=160)
        draw_curves(kept, block).savefig(out / f"curves-{env}-{rows}.png", dpi=110)


def panels_of(store: Store, leaves: Sequence[Leaf]) -> dict[str, Arrays]:
    """Held-out rows and the release of each method at each epsilon, seed 0, by the title of their panel."""
    keys: dict[str, str] = {}
    for leaf in leaves:
        if leaf["kind"] == "fidelity" and not any(leaf["seeds"].values()):
            inputs = store.get(leaf["key"]).inputs
            keys |= {"held-out": inputs["holdout"], title(line_of(leaf)): inputs["sample"]}
    return {name: store.arrays(key) for name, key in keys.items()}


def draw_maze(env: str, panels: Mapping[str, Arrays], draw: Callable[[plt.Axes, Arrays], None]) -> plt.Figure:
    """What `draw` makes of the rows of each panel, over the walls. x runs down and y to the right, as D4RL writes its mazes."""
    walls = maze(resolve("environments", env).instance.layout).walls
    height, width = walls.shape
    figure, axes = plt.subplots(-(-len(panels) // COLUMNS), COLUMNS, squeeze=False, layout="constrained")
    figure.set_size_inches(PANEL * COLUMNS, (PANEL * (height - 2 * OFFSET) / (width - 2 * OFFSET) + 0.3) * len(axes))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, rows) in zip(axes.flat, panels.items(), strict=False):
        axis.imshow(np.where(walls, 0.8, 1.0), cmap="gray", vmin=0, vmax=1, extent=(-OFFSET, width - OFFSET, height - OFFSET, -OFFSET))
        axis.set(xlim=(0, width - 2 * OFFSET), ylim=(height - 2 * OFFSET, 0))
        axis.set_title(fill(name.replace(", ", ",").replace(",", ", "), LETTERS), fontsize=9)
        draw(axis, rows)
    return figure


def draw_positions(axis: plt.Axes, rows: Arrays) -> None:
    """Where some of the rows lie."""
    down, right = drawn(rows["observations"], POINTS).T[:2]
    axis.scatter(right, down, s=0.4, color="tab:blue", linewidths=0)


def draw_paths(axis: plt.Axes, rows: Arrays) -> None:
    """Some whole trajectories, a dot where each starts. A step that does not begin where the last one ended shows as a straight line."""
    positions, offsets = rows["observations"][:, 1::-1], rows["trajectories"]
    paths = [positions[start:end] for start, end in drawn(np.column_stack([offsets[:-1], offsets[1:]]), PATHS)]
    colours = list(islice(cycle(SAFE_PALETTE), len(paths)))
    axis.add_collection(LineCollection(paths, colors=colours, linewidths=0.6, alpha=0.8))
    axis.scatter(*np.array([path[0] for path in paths]).T, s=9, color=colours, edgecolors="black", linewidths=0.5, zorder=3)


def drawn(table: NDArray, count: int) -> NDArray:
    """At most `count` rows of a table, the same ones of tables of one length."""
    return table[np.random.default_rng(0).choice(len(table), min(count, len(table)), replace=False)]


def draw_curves(store: Store, leaves: Sequence[Leaf]) -> plt.Figure:
    """One line for each method and epsilon: the mean over seeds, in a band from the lowest to the highest. A method has a colour, a budget a dash."""
    kind, agent = next((leaf["kind"], leaf["plugin"]) for kind in UTILITIES for leaf in leaves if leaf["kind"] == kind)
    utility = [leaf for leaf in leaves if (leaf["kind"], leaf["plugin"]) == (kind, agent)]
    figure, axis = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    lines = list(dict.fromkeys(line_of(leaf) for leaf in utility))
    colours = dict(zip(dict.fromkeys(name for name, _ in lines), cycle(PALETTE), strict=False))
    dashes = {epsilon: DASHES[max(0, i - 1)] for i, epsilon in enumerate(sorted({0.0, *(epsilon for _, epsilon in lines)}))}
    for name, epsilon in lines:
        line, colour = (name, epsilon), colours[name]
        curves = [store.get(leaf["key"]).result["curve"] for leaf in utility if line_of(leaf) == line]
        scores = np.array([curve["scores"] for curve in curves])
        axis.plot(curves[0]["steps"], scores.mean(0), label=f"{title(line)} ({len(curves)})", color=colour, linestyle=dashes[epsilon])
        axis.fill_between(curves[0]["steps"], scores.min(0), scores.max(0), color=colour, alpha=0.1, linewidth=0)
    axis.set(xlabel=f"gradient steps of {agent}", ylabel="normalised score")
    axis.legend(fontsize=7, ncols=2, title="method (seeds)", title_fontsize=7)
    return figure


def draw_validation(store: Store, leaves: Sequence[Leaf]) -> plt.Figure:
    """A panel for each kind of corruption: every run's score, and a line through the means of each agent."""
    scores: dict[tuple[str, str], list[float]] = {}
    for leaf in leaves:
        agent = (OVER_GOALS if leaf["kind"] == "goals" else "") + leaf["plugin"]
        scores.setdefault((agent, leaf["synth"]), []).append(store.get(leaf["key"]).result["score"])
    figure, axes = plt.subplots(2, -(-len(LADDERS) // 2), figsize=(10, 5.5), sharey=True, layout="constrained")
    colours = dict(zip(dict.fromkeys(agent for agent, _ in scores), SAFE_PALETTE, strict=False))
    for axis, (kind, levels) in zip(axes.flat, LADDERS.items(), strict=False):
        names = ("real", *(spoiled(kind, level) for level in levels))
        for agent, colour in colours.items():
            label = fill(agent.replace(",", ", "), 3 * LETTERS)
            runs = [(place, scores[agent, name]) for place, name in enumerate(names) if (agent, name) in scores]
            axis.plot([place for place, _ in runs], [np.mean(own) for _, own in runs], color=colour, label=label)
            axis.scatter([place for place, own in runs for _ in own], [score for _, own in runs for score in own], s=12, color=colour)
        axis.set_xticks(range(len(names)), [f"{level:g}" for level in (0, *levels)])
        axis.set_title(kind, fontsize=9)
    figure.supxlabel("level", fontsize=9)
    figure.supylabel("score", fontsize=9)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", fontsize=7)
    return figure


def line_of(leaf: Leaf) -> Line:
    return leaf["synth"], float(leaf["epsilon"] or 0)


def title(line: Line) -> str:
    name, epsilon = line
    return f"{name}, ε = {epsilon:g}" if epsilon else name


if __name__ == "__main__":
    main(*sys.argv[1:])
