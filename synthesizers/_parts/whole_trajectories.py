"""The release of methods that hand on rows as they are: whole trajectories, in random order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.core.data import Schema, Transitions
from bench.core.protocols import Runtime, State


@dataclass(frozen=True, eq=False)
class TrajectorySampler:
    """Draws whole trajectories without replacement, again from the start when all are drawn."""

    data: Transitions

    def state(self) -> State:
        """The rows themselves."""
        return {"table": self.data.table(), "timeouts": self.data.timeouts, "trajectories": self.data.require_trajectories()}

    @classmethod
    def restore(cls, schema: Schema, state: State) -> TrajectorySampler:
        return cls(Transitions.from_table(schema, state["table"], state["timeouts"], state["trajectories"]))

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        lengths = np.diff(self.data.require_trajectories())
        rounds = -(-n // len(self.data))
        order = np.concatenate([rng.permutation(len(lengths)) for _ in range(rounds)])
        return self.data.joined(order[: np.searchsorted(np.cumsum(lengths[order]), n) + 1], limit=n)
