"""maze2d on D4RL's published rows, with the local simulator for rollouts and steps.

The files are one continuous stream; a timeout marks that the controller reached its goal, so a trajectory is a goal segment. The collecting script
does not refresh its observation at a timeout (D4RL scripts/generation/generate_maze2d_datasets.py): a segment's first row repeats the observation
before it and its s' lies two steps away. D4RL's own readers keep these rows, one in eighty to one in two hundred, and so do we.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Schema, Transitions
from bench.core.protocols import Policy
from bench.envs._maze_goals import MazeGoals
from bench.envs._maze_layout import LAYOUTS
from bench.envs.d4rl import D4rlFile
from bench.envs.maze2d import Maze2d


@dataclass(frozen=True)
class Maze2dD4rl:
    """One maze with D4RL's published rows; everything else is that of `Maze2d` with its default fields.

    Raises:
        ValueError: there is no such layout.
    """

    layout: str
    """open, umaze, medium or large."""
    path: str = ""
    """A D4RL file; empty: D4RL's cache folder, or a download."""
    sha256: str = ""
    """Checksum to hold the file to."""

    version: ClassVar[int] = 2
    source: ClassVar[str] = "d4rl-hdf5"
    stream: ClassVar[bool] = True

    def __post_init__(self) -> None:
        Maze2d(self.layout)  # refuses an unknown layout

    @property
    def _maze(self) -> Maze2d:
        return Maze2d(self.layout)

    @property
    def schema(self) -> Schema:
        """The maze's, for the train part of the smallest file (a million rows), so that the mazes are of one size."""
        return self._maze.schema.with_rows(700_000)

    @property
    def horizon(self) -> int:
        """Steps in an evaluation episode."""
        return self._maze.horizon

    @property
    def reference_scores(self) -> tuple[float, float]:
        """D4RL's returns for 0 and 100."""
        return self._maze.reference_scores

    @property
    def reference_policies(self) -> Mapping[str, Policy]:
        """The maze's."""
        return self._maze.reference_policies

    @property
    def siblings(self) -> tuple[str, ...]:
        """D4RL's files of the other three mazes."""
        return tuple(f"maze2d-{layout}-d4rl" for layout in LAYOUTS if layout != self.layout)

    def dataset(self, rows: int, seed: int, part: str) -> Transitions:
        """Whole goal segments of one part; see `D4rlFile.part`."""
        return self._file.part(self.schema, rows, seed, part)

    def content(self) -> str:
        """sha256 of the file."""
        return self._file.digest()

    @property
    def _file(self) -> D4rlFile:
        return D4rlFile(self._maze.dataset_id, self.path, self.sha256)

    def step(self, observations: NDArray, actions: NDArray) -> NDArray:
        """As `Maze2d.step`."""
        return self._maze.step(observations, actions)

    def rollout(self, policies: Sequence[Policy], episodes: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """As `Maze2d.rollout`."""
        return self._maze.rollout(policies, episodes, rng)

    @property
    def goals(self) -> MazeGoals:
        """The maze's."""
        return self._maze.goals


OPEN = Maze2dD4rl("open")
UMAZE = Maze2dD4rl("umaze")
MEDIUM = Maze2dD4rl("medium")
LARGE = Maze2dD4rl("large")
