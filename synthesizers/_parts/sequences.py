"""Networks over sequences (..., H, width), made of layers whose per-unit gradients `dpsgd` knows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, scaled_dot_product_attention

from bench.core.errors import InputError
from synthesizers._parts.linear import Linear

_HEAD = 32
"""Width of an attention head."""
_WIDENING = 4
_KERNEL = 3


def require_heads(width: int) -> None:
    """Refuse a width that makes no whole attention heads, or no pairs of sine and cosine, with an InputError."""
    if width % (2 if width < 2 * _HEAD else _HEAD):
        raise InputError(f"width: {width} does not split into attention heads; give a multiple of {_HEAD}, or an even number below {2 * _HEAD}")


class TransformerBlock(nn.Module):
    """Attention and a perceptron, each on a normalised input and added to it (Vaswani et al. 2017; pre-norm, Xiong et al. 2020).

    Gains and biases of the normalisations are left out: the linear layers that read them have both.

    Args:
        causal: whether a place sees only itself and those before it.
    """

    def __init__(self, width: int, generator: torch.Generator, causal: bool = False) -> None:
        super().__init__()
        self._causal, self._heads = causal, max(1, width // _HEAD)
        self.normalize_attention, self.normalize_perceptron = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.queries_keys_values, self.attended = Linear(width, 3 * width, generator), Linear(width, width, generator)
        self.widen, self.narrow = Linear(width, _WIDENING * width, generator), Linear(_WIDENING * width, width, generator)

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.attended(self._attend(self.queries_keys_values(self.normalize_attention(h))))
        widened = self.widen(self.normalize_perceptron(h))
        return h + self.narrow(gelu(widened, approximate="tanh"))

    def _attend(self, projected: Tensor) -> Tensor:
        """(..., H, 3 width) to (..., H, width)."""
        *leading, horizon, width = projected.shape
        queries, keys, values = projected.reshape(-1, horizon, 3, self._heads, width // (3 * self._heads)).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(queries, keys, values, is_causal=self._causal)
        return attended.transpose(1, 2).reshape(*leading, horizon, width // 3)


class ConvolutionBlock(nn.Module):
    """ReLU and a convolution over three neighbouring places: a linear layer on the three side by side. No skip connection, as in PrivORL-j-U."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.convolve = Linear(_KERNEL * width, width, generator)

    def forward(self, h: Tensor) -> Tensor:
        padded, horizon = pad(h.relu(), (0, 0, 1, 1)), h.shape[-2]
        return self.convolve(torch.cat([padded[..., j : j + horizon, :] for j in range(_KERNEL)], dim=-1))


def places(horizon: int, width: int) -> Tensor:
    """Sines and cosines (H, width) of a row's place in its window, of periods from 2 pi to beyond the window."""
    rates = torch.logspace(0, -1, width // 2, base=2.0 * horizon)
    angles = torch.arange(horizon)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
