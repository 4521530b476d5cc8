"""The teachers of PATE: many small discriminators, each with a shard of the rows to itself, trained as one batched network.

Papernot et al. (2017, 2018). What the privacy of the votes rests on is all here: a row belongs to one shard, that of its keyed hash; what a teacher
does follows from the rows of its shard, the generated rows, and public numbers of its own index. So one row moves one teacher, and one teacher moves
a count of votes by at most one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import leaky_relu, softplus

from bench.core.data import Float, Index, Transitions

_BETAS = (0.5, 0.9)
_SLOPE = 0.2

# --- shards ---------------------------------------------------------------------------------------------------------------------------------------


def row_hashes(data: Transitions, key: int) -> NDArray[np.uint64]:
    """A keyed hash (n,) of the values of each row alone, whatever rows stand beside it.

    SplitMix64's finaliser (Steele, Lea and Flood 2014), column by column.
    """
    hashes = np.full(len(data), key, np.uint64)
    for column in data.table().T:
        hashes = _mixed(hashes ^ np.ascontiguousarray(column).view(np.uint32))
    return hashes


def dither(hashes: NDArray[np.uint64], columns: int) -> NDArray[np.float64]:
    """Numbers (n, columns) in [0, 1) that follow from the hash of a row."""
    return np.column_stack([_mixed(hashes + np.uint64(j + 1)) >> np.uint64(11) for j in range(columns)]) * 2.0**-53


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@dataclass(frozen=True, eq=False)
class Shards:
    """Rows (n + 1, D) shard after shard, the last one of zeros and nobody's; shard k owns the rows from offsets[k] to offsets[k + 1]."""

    rows: Float
    offsets: Index

    @classmethod
    def of(cls, rows: Float, hashes: NDArray[np.uint64], count: int) -> Shards:
        """The rows (n, D) by their `hashes` (n,)."""
        shard = (hashes % np.uint64(count)).astype(np.int64)
        order = np.lexsort((hashes, shard))
        return cls(np.concatenate([rows[order], np.zeros((1, rows.shape[1]), np.float32)]), np.searchsorted(shard[order], np.arange(count + 1)))

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Which shards (K,) have no row."""
        return np.diff(self.offsets) == 0

    def draw(self, places: NDArray[np.float64]) -> Tensor:
        """Rows (K, b, D) of each shard at `places` (K, b) in [0, 1), with replacement; zeros for an empty one."""
        sizes = np.diff(self.offsets)[:, None]
        index = np.where(sizes > 0, self.offsets[:-1, None] + (places * sizes).astype(np.int64), len(self.rows) - 1)
        return torch.from_numpy(self.rows[index])


# --- teachers -------------------------------------------------------------------------------------------------------------------------------------


class Teachers:
    """K perceptrons D -> H -> H -> 1 as one batched network, whose weights are one tensor (K, P).

    The loss of each is the mean logistic loss over rows of its own and generated ones. The sum of all is descended: no gradient crosses over, and
    Adam moves every weight by itself.
    """

    def __init__(self, weights: Tensor, columns: int, width: int, rate: float) -> None:
        self.weights = weights.clone().requires_grad_(True)
        self._layers = _layers(columns, width)
        self._optimizer = torch.optim.Adam([self.weights], lr=rate, betas=_BETAS, fused=True)

    @staticmethod
    def random(count: int, columns: int, width: int, generator: torch.Generator) -> Tensor:
        """Weights (K, P), uniform in +-1/sqrt(fan-in)."""
        scaled = [(2 * torch.rand(count, (i + 1) * o, generator=generator) - 1) * i**-0.5 for i, o in _layers(columns, width)]
        return torch.cat(scaled, dim=1)

    def learn(self, own: Tensor, generated: Tensor) -> None:
        """One step: the rows (K, b, D) of their own are real, the generated ones (b, D) are not."""
        self._optimizer.zero_grad()
        (softplus(-self._logits(own)).mean(1).sum() + softplus(self._logits(generated)).mean(1).sum()).backward()
        self._optimizer.step()

    @torch.no_grad()
    def votes(self, generated: Tensor) -> NDArray[np.bool_]:
        """Who takes which of the rows (q, D) for real, (K, q)."""
        return (self._logits(generated) > 0).numpy()

    def _logits(self, rows: Tensor) -> Tensor:
        """(K, b) of rows (K, b, D), or of rows (b, D) that all are shown."""
        hidden = rows.expand(len(self.weights), *rows.shape[-2:])
        parts = iter(self.weights.split([size for i, o in self._layers for size in (i * o, o)], dim=1))
        for layer, (fan_in, fan_out) in enumerate(self._layers):
            hidden = leaky_relu(hidden, _SLOPE) if layer else hidden
            weight, bias = next(parts).view(-1, fan_in, fan_out), next(parts).unsqueeze(1)
            hidden = torch.baddbmm(bias, hidden, weight)
        return hidden.squeeze(2)


def _layers(columns: int, width: int) -> list[tuple[int, int]]:
    return list(pairwise([columns, width, width, 1]))
