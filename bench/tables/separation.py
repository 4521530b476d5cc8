"""How many seeds it takes to tell two rows of the leaderboard apart, and what they cost: from the runs there are and the time they took."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bench.core.errors import InputError
from bench.run.cost import cost
from bench.run.spec import Node
from bench.run.store import Record, Store
from bench.tables.leaderboard import STALE, UTILITIES, Cell, Group, Row, Table
from bench.tables.naming import row_label, rows_named
from bench.tables.render.words import heading, shortened
from bench.tables.stats import (
    CONFIDENCE,
    LAYERS,
    POWER,
    Float64,
    common_seeds,
    paired_difference,
    probability_of_improvement,
    seeds_needed,
    variance_parts,
)

AGENT_SEEDS = (1, 3)
"""How many agents a plan trains on each synthetic dataset."""


def separation(table: Table, names: tuple[str, str], store: Store) -> str:
    """What it takes to tell two rows apart under the headline agent: a paragraph for each group that has both.

    Args:
        names: of rows as the table prints them, a synthesizer or "SYNTHESIZER at EPSILON".

    Raises:
        InputError: a name fits no row or several, or the two share no group in which an agent was trained.
    """
    trained = [_scored(group) for group in table.groups if group.headline is not None and group.columns[group.headline].kind in UTILITIES]
    pairs = rows_named(trained, names, "--separate", "no agent was trained on")
    answers = "\n\n".join("\n".join([heading(group), *_answer(group, one, other, store)]) for group, one, other in pairs)
    return f"{answers}\n\n† {STALE}" if "†" in answers else answers


def _scored(group: Group) -> Group:
    """Without the rows on which the headline agent was not trained."""
    return replace(group, body=tuple(row for row in group.body if _headline(group, row)))


def _headline(group: Group, row: Row) -> Cell | None:
    return None if group.headline is None else row.cells[group.headline]


def _answer(group: Group, one: Row, other: Row, store: Store) -> Iterator[str]:
    """The present difference, and a line for each plan, or why there is none."""
    assert group.headline is not None
    cells = [cell for row in (one, other) if (cell := row.cells[group.headline])]
    runs = [cell.runs for cell in cells if cell.summary and cell.runs is not None]
    if len(runs) < 2:
        yield "A run failed or is missing, so that nothing can be said yet: run the same sweep again to complete it."
        return
    ours, theirs = common_seeds(*runs)
    if len(ours) < 2:
        yield "They have one common synthesizer seed, which does not show how much seeds differ: run the sweep with --seeds 3."
        return
    dagger = " †" if any(cell.stale for cell in cells) else ""
    agent = shortened(group).columns[group.headline].scorer
    difference, better = paired_difference(ours, theirs), probability_of_improvement([ours], [theirs]).mean
    yield (
        f"{row_label(one)} minus {row_label(other)} is {difference.mean:.1f} points under {agent}{dagger}, with the "
        f"{CONFIDENCE:.0%} interval {difference.low:.1f} to {difference.high:.1f} on {len(ours)} common synthesizer seeds: they are "
        f"{'separated' if difference.excludes_zero else 'not separated'}. A run of the first scores higher with probability {better:.2f}."
    )
    if round(difference.mean, 1) == 0:
        yield "A difference that is 0 as far as the table shows it needs no seeds: nobody would choose by it."
        return
    yield f"If difference and variance are as they seem now, {CONFIDENCE:.0%} intervals separate them in {POWER:.0%} of all repetitions with"
    work = _Work.of(ours, [cell.keys[0] for cell in cells], store)
    yield from (_plan(difference.mean, ours - theirs, agents, work) for agents in AGENT_SEEDS)
    if ours.shape[2] == 1:
        yield "There is one agent seed per fit so far: which part of the variance is the agents', and would average out over them, is not known."


def _plan(difference: float, runs: Float64, agents: int, work: _Work) -> str:
    fits = [seeds_needed(difference, variance) for variance in _variances(runs, agents)]
    minutes = [work.minutes(count, agents) for count in fits]
    more = [max(0, count - len(runs)) for count in fits]
    return (
        f"  agent seeds per fit: {agents}; synthesizer seeds: {_span(fits)}, "
        f"{_span(more)} more than now; {_span([math.ceil(m) for m in minutes])} minutes of one core"
    )


def _span(numbers: Sequence[int]) -> str:
    return " to ".join(f"{number:,}" for number in sorted(set(numbers)))


def _variances(runs: Float64, agents: int) -> tuple[float, float]:
    """The variance of one fit's mean over its samples and so many agents: the least and the most that is consistent with these runs.

    The two are equal unless the agents' part is not known: it may be all or nothing of the innermost part that is.
    """
    samples = runs.shape[1]
    parts = variance_parts(runs)
    fit, sample, agent = (None if (part := parts[layer]) is None else part.mean for layer in LAYERS)
    assert fit is not None
    if agent is not None:
        known = fit + (sample or 0.0) / samples + agent / samples / agents
        return known, known
    if sample is not None:
        return fit + sample / samples / agents, fit + sample / samples
    return fit / agents, fit


def _behind(key: str, store: Store) -> Record:
    record = store.get(key)
    if record is None:
        raise InputError(f"--results: record {key} behind these rows is not in {store.root}; run the same sweep again")
    return record


@dataclass(frozen=True)
class _Work:
    """Runs (synthesizer, sampling, agent) that both rows have, and the seconds that one more public phase, fit, sample and agent of the two takes."""

    done: tuple[int, ...]
    seconds: dict[str, float]

    @classmethod
    def of(cls, runs: Float64, keys: list[str], store: Store) -> _Work:
        """`keys` are those of a trained agent of each row."""
        trained = [_behind(key, store) for key in keys]
        samples = [_behind(record.inputs["sample"], store) for record in trained]
        fits = [_behind(record.inputs["fit"], store) for record in samples]
        public = {key: _behind(key, store) for fit in fits if (key := fit.inputs.get("pretrained"))}  # one for both, if they share it
        records = (*public.values(), *fits, *samples, *trained)
        nodes = [Node(record.stage, 0, record.parameters, record.inputs, record.plugins) for record in records]
        seconds = cost(nodes, store)
        stages = ("pretrain", "fit", "sample", "train")
        return cls(runs.shape, {stage: sum(seconds[node.key] for node in nodes if node.stage == stage) for stage in stages})

    def minutes(self, fits: int, agents: int) -> float:
        """What is missing to so many fits with so many agents on each sample."""
        fitted, samples, trained = self.done
        fitted_more = max(0, fits - fitted)
        more = {"pretrain": fitted_more, "fit": fitted_more, "sample": samples * fitted_more}
        more["train"] = samples * (fits * agents - min(fits, fitted) * min(agents, trained))
        return sum(count * self.seconds[stage] for stage, count in more.items()) / 60
