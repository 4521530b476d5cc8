"""Whether a utility is fit to rank: what `bench validate` plans, and what it makes of the scores."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hand_made import HandMade
from scipy import stats

from bench import register
from bench.core.data import Schema, Unit
from bench.core.errors import InputError
from bench.core.registry import resolve
from bench.envs.toy import Toy
from bench.run.plan import make_plan
from bench.run.spec import Schedule, Seeds, Sweep, load_sweep
from bench.run.store import Store
from bench.tables.render import render
from bench.tables.validation import LADDERS, MONOTONE, RHO, Validity, conclusion, corrupted, kinds, render_validities, validation_sweep, validities
from synthesizers._parts.corruption import CORRUPTIONS

SWEEP = Sweep(
    preset="tiny",
    env=("toy",),
    agents=("bc",),
    rows=(400,),
    released=200,
    evaluated=200,
    seeds=Seeds(synthesizer=3),
    schedule=Schedule(steps=20, evaluate_every=10, episodes=5, last=2),
)
KINDS = tuple(LADDERS)
RUNGS = 1 + len(LADDERS["independent"])
FALLING = (100.0, 80.0, 60.0, 40.0, 20.0)


@pytest.fixture
def made(tmp_path: Path) -> HandMade:
    return HandMade(Store(tmp_path))


def climb(made: HandMade, ladders: dict[str, Sequence[Sequence[float | None]]], real: Sequence[float | None], scorer: str = "iql") -> list[Validity]:
    """The validities of a hand-made sweep: the runs of `real`, and those of each level of every kind (level 0 left out)."""
    made.row("real", **{scorer: list(real)})
    for kind, rungs in ladders.items():
        for level, runs in zip(LADDERS[kind], rungs, strict=True):
            made.row(corrupted(kind, level), **{scorer: list(runs)})
    return validities(made.table())


def around(mean: float, spread: float = 1.0) -> list[float]:
    """Three runs with this mean and this standard deviation."""
    return [mean - spread, mean, mean + spread]


def half_width(runs: Sequence[float], others: Sequence[float]) -> float:
    """Of the 95 % interval of the mean difference over three common seeds."""
    return float(stats.t.ppf(0.975, 2) * np.std(np.subtract(runs, others), ddof=1) / math.sqrt(3))


def test_a_verdict_that_rests_on_stale_runs_is_marked(made: HandMade) -> None:
    found = climb(made, {KINDS[0]: [around(mean) for mean in FALLING[1:]]}, around(FALLING[0]))
    assert "†" not in render_validities(found)
    stale = validities(made.table((made.leaves[-1]["key"],)))
    assert re.search(f"^{KINDS[0]} .* †$", render_validities(stale), re.MULTILINE)


# --- the sweep --------------------------------------------------------------------------------------------------------


def test_a_validation_scores_agents_alone_on_real_rows_and_their_corrupted_copies() -> None:
    sweep = validation_sweep(load_sweep("laptop", {"env": ["maze2d-umaze"]}))
    assert sweep.synth[0] == "real"
    assert len(set(sweep.synth)) == len(sweep.synth) == 1 + sum(map(len, LADDERS.values()))
    assert (sweep.metrics, sweep.attacks, sweep.unit) == ((), (), Unit.TRANSITION)
    assert sweep.rows == (0,), "level 0 is the `real` of the preset's own table: each fit releases a draw of its own"
    plan = make_plan(sweep)
    assert {leaf.kind for leaf in plan.leaves} == {"goals", "utility"}
    assert {leaf.guarantee for leaf in plan.leaves} == {"none"}


def test_a_validation_changes_nothing_else_and_has_a_name_of_its_own() -> None:
    sweep = validation_sweep(SWEEP)
    assert sweep.preset == "tiny validation"
    kept = ("env", "agents", "rows", "released", "seeds", "schedule", "dataset_seed")
    assert all(getattr(sweep, name) == getattr(SWEEP, name) for name in kept)


@pytest.mark.parametrize("name", validation_sweep(SWEEP).synth)
def test_names_of_corrupted_copies_are_those_that_the_table_will_print(name: str) -> None:
    assert resolve("synthesizers", name).label == name


def test_levels_rise_from_above_0() -> None:
    for levels in LADDERS.values():
        assert levels[0] > 0
        assert list(levels) == sorted(set(levels))


@dataclass(frozen=True)
class Placeless(Toy):
    """Toy's square with columns that are no positions."""

    @property
    def schema(self) -> Schema:
        return replace(super().schema, observations=tuple(replace(column, name=f"s{column.name}") for column in super().schema.observations))


def test_positions_are_blurred_only_where_there_are_any() -> None:
    register("environments", "placeless")(Placeless)
    without = KINDS[:2] + KINDS[3:]
    assert kinds("placeless") == without
    sweep = validation_sweep(replace(SWEEP, env=("placeless",)))
    assert [name for name in sweep.synth if "blurred" in name] == []
    assert len(sweep.synth) == 1 + sum(len(LADDERS[kind]) for kind in without)
    assert conclusion([Validity("placeless", "a", "p", kind, (0.0, 1.0), (2.0, 1.0), 3, -1.0, None) for kind in without]) == "valid"
    assert conclusion([Validity("toy", "a", "p", kind, (0.0, 1.0), (2.0, 1.0), 3, -1.0, None) for kind in without]) == "open: runs are missing"
    with pytest.raises(InputError, match="env: toy-east and placeless cannot be corrupted in the same ways; validate"):
        validation_sweep(replace(SWEEP, env=("toy", "toy-east", "placeless")))


def test_every_kind_that_is_asked_of_an_environment_can_be_done_to_its_rows() -> None:
    register("environments", "placeless")(Placeless)
    for env in ("toy", "placeless"):
        rows = resolve("environments", env).instance.dataset(100, 0, "train")
        for kind, corrupt in CORRUPTIONS.items():
            if kind in kinds(env):
                corrupt(rows, LADDERS[kind][0], np.random.default_rng(0))
            else:
                with pytest.raises(ValueError, match="which this environment has not"):
                    corrupt(rows, LADDERS[kind][0], np.random.default_rng(0))


# --- conclusions ---------------------------------------------------------------------------------------------------------


def test_a_score_that_falls_with_every_level_is_valid_and_sees_the_first(made: HandMade) -> None:
    found = climb(made, {kind: [around(mean) for mean in FALLING[1:]] for kind in KINDS}, around(FALLING[0]))
    assert [validity.kind for validity in found] == list(KINDS)
    for validity in found:
        assert (validity.env, validity.agent, validity.runs) == ("maze2d-medium", "iql", 3)
        assert validity.levels == (0.0, *LADDERS[validity.kind])
        assert validity.means == pytest.approx(FALLING)
        assert validity.correlation == pytest.approx(-1)
        assert validity.visible == LADDERS[validity.kind][0]
        assert validity.valid


@pytest.mark.parametrize("sign", [1, -1])
def test_a_corruption_is_visible_from_where_the_interval_of_the_difference_leaves_0_for_good(sign: int, made: HandMade) -> None:
    """The second level lies on the border; the first, far below, is followed by one that is not, and the fourth is no lower than the third."""
    runs = {level: around(0, spread) for level, spread in enumerate((1.0, 2.0, 0.5, 3.0, 1.5))}
    border = half_width(runs[0], runs[2])
    below = (0.0, 20.0, border + sign * 1e-6, 30.0, 20.0)
    shifted = [[run - depth for run in runs[level]] for level, depth in enumerate(below)]
    (validity,) = climb(made, {"noisy-rewards": shifted[1:]}, shifted[0])
    levels = LADDERS["noisy-rewards"]
    assert validity.visible == (levels[0] if sign > 0 else levels[2])
    assert validity.correlation == pytest.approx(stats.spearmanr(validity.levels, [-depth for depth in below]).statistic)


def test_what_wide_levels_spread_does_not_hide_a_fall_that_every_seed_shows(made: HandMade) -> None:
    exact, wide = [[mean - 0.1, mean, mean + 0.1] for mean in (99.0, 98.0, 97.0, 96.0)], [around(mean, 20.0) for mean in (78.0, 60.0, 40.0, 20.0)]
    found = climb(made, {"independent": exact, "fewer-rows": wide}, [100.0] * 3)
    assert [validity.correlation for validity in found] == pytest.approx([-1, -1])
    assert 40.0 < half_width([100.0] * 3, wide[0]) < 60.0
    assert [validity.visible for validity in found] == [LADDERS["independent"][0], LADDERS["fewer-rows"][2]]


def test_runs_on_common_seeds_are_compared_with_each_other(made: HandMade) -> None:
    """Seeds that differ by 20 points, in all of which a level costs one to two."""
    seeds = np.array([60.0, 80.0, 100.0])
    (validity,) = climb(made, {"independent": [list(seeds - depth * np.array([1.0, 1.5, 2.0])) for depth in (1, 2, 3, 4)]}, list(seeds))
    assert validity.visible == LADDERS["independent"][0]


def test_a_copy_that_is_surely_above_real_rows_is_told_and_makes_the_score_invalid(made: HandMade) -> None:
    above, not_surely = (
        [[102.9, 103.0, 103.1], *(around(mean) for mean in FALLING[2:])],
        [around(103.0, 20.0), *(around(mean) for mean in FALLING[2:])],
    )
    found = climb(made, {"independent": above, "noisy-steps": not_surely}, [99.9, 100.0, 100.1])
    assert [validity.correlation for validity in found] == [MONOTONE, MONOTONE]
    assert [validity.above for validity in found] == [LADDERS["independent"][0], None]
    assert [validity.valid for validity in found] == [False, True]
    assert f"(above real rows at {LADDERS['independent'][0]:g})" in render_validities(found)


def test_noise_is_not_visible_and_not_valid(made: HandMade) -> None:
    rng = np.random.default_rng(0)
    found = climb(made, {kind: list(rng.normal(50, 5, (RUNGS - 1, 3))) for kind in KINDS}, list(rng.normal(50, 5, 3)))
    assert [validity.visible for validity in found] == [None] * len(KINDS)
    assert not any(validity.valid for validity in found)


def test_a_score_that_rises_is_neither(made: HandMade) -> None:
    (validity,) = climb(made, {"noisy-steps": [around(mean) for mean in FALLING[::-1][1:]]}, around(FALLING[-1]))
    assert (validity.correlation, validity.visible, validity.valid) == (pytest.approx(1), None, False)


def test_a_score_that_is_the_same_everywhere_is_neither(made: HandMade) -> None:
    (validity,) = climb(made, {"noisy-steps": [[7.0] * 3] * 4}, [7.0] * 3)
    assert (validity.correlation, validity.visible, validity.valid) == (0.0, None, False)


@pytest.mark.parametrize(("correlation", "valid"), [(-1.0, True), (MONOTONE, True), (-0.89, False), (0.5, False), (None, False)])
def test_valid_is_what_falls_monotonically_but_for_a_neighbour_or_two(correlation: float | None, valid: bool) -> None:
    assert Validity("e", "a", "p", "k", (0.0, 1.0), (2.0, 1.0), 3, correlation, None).valid is valid


def test_a_level_without_a_run_leaves_the_verdict_open(made: HandMade) -> None:
    rungs = {kind: [around(mean) for mean in FALLING[1:]] for kind in KINDS[:2]}
    rungs[KINDS[0]][2] = [None, None, None]
    found = climb(made, rungs, around(FALLING[0]))
    assert (found[0].correlation, found[0].visible, found[0].valid, found[0].runs) == (None, None, False, 0)
    assert math.isnan(found[0].means[3])
    assert found[1].valid
    assert found[1].visible == LADDERS[KINDS[1]][0]
    assert conclusion(found) == "open: runs are missing"
    assert conclusion([*found, replace(found[1], above=LADDERS[KINDS[1]][0])]) == "not valid"


def test_runs_that_failed_are_left_out_of_the_mean_and_counted(made: HandMade) -> None:
    rungs = [[80.0, None, 82.0], *(around(mean) for mean in FALLING[2:])]
    (validity,) = climb(made, {"independent": rungs}, around(FALLING[0]))
    assert validity.means[1] == pytest.approx(81.0)
    assert validity.runs == 2
    assert validity.valid


def test_single_runs_rank_levels_but_cannot_say_what_is_visible(made: HandMade) -> None:
    (validity,) = climb(made, {"independent": [[mean] for mean in FALLING[1:]]}, [FALLING[0]])
    assert validity.correlation == pytest.approx(-1)
    assert (validity.runs, validity.visible) == (1, None)


def test_agents_on_one_fit_say_no_more_than_one_fit(made: HandMade) -> None:
    """They share its rows; that they agree with each other shows nothing of other draws."""
    climb(made, {"independent": [around(mean) for mean in FALLING[1:]]}, around(FALLING[0]))
    for leaf in made.leaves:
        leaf["seeds"] = {"synthesizer": 0, "sampling": 0, "agent": leaf["seeds"]["synthesizer"]}
    (validity,) = validities(made.table())
    assert (validity.means, validity.runs, validity.visible) == (FALLING, 3, None)


def test_scores_over_the_goals_and_on_the_own_task_are_told_apart(made: HandMade) -> None:
    rungs = {"independent": [around(mean) for mean in FALLING[1:]]}
    climb(made, {"independent": [around(mean) for mean in FALLING[::-1][1:]]}, around(FALLING[-1]))
    found = climb(made, rungs, around(FALLING[0]), "iql_over_goals")
    assert {validity.agent: validity.correlation for validity in found} == {"goals/iql": pytest.approx(-1), "iql": pytest.approx(1)}


def test_a_sweep_that_validates_nothing_is_refused(made: HandMade) -> None:
    made.row("real", iql=[1.0, 2.0])
    made.row("pgm", 10.0, iql=[1.0, 2.0])
    with pytest.raises(InputError, match="the newest sweep there validates nothing; start one with `bench validate"):
        validities(made.table())


# --- print ------------------------------------------------------------------------------------------------------------


def test_what_is_printed_is_what_was_found(made: HandMade) -> None:
    rungs = {kind: [around(mean) for mean in FALLING[1:]] for kind in KINDS}
    rungs["noisy-rewards"][1] = [None] * 3
    text = render_validities(climb(made, rungs, around(FALLING[0])))
    title, header, *lines = text.split("\n\n")[0].splitlines()
    assert title == "maze2d-medium · iql · laptop · runs a level: 0 · open: runs are missing"
    assert [line.split()[0] for line in lines] == list(KINDS)
    ends = [header.index(RHO), header.index("visible")]
    assert {len(line[: ends[1]].rstrip()) for line in lines} == {ends[0] + 1}, "correlations end below their title"
    printed = {line.split()[0]: (line[: ends[0] - 5].split(), line[ends[0] - 5 :].split()) for line in lines}
    independent, noisy = ([f"{level:g}:" for level in (0, *LADDERS[kind])] for kind in ("independent", "noisy-rewards"))
    assert printed["independent"][1] == ["-1.00", f"{LADDERS['independent'][0]:g}"]
    assert printed["noisy-rewards"][1] == ["—", "—"]
    scores = [f"{mean:.1f}" for mean in FALLING]
    assert printed["independent"][0][1:] == list(chain.from_iterable(zip(independent, scores, strict=True)))
    assert printed["noisy-rewards"][0][1:] == list(chain.from_iterable(zip(noisy, [*scores[:2], "—", *scores[3:]], strict=True))), "what is there"
    assert max(map(len, text.splitlines())) <= 160


def test_a_score_is_valid_only_if_it_is_under_every_kind(made: HandMade) -> None:
    rungs = {kind: [around(mean) for mean in FALLING[1:]] for kind in KINDS}
    assert "· runs a level: 3 · valid\n" in render_validities(climb(made, rungs, around(FALLING[0])))
    other = HandMade(made.store, {"env": "maze2d-large"})
    rungs[KINDS[-1]] = [around(50.0)] * 4
    assert "maze2d-large · iql · laptop · runs a level: 3 · not valid\n" in render_validities(climb(other, rungs, around(FALLING[0])))


def test_the_table_of_a_validation_is_one_like_any_other(made: HandMade) -> None:
    climb(made, {kind: [around(mean) for mean in FALLING[1:]] for kind in KINDS}, around(FALLING[0]))
    assert corrupted("fewer-rows", LADDERS["fewer-rows"][1]) in render(made.table(), "text")


def test_one_swap_of_neighbours_among_five_levels_is_still_valid(made: HandMade) -> None:
    """Spearman's formula gives 1 - 6 * 2 / (5 * 24) = .9, and rounding must not make it less."""
    rungs = [around(96.2)[::-1], *(around(mean) for mean in (80.0, 60.0, 40.0))]
    (validity,) = climb(made, {"independent": rungs}, around(96.1))
    assert validity.correlation == MONOTONE
    assert validity.valid


@pytest.mark.parametrize(
    ("kinds", "runs", "said"), [(KINDS, 3, "valid"), (KINDS, 1, "valid by single runs"), (KINDS[1:], 3, "open: runs are missing")]
)
def test_a_verdict_tells_of_single_runs_and_asks_for_every_kind(kinds: Sequence[str], runs: int, said: str) -> None:
    assert conclusion([Validity("toy", "a", "p", kind, (0.0, 1.0), (2.0, 1.0), runs, -1.0, None) for kind in kinds]) == said
