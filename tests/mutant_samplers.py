"""Samplers that each break one promise of a fitted model, to be put into a sound method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from stubs import Array, DriftSampler, LossSampler, NormalSampler, Stub

from bench import Runtime, State, Transitions
from bench.core.data import Index


def with_sampler(stub: type[Stub], sampler: type) -> Stub:
    """The stub with a spoiled sampler."""
    mutant: Stub = type(sampler.__name__, (stub,), {"sampler": sampler})()
    return mutant


class OneRowShort(NormalSampler):
    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        return super().sample(max(1, n - 1), rng, runtime=runtime)


class OutOfBounds(NormalSampler):
    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        rows = super().sample(n, rng, runtime=runtime)
        return replace(rows, actions=rows.actions * np.float32(1.001))


class NotFinite(NormalSampler):
    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        rows = super().sample(n, rng, runtime=runtime)
        return replace(rows, rewards=np.where(np.arange(n) == n - 1, np.float32(np.nan), rows.rewards))


class OffItsLevels(NormalSampler):
    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        rows = super().sample(n, rng, runtime=runtime)
        return replace(rows, terminals=np.ones(n, bool))


class WithoutTimeouts(DriftSampler):
    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        return replace(super().sample(n, rng, runtime=runtime), timeouts=np.zeros(n, bool))


class EndlessTrajectory(DriftSampler):
    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        rows = super().sample(n, rng, runtime=runtime)
        return replace(rows, trajectories=np.array([0, n], np.int64))


class HoldsMoreThanItsState(NormalSampler):
    def state(self) -> State:
        return {"mean": np.round(self.held["mean"], 3)}


class NeedsPickle(NormalSampler):
    def state(self) -> State:
        return {**self.held, "schema": np.array([self.schema], object)}


class HoldsLists(NormalSampler):
    def state(self) -> Any:
        return {name: array.tolist() for name, array in self.held.items()}


class KeepsAGenerator(NormalSampler):
    generator = np.random.default_rng(0)

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        return super().sample(n, self.generator, runtime=runtime)


class FixedSeed(NormalSampler):
    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        return super().sample(n, np.random.default_rng(0), runtime=runtime)


class RestlessLoss(LossSampler):
    def loss(self, data: Transitions, rows: Index, rng: np.random.Generator, *, runtime: Runtime) -> Array:
        return super().loss(data, rows, np.random.default_rng(), runtime=runtime)


class CrowdedLoss(LossSampler):
    def loss(self, data: Transitions, rows: Index, rng: np.random.Generator, *, runtime: Runtime) -> Array:
        losses = super().loss(data, rows, rng, runtime=runtime)
        return losses / losses.mean(axis=0)
