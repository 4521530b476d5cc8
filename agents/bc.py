"""Behaviour cloning: regress the action on the state.

The floor of the agents: it ignores rewards, so whatever another agent scores above it was learned from them. No paper; the published evaluation has
none, so network and optimiser are those of its IQL and TD3+BC, for comparison on equal terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from agents._actors import TanhActor
from agents._parts import Batch, Learner, MinibatchAgent, adam, descend


@dataclass(frozen=True)
class BC(MinibatchAgent):
    """Behaviour cloning: regression of actions on states. The defaults are those that IQL and TD3+BC share in PrivORL and CORL."""

    version: ClassVar[int] = 2

    width: int = 256  # hidden units of each layer
    depth: int = 2  # hidden layers
    learning_rate: float = 3e-4  # of Adam, decaying by cosine to 0 over the run

    def learner(self, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> Learner:
        """The actor and its optimiser."""
        return _Learner(self, TanhActor.fresh([state_size, *[self.width] * self.depth, action_size], generators, device), len(generators))


class _Learner:
    def __init__(self, agent: BC, actor: TanhActor, seeds: int) -> None:
        self.learning_rate, self.actor = agent.learning_rate, actor
        self.optimizer = adam(actor.parameters, learning_rate=agent.learning_rate, seeds=seeds)

    def update(self, batch: Batch, decay: float) -> None:
        self.optimizer.param_groups[0]["lr"] = self.learning_rate * decay
        descend(F.mse_loss(self.actor(batch.states), batch.actions), self.optimizer)
