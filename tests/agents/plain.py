"""What the plain agents share. They are written as CORL writes most of its own: a module for each network, an optimiser for each module, one update
after the other. The oracles of the tests and the peers of the timings; they share no code with the agents.

The same lines run on faster parts where these are asked for: `fused` Adam, and the product of `onednn`.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Plain(ABC):
    """An agent's plain twin. `rows` are the weights to start from: for each network of `networks()` all its parameters in one vector."""

    def __init__(
        self,
        agent: Any,
        states: int,
        actions: int,
        steps: int,
        rows: Sequence[Tensor] | None = None,
        noise: Iterator[Tensor] | None = None,
        fused: bool = False,
        onednn: bool = False,
    ) -> None:
        self.agent, self.states, self.actions, self.steps, self.noise = agent, states, actions, steps, noise
        self.fused, self.onednn = fused, onednn
        self.count = 0
        self.build()
        if rows is not None:
            for network, row in zip(self.networks(), rows, strict=True):
                nn.utils.vector_to_parameters(row.clone(), network.parameters())
        self.prepare()

    @abstractmethod
    def build(self) -> None:
        """Make the networks."""

    @abstractmethod
    def prepare(self) -> None:
        """Make what depends on their weights: targets, optimisers."""

    @abstractmethod
    def networks(self) -> list[nn.Module]:
        """In the order of the learner's."""

    @abstractmethod
    def update(self, batch: Sequence[Tensor]) -> None:
        """One step on s, a, r, s', 1 - done, a', followed."""

    def network(self, inputs: int, outputs: int, norm: bool = False) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(self.agent.depth):
            layers += [self.linear(inputs, self.agent.width), nn.ReLU(), *([nn.LayerNorm(self.agent.width)] if norm else [])]
            inputs = self.agent.width
        return nn.Sequential(*layers, self.linear(inputs, outputs))

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        return OneDnnLinear(inputs, outputs) if self.onednn else nn.Linear(inputs, outputs)

    def adam(self, *networks: nn.Module, rate: float | None = None) -> torch.optim.Adam:
        parameters = [parameter for network in networks for parameter in network.parameters()]
        return torch.optim.Adam(parameters, lr=rate or self.agent.learning_rate, fused=self.fused)

    def decay(self, optimizer: torch.optim.Adam) -> None:
        """The cosine rate of step number `count`."""
        optimizer.param_groups[0]["lr"] = self.agent.learning_rate * (1 + math.cos(math.pi * self.count / self.steps)) / 2


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def target_of(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).requires_grad_(False)


def soft_update(target: nn.Module, source: nn.Module, rate: float) -> None:
    for old, new in zip(target.parameters(), source.parameters(), strict=True):
        old.data.copy_((1 - rate) * old.data + rate * new.data)


class OneDnnLinear(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        return _Product.apply(inputs, self.weight, self.bias) if min(self.weight.shape) > 8 else F.linear(inputs, self.weight, self.bias)


class _Product(torch.autograd.Function):
    """left right^T + bias, differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(left, right)
        return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        return (
            _Product.apply(gradient, right.T, None) if ctx.needs_input_grad[0] else None,
            _Product.apply(gradient.T, left.T, None) if ctx.needs_input_grad[1] else None,
            gradient.sum(0) if ctx.needs_input_grad[2] else None,
        )
