"""What trajectory methods share: a model of windows learns from public trajectories, then from sensitive ones by DP-SGD; its draws are stitched.

The methods differ in the model alone: in its loss, and in how it draws a window.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bench.core.data import Float, Index, Schema, Transitions, Unit
from bench.core.errors import InputError
from bench.core.privacy import SgdHandle
from bench.core.protocols import Runtime, State
from synthesizers._parts.adapters import adapt, merge
from synthesizers._parts.curiosity import Curiosity, Rule
from synthesizers._parts.discretize import exact_columns
from synthesizers._parts.dpsgd import PerSampleClipping, private_gradient
from synthesizers._parts.lengths import draw_lengths, exact_lengths, within
from synthesizers._parts.scaling import Scaling
from synthesizers._parts.training import Training, clipped_gradient, flatten_parameters
from synthesizers._parts.windows import Layout, cut, holding, stitch

_CELLS, _BINS = 4096, 64
"""Resolution of the histograms that scale public rows."""
_POOL, _RENEWALS = 16_384, 10
"""Public windows that are held at once, or as many as are shown before others take their place; how often in a training they do."""
_CURIOUS_FROM = 0.5
"""The part of a training without candidates: what a young model draws is novel, and teaches nothing."""
_CANDIDATES_SHARE = 0.1
"""Of as many candidates as curiosity asks for where they are rows: a window is many rows."""
_AT_ONCE = 512
"""Windows whose activations stay in a processor's cache."""
_HELD = "model."

Trained = Literal["ends", "adapters", "all"]


class WindowModel(nn.Module):
    """A model of the contents of windows under their flags and conditions."""

    layout: Layout

    @property
    @abstractmethod
    def normals(self) -> int:
        """How many standard normals the loss of a window takes."""

    @abstractmethod
    def losses(self, windows: Tensor, normals: Tensor) -> Tensor:
        """The loss (...) of each window (..., D) under its own normals (..., n): depends on no other window, nor on what is padded."""

    @abstractmethod
    def probes(self, draws: np.random.Generator) -> Float:
        """Normals (k, n) under which an attack looks at the loss of a window."""

    @abstractmethod
    def ends(self) -> nn.Module:
        """The layers between the numbers and the trunk: few weights, which see where the trajectories are."""

    @abstractmethod
    def draw(self, flags: Tensor, condition: Tensor, generator: torch.Generator) -> Tensor:
        """Contents (n, S + H d) of n windows."""


class WindowArchitecture(Protocol):
    """The hyper-parameters of a model."""

    def model(self, layout: Layout, generator: torch.Generator) -> WindowModel:
        """A fresh one."""
        ...


# --- the model as arrays --------------------------------------------------------------------------------------------------------------------------


def random_start(architecture: WindowArchitecture, scaling: Scaling, horizon: int, rng: np.random.Generator) -> State:
    """A model's state before any training."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return {**_held(architecture.model(Layout.of(scaling.schema, horizon), generator)), **scaling.state()}


def rebuilt(architecture: WindowArchitecture, schema: Schema, horizon: int, state: State) -> tuple[Scaling, WindowModel]:
    """Scaling and model of a state, every weight of it.

    Raises:
        InputError: the state was made for other columns than those that vary in `schema`.
    """
    scaling, model = Scaling.restore(schema, state), architecture.model(Layout.of(schema, horizon), torch.Generator())
    model.load_state_dict({name.removeprefix(_HELD): torch.from_numpy(array) for name, array in state.items() if name.startswith(_HELD)}, strict=True)
    return scaling, model


def _held(model: WindowModel) -> State:
    return {_HELD + name: tensor.detach().cpu().numpy().copy() for name, tensor in model.state_dict().items()}


# --- the public phase -----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WindowPretraining:
    """A training on windows of the siblings' trajectories, mixed with novel windows of the model's own.

    Attributes:
        share, beta: of the paper's rule of curiosity.
    """

    version: ClassVar[int] = 2

    architecture: WindowArchitecture
    horizon: int
    steps: int
    batch: int
    learning_rate: float
    decay: float
    curiosity: Rule = "off"
    share: float = 0.0
    beta: float = 0.0

    def run(self, public: Mapping[str, Transitions], rng: np.random.Generator, *, runtime: Runtime) -> State:
        """Averaged weights, scaling and the shares of lengths: what a method's `restore` takes.

        Raises:
            InputError: no siblings, or siblings whose varying columns differ.
        """
        if not public:
            raise InputError("public: there are no sibling datasets to pre-train on; set pretraining_steps=0 for a model of sensitive rows alone")
        scaling = Scaling.pooled([Scaling.of_histograms(exact_columns(sibling, _CELLS, _BINS)) for sibling in public.values()])
        start = random_start(self.architecture, scaling, self.horizon, rng)
        model, averaged = (rebuilt(self.architecture, scaling.schema, self.horizon, start)[1].to(runtime.device) for _ in range(2))
        training, shown = Training(model, self.steps, self.learning_rate, self.decay), flatten_parameters(averaged)
        generator = torch.Generator(runtime.device).manual_seed(int(rng.integers(2**62)))
        layout, renewal = model.layout, ceil(self.steps / _RENEWALS)
        curiosity = Curiosity(self.curiosity, self.share, self.beta, layout.content + layout.flags + layout.condition, generator)
        pool = torch.empty(0)
        for step in range(self.steps):
            if step % renewal == 0:
                pool = _public_windows(public, scaling, layout, min(_POOL, renewal * self.batch), rng).to(runtime.device)
                if self.curiosity != "off" and step >= _CURIOUS_FROM * self.steps:
                    shown.copy_(training.average.values)
                    curiosity.renew(_redrawn(averaged, pool[: int(_CANDIDATES_SHARE * curiosity.candidates)], generator))
            windows = curiosity.batch(pool, self.batch)
            normals = torch.randn(len(windows), model.normals, generator=generator, device=generator.device)
            training.step(clipped_gradient(model.losses(windows, normals).mean(), model))
            runtime.progress(step + 1, self.steps)
        shown.copy_(training.average.values)
        return {**_held(averaged), **scaling.state(), "lengths": _pooled_lengths(list(public.values()))}


def _pooled_lengths(siblings: list[Transitions]) -> Float:
    longest = max(sibling.schema.max_trajectory_length for sibling in siblings)
    return np.mean([within(exact_lengths(sibling), longest) for sibling in siblings], axis=0)


def _public_windows(public: Mapping[str, Transitions], scaling: Scaling, layout: Layout, least: int, rng: np.random.Generator) -> Tensor:
    """Windows (n, D), n at least `least`, in random order: equally many of every sibling, one of each trajectory drawn, as DP-SGD's batches are."""
    each = -(-least // len(public))
    found = []
    for sibling in public.values():
        own = Scaling.restore(sibling.schema, scaling.state())
        found.append(cut(sibling, own, layout, rng.integers(sibling.units(Unit.TRAJECTORY), size=each), rng.random((each, 1)))[:, 0])
    return torch.from_numpy(rng.permutation(np.concatenate(found)))


@torch.no_grad()
def _redrawn(model: WindowModel, windows: Tensor, generator: torch.Generator) -> Tensor:
    """The same windows with contents of the model's own."""
    content, flags, condition = model.layout.split(windows)
    drawn = model.draw(flags, condition, generator)
    return torch.cat([torch.where(model.layout.is_drawn(flags), drawn, content), flags, condition], dim=-1)


# --- the private phase ----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrajectorySGD:
    """DP-SGD whose unit is a trajectory: of each included one, the mean loss of `windows` windows has its gradient clipped.

    Attributes:
        steps, batch: T, and the expected number of trajectories in a step.
        trained: which weights learn: the `ends` of the model, low-rank `adapters` of `rank` on each of its layers, or all.
        physical_batch: trajectories whose activations are held in memory at once.
    """

    steps: int
    batch: int
    windows: int
    trained: Trained
    rank: int
    learning_rate: float
    decay: float
    physical_batch: int

    def run(
        self,
        architecture: WindowArchitecture,
        horizon: int,
        start: State,
        data: Transitions,
        handle: SgdHandle,
        rng: np.random.Generator,
        runtime: Runtime,
    ) -> State:
        """The `start` with the averaged weights after T steps. `rng` is not to be known: the draws of a unit depend on how many come before it."""
        scaling, model = rebuilt(architecture, data.schema, horizon, start)
        chance = np.random.default_rng(rng.integers(2**62))
        trained = self._trained(model, torch.Generator().manual_seed(int(chance.integers(2**62))))
        model.to(runtime.device)
        training, clipping = Training(trained, self.steps, self.learning_rate, self.decay), PerSampleClipping(trained)
        for step in range(self.steps):
            cuts, noises = chance.spawn(2)

            def losses(included: Index, cuts: np.random.Generator = cuts, noises: np.random.Generator = noises) -> Tensor:
                """What a unit draws depends on the units before it alone: numpy's normals do not change with how many are drawn, PyTorch's do."""
                places = cuts.random((len(included), self.windows))
                normals = noises.standard_normal((*places.shape, model.normals), np.float32)
                windows = cut(data, scaling, model.layout, included, places)
                return model.losses(*(torch.from_numpy(array).to(runtime.device) for array in (windows, normals))).mean(1)

            training.step(private_gradient(handle, clipping, losses, self.batch, self.physical_batch))
            runtime.progress(step + 1, self.steps)
        training.weights.copy_(training.average.values)
        merge(model)
        return {**start, **_held(model)}

    def _trained(self, model: WindowModel, generator: torch.Generator) -> nn.Module:
        """The part of the model whose weights learn; the others stay as they are."""
        match self.trained:
            case "adapters":
                return adapt(model, self.rank, generator)
            case "ends":
                model.requires_grad_(False)
                return model.ends().requires_grad_(True)
        return model


# --- sample ---------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class WindowSampler:
    """A model of windows with its scaling and lengths; `held` is all that it knows of any trajectory.

    Attributes:
        draw: contents (n, S + H d) from the model, flags (n, 1 + H), conditions (n, c) and a generator.
    """

    architecture: WindowArchitecture
    horizon: int
    draw: Callable[[WindowModel, Tensor, Tensor, torch.Generator], Tensor]
    schema: Schema
    held: State

    def state(self) -> State:
        """The model's arrays, `mean` and `scale` (d,) in widths of the declared boxes, and the shares of `lengths` (e, M)."""
        return dict(self.held)

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        scaling, model = rebuilt(self.architecture, self.schema, self.horizon, self.held)
        model = model.to(runtime.device).eval()
        lengths, terminal = draw_lengths(within(self.held["lengths"], self.schema.max_trajectory_length), n, rng)
        generator = torch.Generator(runtime.device).manual_seed(int(rng.integers(2**62)))

        @torch.inference_mode()
        def draw(*parts: Float) -> Float:
            pieces = zip(*(torch.from_numpy(part).to(runtime.device).split(_AT_ONCE) for part in parts), strict=True)
            return torch.cat([self.draw(model, flags, condition, generator) for flags, condition in pieces]).cpu().numpy()

        rows = stitch(scaling, model.layout, lengths, terminal, draw, runtime.progress)
        return rows.joined(np.arange(len(lengths)), n)

    def loss(self, data: Transitions, rows: Index, rng: np.random.Generator, *, runtime: Runtime) -> Float:
        """The losses (n, k) of the window that holds each row, under `probes` that all windows share."""
        scaling, model = rebuilt(self.architecture, self.schema, self.horizon, self.held)
        whole = data if data.trajectories is not None else replace(data, trajectories=np.arange(len(data) + 1))
        units, places = holding(whole, model.layout, rows)
        windows = torch.from_numpy(cut(whole, scaling, model.layout, units, places[:, None])[:, 0]).to(runtime.device)
        probes = torch.from_numpy(model.probes(rng)).to(runtime.device)
        model = model.to(runtime.device).eval()
        with torch.inference_mode():
            losses = [torch.stack([model.losses(some, probe.expand(len(some), -1)) for probe in probes], dim=1) for some in windows.split(_AT_ONCE)]
        return torch.cat(losses).cpu().numpy()
