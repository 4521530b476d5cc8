"""Small files in D4RL's layout."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from bench.core.data import Column, Schema

SCHEMA = Schema(
    observations=(Column("row", 0, 10_000), Column("constant", 2, 2, levels=(2,))),
    actions=(Column("a", -1, 1),),
    reward=Column("reward", 0, 4, levels=(0, 1, 2, 3, 4)),
    terminal=Column("terminal", 0, 1, levels=(0, 1)),
    differences=(Column("d_row", -9, 9), Column("d_constant", 0, 0)),
    nominal_rows=100,
    nominal_trajectories=10,
    max_trajectory_length=6,
)


def arrays(ends: list[int], kind: str = "timeouts", schema: Schema = SCHEMA) -> dict[str, np.ndarray]:
    """Episodes that end after the rows `ends`; the first observation column counts rows, and so names them."""
    n = ends[-1] + 1
    rng = np.random.default_rng(0)
    observations = np.tile(np.float32([(c.low + c.high) / 2 for c in schema.observations]), (n, 1))
    observations[:, 0] = np.arange(n)
    flags = np.zeros(n, np.float32)
    flags[ends] = 1
    made = {
        "observations": observations,
        "actions": rng.uniform(-1, 1, (n, len(schema.actions))).astype(np.float32),
        "rewards": rng.integers(0, 2, n).astype(np.float32),
        "terminals": np.zeros(n, np.float32),
    }
    return made | {kind: flags}


def write(path: Path, content: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for key, values in content.items():
            file[key] = values
    return path
