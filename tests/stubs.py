"""One small synthesizer of each kind that the framework must carry without change; every one passes the conformance checks.

They work on the table scaled to [-1, 1] by the declared bounds, and are as crude as a method can be.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench import DPSGD, Exponential, Gaussian, Guarantee, Ledger, Runtime, Sampler, Schema, State, Transitions, Unit
from bench.core.data import Index
from bench.core.registry import Plugin
from bench.core.sources import source_digest

Array = NDArray[np.float64]


def scaled(data: Transitions) -> Array:
    """The table (n, D) in [-1, 1]."""
    low, width = box(data.schema)
    return 2 * (data.table() - low) / width - 1


def rows_from(schema: Schema, unit_box: Array, timeouts: Any = None, trajectories: Any = None) -> Transitions:
    """The way back, clipped to the schema."""
    low, width = box(schema)
    table = low + (unit_box + 1) / 2 * width
    bounds = np.array([(column.low, column.high) for column in schema.columns], np.float32).T
    return Transitions.from_table(schema, np.clip(table.astype(np.float32), *bounds), timeouts, trajectories)


def box(schema: Schema) -> tuple[Array, Array]:
    low, high = np.array([(column.low, column.high) for column in schema.columns]).T
    return low, np.where(high > low, high - low, 1.0)


def clipped(vectors: Array, norm: float) -> Array:
    """Each row scaled down to at most `norm`."""
    return vectors * np.minimum(1, norm / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


@dataclass(frozen=True)
class Stub(ABC):
    """What the stubs have in common; `learn` returns the state."""

    version: ClassVar[int] = 1
    guarantee: ClassVar[Guarantee] = Guarantee.DP
    units: ClassVar[frozenset[Unit]] = frozenset({Unit.TRANSITION})
    needs_public: ClassVar[bool] = False
    sampler: ClassVar[Any]

    def fit(
        self,
        data: Transitions,
        ledger: Ledger,
        rng: np.random.Generator,
        *,
        public: Mapping[str, Transitions],
        pretrained: State | None,
        runtime: Runtime,
    ) -> Sampler:
        return self.sampler(data.schema, self.learn(data, ledger, rng, pretrained, runtime))

    @abstractmethod
    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        """What the stub is a stub of: rows in, the sampler's state out."""

    def restore(self, schema: Schema, state: State) -> Sampler:
        return self.sampler(schema, state)


@dataclass(frozen=True, eq=False)
class NormalSampler:
    """Rows normal around `mean`, with the standard deviation `spread` or one half."""

    schema: Schema
    held: State

    def state(self) -> State:
        return dict(self.held)

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        mean = self.held["mean"]
        return rows_from(self.schema, mean + self.held.get("spread", 0.5) * rng.standard_normal((n, len(mean))))


@dataclass(frozen=True)
class SgdStub(Stub):
    """DP-SGD on the squared distance to a mean vector."""

    batch: int = 40
    steps: int = 20
    clip_norm: float = 1.0
    sampler: ClassVar[Any] = NormalSampler
    add_noise: ClassVar[Any] = None

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        rate = self.batch / data.schema.nominal_rows
        plan = ledger.plan(sgd=DPSGD(rate=rate, steps=self.steps, clip_norm=self.clip_norm))
        mean = rng.standard_normal(len(data.schema.columns)) / 10
        for step in range(self.steps):
            batch = scaled(data.rows(plan.sgd.include()))
            noisy = plan.sgd.release(clipped(mean - batch, self.clip_norm).sum(0), self.add_noise)
            mean = mean - 0.3 * noisy / self.batch
            runtime.progress(step + 1, self.steps)
        return {"mean": mean}


@dataclass(frozen=True, eq=False)
class LossSampler(NormalSampler):
    """With `loss`: the squared distance to the mean, blurred by noise at two levels."""

    def loss(self, data: Transitions, rows: Index, rng: np.random.Generator, *, runtime: Runtime) -> Array:
        table = scaled(data.rows(rows))[:, None, :]
        noise = np.array([[0.1], [0.5]]) * rng.standard_normal((2, table.shape[2]))
        return ((table + noise - self.held["mean"]) ** 2).sum(2)


@dataclass(frozen=True)
class LossStub(SgdStub):
    """The same fit, with a sampler that white-box attacks can question; it offers a copy for audits."""

    sampler: ClassVar[Any] = LossSampler

    def audit_size(self) -> LossStub:
        return LossStub(steps=5)


@dataclass(frozen=True, eq=False)
class BinSampler:
    """Each column uniform inside its own bin."""

    schema: Schema
    held: State

    def state(self) -> State:
        return dict(self.held)

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        modes = self.held["modes"]
        return rows_from(self.schema, 2 * (modes + rng.random((n, len(modes)))) / self.held["bins"] - 1)


def bin_counts(values: Array, bins: int) -> Array:
    """Counts of [-1, 1] values in equal bins; the edge bins take the rest."""
    return np.bincount(np.clip((values + 1) / 2 * bins, 0, bins - 1).astype(int), minlength=bins).astype(float)


@dataclass(frozen=True)
class PickStub(Stub):
    """The fullest bin of each column by the exponential mechanism; a row moves one count of a column by one."""

    bins: int = 4
    sampler: ClassVar[Any] = BinSampler

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(
            mode=Exponential(sensitivity=1.0, count=len(data.schema.columns), weight=0.5),
            total=Gaussian(l2=1.0, weight=0.5),
        )
        modes = [plan.mode(bin_counts(column, self.bins)) for column in scaled(data).T]
        return {"modes": np.array(modes), "bins": np.array(self.bins), "total": plan.total(len(data))}


@dataclass(frozen=True)
class PateStub(Stub):
    """Teachers on secret shards vote for the fullest bin of each column; a row moves one teacher's vote, by sqrt(2) in L2."""

    teachers: int = 10
    bins: int = 4
    sampler: ClassVar[Any] = BinSampler

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        columns = scaled(data).T
        plan = ledger.plan(votes=Gaussian(l2=2**0.5, count=len(columns), weight=1.0))
        shards = self.shards(data, ledger.secret_key())
        modes = []
        for column in columns:
            ballots = [np.argmax(bin_counts(column[shards == teacher], self.bins)) for teacher in range(self.teachers)]
            modes.append(np.argmax(plan.votes(np.bincount(ballots, minlength=self.bins))))
        return {"modes": np.array(modes), "bins": np.array(self.bins)}

    def shards(self, data: Transitions, key: int) -> Array:
        """The teacher of each row (n,), by a hash of what the row holds: where it stands would change with the rows before it."""
        weights = np.random.default_rng(key).integers(2**63, size=len(data.schema.columns), dtype=np.uint64)
        return (data.table().view(np.uint32) @ weights >> np.uint64(32)) % np.uint64(self.teachers)


@dataclass(frozen=True, eq=False)
class DriftSampler:
    """Trajectories of the horizon's length that start in a normal cloud and drift at a constant rate."""

    schema: Schema
    held: State

    def state(self) -> State:
        return dict(self.held)

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        length, width = self.schema.max_trajectory_length, len(self.schema.columns)
        count = -(-n // length)
        start = self.held["mean"] + 0.3 * rng.standard_normal((count, 1, width))
        table = (start + self.held["drift"] * np.arange(length)[:, None]).reshape(-1, width)[:n]
        ends = np.minimum(np.arange(1, count + 1) * length, n)
        timeouts = np.isin(np.arange(1, n + 1), ends)
        return rows_from(self.schema, table, timeouts, np.concatenate([[0], ends]).astype(np.int64))


@dataclass(frozen=True)
class TrajectoryStub(Stub):
    """Mean first row and mean step of the trajectories, each clipped; the number of trajectories is the public one."""

    sampler: ClassVar[Any] = DriftSampler
    units: ClassVar[frozenset[Unit]] = frozenset({Unit.TRAJECTORY})

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(start=Gaussian(l2=1.0, weight=0.5), drift=Gaussian(l2=0.1, weight=0.5))
        table, offsets = scaled(data), data.require_trajectories()
        first, last = table[offsets[:-1]], table[offsets[1:] - 1]
        trajectories = data.schema.nominal_trajectories
        steps = (last - first) / data.schema.max_trajectory_length
        return {"mean": plan.start(clipped(first, 1.0).sum(0)) / trajectories, "drift": plan.drift(clipped(steps, 0.1).sum(0)) / trajectories}


@dataclass(frozen=True)
class PublicMoments:
    """The public phase of `PublicStub`."""

    version: ClassVar[int] = 1

    def run(self, public: Mapping[str, Transitions], rng: np.random.Generator, *, runtime: Runtime) -> State:
        tables = np.concatenate([scaled(sibling) for sibling in public.values()])
        return {"mean": tables.mean(0), "spread": tables.std(0)}


@dataclass(frozen=True)
class PublicStub(Stub):
    """Pre-trains mean and spread on the siblings; the private phase moves the mean by one noisy sum."""

    sampler: ClassVar[Any] = NormalSampler
    needs_public: ClassVar[bool] = True
    units: ClassVar[frozenset[Unit]] = frozenset(Unit)

    @property
    def pretraining(self) -> PublicMoments:
        return PublicMoments()

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        assert pretrained is not None
        assert ledger.budget is not None
        unit = ledger.budget.unit
        plan = ledger.plan(shift=Gaussian(l2=1.0, weight=1.0))
        gaps = scaled(data) - pretrained["mean"]
        if unit is Unit.TRAJECTORY:
            offsets = data.require_trajectories()
            gaps = np.add.reduceat(gaps, offsets[:-1]) / np.diff(offsets)[:, None]
        shift = plan.shift(clipped(gaps, 1.0).sum(0)) / data.schema.nominal_units(unit)
        return {"mean": pretrained["mean"] + shift, "spread": pretrained["spread"]}


STUBS = {
    "dp-sgd": SgdStub(),
    "exponential": PickStub(),
    "trajectory": TrajectoryStub(),
    "public": PublicStub(),
    "loss": LossStub(),
    "pate": PateStub(),
}


def as_plugin(instance: Any, group: str = "synthesizers") -> Plugin:
    """An instance as `resolve` would return it, without a name in the registry."""
    name = type(instance).__name__
    return Plugin(group, name, name, instance, "tests", source_digest(type(instance)), external=True)
