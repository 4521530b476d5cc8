"""LoRA: what a network learns beyond its first training, confined to few weights (Hu et al. 2021, arXiv:2106.09685).

Under DP-SGD every weight that is trained has noise of its own, so the norm of the noise grows with the root of their number. A linear layer W becomes
W + B A with A (rank, I) and B (O, rank), of which B starts at zero; W stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn

from synthesizers._parts.linear import Linear

_Layer = TypeVar("_Layer", bound=nn.Module)


class Adapted(nn.Module):
    """A frozen linear layer and its low-rank correction."""

    def __init__(self, frozen: Linear, rank: int, generator: Generator) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Linear(frozen.in_features, rank, bias=False, device=frozen.weight.device)
        self.up = nn.Linear(rank, frozen.out_features, bias=False, device=frozen.weight.device)
        nn.init.normal_(self.down.weight, std=frozen.in_features**-0.5, generator=generator)
        nn.init.zeros_(self.up.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        corrected: Tensor = self.frozen(inputs) + self.up(self.down(inputs))
        return corrected

    @torch.no_grad()
    def merged(self) -> Linear:
        """The frozen layer, corrected."""
        self.frozen.weight += self.up.weight @ self.down.weight
        return self.frozen


def adapt(network: nn.Module, rank: int, generator: Generator) -> nn.ModuleList:
    """Freeze `network`, give every linear layer in it an adapter, in place, and return the adapters: what is left to train."""
    network.requires_grad_(False)
    for parent, name, layer in list(_children(network, Linear)):
        setattr(parent, name, Adapted(layer, rank, generator))
    return nn.ModuleList(part for _, _, layer in _children(network, Adapted) for part in (layer.down, layer.up))


def merge(network: nn.Module) -> None:
    """Put the corrections into the weights, in place: the network has its first shape again."""
    for parent, name, layer in list(_children(network, Adapted)):
        setattr(parent, name, layer.merged())


def _children(network: nn.Module, kind: type[_Layer]) -> Iterator[tuple[nn.Module, str, _Layer]]:
    """Each layer of a kind with its parent and its name there."""
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, kind):
                yield parent, name, child
