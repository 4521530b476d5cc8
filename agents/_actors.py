"""The policies of the agents, each for K seeds at once: called on states (K, B, S), they return their deterministic actions (K, B, A).

Actions are in normalised coordinates, where the declared box is [-1, 1]; the evaluation clips what leaves it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from agents._networks import MLP

LOG_STD_RANGE = (-5.0, 2.0)  # of the Gaussian policies (PrivORL's iql.py and edac.py)


class Actor(Protocol):
    """What the evaluation needs of a policy."""

    def __call__(self, states: Tensor) -> Tensor: ...

    def of_seed(self, seed: int) -> Actor:
        """A copy for one seed, on the CPU."""
        ...


@dataclass(frozen=True, eq=False)
class TanhActor:
    """A deterministic policy in the open box (-1, 1)^A."""

    network: MLP

    @classmethod
    def fresh(cls, sizes: Sequence[int], generators: Sequence[torch.Generator], device: str) -> TanhActor:
        return cls(MLP.fresh(sizes, generators, device))

    @property
    def parameters(self) -> list[Tensor]:
        return [self.network.parameters]

    def __call__(self, states: Tensor) -> Tensor:
        return self.network(states).squeeze(1).tanh()

    def of_seed(self, seed: int) -> TanhActor:
        return TanhActor(self.network.of_seed(seed))


@dataclass(frozen=True, eq=False)
class GaussianActor:
    """A diagonal Gaussian, not squashed, whose standard deviation does not depend on the state. Its deterministic action is its mean."""

    mean: MLP
    log_std: Tensor  # (K, 1, A)

    @classmethod
    def fresh(cls, sizes: Sequence[int], generators: Sequence[torch.Generator], device: str) -> GaussianActor:
        return cls(MLP.fresh(sizes, generators, device), torch.zeros(len(generators), 1, sizes[-1], device=device, requires_grad=True))

    @property
    def parameters(self) -> list[Tensor]:
        return [self.mean.parameters, self.log_std]

    def __call__(self, states: Tensor) -> Tensor:
        return self.mean(states).squeeze(1)

    def of_seed(self, seed: int) -> GaussianActor:
        return GaussianActor(self.mean.of_seed(seed), self.log_std.detach()[seed : seed + 1].cpu().clone())

    def sample(self, states: Tensor, noise: Tensor) -> Tensor:
        """Actions (K, B, A) inside the box from standard normal noise of that shape."""
        return torch.addcmul(self(states), self.log_std.clamp(*LOG_STD_RANGE).exp(), noise).clamp(-1, 1)

    def log_density(self, states: Tensor, actions: Tensor) -> Tensor:
        """log pi(a | s), (K, B)."""
        log_std = self.log_std.clamp(*LOG_STD_RANGE)
        deviations = (actions - self(states)) * (-log_std).exp()
        return -(deviations.square().sum(-1) / 2 + (log_std + math.log(2 * math.pi) / 2).sum(-1))


@dataclass(frozen=True, eq=False)
class SquashedGaussianActor:
    """tanh of a diagonal Gaussian whose mean and log-deviation depend on the state: the policy of SAC. Deterministic: tanh of the mean."""

    network: MLP  # to 2 A numbers: means, then log-deviations

    @classmethod
    def fresh(cls, sizes: Sequence[int], generators: Sequence[torch.Generator], device: str) -> SquashedGaussianActor:
        return cls(MLP.fresh([*sizes[:-1], 2 * sizes[-1]], generators, device))

    @property
    def parameters(self) -> list[Tensor]:
        return [self.network.parameters]

    def __call__(self, states: Tensor) -> Tensor:
        return self.network(states).squeeze(1).chunk(2, -1)[0].tanh()

    def of_seed(self, seed: int) -> SquashedGaussianActor:
        return SquashedGaussianActor(self.network.of_seed(seed))

    def sample(self, states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (K, B, A) from standard normal noise of that shape, and log pi(a | s), (K, B)."""
        mean, log_std = self.network(states).squeeze(1).chunk(2, -1)
        log_std = log_std.clamp(*LOG_STD_RANGE)
        raw = torch.addcmul(mean, log_std.exp(), noise)
        # log(1 - tanh^2 u) = 2 (log 2 - u - softplus(-2 u)), which does not overflow
        log_slope = 2 * (math.log(2) - raw - F.softplus(-2 * raw))
        return raw.tanh(), -(noise.square() / 2 + log_std + math.log(2 * math.pi) / 2 + log_slope).sum(-1)
