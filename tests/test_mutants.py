"""Conformance must catch what it is there to catch: each mutant breaks one promise, and exactly the checks that guard it fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from mutants import MUTANTS, Histograms
from numpy.typing import NDArray
from stubs import Array, BinSampler, Stub, as_plugin, rows_from, scaled

from bench import LearningCurve, Runtime, Transitions, Unit, register
from bench.conformance import check
from bench.core.protocols import Environment, Estimate
from bench.core.registry import resolve


def failed(instance: Any, group: str = "synthesizers", environment: Environment | None = None) -> set[str]:
    return {finding.check for finding in check(as_plugin(instance, group), environment) if not finding.ok}


@pytest.mark.parametrize(("mutant", "guards"), MUTANTS, ids=lambda value: type(value).__name__ if isinstance(value, Stub) else "")
def test_a_spoiled_synthesizer_is_caught_by_its_guards_alone(mutant: Stub, guards: set[str]) -> None:
    assert failed(mutant) == guards


def test_the_method_that_the_mutants_spoil_is_sound() -> None:
    assert not failed(Histograms())


@dataclass(frozen=True)
class EndsTheProcess(Histograms):
    def learn(self, *arguments: Any) -> Any:
        raise SystemExit(0)


def test_a_method_that_ends_the_process_has_not_passed() -> None:
    assert failed(EndsTheProcess()) == {"fits"}


def test_what_is_no_plugin_of_its_kind_is_not_run() -> None:
    class Nothing:
        pass

    class Thawed(Histograms):
        __dataclass_params__ = None

    assert failed(Nothing()) == {"offers-its-role"}
    assert failed(Thawed()) == {"has-an-identity"}


# --- the other kinds: a registered plugin behind a spoiled method -----------------------------------------------------------------------------------


def spoiled(original: Any, **changes: Any) -> Any:
    """A copy of `original` with other attributes or methods (which lose their `self`)."""
    kept = {field.name: changes.pop(field.name, getattr(original, field.name)) for field in fields(original)}
    body = {name: staticmethod(value) if callable(value) else value for name, value in changes.items()}
    return type(type(original).__name__, (type(original),), {**body, "__module__": __name__})(**kept)


def spoil_rows(change: Any) -> Any:
    """A `dataset` whose rows went through `change`."""
    toy = resolve("environments", "toy").instance
    return lambda rows, seed, part: change(toy.dataset(rows, seed, part), seed, part)


def private_starts(policies: Sequence[Any], episodes: int, rng: np.random.Generator) -> Array:
    toy = resolve("environments", "toy").instance
    return np.concatenate([toy.rollout([policy], episodes, rng) for policy in policies])


ENVIRONMENTS = {
    "a-row-short": (lambda: {"dataset": spoil_rows(lambda data, seed, part: data.without([len(data) - 1]))}, "gives-the-rows-asked-for"),
    "out-of-bounds": (
        lambda: {"dataset": spoil_rows(lambda data, seed, part: replace(data, rewards=data.rewards - (part == "reference")))},
        "stays-inside-its-schema",
    ),
    "jumps": (
        lambda: {"dataset": spoil_rows(lambda data, seed, part: replace(data, next_observations=-data.next_observations))},
        "declares-its-differences",
    ),
    "one-part": (
        lambda: {"dataset": lambda rows, seed, part: resolve("environments", "toy").instance.dataset(rows, seed, "train")},
        "parts-do-not-meet",
    ),
    "restless": (
        lambda: {
            "dataset": spoil_rows(
                lambda data, seed, part: replace(data, actions=np.clip(data.actions * np.float32(np.random.default_rng().random()), -1, 1))
            )
        },
        "repeats-itself",
    ),
    "own-sibling": (lambda: {"siblings": ("toy",)}, "has-siblings"),
    "upside-down": (lambda: {"reference_scores": (1.0, 0.0)}, "scales-its-scores"),
    "other-step": (lambda: {"step": lambda observations, actions: observations}, "steps-as-its-data-does"),
    "other-step-of-a-simulator-of-ones-own": (
        lambda: {"source": "mine", "step": lambda observations, actions: observations},
        "steps-as-its-data-does",
    ),
    "private-starts": (lambda: {"rollout": private_starts}, "rolls-out"),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_spoiled_environment_is_caught(name: str) -> None:
    changes, guard = ENVIRONMENTS[name]
    assert guard in failed(spoiled(resolve("environments", "toy").instance, **changes()), "environments")


def test_a_simulator_may_have_a_word_of_its_own_for_its_rows() -> None:
    assert not failed(spoiled(resolve("environments", "toy").instance, source="my-simulator"), "environments")


def test_the_same_steps_under_another_reward_are_not_public() -> None:
    toy = resolve("environments", "toy").instance
    register("environments", "relabelled")(type(spoiled(toy, dataset=spoil_rows(lambda data, *_: replace(data, rewards=data.rewards / 2)))))
    assert failed(spoiled(toy, siblings=("relabelled",)), "environments") == {"has-siblings"}


class CloneOfTheMean:
    """An agent in miniature: a policy that adds the seed's own error to the mean action; spoiled through `fault`."""

    version = 1

    def train(self, data: Transitions, rngs: Sequence[Any], *, steps: int, evaluate_every: int, evaluate: Any, runtime: Runtime) -> list[Any]:
        marks = [*range(evaluate_every, steps, evaluate_every), steps]
        policies = [self.policy(data, rng, len(rngs)) for rng in rngs]
        returns = np.array([evaluate(policies) for _ in marks])
        return [LearningCurve(tuple(marks), tuple(map(float, curve))) for curve in returns.T]

    def policy(self, data: Transitions, rng: np.random.Generator, companions: int) -> Any:
        action = np.clip(data.actions.mean(0) + 0.1 * rng.standard_normal(data.actions.shape[1]), -1, 1)
        return lambda observations: np.tile(action, (len(observations), 1))


@dataclass(frozen=True)
class SoundAgent(CloneOfTheMean):
    pass


@dataclass(frozen=True)
class OneAfterAnother(CloneOfTheMean):
    def train(self, data: Transitions, rngs: Sequence[Any], **options: Any) -> list[Any]:
        return [curve for rng in rngs for curve in super(OneAfterAnother, self).train(data, [rng], **options)]


@dataclass(frozen=True)
class Sociable(CloneOfTheMean):
    def policy(self, data: Transitions, rng: np.random.Generator, companions: int) -> Any:
        sound = super().policy(data, rng, companions)
        return lambda observations: sound(observations) / companions


@dataclass(frozen=True)
class Violent(CloneOfTheMean):
    def policy(self, data: Transitions, rng: np.random.Generator, companions: int) -> Any:
        sound = super().policy(data, rng, companions)
        return lambda observations: sound(observations) + 2


@dataclass(frozen=True)
class Seedless(CloneOfTheMean):
    def policy(self, data: Transitions, rng: np.random.Generator, companions: int) -> Any:
        return super().policy(data, np.random.default_rng(0), companions)


@dataclass(frozen=True)
class Boastful(CloneOfTheMean):
    """Reports the best checkpoint so far."""

    def train(self, data: Transitions, rngs: Sequence[Any], **options: Any) -> list[Any]:
        return [replace(curve, returns=tuple(np.maximum.accumulate(curve.returns))) for curve in super().train(data, rngs, **options)]


@dataclass(frozen=True)
class Choosy(CloneOfTheMean):
    """Goes on with the policy of its seed only while returns do not fall."""

    def train(self, data: Transitions, rngs: Sequence[Any], *, evaluate: Any, **options: Any) -> list[Any]:
        returns: list[NDArray] = []

        def evaluate_the_chosen(policies: Sequence[Any]) -> NDArray:
            fell = bool(returns) and (returns[-1] < returns[0]).any()
            returns.append(evaluate([(lambda seen: np.zeros((len(seen), 2))) if fell else policy for policy in policies]))
            return returns[-1]

        return super().train(data, rngs, evaluate=evaluate_the_chosen, **options)


@dataclass(frozen=True)
class Vandal(CloneOfTheMean):
    def policy(self, data: Transitions, rng: np.random.Generator, companions: int) -> Any:
        data.rewards[:] += 1
        return super().policy(data, rng, companions)


@pytest.mark.parametrize(
    ("agent", "guards"),
    [
        (SoundAgent(), set()),
        (OneAfterAnother(), set()),
        (Sociable(), {"ignores-companions"}),
        (Violent(), {"keeps-to-the-action-box"}),
        (Seedless(), {"repeats-itself"}),
        (Boastful(), {"learns-from-its-rows-alone"}),
        (Choosy(), {"learns-from-its-rows-alone"}),
        (Vandal(), {"leaves-the-rows-alone"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_spoiled_agent_is_caught_by_its_guard_alone(agent: Any, guards: set[str]) -> None:
    assert failed(agent, "agents") == guards


@pytest.mark.parametrize(
    ("changes", "guards"),
    [
        ({}, set()),
        ({"better": {"one_way": "lower"}}, {"is-best-on-the-target-itself"}),
        ({"better": {}}, {"names-its-scores", "is-best-on-the-target-itself"}),
        ({"score": lambda synthetic, target, environment, rng: {"one_way": float("nan")}}, {"names-its-scores", "is-best-on-the-target-itself"}),
        ({"score": lambda *_: {"one_way": 0.5}}, {"is-best-on-the-target-itself"}),
        ({"score": lambda *_: {"one_way": float(np.random.default_rng().random())}}, {"repeats-itself"}),
        ({"unit": "transition"}, {"compares-its-unit"}),
        ({"unit": Unit.TRAJECTORY}, {"compares-its-unit"}),
    ],
)
def test_a_spoiled_metric_is_caught(changes: dict[str, Any], guards: set[str]) -> None:
    assert guards <= failed(spoiled(resolve("metrics", "one-way").instance, **changes), "metrics")


@pytest.mark.parametrize(
    ("changes", "guards"),
    [
        ({}, set()),
        ({"unit": Unit.TRANSITION}, {"compares-its-unit"}),
        ({"better": {"autocorrelation": "higher"}}, {"is-best-on-the-target-itself"}),
        ({"score": lambda *_: {}}, {"compares-its-unit"}),
        ({"score": lambda *_: {"autocorrelation": 0.0}}, {"compares-its-unit", "is-best-on-the-target-itself"}),
    ],
)
def test_a_spoiled_metric_of_trajectories_is_caught(changes: dict[str, Any], guards: set[str]) -> None:
    assert failed(spoiled(resolve("metrics", "autocorrelation").instance, **changes), "metrics") == guards


def test_a_metric_that_does_not_say_what_it_compares_is_not_run() -> None:
    @dataclass(frozen=True)
    class Unitless:
        version = 1
        better: Any = None

        def score(self, *_: Any) -> dict[str, float]:
            return {}

    assert failed(Unitless(), "metrics") == {"offers-its-role"}


@pytest.mark.parametrize("name", ["nearest-record", "attribute-inference"])
def test_an_attack_with_the_classes_swapped_is_caught(name: str) -> None:
    sound = resolve("attacks", name).instance

    def swapped(target: Any, shadows: Any, members: Transitions, non_members: Transitions, *rest: Any, **options: Any) -> Any:
        return sound.attack(target, shadows, non_members, members, *rest, **options)

    assert failed(spoiled(sound, attack=swapped), "attacks") == {"sees-a-leak"}


def told(value: float, low: float, high: float, blur: float = 0.0) -> Any:
    """An attack that says this of whatever it is shown."""
    names = resolve("attacks", "nearest-record").instance.better
    return lambda *_, **__: dict.fromkeys(names, Estimate(value + blur * float(np.random.default_rng().random()), low, high))


@pytest.mark.parametrize(
    ("attack", "guards"),
    [
        (told(0.9, 0.8, 1.0), {"is-blind-to-a-blind-release", "sees-a-leak"}),
        (told(0.5, 0.4, 0.6), {"sees-a-leak"}),
        (told(0.55, 0.58, 0.59), {"gives-intervals", "sees-a-leak"}),
        (told(0.55, 0.52, 0.59, 1e-6), {"repeats-itself"}),
    ],
)
def test_an_attack_that_looks_at_nothing_is_caught(attack: Any, guards: set[str]) -> None:
    assert guards <= failed(spoiled(resolve("attacks", "nearest-record").instance, attack=attack), "attacks")


def test_an_attack_without_an_auc_has_to_see_a_leak_too() -> None:
    sound, said = resolve("attacks", "nearest-record").instance, {"tpr_at_1": Estimate(0.5, 0.4, 0.6)}
    assert failed(spoiled(sound, better={"tpr_at_1": "lower"}, attack=lambda *_, **__: said), "attacks") == {"sees-a-leak"}


def test_an_attack_whose_estimates_have_no_good_direction_is_caught() -> None:
    sound = resolve("attacks", "nearest-record").instance
    assert failed(spoiled(sound, better=dict.fromkeys(sound.better, "down")), "attacks") == {"names-its-estimates", "sees-a-leak"}


def test_rows_survive_the_way_through_the_unit_box(toy: Environment) -> None:
    data = toy.dataset(100, 0, "train")
    assert np.allclose(rows_from(data.schema, scaled(data)).table(), data.table(), atol=1e-6)
    assert BinSampler(data.schema, {}).state() == {}
