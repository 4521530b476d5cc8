"""Gradient steps on one vector of weights: AdamW with a rate that falls to zero, and the average that is released."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.99)
"""Adam's moments as PrivORL sets them; its weight decay is 0."""


class Training:
    """All weights of a module as one vector (P,), their optimiser, and their moving average.

    Args:
        steps: length of the run, over which the learning rate falls from `rate` to 0 as a cosine.
        decay: of the average.
    """

    def __init__(self, module: nn.Module, steps: int, rate: float, decay: float) -> None:
        self.weights = flatten_parameters(module)
        self.average = Average(self.weights, decay)
        self._optimizer = torch.optim.AdamW([self.weights], lr=rate, betas=_BETAS, weight_decay=0.0, fused=True)
        self._steps, self._rate, self._done = steps, rate, 0

    def step(self, gradient: Tensor) -> None:
        """Move the weights by the gradient (P,)."""
        self._optimizer.param_groups[0]["lr"] = self._rate * (1 + math.cos(math.pi * self._done / self._steps)) / 2
        self.weights.grad = gradient
        self._optimizer.step()
        self.average.follow(self.weights)
        self._done += 1


class Average:
    """Exponential moving average of a weight vector (P,), its decay warmed up so that the random start is soon forgotten.

    decay_t = min(decay, 1 - (1 + t)^(-2/3)), ema-pytorch's warm-up: an average over a growing past, until it covers 1 / (1 - decay) steps.
    """

    def __init__(self, start: Tensor, decay: float) -> None:
        self.values, self._decay, self._steps = start.clone(), decay, 0

    def follow(self, weights: Tensor) -> None:
        """Take one step towards the weights as they are now."""
        self._steps += 1
        self.values.lerp_(weights, 1 - min(self._decay, 1 - (1 + self._steps) ** (-2 / 3)))


def flatten_parameters(module: nn.Module) -> Tensor:
    """Move all parameters into one vector (P,) and return it: the parameters become views, so a step on the vector is a step of the module."""
    parameters = list(module.parameters())
    vector = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    for parameter, part in zip(parameters, vector.split([parameter.numel() for parameter in parameters]), strict=True):
        parameter.data = part.view_as(parameter)
    return vector


def gradient_of(loss: Tensor, module: nn.Module) -> Tensor:
    """The gradient (P,) of one loss."""
    return torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, list(module.parameters()))])


def clipped_gradient(loss: Tensor, module: nn.Module) -> Tensor:
    """The gradient (P,) of one loss, scaled down to norm 1 where it is longer, as PrivORL's public phase does."""
    gradient = gradient_of(loss, module)
    return gradient * (1 / torch.linalg.vector_norm(gradient)).clamp(max=1)
