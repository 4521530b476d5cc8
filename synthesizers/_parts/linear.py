"""Linear layers on the fastest float32 product that is at hand.

On CPUs where PyTorch's default library does not reach the speed of the vector unit, oneDNN's inner product does the same sum about twice as fast.
PyTorch offers it as a private operation, so it is tested once for being there and being right, and `torch.nn.functional.linear` takes over where it
is not. Under autocast, on a GPU and in other dtypes PyTorch's own choice is good already.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Linear(nn.Linear):
    """y = x W^T + b; weights and bias start uniform in +-1/sqrt(fan-in), PyTorch's default, drawn from `generator`."""

    def __init__(self, fan_in: int, fan_out: int, generator: torch.Generator) -> None:
        super().__init__(fan_in, fan_out)
        bound = fan_in**-0.5
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        if torch.is_autocast_enabled("cpu") or not inputs.numel() or not _is_for_onednn(inputs):
            return super().forward(inputs)
        output: Tensor = _OneDnnLinear.apply(inputs.reshape(-1, self.in_features), self.weight, self.bias)
        return output.view(*inputs.shape[:-1], self.out_features)


def perceptron(sizes: Sequence[int], activation: nn.Module, generator: torch.Generator) -> nn.Sequential:
    """Linear layers of these sizes, with the activation between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [Linear(fan_in, fan_out, generator), activation]
    return nn.Sequential(*layers[:-1])


def product(left: Tensor, right: Tensor) -> Tensor:
    """left right^T of matrices (m, k) and (n, k), without a graph."""
    return _onednn(left, right, None) if _is_for_onednn(left) else left @ right.T


class _OneDnnLinear(torch.autograd.Function):
    """oneDNN's product with its gradients; what nobody asks for is neither computed nor kept."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(inputs if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)
        return _onednn(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        return (
            None if weight is None else _onednn(gradient, weight.T, None),
            None if inputs is None else _onednn(gradient.T, inputs.T, None),
            gradient.sum(0) if ctx.needs_input_grad[2] else None,
        )


def _onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return result


def _is_for_onednn(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and has_onednn()


@cache
def has_onednn() -> bool:
    """Whether the private operation exists here and agrees with `torch.nn.functional.linear`."""
    inputs, weight, bias = torch.linspace(-1, 1, 12).reshape(4, 3), torch.linspace(-2, 1, 6).reshape(2, 3), torch.tensor([0.5, -0.5])
    with torch.autocast("cpu", enabled=False):
        try:
            found = _onednn(inputs, weight, bias)
        except (AttributeError, RuntimeError):
            return False
        return torch.allclose(found, nn.functional.linear(inputs, weight, bias), atol=1e-6)
