"""`halfcheetah-medium-replay`: D4RL's halfcheetah-medium-replay-v2, an agent's replay buffer; schema and file, no simulator, so utility is n/a.

202 episodes of 1,000 rows: 17 observations (8 positions, 9 velocities), 6 actions, reward forward speed - 0.1 |a|^2, no terminals.

*Bounds* are public, from the model alone: the joint ranges of MuJoCo's `half_cheetah.xml`, widened by half a radian for its soft limits; the torso
may turn over once either way. Velocities are limits of our choice: the root's lie above the 12 m/s that D4RL's maximum score amounts to, a joint's
at its whole range (2 rad) in one step of 50 ms. A position moves at most velocity x 50 ms in a step; a velocity may change over its whole box.

No siblings: that halfcheetah-full-replay shares its rows is likely (both come from one agent's buffer) and is not refuted, so it is not public data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi
from typing import ClassVar

from bench.core.data import Column, Schema, Transitions
from bench.core.protocols import Policy
from bench.envs.d4rl import D4rlFile

STEP = 0.05
"""Seconds between two rows."""
JOINTS = (
    ("back_thigh", -0.52, 1.05),
    ("back_shin", -0.785, 0.785),
    ("back_foot", -0.4, 0.785),
    ("front_thigh", -1.0, 0.7),
    ("front_shin", -1.2, 0.87),
    ("front_foot", -0.5, 0.5),
)
SOFT = 0.5
"""How far a joint may be pushed beyond its range, in radians."""
ROOT = (("z", -1.0, 1.5, 10.0), ("pitch", -2 * pi, 2 * pi, 20.0))
"""Position with bounds (metres from the start height, radians), and the largest speed."""
JOINT_SPEED = 40.0
FORWARD = (-10.0, 15.0)
EPISODES, ROWS = 202, 202_000


def _schema() -> Schema:
    joints = tuple(Column(name, low - SOFT, high + SOFT) for name, low, high in JOINTS)
    positions = (*(Column(name, low, high) for name, low, high, _ in ROOT), *joints)
    speeds = (*(speed for *_, speed in ROOT), *(JOINT_SPEED for _ in JOINTS))
    velocities = (
        Column("velocity_x", *FORWARD),
        *(Column(f"velocity_{column.name}", -speed, speed) for column, speed in zip(positions, speeds, strict=True)),
    )
    reach = [min(speed * STEP, column.high - column.low) for column, speed in zip(positions, speeds, strict=True)]
    reach += [column.high - column.low for column in velocities]
    observations = (*positions, *velocities)
    effort = 0.1 * len(JOINTS)
    return Schema(
        observations=observations,
        actions=tuple(Column(f"torque_{name}", -1.0, 1.0) for name, *_ in JOINTS),
        reward=Column("reward", FORWARD[0] - effort, FORWARD[1]),
        terminal=Column("terminal", 0.0, 0.0, levels=(0.0,)),
        differences=tuple(Column(f"d_{column.name}", -far, far) for column, far in zip(observations, reach, strict=True)),
        nominal_rows=round(0.7 * ROWS),
        nominal_trajectories=round(0.7 * EPISODES),
        max_trajectory_length=1_000,
    )


@dataclass(frozen=True)
class HalfCheetahMediumReplay:
    """A two-legged runner: the replay buffer of one agent; utility is n/a."""

    path: str = ""
    """A D4RL file; empty: D4RL's cache folder, or a download."""
    sha256: str = ""
    """Checksum to hold the file to."""

    version: ClassVar[int] = 2
    schema: ClassVar[Schema] = _schema()
    horizon: ClassVar[int] = 1_000
    reference_scores: ClassVar[tuple[float, float]] = (-280.178953, 12135.0)
    reference_policies: ClassVar[Mapping[str, Policy]] = {}
    siblings: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = "d4rl-hdf5"

    def dataset(self, rows: int, seed: int, part: str) -> Transitions:
        """Whole episodes of one part; see `D4rlFile.part`."""
        return self._file.part(self.schema, rows, seed, part)

    def content(self) -> str:
        """sha256 of the file."""
        return self._file.digest()

    @property
    def _file(self) -> D4rlFile:
        return D4rlFile("halfcheetah-medium-replay-v2", self.path, self.sha256)


HALFCHEETAH_MEDIUM_REPLAY = HalfCheetahMediumReplay()
