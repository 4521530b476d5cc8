"""What the tests of the trajectory methods share: trajectories of several schemas, windows of them, and small models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_support import seeded

from bench.conformance.rows import first_units, unrelated_rows
from bench.core.data import Column, Float, Schema, Transitions, Unit
from bench.envs.maze2d import MEDIUM
from bench.envs.toy import TOY
from synthesizers._parts.discretize import exact_columns
from synthesizers._parts.scaling import Scaling
from synthesizers._parts.window_denoiser import DenoiserArchitecture, WindowDenoiser
from synthesizers._parts.windows import Layout, cut

HORIZON, TRAJECTORIES = 4, 40
ENDING = Schema(
    observations=(Column("x", -1, 1), Column("constant", 2, 2), Column("y", 0, 5), Column("goal", 0, 1)),
    actions=(Column("push", -1, 1),),
    reward=Column("reward", 0, 2, levels=(0.0, 1.0, 2.0)),
    terminal=Column("terminal", 0, 1, levels=(0.0, 1.0)),
    differences=(Column("dx", -0.2, 0.2), Column("dconstant", 0, 0), Column("dy", -1, 1), Column("dgoal", 0, 0)),
    nominal_rows=200,
    nominal_trajectories=TRAJECTORIES,
    max_trajectory_length=9,
)
"""Trajectories that may end in a terminal; a state that is known, and one that is not but never moves."""
SCHEMAS: Mapping[str, Schema] = {
    "toy": replace(TOY.schema, nominal_trajectories=TRAJECTORIES),
    "maze": replace(MEDIUM.schema, nominal_trajectories=TRAJECTORIES, max_trajectory_length=30),
    "terminals": ENDING,
}
EVERY_SCHEMA = pytest.mark.parametrize("name", SCHEMAS)


@dataclass(frozen=True)
class Walks:
    """Forty random walks through a schema, of one row to as many as the schema allows, and what makes windows of them."""

    data: Transitions
    scaling: Scaling
    layout: Layout

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.data.require_trajectories())

    def windows(self, units: Sequence[int] | NDArray, places: NDArray) -> Float:
        """Windows (B, K, D) of units (B,) at places (B, K)."""
        return cut(self.data, self.scaling, self.layout, np.asarray(units, np.int64), places)

    def anywhere(self, units: Sequence[int] | NDArray, count: int, seed: int = 0) -> Float:
        """`count` windows of each of the units."""
        return self.windows(units, np.random.default_rng(seed).random((len(units), count)))

    def beginning(self, units: NDArray, begin: int) -> Float:
        """The windows (B, D) of units (B,) that begin at their row `begin`."""
        ways, horizon = self.lengths[units] + self.layout.horizon - 1, self.layout.horizon
        return self.windows(units, ((begin + horizon - 0.5) / ways)[:, None])[:, 0]

    def parts(self, windows: Float) -> tuple[Float, Float, Float]:
        """Content, flags and condition of windows (..., D)."""
        content, flags, condition = (part.numpy() for part in self.layout.split(torch.from_numpy(windows)))
        return content, flags, condition


@cache
def walks(name: str, horizon: int = HORIZON) -> Walks:
    schema = SCHEMAS[name]
    data = first_units(unrelated_rows(schema, 60 * schema.max_trajectory_length, "walks"), TRAJECTORIES, Unit.TRAJECTORY)
    return Walks(data, Scaling.of_histograms(exact_columns(data, 1024, 16)), Layout.of(schema, horizon))


TRUNKS = {"transformer": DenoiserArchitecture("transformer", 8, 2, 2), "conv": DenoiserArchitecture("conv", 8, 2, 1)}
EVERY_TRUNK = pytest.mark.parametrize("trunk", TRUNKS)


def model_of(trunk: str, name: str, horizon: int = HORIZON) -> WindowDenoiser:
    """A small denoiser of the windows of a schema, its weights as they start."""
    return TRUNKS[trunk].model(walks(name, horizon).layout, seeded())


def tensors(*arrays: Float) -> list[Tensor]:
    return [torch.from_numpy(array) for array in arrays]
