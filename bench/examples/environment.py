"""My trajectories: a file of sensitive trajectories, and what is public about it.

Whatever stands in the schema goes out with a release. It follows from what is known without the file (the range of a sensor, a protocol, a round
number) and from no minimum, maximum or count of it. A value outside the bounds is clipped; rows beyond the longest trajectory are dropped.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np

from bench import Column, Schema, register
from bench.envs.d4rl import load_d4rl

STATE = (Column("glucose", 40.0, 400.0), Column("insulin", 0.0, 30.0))  # mg/dl, the range of the sensor; units on board, twice the largest dose
PARTS = {"train": (0.0, 0.7), "holdout": (0.7, 0.85), "reference": (0.85, 1.0)}  # what is fitted, and what judges it


@register("environments", "my-trajectories")
@dataclass(frozen=True)
class MyTrajectories:
    """Sensitive trajectories in a file; no simulator, so utility is n/a."""

    path: str = "my_trajectories.hdf5"  # observations (n, S), actions (n, A), rewards, terminals, timeouts (n,): a row each step, in time order
    secret: str = "my_trajectories.secret"  # random bytes that nobody else has: the noise follows from them

    version = 1
    source = "file"
    siblings = ()  # environments of the same columns whose rows are public: some methods learn from them first
    horizon = 96
    reference_scores = (0.0, 1.0)  # the scale of agents, who need a `rollout`
    reference_policies: ClassVar[dict] = {}
    schema = Schema(
        observations=STATE,
        actions=(Column("dose", 0.0, 15.0),),
        reward=Column("reward", -3.0, 0.0),
        terminal=Column("terminal", 0.0, 1.0, levels=(0.0, 1.0)),
        differences=tuple(Column(f"d-{column.name}", column.low - column.high, column.high - column.low) for column in STATE),
        nominal_rows=15_000,  # round numbers, not below what is fitted: rows beyond them are left out
        nominal_trajectories=200,
        max_trajectory_length=96,
    )

    def dataset(self, rows, seed, part):
        """A trajectory's own bits say where it belongs, so that none moves when another is added."""
        data = load_d4rl(Path(self.path), self.schema)
        table, (low, high) = data.table(), PARTS[part]
        shares = np.array([self._share(table[start:end], seed) for start, end in pairwise(data.require_trajectories())])
        return data.joined(np.flatnonzero((low <= shares) & (shares < high)), limit=rows)

    def content(self):
        """Part of every key, from which the noise of a fit follows: nobody without the secret can guess it."""
        return _digest(self.secret, self.path)

    def _share(self, trajectory, seed):
        return int.from_bytes(hashlib.sha256(trajectory.tobytes() + str(seed).encode()).digest()[:4], "big") / 2**32


@cache
def _digest(*paths):
    return hashlib.sha256(b"".join(Path(path).read_bytes() for path in paths)).hexdigest()
