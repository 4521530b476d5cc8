"""Pictures of a finished sweep: where the released rows lie in the maze, and how the agents learned from them.

    pip install -c constraints.txt -e '.[pictures]'
    python results/pictures.py STORE FOLDER

draws, for each maze and number of rows of the store's newest sweep, `maze-ENV-ROWS.png` (one panel for held-out rows and one for each method at each
epsilon, seed 0) and `curves-ENV-ROWS.png` (mean and range over seeds of the normalised score against gradient steps, the headline agent).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from bench.core.registry import resolve
from bench.envs._maze_layout import maze
from bench.store import Store

mpl.use("agg")
POINTS = 8_000
"""Rows drawn in a panel."""
COLUMNS, PANEL = 4, 2.6
PALETTE = (*mpl.colormaps["tab10"].colors, *mpl.colormaps["Dark2"].colors)
DASHES = ("-", "--", "-.", ":", (0, (1, 4)))
"""Of the budgets, smallest first; as many as the published grid has."""
Leaf = Mapping[str, Any]
Line = tuple[str, float]
"""A method and its epsilon."""


def main(store: str, folder: str) -> None:
    kept, out = Store(store), Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    leaves = [leaf for leaf in kept.newest_sweep()["leaves"] if kept.has(leaf["key"]) and kept.get(leaf["key"]).ok]
    for env, rows in dict.fromkeys((leaf["env"], leaf["rows"]) for leaf in leaves):
        block = [leaf for leaf in leaves if (leaf["env"], leaf["rows"]) == (env, rows)]
        draw_maze(kept, env, block).savefig(out / f"maze-{env}-{rows}.png", dpi=110)
        draw_curves(kept, block).savefig(out / f"curves-{env}-{rows}.png", dpi=110)


def draw_maze(store: Store, env: str, leaves: Sequence[Leaf]) -> plt.Figure:
    """Positions of held-out rows and of the release of each method, over the walls."""
    first = {line_of(leaf): store.get(leaf["key"]).inputs for leaf in leaves if leaf["kind"] == "fidelity" and not any(leaf["seeds"].values())}
    panels = {"held-out rows": next(iter(first.values()))["holdout"], **{title(line): inputs["sample"] for line, inputs in first.items()}}
    walls = maze(resolve("environments", env).instance.layout).walls
    figure, axes = plt.subplots(-(-len(panels) // COLUMNS), COLUMNS, squeeze=False, layout="constrained")
    figure.set_size_inches(PANEL * COLUMNS, PANEL * len(axes) * walls.shape[0] / walls.shape[1] + 0.3)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, key) in zip(axes.flat, panels.items(), strict=False):
        draw_positions(axis, walls, store.arrays(key)["observations"])
        axis.set_title(name, fontsize=9)
    return figure


def draw_positions(axis: plt.Axes, walls: NDArray[np.bool_], observations: NDArray) -> None:
    """x runs down and y to the right, as D4RL writes its mazes."""
    chosen = np.random.default_rng(0).choice(len(observations), min(POINTS, len(observations)), replace=False)
    axis.imshow(np.where(walls, 0.8, 1.0), cmap="gray", vmin=0, vmax=1)
    axis.scatter(observations[chosen, 1], observations[chosen, 0], s=0.4, color="tab:blue", linewidths=0)


def draw_curves(store: Store, leaves: Sequence[Leaf]) -> plt.Figure:
    """One line for each method and epsilon: the mean over seeds, in a band from the lowest to the highest. A method has a colour, a budget a dash."""
    utility = [leaf for leaf in leaves if leaf["kind"] == "utility"]
    agent = utility[0]["plugin"]
    figure, axis = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    lines = list(dict.fromkeys(line_of(leaf) for leaf in utility))
    colours = dict(zip(dict.fromkeys(name for name, _ in lines), cycle(PALETTE), strict=False))
    dashes = {epsilon: DASHES[max(0, i - 1)] for i, epsilon in enumerate(sorted({0.0, *(epsilon for _, epsilon in lines)}))}
    for name, epsilon in lines:
        line, colour = (name, epsilon), colours[name]
        curves = [store.get(leaf["key"]).result["curve"] for leaf in utility if line_of(leaf) == line and leaf["plugin"] == agent]
        scores = np.array([curve["scores"] for curve in curves])
        axis.plot(curves[0]["steps"], scores.mean(0), label=f"{title(line)} ({len(curves)})", color=colour, linestyle=dashes[epsilon])
        axis.fill_between(curves[0]["steps"], scores.min(0), scores.max(0), color=colour, alpha=0.1, linewidth=0)
    axis.set(xlabel=f"gradient steps of {agent}", ylabel="normalised score")
    axis.legend(fontsize=7, ncols=2, title="method (seeds)", title_fontsize=7)
    return figure


def line_of(leaf: Leaf) -> Line:
    return leaf["synth"], float(leaf["epsilon"] or 0)


def title(line: Line) -> str:
    name, epsilon = line
    return f"{name}, ε = {epsilon:g}" if epsilon else name


if __name__ == "__main__":
    main(*sys.argv[1:])
