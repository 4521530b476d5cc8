"""The first thing on the page: which synthesizer at which epsilon, how surely, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bench.report.boards import Board
from bench.report.choice import Candidate, Choice, choices, soundness
from bench.report.costs import Costs
from bench.report.evidence import Section
from bench.report.markup import breakable, prose, row_name, table
from bench.tables.leaderboard import Cell, Column
from bench.tables.render.words import label

_FROM_A_FILE = (
    "These scores come from the rows of a file. Where those are sensitive, who chooses by the scores, or shows them, gives away what no ε counts."
)


def advice(section: Section, board: Board, costs: Costs) -> str:
    """A sentence and a table of candidates for each budget; empty while nothing ranks the rows."""
    headline = section.headline
    made = [_sentence(choice, headline) + _candidates(choice, headline, board, costs) for choice in choices(section) if headline]
    warned = "" if section.group.source == "local-simulator" else f"<p>{_FROM_A_FILE}</p>"
    last = f"<p>{prose(soundness(section))}</p>{warned}"
    return f'<section class="choice"><h3>Which one to use</h3>{"".join(made)}{last}</section>' if made else ""


def _sentence(choice: Choice, headline: Column) -> str:
    first, others = choice.candidates[0], len(choice.candidates) - 1
    best = f"<strong>{escape(first.method.row.synth)}</strong> has the best mean of {breakable(headline.scorer)}"
    text = f"At ε = {choice.epsilon:g}, {best} of all rows under this budget"
    if first.score.planned == 1:
        sure = ". With a single run of each nothing is sure."
    elif others:
        sure = f" over {first.score.n} runs, but these cannot tell it from {others} other{'s' if others > 1 else ''}: fidelity and cost may decide."
    elif choice.worse:
        sure = f" over {first.score.n} runs, and these tell it from every other{' that has all its runs' if choice.unknown else ''}."
    else:
        sure = f" over {first.score.n} runs; no other has all its runs."
    names = [candidate.method.row.synth for candidate in choice.worse]
    below = "the best of them" if len(names) > 1 else "it"
    worse = f" Surely worse, each at 95 % confidence: {', '.join(names)}; {below} stands below the line." if names else ""
    unknown = f" Without a complete score: {', '.join(choice.unknown)}." if choice.unknown else ""
    kept_up = [f"{name}, whose mean is even better" if better else name for name, better in choice.floors.items()]
    floors = f" Not surely worse, and without any sensitive row: {'; '.join(kept_up)}." if kept_up else ""
    return f"<p>{text}{sure}{breakable(worse + floors + unknown)}</p>"


def _candidates(choice: Choice, headline: Column, board: Board, costs: Costs) -> str:
    """The headline score, how far the first is ahead, the cost, and each metric's first score; of the rows that are surely worse the best alone."""
    columns, shown = board.group.columns, (*choice.candidates, *choice.worse[:1])
    rows = [board.group.body.index(candidate.method.row) for candidate in shown]
    scorers = {column.scorer: place for place, column in reversed(list(enumerate(columns))) if column.kind == "fidelity"}
    fidelity = sorted(scorers.values())
    times = _seconds(shown)
    names = [label(headline, True), "behind the first", *times, "memory at most", *(label(columns[place], True) for place in fidelity)]
    behind = [_behind(candidate, shown[0]) for candidate in shown]
    titles = [f"{candidate.method.title}: how far the first is ahead, over common seeds" for candidate in shown]
    cells = [
        board.scores(rows, columns.index(headline)),
        board.differences(behind, headline, titles),
        *([costs.time(candidate.method, own) for candidate, own in zip(shown, seconds, strict=True)] for seconds in times.values()),
        [costs.memory(candidate.method) for candidate in shown],
        *(board.scores(rows, place) for place in fidelity),
    ]
    head = "".join(f"<th>{breakable(name)}</th>" for name in names)
    lines = [f"<tr>{row_name(each.method.row.synth)}{''.join(own)}</tr>" for each, own in zip(shown, zip(*cells, strict=True), strict=True)]
    last = len(choice.candidates)
    return table(f"<tr><th class=name>synthesizer</th>{head}</tr>", ["".join(body) for body in (lines[:last], lines[last:]) if body])


def _seconds(shown: Sequence[Candidate]) -> dict[str, list[float]]:
    """How long it takes until the rows are there, by header; the public pre-training where there is one."""
    once = [candidate.method.cost.seconds["public pre-training"] for candidate in shown]
    return {**({"public pre-training, once": once} if any(once) else {}), "fit and sample": [candidate.method.cost.release for candidate in shown]}


def _behind(candidate: Candidate, first: Candidate) -> Cell | None:
    if candidate.behind is None:
        return None
    return Cell(candidate.behind, candidate.score.n, candidate.score.planned, keys=(*first.score.keys, *candidate.score.keys))
