"""Several stores into one: what several machines computed, joined by key.

A key says what was asked, so equal keys are the same question everywhere. What becomes of each record of a source:

    nobody has answered it here         copied, with its arrays if they are there
    it failed here and succeeded there  the success takes the place of the failure
    answered here, and alike            only arrays that are missing here are copied
    answered here, and otherwise        reported; what is here stays

Alike means: equal in all of `result`, and in the arrays where both stores have them, up to the rounding of another processor (`ROUNDING`). Provenance
(machine, versions, timings) may differ, and so may the reasons of failures. Of one sweep the manifest that was started first stays; two that plan
different scores are reported too.

Files are copied whole, arrays before the record that vouches for them, so that a merge which was stopped is continued by the same command. They keep
their age, by which the newest sweep is known.
"""

from __future__ import annotations

import filecmp
import math
import os
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import InputError
from bench.run.store import Record, Store

ROUNDING = 1e-9
"""Relative difference of two numbers that count as equal. Runs of one sweep on one machine, weeks apart, were seen to differ by 5e-12; float32 arrays
round at 1e-7 and so are held to every bit."""


@dataclass(frozen=True)
class Difference:
    """Two answers to one question: what it is, where the answer that was kept came from, and where the other one stays."""

    name: str
    what: str
    kept: Path
    other: Path


@dataclass
class Merged:
    """What was done, as numbers of files, and what could not be joined."""

    new: int = 0
    mended: int = 0
    alike: int = 0
    arrays: int = 0
    sweeps: int = 0
    differences: list[Difference] = field(default_factory=list)


def merge(sources: Sequence[Store], target: Store) -> Merged:
    """Join `sources`, in their order, into `target`, which may hold records already and is made if need be.

    Raises:
        InputError: a source is no store or the target itself, a file that cannot be read, or a target that cannot be written. What was joined
            before stays, and is whole.
    """
    if not sources:
        raise InputError("DIR: no folder is named; give those that are to be joined")
    for source in sources:
        if not (source.root / "records").is_dir():
            raise InputError(f"DIR: {source.root} holds no records; give folders that `bench run --results` has filled")
        if source.root.resolve() == target.root.resolve():
            raise InputError(f"DIR: {source.root} is the folder of --results itself; name those that are to be joined to it")
    target.create()
    joining = _Joining(target)
    for source in sources:
        for path in source.files("records"):
            joining.record(path.stem, source)
        for path in source.files("sweeps"):
            joining.sweep(path, source)
    return joining.done


@dataclass
class _Joining:
    """A merge under way; `origins` says where what was copied came from."""

    target: Store
    done: Merged = field(default_factory=Merged)
    origins: dict[str, Path] = field(default_factory=dict)

    def record(self, key: str, source: Store) -> None:
        theirs, ours = source.get(key), self.target.get(key)
        if theirs is None:
            return
        if ours is not None and (ours.ok or not theirs.ok):
            self._compare(ours, theirs, source)
            return
        self._copy_arrays(theirs, source)
        self.target.adopt(source.root / "records" / f"{key}.json")
        self.origins[key] = source.root
        self.done.new += ours is None
        self.done.mended += ours is not None

    def _compare(self, ours: Record, theirs: Record, source: Store) -> None:
        both_answer = ours.ok and theirs.ok
        what = both_answer and (_first_difference(ours.result, theirs.result, "result") or self._unlike_arrays(ours.key, source))
        if what:
            self._report(ours.key, f"{ours.stage} {ours.key}", what, source)
            return
        self.done.alike += 1
        if both_answer and not self.target.blob_path(ours.key).exists():
            self._copy_arrays(theirs, source)

    def _copy_arrays(self, theirs: Record, source: Store) -> None:
        path = source.blob_path(theirs.key)
        if theirs.blob and path.exists():
            self.target.adopt(path)
            self.done.arrays += 1

    def _unlike_arrays(self, key: str, source: Store) -> str:
        """Says so if both stores have arrays of this key and they differ."""
        paths = self.target.blob_path(key), source.blob_path(key)
        if not all(path.exists() for path in paths) or filecmp.cmp(*paths, shallow=False):
            return ""
        ours, theirs = self.target.arrays(key), source.arrays(key)
        unlike = [name for name in dict.fromkeys((*ours, *theirs)) if not _alike(ours.get(name), theirs.get(name))]
        return f"arrays {', '.join(unlike)}" if unlike else ""

    def sweep(self, path: Path, source: Store) -> None:
        """The manifest that was started first, with the age of the younger one."""
        here = self.target.root / "sweeps" / path.name
        theirs, ours = source.sweep(path.stem), self.target.sweep(path.stem)
        assert theirs is not None
        if ours is not None and any(ours[name] != theirs[name] for name in ("leaves", "environments")):
            self._report(path.stem, f"sweep {path.stem}", "the scores that it plans, since different code planned them", source)
            return
        age = max(file.stat().st_mtime_ns for file in (path, here) if file.exists())
        if ours is None or theirs["started"] < ours["started"]:
            self.target.adopt(path)
            self.origins[path.stem] = source.root
            self.done.sweeps += ours is None
        os.utime(here, ns=(age, age))

    def _report(self, name: str, title: str, what: str, source: Store) -> None:
        self.done.differences.append(Difference(title, what, self.origins.get(name, self.target.root), source.root))


def _first_difference(ours: Any, theirs: Any, place: str) -> str:
    """Where two JSON values first differ, with both values; nothing where they are equal."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = dict.fromkeys((*ours, *theirs))
        return next((found for name in names if (found := _first_difference(ours.get(name), theirs.get(name), f"{place}.{name}"))), "")
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return next((found for i, pair in pairs if (found := _first_difference(*pair, f"{place}[{i}]"))), "")
    if isinstance(ours, float) and isinstance(theirs, float) and math.isclose(ours, theirs, rel_tol=ROUNDING):
        return ""
    return "" if ours == theirs else f"{place}: {reprlib.repr(ours)} and {reprlib.repr(theirs)}"


def _alike(ours: NDArray | None, theirs: NDArray | None) -> bool:
    """Both there, of one kind and shape, and equal up to rounding."""
    if ours is None or theirs is None or (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        return False
    inexact = np.issubdtype(ours.dtype, np.inexact)
    return bool(np.allclose(ours, theirs, ROUNDING, 0, equal_nan=True) if inexact else np.array_equal(ours, theirs))


def render_merge(merged: Merged, target: Store) -> str:
    """What was done, what was kept apart, and which table comes next."""
    return "\n".join(_lines(merged, target))


def _lines(merged: Merged, target: Store) -> Iterator[str]:
    yield (
        f"{target.root}: {merged.new} records are new, {merged.mended} successes took the place of failures, {merged.alike} were here already, "
        f"alike; {merged.arrays} arrays and {merged.sweeps} sweeps are new."
    )
    if merged.differences:
        yield f"Keys with two answers: {len(merged.differences)}. The first folder's was kept, and the other one's left where it is:"
    for difference in merged.differences:
        yield f"  {difference.name}: {difference.kept} and {difference.other} differ in {difference.what}"
    sweeps = len(list(target.files("sweeps")))
    if sweeps > 1:
        yield (
            f"`bench table` prints the one of its {sweeps} sweeps that was started last. For a table over several, run the sweep that asks for all "
            "of it: what is here is not computed again."
        )
