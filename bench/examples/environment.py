"""My trajectories: a file of sensitive trajectories, and what is public about it.

Whatever stands in the schema goes out with a release. It follows from what is known without the file (the range of a sensor, a protocol, a round
number) and from no minimum, maximum or count of it. A value outside the bounds is clipped; of a trajectory longer than the declared maximum
the rows beyond it are dropped.
"""

from dataclasses import dataclass
from typing import ClassVar

from bench import Column, Schema, register
from bench.envs.d4rl import D4rlFile

STATE = (Column("temperature", 40.0, 400.0), Column("pressure", 0.0, 30.0))  # degrees Celsius, the range of the sensor; bar, twice the relief valve's


@register("environments", "my-trajectories")
@dataclass(frozen=True)
class MyTrajectories:
    """Sensitive trajectories in a file; no simulator, so utility is n/a."""

    path: str = "my_trajectories.hdf5"  # observations (n, S), actions (n, A), rewards, terminals, timeouts (n,): a row each step, in time order

    version = 1
    source = "file"
    siblings = ()  # environments of the same columns whose rows are public: some methods learn from them first
    horizon = 96
    reference_scores = (0.0, 1.0)  # the scale of agents, who need a `rollout`
    reference_policies: ClassVar[dict] = {}
    schema = Schema(
        observations=STATE,
        actions=(Column("fuel", 0.0, 15.0),),
        reward=Column("reward", -3.0, 0.0),
        terminal=Column("terminal", 0.0, 1.0, levels=(0.0, 1.0)),
        differences=tuple(Column(f"d-{column.name}", column.low - column.high, column.high - column.low) for column in STATE),
        nominal_rows=15_000,  # round numbers; a fit uses at most this many rows, and leaves the others out
        nominal_trajectories=200,
        max_trajectory_length=96,
    )

    def dataset(self, rows, seed, part):
        """A trajectory's own rows say where it belongs, so that none moves when another is added."""
        return self._file.part(self.schema, rows, seed, part)

    def content(self):
        """Part of every key: what was computed from another file is never taken for this one's."""
        return self._file.digest()

    @property
    def _file(self):
        return D4rlFile("my-trajectories", self.path)
