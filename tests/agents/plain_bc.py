"""Behaviour cloning, plainly."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from tests.agents.plain import Plain, step


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
