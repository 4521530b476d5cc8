"""Synthesizers that each break one promise, and the checks that must see it (and no other)."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import numpy as np
from mutant_samplers import (
    CrowdedLoss,
    EndlessTrajectory,
    FixedSeed,
    HoldsLists,
    HoldsMoreThanItsState,
    KeepsAGenerator,
    NeedsPickle,
    NotFinite,
    OffItsLevels,
    OneRowShort,
    OutOfBounds,
    RestlessLoss,
    WithoutTimeouts,
    with_sampler,
)
from mutants_sgd import (
    BatchOfItsOwn,
    DividesByTheRealisedBatch,
    MeanOfAnEmptyBatch,
    NoiseOfCoins,
    NoiseOfOneSeed,
    OwnInclusion,
    StopsEarly,
    UnitsAsRows,
)
from stubs import (
    Array,
    NormalSampler,
    PateStub,
    PickStub,
    PublicStub,
    SgdStub,
    Stub,
    TrajectoryStub,
    bin_counts,
    clipped,
    scaled,
)

from bench import DPSGD, Exponential, Gaussian, Guarantee, Ledger, Runtime, State, Transitions, Unit


class Histograms(Stub):
    """The sound method that most mutants spoil: noisy counts of 8 bins of the first column, whose mean moves the rows."""

    sampler: ClassVar[Any] = NormalSampler

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(counts=Gaussian(l2=1.0, weight=1.0))
        return self.state(data, plan.counts(bin_counts(scaled(data)[:, 0], 8)), rng, runtime)

    def state(self, data: Transitions, counts: Array, rng: np.random.Generator, runtime: Runtime) -> State:
        share = counts[4:].sum() / data.schema.nominal_rows
        return {"mean": np.full(len(data.schema.columns), np.clip(share, 0, 1) - 0.5), "counts": counts}


class MeasuredBounds(Histograms):
    def state(self, data: Transitions, counts: Array, rng: np.random.Generator, runtime: Runtime) -> State:
        return {**super().state(data, counts, rng, runtime), "low": data.observations.min(0)}


class TrueCount(Histograms):
    def state(self, data: Transitions, counts: Array, rng: np.random.Generator, runtime: Runtime) -> State:
        return {**super().state(data, counts, rng, runtime), "frequencies": counts / len(data)}


class FewerRowsThanDeclared(Histograms):
    """Reads the count in one place alone: whether it reaches the declared one."""

    def state(self, data: Transitions, counts: Array, rng: np.random.Generator, runtime: Runtime) -> State:
        return {**super().state(data, counts, rng, runtime), "enough": np.array(len(data) >= data.schema.nominal_rows)}


class UnitInWords(Histograms):
    units = "transition"  # type: ignore[assignment]


class GuaranteeInWords(Histograms):
    guarantee = "DP"  # type: ignore[assignment]


class TrueCountInRate(Stub):
    sampler: ClassVar[Any] = NormalSampler

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(sgd=DPSGD(rate=20 / len(data), steps=1, clip_norm=1.0))
        return {"mean": plan.sgd.release(clipped(scaled(data.rows(plan.sgd.include())), 1.0).sum(0)) / 20}


class ChargesTwice(Histograms):
    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        state = super().learn(data, ledger, rng, pretrained, runtime)
        ledger.charges = ledger.charges * 2
        return state


class NoiseSkipped(Histograms):
    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        super().learn(data, ledger, rng, pretrained, runtime)
        return self.state(data, bin_counts(scaled(data)[:, 0], 8), rng, runtime)


class NoiseOfItsOwn(Histograms):
    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        noisy = super().learn(data, ledger, rng, pretrained, runtime)["counts"]
        own = bin_counts(scaled(data)[:, 0], 8) + noisy.std() * rng.standard_normal(8)
        return self.state(data, (own + noisy) / 2, rng, runtime)


class OutsidePlan(Histograms):
    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(counts=Gaussian(l2=1.0, weight=1.0))
        return {"mean": plan.means(scaled(data).mean(0))}


class AnswersByItself(Histograms):
    """What it has the Ledger answer is recorded, and replayed, and charged to nobody."""

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        low = ledger._answer("low", lambda: data.observations.min(0))
        return {**super().learn(data, ledger, rng, pretrained, runtime), "low": low}


class AnswersAsSecretKey(Histograms):
    """The same under the name of what costs nothing."""

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        low = ledger._answer("secret_key", lambda: data.observations.min(0))
        return {**super().learn(data, ledger, rng, pretrained, runtime), "low": low}


class AnswersAgain(Histograms):
    """The same under the name of a question that was charged for, and answered already."""

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        state = super().learn(data, ledger, rng, pretrained, runtime)
        return {**state, "low": ledger._answer("counts", lambda: data.observations.min(0))}


class AsksAgain(Histograms):
    """The same with noise of its own, as if it had been asked."""

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        state, (charge,) = super().learn(data, ledger, rng, pretrained, runtime), ledger.charges
        exact, scale = ledger.asked("counts", bin_counts(scaled(data)[:, 0], 8)), (charge.noise_multiplier or 0.0) * charge.sensitivity
        return {**state, "again": ledger._answer("counts", lambda: exact + scale * ledger.standard_normal(exact.shape))}


class OneTooMany(Histograms):
    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(counts=Gaussian(l2=1.0, weight=1.0))
        return {"mean": np.sum([plan.counts(bin_counts(column, 8)) for column in scaled(data).T], axis=0)}


class Unclipped(Stub):
    """The sum of many rows stays below their clip norms together, so only neighbours tell."""

    sampler: ClassVar[Any] = NormalSampler

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(sgd=DPSGD(rate=40 / data.schema.nominal_rows, steps=1, clip_norm=0.2))
        batch = scaled(data.rows(plan.sgd.include()))
        total = batch.sum(0)
        bound = 0.2 * len(batch)
        return {"mean": plan.sgd.release(total * min(1, bound / max(float(np.linalg.norm(total)), 1e-12))) / 40}


class UnderstatedSum(Histograms):
    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(counts=Gaussian(l2=1.0, weight=1.0))
        counts = plan.counts(np.concatenate([bin_counts(column, 8) for column in scaled(data).T]))
        return self.state(data, counts[:8], rng, runtime)


class TrustsDeclaredDifferences(Histograms):
    """The sum of s' - s as a share of what is declared of it, which a row may exceed."""

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan, column = ledger.plan(counts=Gaussian(l2=1.0, weight=1.0)), data.schema.differences[0]
        moved = (data.next_observations - data.observations)[:, 0].astype(np.float64) / max(-column.low, column.high)
        return self.state(data, plan.counts(np.append(np.zeros(7), moved.sum())), rng, runtime)


class UnderstatedScore(PickStub):
    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(mode=Exponential(sensitivity=1 / data.schema.nominal_rows, weight=1.0))
        mode = plan.mode(bin_counts(scaled(data)[:, 0], self.bins) / 100)
        noise = ledger.secret_key() % 1000
        return {"modes": np.full(len(data.schema.columns), mode), "bins": np.array(self.bins), "key": np.array(noise)}


class ShardsByPosition(PateStub):
    """Equal shards cut where the rows stand: one row moves the borders of all."""

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(votes=Gaussian(l2=2 * self.teachers / data.schema.nominal_rows, weight=1.0))
        shards = np.array_split(scaled(data)[:, 0], self.teachers)
        votes = plan.votes(np.array([shard.mean() for shard in shards]))
        return {"modes": np.full(len(data.schema.columns), np.argmax(votes) % self.bins), "bins": np.array(self.bins), "votes": votes}


class MemorisedRow(Histograms):
    def state(self, data: Transitions, counts: Array, rng: np.random.Generator, runtime: Runtime) -> State:
        return {**super().state(data, counts, rng, runtime), "archive": np.concatenate([counts, scaled(data)[17]]).astype(np.float32)}


class MoreQuestionsForMoreRows(Histograms):
    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(counts=Gaussian(l2=1.0, weight=1.0, count=4))
        answers = [plan.counts(bin_counts(scaled(data)[:, 0], 8)) for _ in range(1 + len(data) // 2100)]
        return self.state(data, answers[0], rng, runtime)


class OneAnswerForEachRow(Histograms):
    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(values=Gaussian(l2=1.0, weight=1.0))
        return self.state(data, plan.values(scaled(data)[:, 0])[:8], rng, runtime)


class TalkativeProgress(Histograms):
    def state(self, data: Transitions, counts: Array, rng: np.random.Generator, runtime: Runtime) -> State:
        runtime.progress(len(data), len(data))
        return super().state(data, counts, rng, runtime)


class TalkativeLog(Histograms):
    def state(self, data: Transitions, counts: Array, rng: np.random.Generator, runtime: Runtime) -> State:
        logging.getLogger("mutant").debug("mean reward %g", data.rewards.mean())
        return super().state(data, counts, rng, runtime)


class DividesByItsNoise(Histograms):
    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(counts=Gaussian(l2=1.0, weight=1.0))
        return self.state(data, plan.counts(bin_counts(scaled(data)[:, 0], 8)) * (1 / plan.counts.scale), rng, runtime)


class ChangesItsRows(Histograms):
    def state(self, data: Transitions, counts: Array, rng: np.random.Generator, runtime: Runtime) -> State:
        data.rewards[:] = 0
        return super().state(data, counts, rng, runtime)


class PromisesWithoutAPlan(Histograms):
    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        return {"mean": np.zeros(len(data.schema.columns))}


class DataFreeThatPlans(Histograms):
    guarantee: ClassVar[Guarantee] = Guarantee.DATA_FREE


class PublicThatMeasures(PublicStub):
    """What pre-training gave is thrown away, and the spread is measured on the sensitive rows."""

    units: ClassVar[frozenset[Unit]] = frozenset({Unit.TRANSITION})

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        return {**super().learn(data, ledger, rng, pretrained, runtime), "spread": scaled(data).std(0)}


class UnclippedTrajectory(TrajectoryStub):
    """Clips rows, and forgets that a trajectory has many."""

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(rows=Gaussian(l2=1.0, weight=1.0))
        mean = plan.rows(clipped(scaled(data), 1.0).sum(0)) / data.schema.nominal_rows
        return {"mean": mean, "drift": np.zeros_like(mean)}


class ShardsByModulo(PateStub):
    """Every tenth row to the same teacher: one row moves all behind it to the next."""

    def shards(self, data: Transitions, key: int) -> Array:
        return (np.arange(len(data)) + key) % self.teachers


class SaturatesAtOne(Histograms):
    """Many rows are said to move the counts no further than one does."""

    def learn(self, data: Transitions, ledger: Ledger, rng: np.random.Generator, pretrained: State | None, runtime: Runtime) -> State:
        plan = ledger.plan(counts=Gaussian(l2=1.0, weight=1.0, saturation=1))
        return self.state(data, plan.counts(bin_counts(scaled(data)[:, 0], 8)), rng, runtime)


MUTANTS: list[tuple[Stub, set[str]]] = [
    (MeasuredBounds(), {"replay"}),
    (TrueCount(), {"replay"}),
    (FewerRowsThanDeclared(), {"replay"}),
    (TrueCountInRate(), {"replay", "nominal-size"}),
    (NoiseSkipped(), {"replay", "another-seed-differs"}),
    (NoiseOfItsOwn(), {"replay"}),
    (UnitInWords(), {"offers-its-role"}),
    (GuaranteeInWords(), {"offers-its-role"}),
    (OutsidePlan(), {"fits"}),
    (OneTooMany(), {"fits"}),
    (AnswersByItself(), {"fits"}),
    (AnswersAsSecretKey(), {"fits"}),
    (AnswersAgain(), {"fits"}),
    (AsksAgain(), {"fits"}),
    (BatchOfItsOwn(), {"fits"}),
    (OwnInclusion(), {"inclusion", "position"}),
    (MeanOfAnEmptyBatch(), {"inclusion"}),
    (DividesByTheRealisedBatch(), {"replay"}),
    (StopsEarly(), {"replay", "inclusion"}),
    (Unclipped(), {"sensitivity"}),
    (UnderstatedSum(), {"sensitivity", "position"}),
    (ChargesTwice(), {"spends-within-budget"}),
    (TrustsDeclaredDifferences(), {"sensitivity", "position"}),
    (UnderstatedScore(), {"sensitivity", "position"}),
    (ShardsByPosition(), {"sensitivity", "position"}),
    (UnclippedTrajectory(), {"sensitivity", "position"}),
    (UnitsAsRows(), {"position"}),
    (ShardsByModulo(), {"position"}),
    (NoiseOfOneSeed(), {"noise"}),
    (NoiseOfCoins(), {"noise"}),
    (SaturatesAtOne(), {"replay"}),
    (MemorisedRow(), {"replay", "no-row-in-state"}),
    (MoreQuestionsForMoreRows(), {"replay"}),
    (OneAnswerForEachRow(), {"replay", "sensitivity", "position"}),
    (TalkativeProgress(), {"replay"}),
    (TalkativeLog(), {"replay"}),
    (DividesByItsNoise(), {"no-limit"}),
    (ChangesItsRows(), {"fits"}),
    (PromisesWithoutAPlan(), {"fits"}),
    (DataFreeThatPlans(), {"fits"}),
    (PublicThatMeasures(), {"replay"}),
    (with_sampler(Histograms, OneRowShort), {"samples"}),
    (with_sampler(Histograms, OutOfBounds), {"samples"}),
    (with_sampler(Histograms, NotFinite), {"samples"}),
    (with_sampler(Histograms, OffItsLevels), {"samples"}),
    (with_sampler(TrajectoryStub, WithoutTimeouts), {"samples"}),
    (with_sampler(TrajectoryStub, EndlessTrajectory), {"samples"}),
    (with_sampler(Histograms, HoldsMoreThanItsState), {"restores"}),
    (with_sampler(Histograms, NeedsPickle), {"holds-plain-arrays"}),
    (with_sampler(Histograms, HoldsLists), {"holds-plain-arrays"}),
    (with_sampler(Histograms, KeepsAGenerator), {"repeats-itself", "restores"}),
    (with_sampler(Histograms, FixedSeed), {"another-seed-differs"}),
    (with_sampler(SgdStub, RestlessLoss), {"scores-losses"}),
    (with_sampler(SgdStub, CrowdedLoss), {"scores-losses"}),
]
