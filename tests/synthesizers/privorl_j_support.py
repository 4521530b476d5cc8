"""Tiny variants of PrivORL-j on the toy environment, and on one whose trajectories end in terminals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch_support import seeded
from window_support import ENDING, HORIZON

from bench.conformance.rows import first_units, unrelated_rows
from bench.conformance.synthesizers import Case, Fit
from bench.core.data import Schema, Transitions, Unit
from bench.core.protocols import State
from bench.core.registry import resolve
from synthesizers._parts.window_models import rebuilt
from synthesizers._parts.windows import cut
from synthesizers.privorl_j import PrivORLJ

TOY = resolve("environments", "toy").instance
UNITS = 100
"""Trajectories of the toy environment in a case."""
TINY = PrivORLJ(
    horizon=HORIZON,
    denoiser="transformer",
    width=8,
    blocks=1,
    patch=2,
    pretraining_steps=10,
    pretraining_batch=16,
    pretraining_rate=3e-3,
    curiosity="off",
    share=0.3,
    beta=1.0,
    fine_tune=True,
    trained="adapters",
    rank=2,
    steps=3,
    batch=20,
    windows=3,
    clip_norm=1.0,
    learning_rate=1e-3,
    decay=0.9,
    sampling_steps=4,
    physical_batch=7,
)
"""Fits in a moment, in many micro-batches a step of which the last is not full; what it learns does not matter."""
VARIANTS = {
    "adapters": TINY,
    "ends": replace(TINY, trained="ends"),
    "all weights": replace(TINY, trained="all"),
    "convolutions": replace(TINY, denoiser="conv", trained="all"),
    "sensitive trajectories alone": replace(TINY, pretraining_steps=0, trained="all"),
}


@dataclass(frozen=True)
class Ending:
    """Random walks, half of which end in a terminal."""

    schema: ClassVar[Schema] = ENDING
    siblings: ClassVar[tuple[str, ...]] = ()

    def dataset(self, rows: int, seed: int, part: str) -> Transitions:
        return unrelated_rows(self.schema, rows, f"{part} {seed}")


@cache
def case_of(method: PrivORLJ) -> Case:
    """The method, on 100 trajectories of the toy environment and its siblings."""
    return Case(method, TOY, Unit.TRAJECTORY)


@cache
def ending_case() -> Case:
    """On trajectories with terminals, nothing public."""
    environment: Any = Ending()
    return Case(replace(TINY, pretraining_steps=0), environment, Unit.TRAJECTORY)


def pretrained_of(case: Case) -> State:
    assert case.pretrained is not None
    return case.pretrained


def weights_of(fit: Fit) -> NDArray:
    """All weights of the released model, side by side."""
    return flat(fit.sampler.state())


def flat(state: State) -> NDArray:
    return np.concatenate([values.ravel() for name, values in state.items() if name.startswith("model.")])


def distance(one: NDArray, other: NDArray) -> float:
    return float(np.linalg.norm(one - other))


def first_trajectory(data: Transitions) -> Transitions:
    return first_units(data, 1, Unit.TRAJECTORY)


def private_loss(method: PrivORLJ, data: Transitions, state: State) -> float:
    """The mean loss of a released model on windows of the rows."""
    scaling, model = rebuilt(method.architecture, data.schema, method.horizon, state)
    units = np.arange(data.units(Unit.TRAJECTORY))
    windows = torch.from_numpy(cut(data, scaling, model.layout, units, np.random.default_rng(0).random((len(units), 8))))
    with torch.no_grad():
        return float(model.losses(windows, torch.randn(*windows.shape[:2], model.normals, generator=seeded())).mean())
