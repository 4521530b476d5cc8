"""Tiny variants of PrivORL-n on the toy environment."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch_support import seeded

from bench.conformance.synthesizers import Case
from bench.core.data import Transitions, Unit
from bench.core.protocols import State
from bench.core.registry import resolve
from synthesizers import privorl_n
from synthesizers._parts.diffusion import denoising_losses, preconditioned
from synthesizers.privorl_n import PrivORLN

TOY = resolve("environments", "toy").instance
TINY = PrivORLN(
    width=16,
    blocks=1,
    layer_norm=True,
    precision="float32",
    pretraining_steps=10,
    pretraining_batch=64,
    curiosity="off",
    share=0.3,
    beta=1.0,
    fine_tune=True,
    steps=5,
    batch=100,
    clip_norm=1.0,
    learning_rate=1e-3,
    decay=0.9,
    sampler="few-step",
    sampling_steps=4,
    physical_batch=1000,
)
"""Fits in a moment; what it learns does not matter."""
LARGER = replace(TINY, width=32, blocks=2, steps=4, physical_batch=37)
"""Beyond the size at which conformance checks: many micro-batches a step, the last of them not full."""
VARIANTS = {
    "float32": LARGER,
    "bfloat16": replace(LARGER, precision="bfloat16"),
    "sensitive rows alone": replace(LARGER, pretraining_steps=0),
}


@cache
def case_of(method: PrivORLN) -> Case:
    """The method, on 2,000 rows of the toy environment and its siblings."""
    return Case(method, TOY, Unit.TRANSITION)


def distance(one: NDArray, other: NDArray) -> float:
    return float(np.linalg.norm(one - other))


def private_loss(method: PrivORLN, data: Transitions, state: State) -> float:
    """At a noise level of 1, where a model learns first."""
    scaling, network = privorl_n._rebuilt(method.architecture, data.schema, state)
    y = torch.from_numpy(scaling.encode(data))
    with torch.no_grad():
        return float(denoising_losses(preconditioned(network), y, torch.ones(1), torch.randn(y.shape, generator=seeded())).mean())
