"""Pictures that records alone can draw: utility against epsilon, learning curves, claimed against audited epsilon, cost, validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bench.core.protocols import Guarantee
from bench.report.audited import Audited
from bench.report.drawing import ACCENT, DASHES, FAINT, INK, MUTED, PALETTE, Panel, Picture
from bench.report.evidence import PHASES, Method, Section
from bench.tables.build import REAL
from bench.tables.leaderboard import UTILITIES, epsilon_name
from bench.tables.resources import MEMORY
from bench.tables.stats import Summary
from bench.tables.validation import LADDERS, corrupted

MOST = 12
"""Panels of a picture with one for each method: those that stand first in the table."""
MOST_LINES = 24
"""Methods of a picture with a line for each."""


def pictures_of_records(section: Section, audited: Sequence[Audited]) -> list[Picture]:
    """All of one section, in the order of reading."""
    if is_validation(section):
        return [_validation(section)]
    return [_utility(section), _learning_curves(section), _audits(audited), _cost(section)]


def is_validation(section: Section) -> bool:
    """True for a sweep of `bench validate`: of real rows and their corrupted copies alone."""
    copies = {corrupted(kind, level) for kind, levels in LADDERS.items() for level in levels}
    names = {method.row.synth for method in section.methods}
    return bool(names & copies) and names <= copies | {REAL}


def left_out(names: Sequence[str], most: int = MOST) -> str:
    """What a caption says of the methods that are not drawn; names are those that could be, in the order of the table."""
    if len(names) <= most:
        return ""
    return f" More than {most} methods would not be read: left out, as they stand further down in the table: {', '.join(names[most:])}."


def _name_lines(axis: Axes, names: Sequence[str]) -> None:
    """A line for each name, the first on top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)


def _lines_size(count: int) -> tuple[float, float]:
    """Of a panel with so many lines, a legend and a label below the axis."""
    return 6.0, 0.7 + 0.22 * count


# --- utility against epsilon ------------------------------------------------------------------------------------------


def _utility(section: Section) -> Picture:
    """Against epsilon, or of all methods at the only one."""
    name, title = "utility-epsilon", "Utility against ε"
    column = section.headline
    if column is None or not section.epsilons:
        return Picture(name, title, "", missing="No row claims a finite ε and has a score that ranks it.")
    place = section.group.columns.index(column)
    cells = [(method, cell) for method in section.methods if (cell := method.row.cells[place])]
    scores = [(method, cell.summary) for method, cell in cells if cell.summary]
    budgets = {method.row.epsilon for method, _ in scores if method.budgeted}
    if not budgets:
        return Picture(name, title, "", missing="No row under a budget has all its runs yet.")
    keys = tuple(dict.fromkeys(key for _, cell in cells if cell.summary for key in cell.keys))
    score = f"{column.scorer} ({column.score.replace('_', ' ')}, {column.better} is better)"
    if len(budgets) > 1:
        return _against_epsilon(Picture(name, title, score, axes=("claimed ε", column.scorer), keys=keys), scores)
    return _at_one_epsilon(Picture(name, f"Utility at ε = {budgets.pop():g}", score, axes=(column.scorer, ""), keys=keys), scores)


def _at_one_epsilon(picture: Picture, scores: Sequence[tuple[Method, Summary]]) -> Picture:
    """A line for each method; `picture` names the score."""
    caption = (
        f"{picture.caption} with its 95 % interval over synthesizer seeds, in the order of the table; in grey what is under no budget."
        f"{left_out([method.title for method, _ in scores], MOST_LINES)}"
    )
    shown = scores[:MOST_LINES]
    panel = Panel(picture.title, partial(_draw_at_one_epsilon, scores=shown))
    return replace(picture, caption=caption, panels=(panel,), size=_lines_size(len(shown)))


def _draw_at_one_epsilon(axis: Axes, scores: Sequence[tuple[Method, Summary]]) -> None:
    places, colours = range(len(scores)), [ACCENT if method.budgeted else MUTED for method, _ in scores]
    ends = [(summary.mean, summary.mean) if summary.low is None or summary.high is None else (summary.low, summary.high) for _, summary in scores]
    axis.scatter([summary.mean for _, summary in scores], places, color=colours, s=22, zorder=3)
    axis.hlines(places, [low for low, _ in ends], [high for _, high in ends], colors=colours, linewidth=1.2)
    _name_lines(axis, [method.title for method, _ in scores])


def _against_epsilon(picture: Picture, scores: Sequence[tuple[Method, Summary]]) -> Picture:
    """A panel for each method; `picture` names the score."""
    curves: dict[str, list[tuple[float, Summary]]] = {}
    for method, summary in scores:
        if method.budgeted:
            curves.setdefault(method.row.synth, []).append((method.row.epsilon, summary))
    real = next((summary.mean for method, summary in scores if method.row.synth == REAL), None)
    floor = max((summary.mean for method, summary in scores if method.row.guarantee == Guarantee.DATA_FREE.value), default=None)
    scene = _Scene({synth: sorted(own, key=lambda point: point[0]) for synth, own in curves.items()}, real, floor)
    caption = (
        f"{picture.caption} against the claimed ε. The band is the 95 % interval over synthesizer seeds; the other methods stand behind in grey."
        + ("" if real is None else " Dashed: real rows.")
        + ("" if floor is None else " Dotted: the best row that needs no private data.")
        + left_out(list(curves))
    )
    panels = tuple(Panel(synth, partial(_draw_against_epsilon, scene=scene, shown=synth)) for synth in list(curves)[:MOST])
    return replace(picture, caption=caption, panels=panels)


@dataclass(frozen=True)
class _Scene:
    """The curves of all methods, by epsilon, the score of real rows, and the best that needs no private data."""

    curves: Mapping[str, list[tuple[float, Summary]]]
    real: float | None
    floor: float | None

    @property
    def places(self) -> dict[float, float]:
        """Where each epsilon stands: on a logarithmic scale, infinity half a decade behind the last."""
        used = sorted({epsilon for own in self.curves.values() for epsilon, _ in own})
        finite = {epsilon: math.log10(epsilon) for epsilon in used if math.isfinite(epsilon)}
        return {epsilon: finite.get(epsilon, max(finite.values(), default=0.0) + 0.5) for epsilon in used}

    @property
    def span(self) -> tuple[float, float]:
        """From the lowest to the highest of what is drawn, with a little air."""
        points = (summary for own in self.curves.values() for _, summary in own)
        ends = [end for summary in points for end in (summary.mean, summary.low, summary.high, self.real, self.floor) if end is not None]
        return _airy(min(ends), max(ends))


def _airy(low: float, high: float) -> tuple[float, float]:
    air = 0.06 * (high - low or 1.0)
    return low - air, high + air


def _draw_against_epsilon(axis: Axes, scene: _Scene, shown: str) -> None:
    for score, dash in ((scene.real, (5, 2)), (scene.floor, (1, 2))):
        if score is not None:
            axis.axhline(score, color=MUTED, linewidth=0.8, dashes=dash)
    places = scene.places
    points = {synth: [(places[epsilon], summary.mean) for epsilon, summary in own] for synth, own in scene.curves.items()}
    others = [point for synth, own in points.items() if synth != shown for point in (*own, (math.nan, math.nan))]
    axis.plot(*zip(*others, strict=True), marker="o", color=FAINT, markersize=2, zorder=1)  # one broken line: a method each is slow to draw
    axis.plot(*zip(*points[shown], strict=True), marker="o", color=ACCENT, markersize=3.5, zorder=3)
    _band(axis, [(places[epsilon], summary) for epsilon, summary in scene.curves[shown]])
    axis.set_xticks(list(places.values()), list(map(epsilon_name, places)))
    axis.set(xlim=(min(places.values()) - 0.25, max(places.values()) + 0.25), ylim=scene.span)


def _band(axis: Axes, curve: Sequence[tuple[float, Summary]]) -> None:
    """The intervals: a band between several budgets, a bar at each."""
    known = [(place, summary.low, summary.high) for place, summary in curve if summary.low is not None and summary.high is not None]
    if known:
        places, lows, highs = zip(*known, strict=True)
        axis.fill_between(places, lows, highs, color=ACCENT, alpha=0.18, linewidth=0)
        axis.vlines(places, lows, highs, color=ACCENT, linewidth=0.8)


# --- learning curves --------------------------------------------------------------------------------------------------


Curves = tuple[list[int], NDArray[np.float64]]
"""Steps, and scores (runs, evaluations)."""


def _learning_curves(section: Section) -> Picture:
    name, title = "learning-curves", "Learning curves"
    if section.agent is None or section.headline is None:
        return Picture(name, title, "", missing="No agent was trained in this sweep.")
    kind, agent = section.agent
    curves = {method.title: found for method in section.methods if (found := _curves(method, kind, agent)) is not None}
    if not curves:
        return Picture(name, title, "", missing="No agent has finished yet.")
    families = {synth: there for synth, own in section.families.items() if (there := [method for method in own if method.title in curves])}
    span = _airy(min(float(scores.min()) for _, scores in curves.values()), max(float(scores.max()) for _, scores in curves.values()))
    real = curves.get(section.real.title) if section.real else None
    counts = sorted({len(scores) for _, scores in curves.values()})
    runs = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    caption = (
        f"{section.headline.scorer} against thousands of gradient steps: the mean over {runs} runs in a band from the lowest to the highest; solid "
        f"for the largest ε, dashed for smaller ones. Behind, in grey: real rows.{left_out(list(families))}"
    )
    panels = tuple(
        Panel(_with_budgets(synth, own), partial(_draw_curves, curves=[curves[method.title] for method in reversed(own)], real=real, span=span))
        for synth, own in list(families.items())[:MOST]
    )
    keys = tuple(leaf["key"] for method in section.methods for leaf, _ in method.finished(kind, agent))
    return Picture(name, title, caption, panels, ("thousands of gradient steps", section.headline.scorer), keys=keys)


def _with_budgets(synth: str, own: Sequence[Method]) -> str:
    budgets = [epsilon_name(method.row.epsilon) for method in own if method.budgeted]
    return f"{synth}, ε = {' and '.join(budgets)}" if budgets else synth


def _curves(method: Method, kind: str, agent: str) -> Curves | None:
    """Those of the runs that are there; None before the first."""
    curves = [record.result["curve"] for _, record in method.finished(kind, agent)]
    return (curves[0]["steps"], np.array([curve["scores"] for curve in curves], float)) if curves else None


def _draw_curves(axis: Axes, curves: Sequence[Curves], real: Curves | None, span: tuple[float, float]) -> None:
    """One method, its largest budget first, before the mean of the real rows."""
    if real is not None:
        axis.plot(np.array(real[0]) / 1000, real[1].mean(0), color=MUTED, linewidth=0.9)
    for dash, (steps, scores) in zip(cycle(DASHES), curves, strict=False):
        axis.plot(np.array(steps) / 1000, scores.mean(0), color=ACCENT, dashes=dash)
        axis.fill_between(np.array(steps) / 1000, scores.min(0), scores.max(0), color=ACCENT, alpha=0.14, linewidth=0)
    axis.set_ylim(span)
    axis.xaxis.set_major_locator(MaxNLocator(4))


# --- claimed and audited epsilon --------------------------------------------------------------------------------------


def _audits(audited: Sequence[Audited]) -> Picture:
    name, title = "audits", "Claimed and audited ε"
    if not audited:
        return Picture(name, title, "", missing="No audit in this store fits a method and ε of these rows; `bench audit` makes them.")
    caption = (
        "Lower bounds that audits found (dots, 95 % confidence each) under the claimed ε (ticks). The line reaches to the bound that a perfect "
        "attack would have given. Where even that would not refute the claim, at the confidence that all audits share, the audit is blind; bounds "
        "are what Gaussian noise implies where all charges are Gaussian, and any noise is the bound without that. Axis: ε."
    )
    panel = Panel(title, partial(_draw_audits, audited=audited))
    return Picture(name, title, caption, (panel,), ("ε", ""), _lines_size(len(audited)), tuple(audit.key for audit in audited))


def _draw_audits(axis: Axes, audited: Sequence[Audited]) -> None:
    places = np.arange(len(audited))
    axis.hlines(places, 0, [audit.ceiling for audit in audited], color=MUTED, linewidth=0.8)
    axis.scatter([audit.found for audit in audited], places, color=ACCENT, s=22, zorder=3)
    axis.scatter([audit.claimed for audit in audited], places, color=INK, marker="|", s=80, zorder=3)
    _name_lines(axis, [f"{audit.method} · {audit.audit}" for audit in audited])
    axis.set_xlim(0, None)


# --- cost -------------------------------------------------------------------------------------------------------------


def _cost(section: Section) -> Picture:
    name, title = "cost", "Cost"
    methods = [method for method in section.methods if method.cost.keys]
    if not methods:
        return Picture(name, title, "", missing="Nothing has finished yet.")
    caption = (
        "Minutes of one core for each synthesizer seed, by phase, means over seeds. The public pre-training serves all budgets; agents, metrics and "
        "attacks are the price of the scores, not of the rows. "
        f"Memory, the larger of fit and sample: {MEMORY}{left_out([method.title for method in methods], MOST_LINES)}"
    )
    keys = tuple(dict.fromkeys(key for method in methods for key in method.cost.keys))
    panel = Panel(title, partial(_draw_cost, methods=methods[:MOST_LINES]))
    return Picture(name, title, caption, (panel,), size=_lines_size(len(methods[:MOST_LINES])), keys=keys)


def _draw_cost(axis: Axes, methods: Sequence[Method]) -> None:
    places, start = np.arange(len(methods)), np.zeros(len(methods))
    for phase, colour in zip(PHASES, PALETTE, strict=True):
        minutes = np.array([method.cost.seconds[phase] / 60 for method in methods])
        if minutes.any():
            axis.barh(places, minutes, left=start, height=0.62, color=colour, label=phase, linewidth=0)
        start += minutes
    _name_lines(axis, [method.title for method in methods])
    axis.set_xlabel("minutes")
    axis.figure.legend(loc="outside upper left", ncols=3, handlelength=1, handleheight=1)


# --- validation -------------------------------------------------------------------------------------------------------


Scores = Mapping[tuple[str, str], Sequence[float]]
"""Of every run, by agent and copy of the real rows."""


def _validation(section: Section) -> Picture:
    """A panel for each kind of corruption: every run's score, and a line through the means of each agent."""
    title = "Does the score fall as real rows are corrupted?"
    agents = {
        column.scorer: (column.kind, plugin)
        for column, plugin in zip(section.group.columns, section.plugins, strict=True)
        if column.kind in UTILITIES
    }
    scores = {(name, method.row.synth): _scores(method, *agent) for name, agent in agents.items() for method in section.methods}
    everything = [score for own in scores.values() for score in own]
    if not everything:
        return Picture("validation", title, "", missing="No agent has finished yet.")
    caption = f"{', '.join(agents)} against the level of each kind of corruption of real rows: every run, and a line through the means."
    draw = partial(_draw_ladder, agents=list(agents), scores=scores, span=_airy(min(everything), max(everything)))
    names = {method.row.synth for method in section.methods}
    kinds = [kind for kind, levels in LADDERS.items() if corrupted(kind, levels[0]) in names]
    panels = tuple(Panel(kind, partial(draw, kind=kind, legend=place == 0 and len(agents) > 1)) for place, kind in enumerate(kinds))
    keys = tuple(leaf["key"] for method in section.methods for leaf in method.leaves)
    return Picture("validation", title, caption, panels, ("level of corruption", "score"), keys=keys)


def _scores(method: Method, kind: str, agent: str) -> list[float]:
    return [record.result["score"] for _, record in method.finished(kind, agent)]


def _draw_ladder(axis: Axes, kind: str, agents: Sequence[str], scores: Scores, span: tuple[float, float], legend: bool) -> None:
    """A line for each agent; more agents than colours begin again with dashes."""
    rungs = (REAL, *(corrupted(kind, level) for level in LADDERS[kind]))
    for agent, (dash, colour) in zip(agents, product(DASHES, PALETTE), strict=False):
        runs = [(place, own) for place, name in enumerate(rungs) if (own := scores.get((agent, name)))]
        axis.plot([place for place, _ in runs], [np.mean(own) for _, own in runs], color=colour, dashes=dash, label=agent)
        axis.scatter([place for place, own in runs for _ in own], [score for _, own in runs for score in own], s=9, color=colour)
    axis.set_xticks(range(len(rungs)), [f"{level:g}" for level in (0, *LADDERS[kind])])
    axis.set_ylim(span)
    if legend:
        axis.legend(loc="best", handlelength=1.6, labelspacing=0.25, borderpad=0)
