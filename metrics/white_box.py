"""White-box membership inference: what the released model itself says of a row. The model that is attacked is the row's own, never a twin.

Every attack starts from `Sampler.loss`, under the same noise for all rows: a row's loss then differs from another's by the row alone.

- Loss: minus the mean loss. For diffusion models the attack of PrivORL (NDSS 2026) and of Matsumoto et al. (arXiv:2302.03262), members positive.
- Focal points: MAMA-MIA (Golob et al., arXiv:2410.05506) for marginal methods.
- RMIA: Zarifzadeh, Liu and Shokri, ICML 2024, with a few reference models.
- Shadow features: a classifier of loss features under many fixed noises, trained on shadow models, which won the MIDST challenge (arXiv:2503.12008).

White-box attacks see more than a reader of the released rows does; they tell whether an implementation leaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from bench.core.data import Index, Transitions, View
from bench.core.protocols import Estimate, Runtime, Target
from metrics._membership import Candidates, Known, MembershipAttack, Scores
from metrics._networks import fresh_layers, logits, train
from metrics._parts import BLOCK, blocks

Features = NDArray[np.float64]
"""Losses (n, k): one row for each row of data, one column for each feature of the model's loss."""


@dataclass(frozen=True)
class WhiteBoxAttack(MembershipAttack):
    """An attack on the released model. To a model that cannot answer (a generator without likelihood, stored rows) it does not apply: {}."""

    needs: ClassVar[Literal["samples", "sampler"]] = "sampler"
    asks: ClassVar[str] = "loss"
    """What it asks of the `Sampler`: `loss`, which every answer rests on, or `cells` too."""

    def attack(
        self,
        target: Target,
        shadows: Mapping[str, Target],
        members: Transitions,
        non_members: Transitions,
        reference: Transitions,
        rng: np.random.Generator,
        *,
        runtime: Runtime,
    ) -> dict[str, Estimate]:
        """As every membership attack; {} where the released model offers no `asks`."""
        if target.sampler is not None and not hasattr(target.sampler, self.asks):
            return {}
        return super().attack(target, shadows, members, non_members, reference, rng, runtime=runtime)


def losses(model: Target, data: Transitions, rows: Index, seed: int, runtime: Runtime) -> Features:
    """The loss features (n, k) of rows of `data`; equal seeds give equal noises, whatever the rows and the model."""
    sampler: Any = model.sampler
    return np.asarray(sampler.loss(data, rows, np.random.default_rng(seed), runtime=runtime), np.float64)


def losses_of(model: Target, candidates: Candidates, seed: int, runtime: Runtime) -> Features:
    """The loss features of all candidates, members first."""
    return np.concatenate([losses(model, data, rows, seed, runtime) for data, rows in candidates.sides])


# --- without shadow models --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelLoss(WhiteBoxAttack):
    """Minus the mean loss: over noise levels and noises of a diffusion model, over all released marginals of a marginal one."""

    version: ClassVar[int] = 2

    def scores(self, candidates: Candidates, known: Known, rng: np.random.Generator) -> Scores:
        return -losses_of(known.target, candidates, int(rng.integers(2**62)), known.runtime).mean(axis=1)


@dataclass(frozen=True)
class FocalPoints(WhiteBoxAttack):
    """How many rows the model holds in the candidate's cells, against how many the reference rows lead to expect there.

    The score is the sum over the released marginals of log (c + 1) / (e + 1), with both counts on the scale of the nominal number of rows. A member
    adds one to c: much where few were expected, little where many were. MAMA-MIA learns from shadow runs which marginals are measured, and weighs
    each by how often; here the released model tells.
    """

    version: ClassVar[int] = 2
    asks: ClassVar[str] = "cells"

    def scores(self, candidates: Candidates, known: Known, rng: np.random.Generator) -> Scores:
        sampler: Any = known.target.sampler
        nominal = known.reference.schema.nominal_rows
        held = nominal * np.exp(-losses_of(known.target, candidates, 0, known.runtime))
        cells = sampler.cells(candidates.rows())
        expected = nominal / len(known.reference) * _counts(sampler, known.reference, cells)
        return np.log((held + 1) / (expected + 1)).sum(axis=1)


def _counts(sampler: Any, reference: Transitions, cells: Index) -> Index:
    """How many reference rows lie in each of the `cells` (n, k)."""
    seen = np.zeros((cells.shape[1], cells.max() + 1), np.int64)
    for some in blocks(len(reference), BLOCK):
        for marginal, own in zip(seen, sampler.cells(reference.rows(some)).T, strict=True):
            marginal += np.bincount(own[own < len(marginal)], minlength=len(marginal))
    return np.column_stack([marginal[own] for marginal, own in zip(seen, cells.T, strict=True)])


# --- with shadow models -----------------------------------------------------------------------------------------------

MOST_LEFT_OUT = 4096
"""Rows that a shadow model leaves out, at the most: enough to learn from, and few beside those that it sees."""


@dataclass(frozen=True)
class ShadowAttack(WhiteBoxAttack):
    """An attack with shadow models: fits of the row's own method, under its own budget, on the reference part.

    Shadow k sees the reference part without its k-th block of rows. So a block holds members of every shadow but one. The attacker knows the method,
    its budget and the rows of the reference part, and no row of `train` or `holdout` besides the candidate. Shadows are fitted under the target's
    plan. Where data is generated they have as many rows. Where it is a file's, the reference part has about a fifth of them, so that shadows are
    noisier than the target and the attack is weaker than it could be.

    Raises:
        ValueError: fewer than two shadows: each needs another that has seen what it leaves out.
    """

    shadows: int = 2
    """Fits on the reference part, for each fit that is attacked."""

    def __post_init__(self) -> None:
        if self.shadows < 2:
            raise ValueError(f"shadows: {self.shadows} leaves no block that one shadow has seen and another has not; give 2 or more")

    def views(self, target: View) -> Mapping[str, View]:
        """Shadow models by their number."""
        size = self._block(target.rows)
        left_out = {str(k): tuple(range(k * size, (k + 1) * size)) for k in range(self.shadows)}
        return {name: replace(target, part="reference", drop=rows) for name, rows in left_out.items()}

    def blocks(self, shadows: Mapping[str, Target]) -> list[tuple[Transitions, Index]]:
        """Block k, from the rows of a shadow that has seen it: the data, and the indices in it."""
        first, second = shadows["0"].rows, shadows["1"].rows
        assert first is not None
        assert second is not None
        size = self._block(first.schema.nominal_rows)
        later = [(first, np.arange(k * size, (k + 1) * size)) for k in range(self.shadows - 1)]  # its block 0 is missing
        return [(second, np.arange(size)), *later]

    def _block(self, rows: int) -> int:
        """Rows of a block. All blocks together are an eighth of the target's rows at the most, so that a file's reference part holds more than them;
        what is in no block, every shadow has seen.
        """
        return min(MOST_LEFT_OUT, max(1, rows // (8 * self.shadows)))


@dataclass(frozen=True)
class RMIA(ShadowAttack):
    """How much better the target explains a candidate than models do that have not seen it: the mean loss of the shadows less that of the target.

    RMIA's ratio P(x | M) / P(x), with losses for negative log-likelihoods. RMIA's score is the share of a population whose ratio is smaller, which
    orders candidates as the ratio does, but for ties: so no population is drawn. The mean of the shadows' losses makes P(x) a
    geometric mean; the paper's is arithmetic.
    """

    version: ClassVar[int] = 2

    def scores(self, candidates: Candidates, known: Known, rng: np.random.Generator) -> Scores:
        seed = int(rng.integers(2**62))
        own, *others = (losses_of(model, candidates, seed, known.runtime).mean(axis=1) for model in (known.target, *known.shadows.values()))
        return np.asarray(np.mean(others, axis=0) - own)


@dataclass(frozen=True)
class ShadowFeatures(ShadowAttack):
    """The logit of a small network that tells the rows which a shadow model has seen from those it has not, by their loss features.

    The features are standardised by the shadows' rows. Where fits have different numbers of them (PrivSyn chooses its tables), their mean is all.
    """

    version: ClassVar[int] = 2

    width: int = 32
    """Units of its one hidden layer."""
    steps: int = 500
    """Gradient steps on all that the shadows have seen and left out."""
    rate: float = 3e-3
    weight_decay: float = 0.01

    def scores(self, candidates: Candidates, known: Known, rng: np.random.Generator) -> Scores:
        seed = int(rng.integers(2**62))
        shadows = [known.shadows[str(k)] for k in range(self.shadows)]
        seen = [[losses(shadow, *block, seed, known.runtime) for block in self.blocks(known.shadows)] for shadow in shadows]
        asked = losses_of(known.target, candidates, seed, known.runtime)
        labels = np.concatenate([np.full(len(own), k != j) for k, row in enumerate(seen) for j, own in enumerate(row)])
        parts = [own for row in seen for own in row]
        if any(own.shape[1] != asked.shape[1] for own in parts):
            parts, asked = [own.mean(axis=1, keepdims=True) for own in parts], asked.mean(axis=1, keepdims=True)
        lessons = np.concatenate(parts)
        mean, scale = lessons.mean(axis=0), lessons.std(axis=0) + np.finfo(np.float32).tiny
        return self._logits((lessons - mean) / scale, labels, (asked - mean) / scale, rng)

    def _logits(self, lessons: Features, labels: NDArray[np.bool_], asked: Features, rng: np.random.Generator) -> Scores:
        """Of the rows `asked` to be members, after training on the `lessons`."""
        layers = fresh_layers((lessons.shape[1], self.width, 1), torch.Generator().manual_seed(int(rng.integers(2**62))))
        inputs, wanted = torch.from_numpy(lessons).float(), torch.from_numpy(labels).float()
        balance = torch.tensor((~labels).sum() / labels.sum())
        optimizer = torch.optim.AdamW(layers, lr=self.rate, weight_decay=self.weight_decay, fused=True)
        train(layers, repeat((inputs, wanted), self.steps), optimizer, balance)
        with torch.no_grad():
            return logits(torch.from_numpy(asked).float(), layers).double().numpy()
