"""What the trajectory methods have in common: their plan, their two phases, and what makes no sense for either.

They differ in the model of a window alone, which a method names as its `architecture`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from bench.core.data import Schema, Transitions, Unit
from bench.core.errors import InputError
from bench.core.privacy import DPSGD, Gaussian, GaussianAnswers, Ledger
from bench.core.protocols import Runtime, State
from synthesizers._parts.checks import require_at_least, require_positive, require_pretrained, require_within
from synthesizers._parts.discretize import affordable_cells, discretize, modelled_column, varying_grids
from synthesizers._parts.lengths import learn_lengths
from synthesizers._parts.phases import Phases
from synthesizers._parts.scaling import Scaling, varying
from synthesizers._parts.sequences import require_heads
from synthesizers._parts.window_models import Trained, TrajectorySGD, WindowArchitecture, WindowPretraining, WindowSampler, random_start

_LENGTHS_WEIGHT, _SCALING_WEIGHT = 0.05, 0.05
"""Shares of the budget for the histogram of lengths, and for those that scale the columns where no public rows do."""
_CELLS, _BINS = 4096, 64
"""Resolution of the latter."""


@dataclass(frozen=True)
class TrajectoryMethod(Phases):
    """The base of the methods. The defaults were chosen on umaze and large for two cores without a GPU; PrivORL-j's published values are in brackets.

    Attributes:
        horizon: H, rows in a window (32).
        width, blocks: of the model's trunk (256, 6).
        pretraining_steps: gradient steps on public windows (489); 0 for a model of sensitive trajectories alone.
        pretraining_batch: public windows in a step (1024).
        pretraining_rate: of AdamW in these steps (2e-4).
        fine_tune: false for the pre-trained model alone, which is what the published code releases.
        trained: what fine-tuning trains: input and output layers (`ends`), low-rank `adapters`, or all weights (all).
        rank: of the adapters.
        steps: T, steps of DP-SGD (391).
        batch: B, the expected number of trajectories in a step, at most the nominal N (32).
        windows: K, windows of an included trajectory (32).
        clip_norm: C (1).
        learning_rate: of AdamW at the start of fine-tuning (2e-4, constant).
        decay: of the average over the weights, to which it rises in about (1 - decay)^(-3/2) steps (.995).
        physical_batch: trajectories whose activations are held in memory at once (1).
    """

    unit: ClassVar[Unit] = Unit.TRAJECTORY

    horizon: int = 8
    width: int = 128
    blocks: int = 2
    pretraining_steps: int = 1500
    pretraining_batch: int = 256
    pretraining_rate: float = 3e-3
    fine_tune: bool = True
    trained: Trained = "all"
    rank: int = 4
    steps: int = 200
    batch: int = 1024
    windows: int = 4
    clip_norm: float = 0.1
    learning_rate: float = 3e-3
    decay: float = 0.99
    physical_batch: int = 256

    def __post_init__(self) -> None:
        counts = ("horizon", "width", "blocks", "pretraining_batch", "rank", "steps", "batch", "windows", "physical_batch")
        require_at_least(1, **{name: getattr(self, name) for name in counts})
        require_at_least(0, pretraining_steps=self.pretraining_steps)
        require_within(0, 1, decay=self.decay)
        require_positive(clip_norm=self.clip_norm, pretraining_rate=self.pretraining_rate, learning_rate=self.learning_rate)
        require_heads(self.width)
        if not self.fine_tune and not self.pretraining_steps:
            raise InputError("fine_tune: false with pretraining_steps=0 leaves a model that was trained on nothing; set one of them")

    @property
    def pretraining(self) -> WindowPretraining | None:
        """The public phase; variants that agree on its fields share one."""
        if not self.pretraining_steps:
            return None
        return WindowPretraining(self.architecture, self.horizon, self.pretraining_steps, self.pretraining_batch, self.pretraining_rate, self.decay)

    @property
    @abstractmethod
    def architecture(self) -> WindowArchitecture: ...

    def fit(
        self,
        data: Transitions,
        ledger: Ledger,
        rng: np.random.Generator,
        *,
        public: Mapping[str, Transitions],
        pretrained: State | None,
        runtime: Runtime,
    ) -> WindowSampler:
        if not self.fine_tune:
            return self.restore(data.schema, require_pretrained(pretrained))
        nominal = data.schema.nominal_trajectories
        batch = min(self.batch, nominal)
        one_way = {} if pretrained else {"one_way": Gaussian(l2=sqrt(len(varying(data.schema))), weight=_SCALING_WEIGHT)}
        left = 1 - _LENGTHS_WEIGHT - sum(answer.weight for answer in one_way.values())
        plan = ledger.plan(
            lengths=Gaussian(l2=1.0, weight=_LENGTHS_WEIGHT), **one_way, gradients=DPSGD(batch / nominal, self.steps, self.clip_norm, weight=left)
        )
        lengths = learn_lengths(data, plan.lengths)
        start = pretrained or random_start(self.architecture, _learned_scaling(data, plan.one_way), self.horizon, rng)
        tuning = TrajectorySGD(self.steps, batch, self.windows, self.trained, self.rank, self.learning_rate, self.decay, self.physical_batch)
        secret = np.random.default_rng(ledger.secret_key())
        tuned = tuning.run(self.architecture, self.horizon, start, data, plan.gradients, secret, runtime)
        return self.restore(data.schema, {**tuned, "lengths": lengths})

    @abstractmethod
    def restore(self, schema: Schema, state: State) -> WindowSampler: ...


def _learned_scaling(data: Transitions, answer: GaussianAnswers) -> Scaling:
    """From noisy one-way histograms in which each trajectory adds up to one, whatever its length: d of them have L2 sensitivity sqrt(d)."""
    steps = affordable_cells(_CELLS, answer.scale, data.schema.nominal_trajectories)
    lengths = np.diff(data.require_trajectories())
    share = np.repeat(1 / lengths, lengths)
    grids = zip(varying(data.schema), varying_grids(data.schema, steps), strict=True)
    exact = [np.bincount(grid.encode(modelled_column(data, i)), share, grid.size) for i, grid in grids]
    return Scaling.of_histograms(discretize(data.schema, steps, answer(np.concatenate(exact)), answer.scale, _BINS))
