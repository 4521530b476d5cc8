"""The contract of an environment: declared bounds that hold, parts that do not meet, a simulator that agrees with the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, is_dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from bench.conformance.findings import Finding, in_order, require
from bench.conformance.rows import bounds, faults, signature
from bench.core.data import PARTS, Transitions, Unit, rows_shared
from bench.core.protocols import Environment, GoalSet, Policy
from bench.core.registry import resolve
from bench.core.rng import rng_for

ROUNDING = 1e-3
"""Share of a declared range by which float32 storage may move a step: a state rounded next to a wall can take another contact."""
FAR_OFF = 8.0
"""Times what is declared, or that part of it: the public N is no longer near the number that noise and delta are chosen for."""
EPISODES = 5
ROWS = 1_000


@dataclass(eq=False)
class Case:
    """An environment and its datasets, each made once."""

    environment: Environment
    made: dict[tuple[str, int], Transitions] = field(default_factory=dict)

    @property
    def of_a_file(self) -> bool:
        """Whether its rows come from files, which are part of every key, and not from a simulator."""
        return hasattr(self.environment, "content")

    def dataset(self, part: str, seed: int = 0) -> Transitions:
        if (part, seed) not in self.made:
            self.made[part, seed] = self.environment.dataset(ROWS, seed, part)
        return self.made[part, seed]


def check_environment(environment: Environment, _: Environment) -> Iterator[Finding]:
    """All checks on the environment's own rows; where it has none (a file is missing), only that."""
    everything = (
        stays_inside_its_schema,
        declares_its_differences,
        repeats_itself,
        parts_do_not_meet,
        holds_what_it_declares,
        has_siblings,
        scales_its_scores,
        steps_as_its_data_does,
        rolls_out,
        relabels_for_its_goals,
        rolls_out_to_its_goals,
    )
    yield from in_order([gives_the_rows_asked_for], everything, Case(environment))


def gives_the_rows_asked_for(case: Case) -> None:
    """Gives exactly the rows asked for, in trajectories; a file gives fewer where it holds no more."""
    for rows in (1, 7, ROWS):
        data = case.environment.dataset(rows, 0, "train")
        everything = case.of_a_file and 0 < len(data) == len(case.environment.dataset(2 * rows, 0, "train")) < rows
        require(len(data) == rows or everything, f"dataset returned {len(data)} rows where {rows} were asked for")
        require(data.trajectories is not None, "the rows have no trajectory offsets")
        require(data.schema == case.environment.schema, "the rows carry another schema than the environment's")


def stays_inside_its_schema(case: Case) -> None:
    """Every part is finite, inside the declared bounds, on the declared levels, in trajectories of at most the declared length."""
    for part in PARTS:
        found = faults(case.dataset(part))
        require(not found, f"part {part}: {'; '.join(found)}")


def declares_its_differences(case: Case) -> None:
    """s' - s stays inside the declared differences."""
    low, high = bounds(case.environment.schema.differences)
    for part in PARTS:
        data = case.dataset(part)
        moved, room = data.next_observations - data.observations, ROUNDING * (high - low)
        require(bool(((moved >= low - room) & (moved <= high + room)).all()), f"part {part}: a step s' - s leaves the declared differences")


def repeats_itself(case: Case) -> None:
    """The same seed and part give the same rows."""
    once, twice = (case.environment.dataset(300, 1, "holdout") for _ in range(2))
    require(signature(once) == signature(twice), "two calls with equal arguments differ")


def parts_do_not_meet(case: Case) -> None:
    """No two parts share a row, nor do two seeds of a simulator; of a file, no trajectory.

    In a file equal rows may be two people's, and each seed splits it anew.
    """
    seeds, parted = ((0,), _trajectory_set) if case.of_a_file else ((0, 1), _row_set)
    datasets = {f"{part} of seed {seed}": parted(case.dataset(part, seed)) for part in PARTS for seed in seeds}
    for (name, one), (other, two) in combinations(datasets.items(), 2):
        require(not one & two, f"{name} and {other} share {len(one & two)} {'trajectories' if case.of_a_file else 'rows'}")


def holds_what_it_declares(case: Case) -> None:
    """A file's train part has about the declared numbers of rows and trajectories, and no column that lies at one of its bounds throughout."""
    environment = case.environment
    if not case.of_a_file:
        return
    schema, remedy = environment.schema, "mend the schema, or the marks of where trajectories end"
    data = environment.dataset(round(FAR_OFF * schema.nominal_rows), 0, "train")
    for what, unit in (("rows", Unit.TRANSITION), ("trajectories", Unit.TRAJECTORY)):
        held, declared = data.units(unit), schema.nominal_units(unit)
        near = declared / FAR_OFF < held < declared * FAR_OFF
        require(near, f"the train part holds {held:,} {what} where {declared:,} are declared; {remedy}")
    for column, values in zip(schema.columns, data.table().T, strict=True):
        varies = column.low < column.high and column.levels is None
        bound = next((bound for bound in (column.low, column.high) if varies and (values == np.float32(bound)).all()), None)
        require(bound is None, f"every {column.name} is at its declared bound {bound}; are the bounds in the units of the file?")


def has_siblings(case: Case) -> None:
    """Its siblings are registered, have its columns, and share no step (s, a, s') with it."""
    rows = case.environment.schema.nominal_rows if case.of_a_file else ROWS  # parts of two files are split apart: few rows of each would not meet
    own = case.environment.dataset(rows, 0, "train")
    for name in case.environment.siblings:
        sibling: Environment = resolve("environments", name).instance
        require(sibling != case.environment, f"{name} is the environment itself, not a sibling")
        names = [[column.name for column in schema.columns] for schema in (sibling.schema, case.environment.schema)]
        require(names[0] == names[1], f"{name} has other columns")
        shared = int(rows_shared(own, sibling.dataset(rows, 0, "train")).sum())
        require(not shared, f"{name} holds {shared} of its rows, perhaps under another reward, so it is not public")


def scales_its_scores(case: Case) -> None:
    """The reference scores rise, the horizon is positive, and the source of the rows is named."""
    low, high = case.environment.reference_scores
    require(low < high, f"reference scores ({low}, {high}) do not rise")
    require(case.environment.horizon >= 1, f"the horizon is {case.environment.horizon}")
    require(bool(case.environment.source), "source is empty")


def steps_as_its_data_does(case: Case) -> None:
    """`step`, where offered, leads from the s and a of a simulated row to its s'."""
    step = getattr(case.environment, "step", None)
    if step is None or case.of_a_file:
        return
    data = case.dataset("holdout")
    reached = step(data.observations, data.actions)
    require(reached.shape == data.next_observations.shape, f"step returned the shape {reached.shape}")
    low, high = bounds(case.environment.schema.differences)
    wrong = ~(np.abs(reached - data.next_observations) <= ROUNDING * (high - low)).all(axis=1)
    require(not wrong.any(), f"step misses s' in {int(wrong.sum())} of {len(data)} rows")


def rolls_out(case: Case) -> None:
    """`rollout`, where offered, gives finite returns (policies, episodes), from starts that all policies share."""
    rollout = getattr(case.environment, "rollout", None)
    if rollout is not None:
        references = list(case.environment.reference_policies.values())
        _compares_policies(case, rollout, references, EPISODES, "return")


def relabels_for_its_goals(case: Case) -> None:
    """`goals`, where offered, are a goal set, whose `relabel` gives every row once for each goal, with states that tell it."""
    goals = _goals(case)
    if goals is None:
        return
    data, names = case.dataset("train"), goals.names
    require(len(names) == len(set(names)) > 0, f"the goals {names} have not each a name of its own")
    before = signature(data)
    told, again = (goals.relabel(data, rng_for("conformance", "relabel")) for _ in range(2))
    require(signature(data) == before, "relabel changed its rows in place")
    require(signature(told) == signature(again), "the same generator relabels the rows otherwise the second time")
    require(len(told) == len(names) * len(data), f"{len(data)} rows for {len(names)} goals became {len(told)} rows")
    require(bool(np.isfinite(told.table()).all()), "a relabelled row is not finite")
    states, told_states = (len(np.unique(rows.observations, axis=0)) for rows in (data, told))
    require(told_states >= len(names) * states, f"{states} states for {len(names)} goals became {told_states} states: some do not tell their goal")
    actions, told_actions = (np.sort(rows.actions, axis=0) for rows in (data, told))
    require(np.array_equal(np.repeat(actions, len(names), axis=0), told_actions), "the actions are not those of the rows, once for each goal")
    require(told.terminals.sum() >= len(names) * data.terminals.sum(), "a terminal row is none for some goal")


def rolls_out_to_its_goals(case: Case) -> None:
    """`rollout` of the goals, where offered, gives finite scores (policies, goals), from starts that all policies share."""
    goals = _goals(case)
    if goals is not None:
        _compares_policies(case, goals.rollout, list(goals.reference_policies.values()), len(goals.names), "score")


def _goals(case: Case) -> GoalSet | None:
    """The goal set, where one is offered."""
    goals = getattr(case.environment, "goals", None)
    if goals is None:
        return None
    require(isinstance(goals, GoalSet), "goals lack an attribute of a GoalSet")
    require(is_dataclass(goals), "goals are no dataclass, so that nothing names them in a key")
    found: GoalSet = goals
    return found


def _compares_policies(case: Case, rollout: Callable[..., NDArray], references: list[Policy], width: int, what: str) -> None:
    """Each policy has `width` finite results, and the same ones again in any company."""

    def run(policies: Sequence[Policy]) -> NDArray:
        return np.asarray(rollout(policies, EPISODES, rng_for("conformance", "rollout")))

    low, high = bounds(case.environment.schema.actions)
    centre, full = (_constant(low + share * (high - low)) for share in (0.5, 1.0))
    everyone = [full, centre, centre, *references]
    alone, together = run([centre]), run(everyone)
    require(together.shape == (len(everyone), width), f"{len(everyone)} policies with {width} {what}s each: the shape is {together.shape}")
    require(bool(np.isfinite(together).all()), f"a {what} is not finite")
    require(np.array_equal(together[1], together[2]), f"one policy, entered twice, has two sets of {what}s: the starts are not common")
    require(np.array_equal(together[1], alone[0]), f"the {what}s of a policy depend on its companions")


def _constant(action: NDArray) -> Policy:
    return lambda observations: np.tile(action, (len(observations), 1))


def _trajectory_set(data: Transitions) -> set[bytes]:
    table = data.table()
    return {table[start:end].tobytes() for start, end in pairwise(data.require_trajectories())}


def _row_set(data: Transitions) -> set[bytes]:
    return {row.tobytes() for row in data.table()}
