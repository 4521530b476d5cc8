"""Pictures that records alone can draw: utility against epsilon, learning curves, claimed against audited epsilon, cost, validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bench.leaderboard import UTILITIES, Column
from bench.report.audited import Audited
from bench.report.drawing import ACCENT, DASHES, FAINT, INK, MUTED, PALETTE, Panel, Picture
from bench.report.evidence import PHASES, Method, Section
from bench.spec import OVER_GOALS
from bench.stats import Summary
from bench.validation import LADDERS, spoiled

MOST = 12
"""Panels of a picture with one for each method: those that stand first in the table."""


def pictures_of_records(section: Section, audited: Sequence[Audited]) -> list[Picture]:
    """All of one section, in the order of reading."""
    if is_validation(section):
        return [_validation(section)]
    return [_utility_against_epsilon(section), _learning_curves(section), _audits(audited), _cost(section)]


def is_validation(section: Section) -> bool:
    """True for a sweep of `bench validate`."""
    copies = {spoiled(kind, level) for kind, levels in LADDERS.items() for level in levels}
    return any(method.row.synth in copies for method in section.methods)


def _first(names: Sequence[str]) -> str:
    """What a caption says of methods that have no panel."""
    return f" Shown are the first {MOST} of {len(names)} methods." if len(names) > MOST else ""


# --- utility against epsilon ------------------------------------------------------------------------------------------


def _utility_against_epsilon(section: Section) -> Picture:
    name, title = "utility-epsilon", "Utility against ε"
    column = section.headline
    if column is None or not section.epsilons:
        return Picture(name, title, "", missing="No row claims a finite ε and has a score that ranks it.")
    place = section.group.columns.index(column)
    private = {synth: own for synth, own in section.families.items() if any(method.row.epsilon > 0 for method in own) and own[0].leaves[0]["epsilon"]}
    points = {synth: [(method.row.epsilon, summary) for method in own if (summary := _summary(method, place))] for synth, own in private.items()}
    points = {synth: own for synth, own in points.items() if own}
    if not points:
        return Picture(name, title, "", missing="No row under a budget has all its runs yet.")
    lines = [
        (method.title, summary.mean) for method in section.methods if method.leaves[0]["epsilon"] is None and (summary := _summary(method, place))
    ]
    draw = _against_epsilon(points, dict(lines))
    keys = [key for own in private.values() for method in own if (cell := method.row.cells[place]) for key in cell.keys]
    caption = (
        f"{column.scorer} ({column.score.replace('_', ' ')}, {column.better} is better) against the claimed ε. The band is the 95 % interval over "
        f"synthesizer seeds; the other methods stand behind in grey. "
        + ("Dashed: real; dotted: the best row that needs no private data." if lines else "")
        + _first(tuple(points))
    )
    panels = tuple(Panel(synth, draw(synth)) for synth in list(points)[:MOST])
    return Picture(name, title, caption, panels, keys=tuple(dict.fromkeys(keys)))


def _summary(method: Method, place: int) -> Summary | None:
    cell = method.row.cells[place]
    return cell.summary if cell else None


def _against_epsilon(points: dict[str, list[tuple[float, Summary]]], anchors: dict[str, float]) -> Callable[[str], Callable[[Axes], None]]:
    """How the panel of one method is drawn; all panels share their axes."""
    finite = sorted({epsilon for own in points.values() for epsilon, _ in own if math.isfinite(epsilon)})
    places = {epsilon: math.log10(epsilon) for epsilon in finite}
    places[math.inf] = max(places.values(), default=0.0) + 0.5
    used = sorted({epsilon for own in points.values() for epsilon, _ in own})
    ends = [end for own in points.values() for _, summary in own for end in (summary.mean, summary.low, summary.high) if end is not None]
    low, high = min([*ends, *anchors.values()]), max([*ends, *anchors.values()])
    floor = max((score for name, score in anchors.items() if name != "real"), default=None)

    def panel(shown: str) -> Callable[[Axes], None]:
        def draw(axis: Axes) -> None:
            for score, dash in ((anchors.get("real"), (5, 2)), (floor, (1, 2))):
                if score is not None:
                    axis.axhline(score, color=MUTED, linewidth=0.8, dashes=dash)
            for synth, own in points.items():
                x, means = [places[epsilon] for epsilon, _ in own], [summary.mean for _, summary in own]
                front = synth == shown
                axis.plot(x, means, color=ACCENT if front else FAINT, marker="o", markersize=3.5 if front else 2, zorder=3 if front else 1)
                if front:
                    _band(axis, x, [summary for _, summary in own])
            axis.set_xticks([places[epsilon] for epsilon in used], [f"{epsilon:g}".replace("inf", "∞") for epsilon in used], minor=False)
            axis.set(
                xlim=(places[used[0]] - 0.25, places[used[-1]] + 0.25), ylim=(low - 0.06 * (high - low + 1e-9), high + 0.06 * (high - low + 1e-9))
            )

        return draw

    return panel


def _band(axis: Axes, x: list[float], summaries: list[Summary]) -> None:
    """The intervals: a band between several budgets, a bar at each."""
    known = [(place, s.mean, s.low, s.high) for place, s in zip(x, summaries, strict=True) if s.low is not None and s.high is not None]
    if known:
        places, _, lows, highs = zip(*known, strict=True)
        axis.fill_between(places, lows, highs, color=ACCENT, alpha=0.18, linewidth=0)
        axis.vlines(places, lows, highs, color=ACCENT, linewidth=0.8)


# --- learning curves --------------------------------------------------------------------------------------------------


def _learning_curves(section: Section) -> Picture:
    name, title = "learning-curves", "Learning curves"
    if section.agent is None:
        return Picture(name, title, "", missing="No agent was trained in this sweep.")
    kind, agent = section.agent
    curves = {method.title: found for method in section.methods if (found := _curves(method, kind, agent)) is not None}
    if not curves:
        return Picture(name, title, "", missing="No agent has finished yet.")
    families = {synth: [method for method in own if method.title in curves] for synth, own in section.families.items()}
    families = {synth: own for synth, own in families.items() if own}
    real = curves.get(section.real.title) if section.real else None
    draw = _curves_of(families, curves, real)
    counts = sorted({len(scores) for _, scores in curves.values()})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    caption = (
        f"Score of {section.headline.scorer if section.headline else agent} against thousands of gradient steps: the mean over {seeds} runs in a "
        f"band from the lowest to the highest; solid for the largest ε, dashed for smaller ones. Behind, in grey: real rows.{_first(tuple(families))}"
    )
    keys = tuple(leaf["key"] for method in section.methods for leaf, _ in method.finished(kind, agent))
    return Picture(
        name, title, caption, tuple(Panel(_with_budgets(synth, own), draw(synth)) for synth, own in list(families.items())[:MOST]), keys=keys
    )


def _with_budgets(synth: str, own: Sequence[Method]) -> str:
    budgets = [f"{method.row.epsilon:g}".replace("inf", "∞") for method in own if method.leaves[0]["epsilon"] is not None]
    return f"{synth}, ε = {' and '.join(budgets)}" if budgets else synth


def _curves(method: Method, kind: str, agent: str) -> tuple[list[int], NDArray[np.float64]] | None:
    """Steps and scores (runs, evaluations) of the runs that are there."""
    curves = [record.result["curve"] for _, record in method.finished(kind, agent) if record.result.get("curve")]
    if not curves:
        return None
    return curves[0]["steps"], np.array([curve["scores"] for curve in curves if curve["steps"] == curves[0]["steps"]], float)


def _curves_of(
    families: dict[str, list[Method]], curves: dict[str, tuple[list[int], NDArray[np.float64]]], real: tuple[list[int], NDArray[np.float64]] | None
) -> Callable[[str], Callable[[Axes], None]]:
    low = min(float(scores.min()) for _, scores in curves.values())
    high = max(float(scores.max()) for _, scores in curves.values())

    def panel(synth: str) -> Callable[[Axes], None]:
        def draw(axis: Axes) -> None:
            if real is not None:
                axis.plot(np.array(real[0]) / 1000, real[1].mean(0), color=MUTED, linewidth=0.9)
            for dash, method in zip(cycle(DASHES), reversed(families[synth]), strict=False):
                steps, scores = np.array(curves[method.title][0]) / 1000, curves[method.title][1]
                axis.plot(steps, scores.mean(0), color=ACCENT, dashes=dash)
                axis.fill_between(steps, scores.min(0), scores.max(0), color=ACCENT, alpha=0.14, linewidth=0)
            axis.set_ylim(low - 0.05 * (high - low + 1e-9), high + 0.05 * (high - low + 1e-9))
            axis.xaxis.set_major_locator(MaxNLocator(4))

        return draw

    return panel


# --- claimed and audited epsilon --------------------------------------------------------------------------------------


def _audits(audited: Sequence[Audited]) -> Picture:
    name, title = "audits", "Claimed and audited ε"
    if not audited:
        return Picture(name, title, "", missing="No audit in this store fits a method and ε of these rows; `bench audit` makes them.")
    caption = (
        "Lower bounds that audits found (dots, 95 % confidence each) under the claimed ε (ticks). The line reaches to the bound that a perfect "
        "attack would have given: a claim beyond it cannot be refuted by this audit. Axis: ε."
    )
    return Picture(
        name,
        title,
        caption,
        (Panel(title, lambda axis: _draw_audits(axis, audited)),),
        (6.0, 0.6 + 0.26 * len(audited)),
        tuple(a.key for a in audited),
    )


def _draw_audits(axis: Axes, audited: Sequence[Audited]) -> None:
    places = np.arange(len(audited))
    axis.hlines(places, 0, [audit.ceiling for audit in audited], color=MUTED, linewidth=0.8)
    axis.scatter([audit.found for audit in audited], places, color=ACCENT, s=22, zorder=3)
    axis.scatter([audit.claimed for audit in audited], places, color=INK, marker="|", s=80, zorder=3)
    axis.set_yticks(places, [f"{audit.method} · {audit.audit}" for audit in audited])
    axis.set(ylim=(len(audited) - 0.5, -0.5), xlim=(0, None))


# --- cost -------------------------------------------------------------------------------------------------------------


def _cost(section: Section) -> Picture:
    name, title = "cost", "Cost"
    methods = [method for method in section.methods if method.cost.keys][: 2 * MOST]
    if not methods:
        return Picture(name, title, "", missing="Nothing has finished yet.")
    caption = (
        "Minutes of one core for each synthesizer seed, by phase, means over seeds; the public pre-training is paid once for all seeds and budgets. "
        "The numbers are in the table below."
    )
    keys = tuple(dict.fromkeys(key for method in methods for key in method.cost.keys))
    panel = Panel(title, lambda axis: _draw_cost(axis, methods))
    return Picture(name, title, caption, (panel,), (6.0, 0.7 + 0.2 * len(methods)), keys)


def _draw_cost(axis: Axes, methods: Sequence[Method]) -> None:
    places, start = np.arange(len(methods)), np.zeros(len(methods))
    for phase, colour in zip(PHASES, PALETTE, strict=True):
        minutes = np.array([method.cost.seconds[phase] / 60 for method in methods])
        if minutes.any():
            axis.barh(places, minutes, left=start, height=0.62, color=colour, label=phase, linewidth=0)
        start += minutes
    axis.set_yticks(places, [method.title for method in methods])
    axis.set(ylim=(len(methods) - 0.4, -0.6), xlabel="minutes")
    axis.figure.legend(loc="outside upper left", ncols=3, handlelength=1, handleheight=1)


# --- validation -------------------------------------------------------------------------------------------------------


def _validation(section: Section) -> Picture:
    """A panel for each kind of corruption: every run's score, and a line through the means of each agent."""
    columns = [column for column in section.group.columns if column.kind in UTILITIES]
    scores = {(column.scorer, method.row.synth): _scores(method, column) for column in columns for method in section.methods}
    agents = dict(zip((column.scorer for column in columns), PALETTE, strict=False))
    named = "; ".join(
        f"{name} {fill(agent, 200)}" for agent, name in zip(agents, ("blue", "vermilion", "green", "pink", "orange", "sky blue"), strict=False)
    )
    caption = f"Score (vertical) against the level of each kind of corruption of real rows: every run, and a line through the means. {named}."
    panels = tuple(
        Panel(kind, _ladder(kind, agents, scores)) for kind in LADDERS if any((agent, spoiled(kind, LADDERS[kind][0])) in scores for agent in agents)
    )
    keys = tuple(leaf["key"] for method in section.methods for leaf in method.leaves)
    return Picture("validation", "Does the score fall as real rows are corrupted?", caption, panels, keys=keys)


def _scores(method: Method, column: Column) -> list[float]:
    return [record.result["score"] for _, record in method.finished(column.kind, column.scorer.removeprefix(OVER_GOALS))]


def _ladder(kind: str, agents: dict[str, str], scores: dict[tuple[str, str], list[float]]) -> Callable[[Axes], None]:
    rungs = list(enumerate(("real", *(spoiled(kind, level) for level in LADDERS[kind]))))

    def runs_of(agent: str) -> Iterator[tuple[int, list[float]]]:
        return ((place, own) for place, name in rungs if (own := scores.get((agent, name))))

    def draw(axis: Axes) -> None:
        for agent, colour in agents.items():
            runs = list(runs_of(agent))
            axis.plot([place for place, _ in runs], [np.mean(own) for _, own in runs], color=colour)
            axis.scatter([place for place, own in runs for _ in own], [score for _, own in runs for score in own], s=9, color=colour)
        axis.set_xticks(range(len(rungs)), [f"{level:g}" for level in (0, *LADDERS[kind])])

    return draw
