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


def advice(section: Section, board: Board, costs: Costs) -> str:
    """A sentence and a table of candidates for each budget; empty while nothing ranks the rows."""
    headline = section.headline
    made = [_sentence(choice, headline) + _candidates(choice.candidates, headline, board, costs) for choice in choices(section) if headline]
    return f'<section class="choice"><h3>Which one to use</h3>{"".join(made)}<p>{prose(soundness(section))}</p></section>' if made else ""


def _sentence(choice: Choice, headline: Column) -> str:
    first, others = choice.candidates[0], len(choice.candidates) - 1
    text = f"At ε = {choice.epsilon:g}, <strong>{escape(first.method.row.synth)}</strong> has the best mean of {breakable(headline.scorer)}"
    if first.score.planned == 1:
        sure = "; with a single run of each nothing is sure."
    elif not others:
        sure = ", and the runs tell it from every other row."
    else:
        sure = f", but the runs cannot tell it from {others} {'other' if others == 1 else 'others'}, listed below it: fidelity and cost may decide."
    worse = f" Surely worse: {escape(', '.join(choice.worse))}." if choice.worse else ""
    unknown = f" Not all runs there yet: {escape(', '.join(choice.unknown))}." if choice.unknown else ""
    return f"<p>{text}{sure}{worse}{unknown}</p>"


def _candidates(candidates: Sequence[Candidate], headline: Column, board: Board, costs: Costs) -> str:
    """The headline score, how far the first is ahead, each metric's first score, and the cost."""
    columns = board.group.columns
    rows = [board.group.body.index(candidate.method.row) for candidate in candidates]
    scorers = {column.scorer: place for place, column in reversed(list(enumerate(columns))) if column.kind == "fidelity"}
    fidelity = sorted(scorers.values())
    names = [label(headline, True), "behind the first", *(label(columns[place], True) for place in fidelity), "fit and sample", "memory at most"]
    behind = [_behind(candidate, candidates[0]) for candidate in candidates]
    titles = [f"{candidate.method.title}: how far the first is ahead, over common seeds" for candidate in candidates]
    cells = [
        board.scores(rows, columns.index(headline)),
        board.differences(behind, headline, titles),
        *(board.scores(rows, place) for place in fidelity),
        [costs.time(candidate.method, candidate.method.cost.release) for candidate in candidates],
        [costs.memory(candidate.method) for candidate in candidates],
    ]
    head = "".join(f"<th>{breakable(name)}</th>" for name in names)
    lines = zip(candidates, zip(*cells, strict=True), strict=True)
    body = "".join(f"<tr>{row_name(candidate.method.row.synth)}{''.join(own)}</tr>" for candidate, own in lines)
    return table(f"<tr><th class=name>synthesizer</th>{head}</tr>", [body])


def _behind(candidate: Candidate, first: Candidate) -> Cell | None:
    if candidate.behind is None:
        return None
    return Cell(candidate.behind, candidate.score.n, candidate.score.planned, keys=(*first.score.keys, *candidate.score.keys))
