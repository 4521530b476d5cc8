"""Window AUC: can a classifier tell windows of synthetic trajectories from windows of held-out real ones?

A classifier two-sample test (Lopez-Paz and Oquab, ICLR 2017, arXiv:1610.06545). Whatever a small network sees in some consecutive rows counts,
marginals, dynamics and order alike, where the other scores each look at one thing. It learns from half of the trajectories of either side and is
judged on the other half, so what it knows by heart does not help it.

Differs from the paper in: the statistic is the AUC, not the accuracy, which hangs on a threshold; and there is no p-value, only the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from bench.core.data import Float, Index, Transitions, Unit
from bench.core.protocols import Environment
from metrics._networks import fresh_layers, logits, train
from metrics._parts import Better, auc, in_trajectories, pair_rows, require_rows


@dataclass(frozen=True)
class WindowAUC:
    """AUC of a network that tells synthetic windows from real ones, in trajectories that it has not seen (0.5 is best, 1 the worst).

    A window holds the columns (s, a, r, s' - s) of `size` consecutive rows of one trajectory, standardised by the real windows that the network
    learns from. A shorter trajectory is padded with zeros, and a mask column says where. An AUC below 0.5 is chance and counts as 0.5: what the
    network had learned did not hold in other trajectories.

    The network and its training were chosen on maze2d-umaze and maze2d-large: there twice the windows, steps and width add .01 to the AUC of
    trajectories stitched from runs of 64 real rows (.79 and .75). It is deaf to faint noise that is fresh in every row: s' off by half a standard
    deviation of s' - s gives .99, by a fifth .50; the dynamics error hears that.
    """

    size: int = 32
    """Rows of a window: as many as the published trajectory-level generator draws at once (PrivORL-j), of which a release may show the seams."""
    windows: int = 8_000
    """Of each side in each half; they overlap where there are fewer rows."""
    width: int = 64
    """Of the two hidden layers."""
    steps: int = 600
    """Of Adam, on `batch` windows."""
    batch: int = 256
    rate: float = 1e-3
    """Of learning: Adam's default."""

    version: ClassVar[int] = 1
    unit: ClassVar[Unit] = Unit.TRAJECTORY
    better: ClassVar[Better] = {"window_auc": "lower"}

    def score(self, synthetic: Transitions, target: Transitions, environment: Environment, rng: np.random.Generator) -> dict[str, float]:
        """`window_auc`, absent where a side has a single trajectory; raises ValueError on empty or non-finite tables."""
        sides = (synthetic, target)
        if not in_trajectories(*sides) or min(data.units(Unit.TRAJECTORY) for data in sides) < 2:
            return {}
        require_rows(synthetic=synthetic, target=target)
        halves = [draw_halves(data.require_trajectories(), self.size, self.windows, rng) for data in sides]
        mean, scale = moments(target, halves[1][0])
        inputs = [[features(data, windows, mean, scale) for windows in half] for data, half in zip(sides, halves, strict=True)]
        (ours, our_test), (theirs, their_test) = inputs
        layers = self._train(ours, theirs, rng)
        with torch.no_grad():
            return {"window_auc": max(0.5, auc(logits(our_test, layers).numpy(), logits(their_test, layers).numpy()))}

    def _train(self, synthetic: Tensor, real: Tensor, rng: np.random.Generator) -> list[Tensor]:
        """The layers of a network whose logit is high on the windows `synthetic` (k, W) and low on `real` (k, W)."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        inputs = torch.cat([synthetic, real])
        labels = torch.cat([torch.ones(len(synthetic)), torch.zeros(len(real))])
        layers = fresh_layers((inputs.shape[1], self.width, self.width, 1), generator)
        rows = torch.randint(len(inputs), (self.steps, self.batch), generator=generator)
        train(layers, ((inputs[batch], labels[batch]) for batch in rows), torch.optim.Adam(layers, lr=self.rate, fused=True))
        return layers


# --- windows ----------------------------------------------------------------------------------------------------------


def draw_halves(offsets: Index, size: int, count: int, rng: np.random.Generator) -> tuple[Index, Index]:
    """`count` windows of half of the trajectories, drawn at random, and as many of the rest."""
    order, starts, lengths = rng.permutation(len(offsets) - 1), offsets[:-1], np.diff(offsets)
    first, second = (draw_windows(starts[half], lengths[half], size, count, rng) for half in np.array_split(order, 2))
    return first, second


def draw_windows(starts: Index, lengths: Index, size: int, count: int, rng: np.random.Generator) -> Index:
    """Row numbers (count, size) of windows of trajectories (m,), -1 for padding.

    Every run of `size` rows is equally likely, and so is every trajectory that is shorter. Seams that a generator leaves at regular places thus fall
    anywhere in a window.
    """
    places = np.maximum(lengths - size + 1, 1)
    ends = np.cumsum(places)
    number = rng.integers(ends[-1], size=count)
    owner = np.searchsorted(ends, number, side="right")
    row = (number - ends[owner] + places[owner])[:, None] + np.arange(size)
    return np.where(row < lengths[owner, None], starts[owner, None] + row, -1)


# --- features ---------------------------------------------------------------------------------------------------------


def moments(data: Transitions, windows: Index) -> tuple[Float, Float]:
    """Mean and standard deviation (D, 1) of (s, a, r, s' - s) over the rows of windows; a constant column keeps its unit."""
    table = pair_rows(data, windows[windows >= 0])
    varies = (table != table[:, :1]).any(1, keepdims=True)
    mean, deviation = table.mean(1, dtype=np.float64, keepdims=True), table.std(1, dtype=np.float64, keepdims=True)
    return mean.astype(np.float32), np.where(varies, deviation, 1).astype(np.float32)


def features(data: Transitions, windows: Index, mean: Float, scale: Float) -> Tensor:
    """What the network sees of windows (k, size): the standardised columns and the mask of every row, (k, size * (D + 1))."""
    inside = windows.ravel() >= 0
    columns = (pair_rows(data, windows.ravel()) - mean) / scale
    masked = np.vstack([columns * inside, inside]).astype(np.float32, copy=False)
    return torch.from_numpy(masked.T.reshape(len(windows), -1))
