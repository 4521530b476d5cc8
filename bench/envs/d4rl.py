"""D4RL's HDF5 files: find or download one, read it, split it by episode.

Fu et al., "D4RL: Datasets for Deep Data-Driven Reinforcement Learning", arXiv 2004.07219; file layouts as in Farama-Foundation/D4RL@89141a6.

1. *Successors.* Where a file has `next_observations` they are s'. Elsewhere s' is the next row of the same episode, so the last row of an
   episode has none and is dropped, as in D4RL's `qlearning_dataset`. Different from D4RL, a row that ends in a terminal is kept with s' = s (no
   bootstrap reads it): D4RL pairs it with the first row of the next episode, which would put rows of two privacy units into one.
2. *Trajectories.* An episode ends at a terminal or a timeout (in maze2d: the goal was reached, so it is a goal segment of one long stream). What
   lies beyond `Schema.max_trajectory_length` rows is dropped and never becomes a second unit.
3. *Bounds.* A value outside the declared bounds is clipped to them, and a column with levels goes to the nearest one: to refuse it would be an
   answer about private rows, and a measured bound would be another. One such answer is given: NaN and infinity have no nearest bound, so they refuse
   the file and name the first row that holds one. Mend it before any fit, and show the message to nobody who may not see the rows.
4. *Checksums.* D4RL publishes none. A download records the file's SHA-256 beside it and later loads are held to it; `sha256` pins one explicitly.
5. *Parts.* About 70 % of the episodes are `train`, 15 % `holdout`, 15 % `reference`, each by a hash of its own rows: an episode more or less in the
   file moves no other one, so files that differ in an episode differ in one of a part, until it is cut to the rows that were asked for. A single row
   more or less changes the hash of its episode, which may then go to another part as a whole: epsilon for transitions is one of the part, not of the
   file. Equal episodes go to one part. The file is all the data there is, so a seed only chooses the split: two seeds share episodes, two parts of
   one seed never do.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pooch
from numpy.typing import NDArray

from bench.core.data import PARTS, Bool, Column, Float, Index, Schema, Transitions

BASE_URL = "http://rail.eecs.berkeley.edu/datasets/offline_rl/"
FILES: Mapping[str, str] = {
    "maze2d-open-dense-v0": "maze2d/maze2d-open-dense.hdf5",
    "maze2d-umaze-dense-v1": "maze2d/maze2d-umaze-dense-v1.hdf5",
    "maze2d-medium-dense-v1": "maze2d/maze2d-medium-dense-v1.hdf5",
    "maze2d-large-dense-v1": "maze2d/maze2d-large-dense-v1.hdf5",
    "kitchen-partial-v0": "kitchen/kitchen_microwave_kettle_light_slider-v0.hdf5",
    "halfcheetah-medium-replay-v2": "gym_mujoco_v2/halfcheetah_medium_replay-v2.hdf5",
}
"""D4RL dataset to file below `BASE_URL` (d4rl/infos.py)."""

HELD_OUT = 0.15
"""Fraction of the episodes in `holdout`, and again in `reference`, on average."""
REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
WITHOUT_TIMEOUTS = frozenset({"kitchen-partial-v0"})
"""D4RL's own files may lack them. Of a file of one's own they are required: without them units would be joined or lost, and nobody would see it."""
REMEDY = "mend the file, download it again if it is one of D4RL's, or name another in its layout with path="
NAMING = "path=, as in ENVIRONMENT[path=FILE]"


@dataclass(frozen=True)
class D4rlFile:
    """The cached or downloaded file of `dataset`, a key of `FILES`; or the file `path` in that layout, and then `dataset` may be any name.

    The split into parts follows from the name.
    """

    dataset: str
    path: str = ""
    sha256: str = ""

    def locate(self) -> Path:
        """The file, downloaded if need be and held to its checksum where one is known.

        Raises:
            FileNotFoundError: there is no such file, or it is not cached and cannot be downloaded.
            ValueError: the file does not have its checksum.
        """
        path = Path(self.path).expanduser() if self.path else _cache() / Path(FILES[self.dataset]).name
        if not path.is_file():
            if self.path:
                download = f", or leave it out to download {self.dataset}" if self.dataset in FILES else ""
                raise FileNotFoundError(f"path: there is no file {path}; correct {NAMING}{download}")
            _download(BASE_URL + FILES[self.dataset], path)
        recorded = _sidecar(path)
        expected = self.sha256 or (recorded.read_text().split()[0] if recorded.is_file() else "")
        if expected and (digest := _digest(path)) != expected.lower():
            remedy = "correct path=" if self.path else "remove the file to download it again"
            raise ValueError(f"{path}: its sha256 is {digest}, not {expected}; {remedy}, or correct sha256= or {recorded.name}")
        return path

    def digest(self) -> str:
        """sha256 of the located file; raises as `locate`."""
        return _digest(self.locate())

    def part(self, schema: Schema, rows: int, seed: int, part: str) -> Transitions:
        """Whole episodes of `part` up to `rows` rows, the last one cut; all its rows where it has fewer.

        Raises:
            FileNotFoundError, ValueError: as `locate` and `load_d4rl`; no episode falls to this part.
        """
        path = self.locate()
        may_lack_them = self.dataset in WITHOUT_TIMEOUTS or not self.path
        data = load_d4rl(path, schema, REQUIRED if may_lack_them else (*REQUIRED, "timeouts"))
        episodes = deal(data, f"{self.dataset}/{seed}")[part]
        if not len(episodes):
            raise ValueError(f"{path}: no episode falls to {part}; add episodes, or mark where they end: in timeouts or terminals")
        enough = int(np.searchsorted(np.cumsum(np.diff(data.require_trajectories())[episodes]), rows)) + 1
        return data.joined(episodes[:enough], limit=rows)


def deal(data: Transitions, key: str) -> dict[str, Index]:
    """Disjoint episode indices of the three parts: under `key`, its own rows hash each to its part and to its place there."""
    table = data.table()
    hashes = np.array([_hash(table[start:end], key) for start, end in pairwise(data.require_trajectories())])
    order = np.argsort(hashes, kind="stable")
    edges = np.searchsorted(hashes[order], [1 - 2 * HELD_OUT, 1 - HELD_OUT])
    return dict(zip(PARTS, np.split(order, edges), strict=True))


def _hash(rows: Float, key: str) -> float:
    """A number in [0, 1], uniform over keys."""
    digest = hashlib.blake2b(rows.tobytes(), key=hashlib.sha256(key.encode()).digest(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


# Where the file comes from


def _cache() -> Path:
    """D4RL's own cache folder, so that files it has downloaded are found."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets").expanduser()


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _digest(path: Path) -> str:
    """sha256 of a file, read again only when it changes."""
    return _digest_of_version(path, path.stat().st_mtime_ns)


@cache
def _digest_of_version(path: Path, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, path: Path) -> None:
    """Fetch `url` to `path` and record its checksum beside it; the file appears whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            fetched = Path(scratch) / path.name
            pooch.HTTPDownloader()(url, str(fetched), None)
            _sidecar(path).write_text(f"{_digest(fetched)}  {path.name}\n")
            fetched.replace(path)
    except OSError as error:  # no network, an HTTP status, a full or read-only disk
        raise FileNotFoundError(f"{url} cannot be downloaded: {_first_cause(error)}; put the file at {path} or name one with {NAMING}") from error


def _first_cause(error: BaseException) -> BaseException:
    """What the layers of a library wrapped."""
    return error if error.__context__ is None else _first_cause(error.__context__)


# What is in it


def load_d4rl(path: Path, schema: Schema, required: Sequence[str] = REQUIRED) -> Transitions:
    """Read a whole file as trajectories inside `schema`.

    Raises:
        ValueError: the file is no HDF5, is truncated, empty, lacks a key, is ragged, of the wrong width, or holds NaN or infinity.
    """
    raw = _read(path, required)
    _check(path, raw, schema)
    length = len(raw["rewards"])
    ended = raw["terminals"] > 0.5  # as the file has it: an end stays an end where the schema knows no terminal
    if "timeouts" in raw:
        ended |= raw["timeouts"] > 0.5
    last = ended.copy()
    last[-1] = True
    state = _conform(raw["observations"], schema.observations)
    terminals = _conform(raw["terminals"][:, None], (schema.terminal,))[:, 0] > 0.5
    if "next_observations" in raw:
        following, successor = _conform(raw["next_observations"], schema.observations), np.arange(length)
        known = np.ones(length, bool)
    else:
        following, successor = state, np.arange(length) + ~last
        known = ~last | terminals
    kept, offsets = _episodes(last, known, schema.max_trajectory_length)
    if not len(kept):
        raise ValueError(f"{path}: no row has a successor in its episode; {REMEDY}")
    terminals = terminals[kept]
    timeouts = np.zeros(len(kept), bool)
    timeouts[offsets[1:] - 1] = ~terminals[offsets[1:] - 1]
    return Transitions(
        schema,
        observations=state[kept],
        actions=_conform(raw["actions"], schema.actions)[kept],
        rewards=_conform(raw["rewards"][:, None], (schema.reward,))[kept, 0],
        next_observations=following[successor[kept]],
        terminals=terminals,
        timeouts=timeouts,
        trajectories=offsets,
    )


def _read(path: Path, required: Sequence[str]) -> dict[str, NDArray]:
    """The arrays of the file by key: float32."""
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in required if not isinstance(file.get(key), h5py.Dataset)]
            if missing:
                raise ValueError(f"{path}: no key {', '.join(map(repr, missing))}; {REMEDY}")
            return {key: _numbers(path, file[key]) for key in (*REQUIRED, *OPTIONAL) if key in file}
    except (OSError, RuntimeError) as error:  # h5py: what is no HDF5, is truncated or has a damaged index
        raise ValueError(f"{path}: not a whole HDF5 file ({error}); {REMEDY}") from error


def _numbers(path: Path, dataset: h5py.Dataset) -> Float:
    if dataset.dtype.kind not in "biuf":
        raise ValueError(f"{path}: key {dataset.name[1:]!r} holds {dataset.dtype} where numbers belong; {REMEDY}")
    values: Float = dataset[()].astype(np.float32) if dataset.dtype.kind == "b" else dataset.astype(np.float32)[()]
    return values


def _check(path: Path, raw: Mapping[str, NDArray], schema: Schema) -> None:
    """Refuse with one sentence what does not have the shapes of `schema` or is not finite."""
    widths = {"observations": (len(schema.observations),), "actions": (len(schema.actions),), "next_observations": (len(schema.observations),)}
    length = len(raw["observations"]) if raw["observations"].ndim else 0
    if not length:
        raise ValueError(f"{path}: key 'observations' has no rows; {REMEDY}")
    for key, values in raw.items():
        width = widths.get(key, ())
        if values.ndim != 1 + len(width) or values.shape[1:] != width:
            raise ValueError(f"{path}: key {key!r} has shape {values.shape} where ({', '.join(map(str, (length, *width)))}) belongs; {REMEDY}")
        if len(values) != length:
            raise ValueError(f"{path}: key {key!r} has {len(values)} rows where 'observations' has {length}; {REMEDY}")
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values).reshape(length, -1).all(axis=1)))
            raise ValueError(f"{path}: key {key!r} holds NaN or infinity, first in row {row}; {REMEDY}")


def _conform(values: Float, columns: tuple[Column, ...]) -> Float:
    """Clip each column of `values`, in place, to its declared bounds, or to the nearest of its levels."""
    low, high = np.array([(column.low, column.high) for column in columns], np.float32).T
    np.clip(values, low, high, out=values)
    for index, column in enumerate(columns):
        if column.levels is not None:
            levels = np.sort(np.array(column.levels, np.float32))
            values[:, index] = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values[:, index])]
    return values


def _episodes(last: Bool, known: Bool, limit: int) -> tuple[Index, Index]:
    """The rows to keep (those with a known successor among the first `limit` of their episode), and the offsets of the episodes among them."""
    starts = np.flatnonzero(np.append(True, last[:-1]))
    position = np.arange(len(last)) - np.repeat(starts, np.diff(np.append(starts, len(last))))
    keep = known & (position < limit)
    lengths = np.add.reduceat(keep, starts, dtype=np.int64)
    return np.flatnonzero(keep), np.append(0, np.cumsum(lengths[lengths > 0]))
