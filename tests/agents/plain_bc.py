"""Behaviour cloning, plainly."""

from collections.abc import Sequence

from plain import Plain, step
from torch import Tensor, nn
from torch.nn import functional as F


class PlainBC(Plain):
    def build(self) -> None:
        self.actor = self.network(self.states, self.actions)

    def networks(self) -> list[nn.Module]:
        return [self.actor]

    def prepare(self) -> None:
        self.optimizer = self.adam(self.actor)

    def update(self, batch: Sequence[Tensor]) -> None:
        self.decay(self.optimizer)
        step(self.optimizer, F.mse_loss(self.actor(batch[0]).tanh(), batch[1]))
        self.count += 1
