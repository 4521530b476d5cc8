"""The small network that attacks and two-sample tests ask: ReLU layers with one logit, trained to tell rows labelled 1 from rows labelled 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional


def fresh_layers(sizes: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Weights and biases of linear layers in turn, uniform in +-1/sqrt(fan-in) and 0."""
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [torch.empty(fan_out, fan_in).uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator), torch.zeros(fan_out)]
    return [layer.requires_grad_() for layer in layers]


def logits(inputs: Tensor, layers: Sequence[Tensor]) -> Tensor:
    """The network's output (k,) for inputs (k, W): ReLU between the layers."""
    *hidden, weight, bias = layers
    for inner_weight, inner_bias in zip(hidden[::2], hidden[1::2], strict=True):
        inputs = functional.linear(inputs, inner_weight, inner_bias).relu()
    return functional.linear(inputs, weight, bias)[:, 0]


def train(layers: Sequence[Tensor], batches: Iterable[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer, weight: Tensor | None = None) -> None:
    """One step on the logistic loss of each batch, inputs (k, W) and labels (k,); `weight` is that of a row labelled 1."""
    for inputs, labels in batches:
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(logits(inputs, layers), labels, pos_weight=weight).backward()
        optimizer.step()
