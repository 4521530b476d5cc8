"""Curiosity: random network distillation (Burda et al. 2019, arXiv:1810.12894) tells how novel a row is; two rules say how novel rows enter training.

A predictor learns to imitate a fixed random network on the rows it is shown; where it still errs, a row is novel. Scoring never trains.

The rules, on a pool of candidates drawn from the model of the day:
- `paper`: a share p of each batch is *replaced* by candidates drawn in proportion to exp(beta c), with c the normal score of their rank by novelty
  (novelty itself, standardised, has so long a tail that one candidate would fill that share);
- `code`: the published code *appends* 16 rows for every 128, drawn evenly from the 30 % most novel of 1,000 candidates, whatever the share.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from synthesizers._parts.linear import Linear, perceptron

Rule = Literal["paper", "code", "off"]
_CODE_APPENDED, _CODE_BATCH, _CODE_KEPT = 16, 128, 0.3
_DISTILLED = 32
_TARGET_STD = 0.1
_LEARNING_RATE = 3e-4
_BATCH = 128


class Curiosity:
    """Makes training batches of public rows and of novel rows of the model's own.

    Args:
        share, beta: p and beta of the paper's rule.
        columns: width of the rows.
        generator: of all draws; its device is where the rows live.
    """

    def __init__(self, rule: Rule, share: float, beta: float, columns: int, generator: torch.Generator) -> None:
        self._rule, self._share, self._beta, self._generator = rule, share, beta, generator
        self._novelty = Novelty(columns, torch.Generator().manual_seed(generator.initial_seed()), generator.device)
        self._pool: Tensor | None = None

    @property
    def candidates(self) -> int:
        """How many rows `renew` wants."""
        return 1_000 if self._rule == "code" else 10_000

    def renew(self, candidates: Tensor) -> None:
        """Replace the pool by these rows (n, D) and their novelty; the predictor learns them, so that they are less novel next time."""
        self._pool, self._weights = candidates, sampling_weights(self._novelty.score(candidates), self._rule, self._beta)
        self._novelty.learn(candidates)

    def batch(self, rows: Tensor, size: int) -> Tensor:
        """Rows to train on: `size` of them, or some more under the code's rule; public ones alone while the pool is empty."""
        real, synthetic = batch_shares(size, self._rule, self._share) if self._pool is not None else (size, 0)
        chosen = rows[torch.randint(len(rows), (real,), generator=self._generator, device=rows.device)]
        if self._pool is None:
            return chosen
        novel = torch.multinomial(self._weights, synthetic, replacement=True, generator=self._generator)
        return torch.cat([chosen, self._pool[novel]])


def sampling_weights(novelty: Tensor, rule: Rule, beta: float) -> Tensor:
    """How likely each candidate (n,) is to be trained on; sums to one."""
    if rule == "code":
        kept = torch.zeros_like(novelty)
        kept[novelty.topk(max(1, int(_CODE_KEPT * len(novelty)))).indices] = 1
        return kept / kept.sum()
    ranks = torch.bucketize(novelty, novelty.sort().values)  # equals share the lowest of theirs
    return (beta * torch.special.ndtri((ranks + 0.5) / len(novelty))).softmax(0)


def batch_shares(batch: int, rule: Rule, share: float) -> tuple[int, int]:
    """Public and synthetic rows of a training batch."""
    if rule == "code":
        return batch, round(batch * _CODE_APPENDED / _CODE_BATCH)
    synthetic = round(batch * share) if rule == "paper" else 0
    return batch - synthetic, synthetic


class Novelty:
    """A fixed random target D -> 128 -> 64 -> 32 and its predictor D -> 64 -> 32, ReLU between."""

    def __init__(self, columns: int, generator: torch.Generator, device: torch.device) -> None:
        self._target = perceptron([columns, 128, 64, _DISTILLED], nn.ReLU(), generator).requires_grad_(False)
        for layer in self._target:
            if isinstance(layer, Linear):
                nn.init.normal_(layer.weight, std=_TARGET_STD, generator=generator)
                nn.init.zeros_(layer.bias)
        self._target.to(device)
        self._predictor = perceptron([columns, 64, _DISTILLED], nn.ReLU(), generator).to(device)
        self._optimizer = torch.optim.Adam(self._predictor.parameters(), lr=_LEARNING_RATE, fused=True)

    @torch.no_grad()
    def score(self, rows: Tensor) -> Tensor:
        """Mean squared error of the predictor (n,), all rows at once."""
        return (self._predictor(rows) - self._target(rows)).square().mean(1)

    def learn(self, rows: Tensor) -> None:
        """One pass over the rows (n, D), in their order: they are less novel afterwards."""
        for batch in rows.split(_BATCH):
            self._optimizer.zero_grad()
            (self._predictor(batch) - self._target(batch)).square().mean().backward()
            self._optimizer.step()
