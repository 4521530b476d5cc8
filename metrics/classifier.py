"""An attack by a classifier that is trained to tell released rows from reference rows.

The discriminator attack of Hayes et al., "LOGAN", PETS 2019, with a discriminator of the attacker's own: a density ratio that needs no distance, and
so holds in environments of many columns. A small network in torch: scikit-learn, whose boosted trees others use, is no dependency of this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from bench.core.data import Float, Transitions
from metrics._axes import standard_axes
from metrics._membership import BlackBoxAttack, Scores
from metrics._networks import fresh_layers, logits, train


@dataclass(frozen=True)
class Classifier(BlackBoxAttack):
    """Score of a row x: the log odds that it is a released row rather than one of the reference, by a network trained on both."""

    width: int = 128
    """Of the two hidden layers."""
    steps: int = 1_000
    """Of Adam, on `batch` rows, half of them released."""
    batch: int = 512
    rate: float = 1e-3
    """Of learning: Adam's default."""

    version: ClassVar[int] = 2

    def row_scores(self, candidates: Transitions, released: Transitions, reference: Transitions, rng: np.random.Generator) -> Scores:
        """The network's output on (s, a, r, s' - s) in standard deviations of the reference."""
        axes = standard_axes(reference)
        layers = self._train(axes.project(released), axes.project(reference), rng)
        with torch.no_grad():
            return logits(torch.from_numpy(axes.project(candidates)), layers).numpy().astype(np.float64)

    def _train(self, released: Float, reference: Float, rng: np.random.Generator) -> list[Tensor]:
        """The layers of a network whose logit is high on released rows (n, p) and low on the reference (m, p)."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        half, sides = self.batch // 2, (torch.from_numpy(released), torch.from_numpy(reference))
        labels = torch.cat([torch.ones(half), torch.zeros(half)])
        layers = fresh_layers((released.shape[1], self.width, self.width, 1), generator)

        def batch() -> Tensor:
            return torch.cat([side[torch.randint(len(side), (half,), generator=generator)] for side in sides])

        train(layers, ((batch(), labels) for _ in range(self.steps)), torch.optim.Adam(layers, lr=self.rate, fused=True))
        return layers
