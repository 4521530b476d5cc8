"""PrivORL-n: a diffusion model of single transitions, pre-trained on public siblings with curiosity, fine-tuned on sensitive rows by DP-SGD.

PrivORL (NDSS 2026), the transition-level method: EDM (Karras et al. 2022) over rows, curiosity-driven pre-training, DP-SGD (Abadi et al. 2016).

Privacy: sensitive rows enter in two places. One Gaussian answer is the histograms of the columns, which scale them (2 % of the budget). Each step of
`private_gradient` includes every row by its own coin of rate q = B / N (N nominal), clips its gradient to norm C and adds Gaussian noise to the sum:
a Poisson-sampled Gaussian mechanism of sensitivity C for add/remove neighbours, composed over T steps by the Ledger. Unit: transition. The noise
levels and noises of the loss come from a key that the Ledger keeps: to one who knew them, a missing row would show in the draws of the next.
Averaging and sampling are post-processing. No loss is ever looked at.

Differs from the published code in:
1. s' is modelled as s' - s, constants are left out, everything released lies inside the schema, terminals keep their share.
2. Curiosity follows the paper (a share of each batch is replaced, weighted by novelty, of which the rank counts); `curiosity=code` is the published
   code's rule. Candidates come from the averaged model and are clipped to nothing; scoring does not train; the first tenth of the training has none.
3. Large batches for few steps and a small network: for one epsilon, less noise and minutes instead of hours. Rates fall to 0.
4. Rows enter the network with sines and cosines of their values, and a value on a declared bound is set a step beyond it.
5. Every dataset, public or sensitive, is scaled by moments of its own, so that what was learned in one maze fits another of half the size.
6. Fine-tuning starts at the averaged weights with an optimiser of its own, and averages anew at every step (there: at the last weights with the
   optimiser of pre-training; the average goes on at every tenth step).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.data import Index, Schema, Transitions, Unit
from bench.core.errors import InputError
from bench.core.privacy import DPSGD, Gaussian, Ledger, Plan
from bench.core.protocols import Runtime, State
from synthesizers._parts.checks import require_at_least, require_positive, require_pretrained, require_within
from synthesizers._parts.curiosity import Curiosity, Rule
from synthesizers._parts.diffusion import (
    PUBLISHED_SCHEDULE,
    Architecture,
    ResidualDenoiser,
    Schedule,
    denoising_losses,
    preconditioned,
    sample,
    training_losses,
)
from synthesizers._parts.discretize import exact_columns, varying_grids
from synthesizers._parts.dpsgd import PerSampleClipping, private_gradient
from synthesizers._parts.marginals import learn_columns
from synthesizers._parts.phases import Phases
from synthesizers._parts.scaling import Scaling
from synthesizers._parts.training import Training, clipped_gradient, flatten_parameters

_SCALING_WEIGHT = 0.02
"""Share of the budget for the histograms that scale the rows."""
_CELLS, _BINS = 4096, 64
"""Resolution of these histograms."""
_FEW_STEPS_SIGMA_MAX, _RENEWED = 20.0, 0.5
"""Where the few-step sampler starts: rows of deviation 1 are drowned there, and no step is spent above. What part of its noise it renews."""
_REFRESHES, _CANDIDATE_SCHEDULE = 10, Schedule(20, _FEW_STEPS_SIGMA_MAX)
"""How often pre-training renews its pool of novel rows, and how it draws them."""
_LOSS_LEVELS = (0.02, 0.05, 0.1, 0.2) * 8
"""Noise levels at which a row's loss is looked at: low ones, where a model that has memorised a row knows it again; each time another noise."""
_AT_ONCE = 2_048
"""Rows whose activations stay in a processor's cache."""


@dataclass(frozen=True)
class PrivORLN(Phases):
    """PrivORL-n. The defaults were chosen on the public mazes for two cores without a GPU; the published values stand in brackets.

    Attributes:
        width, blocks, layer_norm: the denoiser's trunk (2048, 6, false).
        waves: rows enter with sines and cosines of their values (false).
        precision: of the matrix products in training and sampling; bfloat16 wants hardware that has it.
        pretraining_steps: gradient steps on public rows (5 to 10 epochs); 0 for a model of sensitive rows alone.
        pretraining_batch: public rows in a step (128).
        curiosity: the paper's rule, the published code's (`code`), or none (`off`).
        share: p, the share of each batch that novel synthetic rows replace under the paper's rule (.3).
        beta: how strongly novelty is preferred there: rows are drawn in proportion to exp(beta c) (not published).
        fine_tune: false for the pre-trained model alone; `public-only` is that without curiosity.
        steps: T, steps of DP-SGD (5 epochs).
        batch: B, the expected batch, at most the nominal N (128).
        clip_norm: C (1).
        learning_rate: of AdamW at the start of each phase (3e-4, constant).
        decay: of the average over the weights, to which it rises in about (1 - decay)^(-3/2) steps (.995).
        sampler: a solver in few steps, half of whose noise is fresh, or none (`deterministic`), or EDM's with 255 evaluations (`published`).
        sampling_steps: evaluations of the network by the first two.
        physical_batch: rows whose activations are held in memory at once.
    """

    version: ClassVar[int] = 4
    unit: ClassVar[Unit] = Unit.TRANSITION

    width: int = 192
    blocks: int = 5
    layer_norm: bool = False
    waves: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"
    pretraining_steps: int = 1500
    pretraining_batch: int = 1024
    curiosity: Rule = "paper"
    share: float = 0.3
    beta: float = 1.0
    fine_tune: bool = True
    steps: int = 1000
    batch: int = 8192
    clip_norm: float = 1.0
    learning_rate: float = 3e-3
    decay: float = 0.99
    sampler: Literal["few-step", "deterministic", "published"] = "few-step"
    sampling_steps: int = 60
    physical_batch: int = 1024

    def __post_init__(self) -> None:
        counts = ("width", "blocks", "pretraining_batch", "steps", "batch", "sampling_steps", "physical_batch")
        require_at_least(1, **{name: getattr(self, name) for name in counts})
        require_at_least(0, pretraining_steps=self.pretraining_steps, beta=self.beta)
        require_within(0, 1, share=self.share, decay=self.decay)
        require_positive(clip_norm=self.clip_norm, learning_rate=self.learning_rate)
        if not self.fine_tune and not self.pretraining_steps:
            raise InputError("fine_tune: false with pretraining_steps=0 leaves a model that was trained on nothing; set one of them")

    @property
    def pretraining(self) -> Pretraining | None:
        """The public phase; variants that agree on its fields share one."""
        if not self.pretraining_steps:
            return None
        return Pretraining(
            self.architecture, self.pretraining_steps, self.pretraining_batch, self.learning_rate, self.decay, self.curiosity, self.share, self.beta
        )

    @property
    def architecture(self) -> Architecture:
        return Architecture(self.width, self.blocks, self.layer_norm, self.waves, self.precision)

    @property
    def schedule(self) -> Schedule:
        if self.sampler == "published":
            return PUBLISHED_SCHEDULE
        return Schedule(self.sampling_steps, _FEW_STEPS_SIGMA_MAX, eta=_RENEWED if self.sampler == "few-step" else 0.0)

    def audit_size(self) -> PrivORLN:
        """Small enough for hundreds of fits."""
        return replace(self, width=16, blocks=1, pretraining_steps=min(self.pretraining_steps, 10), steps=5, batch=100, sampling_steps=4)

    def fit(
        self,
        data: Transitions,
        ledger: Ledger,
        rng: np.random.Generator,
        *,
        public: Mapping[str, Transitions],
        pretrained: State | None,
        runtime: Runtime,
    ) -> DiffusionSampler:
        if not self.fine_tune:
            return self.restore(data.schema, require_pretrained(pretrained))
        nominal = data.schema.nominal_rows
        batch = min(self.batch, nominal)
        plan = ledger.plan(
            one_way=Gaussian(l2=sqrt(len(varying_grids(data.schema, _CELLS))), weight=_SCALING_WEIGHT),
            gradients=DPSGD(batch / nominal, self.steps, self.clip_norm, weight=1 - _SCALING_WEIGHT),
        )
        scaling = Scaling.of_histograms(learn_columns(data, plan.one_way, _CELLS, _BINS)[0])
        start = {**(pretrained or _random_start(self.architecture, scaling, rng)), **scaling.state()}
        return self.restore(data.schema, {**start, "weights": self._fine_tuned(data, plan, start, batch, ledger.secret_key(), runtime)})

    def restore(self, schema: Schema, state: State) -> DiffusionSampler:
        return DiffusionSampler(self.architecture, self.schedule, schema, state)

    def _fine_tuned(self, data: Transitions, plan: Plan, start: State, batch: int, seed: int, runtime: Runtime) -> NDArray[np.float32]:
        """The averaged weights (P,) after T steps of DP-SGD from the `start`."""
        scaling, network = _rebuilt(self.architecture, data.schema, start)
        training = Training(network.to(runtime.device), self.steps, self.learning_rate, self.decay)
        denoise, clipping = preconditioned(network), PerSampleClipping(network)
        for step in range(self.steps):
            normals = np.random.default_rng([seed, step])

            def losses(included: Index, normals: np.random.Generator = normals) -> Tensor:
                y = scaling.encode(data.rows(included))
                drawn = normals.standard_normal((len(y), 1 + y.shape[1]), np.float32)
                return training_losses(denoise, *(torch.from_numpy(array).to(runtime.device) for array in (y, drawn)))

            training.step(private_gradient(plan.gradients, clipping, losses, batch, self.physical_batch))
            runtime.progress(step + 1, self.steps)
        return training.average.values.cpu().numpy()


# --- pre-training ---------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pretraining:
    """The public phase: EDM on the siblings' rows, mixed with novel rows of the model's own. Fields as in `PrivORLN`."""

    version: ClassVar[int] = 2

    architecture: Architecture
    steps: int
    batch: int
    learning_rate: float
    decay: float
    curiosity: Rule
    share: float
    beta: float

    def run(self, public: Mapping[str, Transitions], rng: np.random.Generator, *, runtime: Runtime) -> State:
        """Averaged weights, frequencies and scaling: what `PrivORLN.restore` takes.

        Raises:
            InputError: no siblings, or siblings whose varying columns differ.
        """
        if not public:
            raise InputError("public: there are no sibling datasets to pre-train on; set pretraining_steps=0 for a model of sensitive rows alone")
        scalings = [Scaling.of_histograms(exact_columns(sibling, _CELLS, _BINS)) for sibling in public.values()]
        scaling = Scaling.pooled(scalings)
        z = [own.encode(sibling) for own, sibling in zip(scalings, public.values(), strict=True)]
        rows = torch.from_numpy(np.concatenate(z)).to(runtime.device)
        start = _random_start(self.architecture, scaling, rng)
        network, averaged = (_rebuilt(self.architecture, scaling.schema, start)[1].to(runtime.device) for _ in range(2))
        training, shown = Training(network, self.steps, self.learning_rate, self.decay), flatten_parameters(averaged)
        generator = torch.Generator(runtime.device).manual_seed(int(rng.integers(2**62)))
        curiosity = Curiosity(self.curiosity, self.share, self.beta, rows.shape[1], generator)
        for step in range(self.steps):
            if self.curiosity != "off" and step and step % ceil(self.steps / _REFRESHES) == 0:
                shown.copy_(training.average.values)
                curiosity.renew(sample(preconditioned(averaged), (curiosity.candidates, rows.shape[1]), _CANDIDATE_SCHEDULE, generator))
            y = curiosity.batch(rows, self.batch)
            normals = torch.randn(len(y), 1 + y.shape[1], generator=generator, device=generator.device)
            training.step(clipped_gradient(training_losses(preconditioned(network), y, normals).mean(), network))
            runtime.progress(step + 1, self.steps)
        return {**start, "weights": training.average.values.cpu().numpy()}


# --- the model as arrays --------------------------------------------------------------------------------------------------------------------------


def _random_start(architecture: Architecture, scaling: Scaling, rng: np.random.Generator) -> State:
    """A model's state before any training."""
    network = architecture.network(len(scaling.mean), torch.Generator().manual_seed(int(rng.integers(2**62))))
    return {"weights": flatten_parameters(network).numpy(), "frequencies": network.frequencies.numpy(), **scaling.state()}


def _rebuilt(architecture: Architecture, schema: Schema, state: State) -> tuple[Scaling, ResidualDenoiser]:
    """Scaling and network of a state.

    Raises:
        InputError: the state was made for other columns than those that vary in `schema`.
    """
    scaling = Scaling.restore(schema, state)
    network = architecture.network(len(state["mean"]), torch.Generator())
    network.frequencies.copy_(torch.from_numpy(state["frequencies"]))
    flatten_parameters(network).copy_(torch.from_numpy(state["weights"]))
    return scaling, network


# --- sample ---------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DiffusionSampler:
    """A denoiser with its scaling; `held` is all that it knows of any row."""

    architecture: Architecture
    schedule: Schedule
    schema: Schema
    held: State

    def state(self) -> State:
        """`weights` (P,), `frequencies` (8,), `mean` and `scale` (d,) in widths of the declared boxes."""
        return dict(self.held)

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        scaling, network = _rebuilt(self.architecture, self.schema, self.held)
        denoise = preconditioned(network.to(runtime.device).eval())
        generator = torch.Generator(runtime.device).manual_seed(int(rng.integers(2**62)))
        z = np.empty((n, len(scaling.mean)), np.float32)
        for start in range(0, n, _AT_ONCE):
            chunk = z[start : start + _AT_ONCE]
            chunk[:] = sample(denoise, chunk.shape, self.schedule, generator).cpu().numpy()
            runtime.progress(start + len(chunk), n)
        return scaling.decode(z)

    def loss(self, data: Transitions, rows: Index, rng: np.random.Generator, *, runtime: Runtime) -> NDArray[np.float32]:
        """The weighted denoising loss (n, 32) of each row under 32 noises, which all rows share, at four levels in turn."""
        scaling, network = _rebuilt(self.architecture, self.schema, self.held)
        denoise = preconditioned(network.to(runtime.device).eval())
        y = torch.from_numpy(scaling.encode(data.rows(rows))).to(runtime.device)
        noises = torch.from_numpy(rng.standard_normal((len(_LOSS_LEVELS), y.shape[1]), np.float32)).to(runtime.device)
        draws = list(zip(torch.tensor(_LOSS_LEVELS, device=y.device)[:, None], noises, strict=True))
        with torch.inference_mode():
            losses = [torch.stack([denoising_losses(denoise, some, *draw) for draw in draws], dim=1) for some in y.split(_AT_ONCE)]
        return torch.cat(losses).cpu().numpy()


PUBLIC_ONLY = PrivORLN(fine_tune=False, curiosity="off")
"""The pre-trained model alone: what epsilon 0 gives. Rows of its own serve a start for fine-tuning; a release of it is better without them."""
