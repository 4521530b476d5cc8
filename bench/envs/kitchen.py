"""`kitchen-partial`: D4RL's kitchen-partial-v0, human demonstrations with a Franka arm; schema and file, no simulator, so utility is n/a.

Gupta et al., "Relay Policy Learning", arXiv 1910.11956, as packed by D4RL: 60 observations (robot 9, objects 21, goal 30), 9 actions, the reward is
the number of the four tasks that are solved now, a terminal marks the end of a demonstration; no timeouts, no next observations.

*Bounds* are public facts of the MuJoCo model (D4RL's kitchen XML files and `franka_config.xml`): each joint's range, widened on either side by a
tenth for MuJoCo's soft limits and by the amplitude of the sensor noise. The kettle moves freely: its box is the counter and the air above, our
choice. Between two rows lie 80 ms: an arm joint is commanded at most 2 rad/s, so its difference is declared .3 rad; an object's is half of its box.

*Constants*: the goal columns hold the goal states of the four tasks and zeros elsewhere (`OBS_ELEMENT_GOALS` and `_get_task_goal` in D4RL's
`kitchen_envs.py`), so they are columns of a single level: a method need not spend on them.

No siblings: kitchen-mixed holds the same demonstrations with other goals and rewards, and kitchen-complete a subset of them (D4RL's
`scripts/generation/generate_kitchen_datasets.py`). As public data they would give the private rows away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from bench.core.data import Column, Schema, Transitions
from bench.core.protocols import Policy
from bench.envs.d4rl import D4rlFile

# Joint, range and noise amplitude: the model's own numbers, in radians or metres.
ARM = (
    ("joint1", -2.8973, 2.8973, 0.01),
    ("joint2", -1.7628, 1.7628, 0.01),
    ("joint3", -2.8973, 2.8973, 0.01),
    ("joint4", -3.0718, -0.4, 0.01),
    ("joint5", -2.8973, 2.8973, 0.01),
    ("joint6", -1.6573, 2.1127, 0.01),
    ("joint7", -2.8973, 2.8973, 0.01),
    ("finger1", 0.0, 0.04, 0.01),
    ("finger2", 0.0, 0.04, 0.01),
)
OVEN = tuple(row for i in range(1, 5) for row in ((f"knob{i}", -1.57, 0.0, 0.0005), (f"burner{i}", -0.009, 0.0, 0.0005)))
OBJECTS = (
    *OVEN,
    ("light_switch", -0.7, 0.0, 0.0005),
    ("light", -0.05, 0.0, 0.0005),
    ("slide_cabinet", 0.0, 0.44, 0.0005),
    ("hinge_left", -1.57, 0.0, 0.01),
    ("hinge_right", 0.0, 1.57, 0.01),
    ("microwave", -2.094, 0.0, 0.01),
)
KETTLE = (
    *((f"kettle_{axis}", low, high) for axis, low, high in (("x", -1.0, 1.0), ("y", 0.0, 1.0), ("z", 1.3, 2.3))),
    *((f"kettle_q{axis}", -1.01, 1.01) for axis in "wxyz"),
)
KETTLE_GOAL = (-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06)
GOALS: Mapping[int, float] = {17: -0.69, 18: -0.05, 19: 0.37, 22: -0.75, **dict(enumerate(KETTLE_GOAL, 23))}
"""Goals of the four tasks (light switch, slide cabinet, microwave, kettle) by observation index; every other goal column is 0."""
EPISODES, ROWS = 600, 136_950
"""Published size: about 600 demonstrations, 136,950 rows."""


def _joint(name: str, low: float, high: float, noise: float) -> Column:
    margin = 0.1 * (high - low) + noise
    return Column(name, low - margin, high + margin)


def _schema() -> Schema:
    arm = tuple(_joint(*row) for row in ARM)
    objects = (*(_joint(*row) for row in OBJECTS), *(Column(*row) for row in KETTLE))
    goals = tuple(GOALS.get(i, 0.0) for i in range(30))
    constants = tuple(Column(f"goal{i}", goal, goal, levels=(goal,)) for i, goal in enumerate(goals))
    moved = [min(0.3, column.high - column.low) for column in arm] + [(column.high - column.low) / 2 for column in objects]
    return Schema(
        observations=(*arm, *objects, *constants),
        actions=tuple(Column(f"velocity_{name}", -1.0, 1.0) for name, *_ in ARM),
        reward=Column("reward", 0.0, 4.0, levels=(0.0, 1.0, 2.0, 3.0, 4.0)),
        terminal=Column("terminal", 0.0, 1.0, levels=(0.0, 1.0)),
        differences=(
            *(Column(f"d_{column.name}", -far, far) for column, far in zip((*arm, *objects), moved, strict=True)),
            *(Column(f"d_{column.name}", 0.0, 0.0, levels=(0.0,)) for column in constants),
        ),
        nominal_rows=round(0.7 * ROWS),
        nominal_trajectories=round(0.7 * EPISODES),
        # Above every demonstration of which we know; 280, the horizon, would cut off the last task of many.
        max_trajectory_length=500,
    )


@dataclass(frozen=True)
class KitchenPartial:
    """A Franka arm in a kitchen: human demonstrations, four tasks; utility is n/a."""

    path: str = ""
    """A D4RL file; empty: D4RL's cache folder, or a download."""
    sha256: str = ""
    """Checksum to hold the file to."""

    version: ClassVar[int] = 2
    schema: ClassVar[Schema] = _schema()
    horizon: ClassVar[int] = 280
    reference_scores: ClassVar[tuple[float, float]] = (0.0, 4.0)
    reference_policies: ClassVar[Mapping[str, Policy]] = {}
    siblings: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = "d4rl-hdf5"

    def dataset(self, rows: int, seed: int, part: str) -> Transitions:
        """Whole demonstrations of one part; see `D4rlFile.part`."""
        return self._file.part(self.schema, rows, seed, part)

    def content(self) -> str:
        """sha256 of the file."""
        return self._file.digest()

    @property
    def _file(self) -> D4rlFile:
        return D4rlFile("kitchen-partial-v0", self.path, self.sha256)


KITCHEN_PARTIAL = KitchenPartial()
