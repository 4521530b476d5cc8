"""The contract of an agent: one curve for each seed, that no other seed can change, from policies that respect the action box."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bench.conformance.findings import Finding, findings, require
from bench.conformance.rows import bounds, own_rows, signature
from bench.core.data import Transitions
from bench.core.protocols import Agent, Environment, LearningCurve, Policy, Runtime
from bench.core.rng import rng_for

STEPS, EVERY = 25, 10
"""Not a multiple: the last evaluation must not be forgotten."""
SEEDS = ("first", "second")


@dataclass(eq=False)
class Case:
    """An agent and rows to learn from; `evaluate` notes what it was handed."""

    agent: Agent
    environment: Environment
    complaints: list[str] = field(default_factory=list)
    evaluations: int = 0

    @cached_property
    def data(self) -> Transitions:
        return own_rows(self.environment, "train", 600)

    @cached_property
    def curves(self) -> list[LearningCurve]:
        """Both seeds, trained together."""
        return self.train(SEEDS)

    def train(self, seeds: Sequence[str], evaluate: Callable[[Sequence[Policy]], NDArray] | None = None) -> list[LearningCurve]:
        self.evaluations = 0
        rngs = [rng_for(seed, "agent") for seed in seeds]
        return self.agent.train(self.data, rngs, steps=STEPS, evaluate_every=EVERY, evaluate=evaluate or self.evaluate, runtime=Runtime())

    def given(self, returns: NDArray) -> tuple[bool, NDArray]:
        """Train one seed whose evaluations give these returns: whether its curve holds just them, and how each evaluated policy acts."""
        told = iter(returns)
        actions: list[NDArray] = []

        def evaluate(policies: Sequence[Policy]) -> NDArray:
            actions.extend(np.array(policy(self.data.observations[:50])) for policy in policies)
            return np.array([next(told) for _ in policies])

        (curve,) = self.train(SEEDS[:1], evaluate)
        return list(curve.returns) == list(returns[: len(actions)]), np.array(actions)

    def evaluate(self, policies: Sequence[Policy]) -> NDArray:
        """A stand-in for the mean return: the mean action, which tells policies apart."""
        self.evaluations += len(policies)
        low, high = bounds(self.data.schema.actions)
        observations, returns = self.data.observations[:50], []
        for policy in policies:
            actions = np.asarray(policy(observations))
            if actions.shape != (50, len(low)):
                self.complaints.append(f"a policy maps observations {observations.shape} to actions of shape {actions.shape}")
            elif not ((actions >= low) & (actions <= high)).all():
                self.complaints.append("a policy leaves the declared bounds of the actions")
            returns.append(float(actions.mean()))
        return np.array(returns)


def check_agent(agent: Agent, environment: Environment) -> Iterator[Finding]:
    """All checks, on a few training steps."""
    yield from findings(
        (draws_curves, learns_from_its_rows_alone, keeps_to_the_action_box, leaves_the_rows_alone, repeats_itself, ignores_companions),
        Case(agent, environment),
    )


def draws_curves(case: Case) -> None:
    """One curve for each seed: rising steps that end with the last one, and a finite return for each evaluation."""
    curves = case.curves
    require(len(curves) == len(SEEDS), f"{len(SEEDS)} seeds gave {len(curves)} curves")
    for curve in curves:
        require(list(curve.steps) == sorted(set(curve.steps)) and curve.steps[-1] == STEPS, f"steps {curve.steps} do not rise to {STEPS}")
        require(len(curve.steps) == len(curve.returns), f"{len(curve.returns)} returns at {len(curve.steps)} steps")
        require(bool(np.isfinite(curve.returns).all()), "a return is not finite")
    returns = sum(len(curve.returns) for curve in curves)
    require(returns == case.evaluations, f"{returns} returns of {case.evaluations} policies that were evaluated")


def learns_from_its_rows_alone(case: Case) -> None:
    """A curve holds what its evaluations gave, and whether these rise or fall changes no policy: no best checkpoint, no early stop."""
    (rising, actions), (falling, others) = (case.given(sign * np.arange(1.0, STEPS)) for sign in (1, -1))
    require(rising and falling, "a curve holds other returns than its evaluations gave, or in another order")
    require(np.array_equal(actions, others), "the policies that are evaluated depend on the returns of those before")


def keeps_to_the_action_box(case: Case) -> None:
    """Every evaluated policy maps observations (n, S) to actions (n, A) inside the declared bounds."""
    require(len(case.curves) > 0 and not case.complaints, "; ".join(dict.fromkeys(case.complaints)))


def leaves_the_rows_alone(case: Case) -> None:
    """Training does not change the rows it is lent."""
    before = signature(case.data)
    case.train(SEEDS[:1])
    require(signature(case.data) == before, "train changed its rows in place")


def repeats_itself(case: Case) -> None:
    """The same seed gives the same curve, and another seed another one."""
    require(case.train(SEEDS) == case.curves, "two runs with equal seeds differ")
    require(case.curves[0].returns != case.curves[1].returns, "two seeds gave the same curve")


def ignores_companions(case: Case) -> None:
    """The curve of a seed does not depend on the seeds that are trained beside it."""
    for seed, curve in zip(SEEDS, case.curves, strict=True):
        require(case.train([seed]) == [curve], "a seed trained alone has another curve than in company")
