"""Synthesizers that each spoil one thing about DP-SGD; `mutants.py` says which checks must see it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from stubs import Array, SgdStub, clipped, scaled

from bench import DPSGD, Ledger, Runtime, State, Transitions, Unit


class BatchOfItsOwn(SgdStub):
    """The rows that it looks at go by the name of a batch that the Ledger drew."""

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        state = super().learn(data, ledger, rng, pretrained, runtime)
        low = ledger._answer("sgd.include", lambda: data.observations.argmin(0))
        return {**state, "low": low}


class OwnInclusion(SgdStub):
    """The Ledger's batch is asked for and only its size is used."""

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(sgd=DPSGD(rate=self.batch / data.schema.nominal_rows, steps=1, clip_norm=1.0))
        batch = rng.choice(len(data), size=len(plan.sgd.include()), replace=False)
        return {"mean": plan.sgd.release(clipped(scaled(data.rows(batch)), 1.0).sum(0)) / self.batch}


class MeanOfAnEmptyBatch(SgdStub):
    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(sgd=DPSGD(rate=self.batch / data.schema.nominal_rows, steps=1, clip_norm=1.0))
        batch = scaled(data.rows(plan.sgd.include()))
        centre = batch[0] * 0  # there may be no first row
        return {"mean": plan.sgd.release(clipped(batch, 1.0).sum(0) + centre) / self.batch}


class DividesByTheRealisedBatch(SgdStub):
    """The size of a Poisson batch tells how many rows there are, and who was in."""

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(sgd=DPSGD(rate=self.batch / data.schema.nominal_rows, steps=1, clip_norm=1.0))
        batch = scaled(data.rows(plan.sgd.include()))
        return {"mean": plan.sgd.release(clipped(batch, 1.0).sum(0)) / max(len(batch), 1)}


class StopsEarly(SgdStub):
    """Trains as long as the loss of the sensitive rows falls: the number of steps tells it."""

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(sgd=DPSGD(rate=self.batch / data.schema.nominal_rows, steps=self.steps, clip_norm=1.0))
        mean, best = np.zeros(len(data.schema.columns)), np.inf
        while (loss := float(np.square(scaled(data) - mean).mean())) < best:
            noisy = plan.sgd.release(clipped(mean - scaled(data.rows(plan.sgd.include())), 1.0).sum(0))
            mean, best = mean - 0.3 * noisy / self.batch, loss
        return {"mean": mean}


class UnitsAsRows(SgdStub):
    """Indices of trajectories are used as indices of rows."""

    units: ClassVar[frozenset[Unit]] = frozenset({Unit.TRAJECTORY})

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(sgd=DPSGD(rate=self.batch / data.schema.nominal_trajectories, steps=1, clip_norm=1.0))
        return {"mean": plan.sgd.release(clipped(scaled(data.rows(plan.sgd.include())), 1.0).sum(0)) / self.batch}


class NoiseOfOneSeed(SgdStub):
    """The same noise at every step, so that differences of steps are exact. Its standard deviation is the declared one to the last digit."""

    @staticmethod
    def add_noise(total: Array, seed: int, scale: float) -> Array:
        normals = np.random.default_rng(7).standard_normal(total.shape)
        noise: Array = normals / np.sqrt(np.mean(normals**2))
        return total + scale * noise


class NoiseOfCoins(SgdStub):
    """Heads or tails has the standard deviation of a normal, and shows whatever lies between the two."""

    @staticmethod
    def add_noise(total: Array, seed: int, scale: float) -> Array:
        return total + scale * np.random.default_rng(seed).choice([-1.0, 1.0], total.shape)
