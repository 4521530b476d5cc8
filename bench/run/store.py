"""The store: one JSON record for each node, `.npz` for what it computed, and nothing that a reader would have to unpickle.

Files appear by rename, so a reader sees a whole file or none, a killed run loses at most what it was writing, and two runs on one store do
not harm each other. A failure is a record too.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bench.core.accounting import Charge, epsilon_spent
from bench.core.errors import InputError
from bench.core.registry import jsonable


@dataclass(frozen=True)
class Record:
    """What became of a node.

    `parameters`, `inputs` and `plugins` are the node's own; `provenance` (source digests, versions, hardware, timings) stands beside the key.
    """

    key: str
    stage: str
    status: str
    reason: str | None
    parameters: dict[str, Any]
    inputs: dict[str, str]
    plugins: dict[str, str]
    result: dict[str, Any]
    blob: bool
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def charges(self) -> tuple[Charge, ...]:
        """What a fit or an audit asked of sensitive rows.

        Raises:
            InputError: they are no charges.
        """
        try:
            return tuple(map(_charge, self.result["charges"]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"record {self.key} has no charges that can be read ({error}); run the same sweep again with --fresh") from error

    @property
    def epsilon_told(self) -> float:
        """What a fit or an audit says that it spent.

        Raises:
            InputError: it is no number.
        """
        told = self.result["epsilon_spent"]
        try:
            return float(told)
        except (TypeError, ValueError) as error:
            raise InputError(f"record {self.key} says that it spent epsilon {told!r}; run the same sweep again with --fresh") from error

    @property
    def epsilon(self) -> float:
        """What a fit or an audit spent: recomputed from its charges where it had a budget, and as it says where it had none."""
        budget = self.parameters["budget"]
        return self.epsilon_told if budget is None else epsilon_spent(self.charges, budget["delta"], self.result["accountant"])


class _Fields(dict[str, Any]):
    """Fields of a file that was read: whoever asks for one that a hand has taken out is told which file lacks it."""

    def __init__(self, fields: dict[str, Any], file: str) -> None:
        super().__init__(fields)
        self.file = file

    def __missing__(self, name: str) -> NoReturn:
        raise InputError(f"{self.file} has no {name}; restore this file from a copy, or delete it and run its sweep again")


def _charge(fields: dict[str, Any]) -> Charge:
    """As it was recorded, where infinity is a word."""
    plain: dict[str, Any] = {name: math.inf if value == "inf" else value for name, value in fields.items()}
    return Charge(**plain)


class Store:
    """A folder of records (`records/`), arrays (`blobs/`) and sweeps (`sweeps/`)."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def create(self) -> None:
        """Make the folders and see that they can be written.

        Raises:
            InputError: the folder cannot be made or written.
        """
        with self._writing("it"):
            for name in ("records", "blobs", "sweeps"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
                self._sweep_up(self.root / name)
            probe = self.root / f".probe-{uuid.uuid4().hex}"
            probe.write_bytes(b"")
            probe.unlink()

    def _sweep_up(self, folder: Path) -> None:
        """Remove what killed runs were writing; a file that is a day old has no writer any more."""
        for path in folder.glob(".*"):
            with suppress(OSError):  # another run has just given it its name
                if time.time() - path.stat().st_mtime > 86_400:
                    path.unlink()

    def get(self, key: str) -> Record | None:
        """The record of a key, or None.

        Raises:
            InputError: the record is there but cannot be read; a field that is missing is told where it is asked for.
        """
        path = f"{self.root}/records/{key}.json"  # a table reads thousands: to build a Path takes as long as to open the file
        try:
            with open(path, "rb") as file:
                record = Record(**json.loads(file.read()))
            fields: dict[str, Any] = {
                name: _Fields(getattr(record, name), f"record {path}") for name in ("parameters", "inputs", "result", "provenance")
            }
            return dataclasses.replace(record, **fields)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(f"--results: cannot read {path} ({error.strerror}); give a folder that can be read") from error
        except (ValueError, TypeError) as error:
            raise InputError(f"record {path} is corrupt ({error}); restore this file from a copy, or delete it and run its sweep again") from error

    def put(self, record: Record, arrays: dict[str, NDArray] | None = None) -> None:
        """Store arrays first, then the record that vouches for them."""
        if arrays is not None:
            with self._whole_file(self.blob_path(record.key)) as file:
                np.savez(file, allow_pickle=False, **arrays)
        self.put_json(self.root / "records" / f"{record.key}.json", record)

    def put_json(self, path: Path, value: Any) -> None:
        """Write `value` as indented JSON that a person can diff."""
        with self._whole_file(path) as file:
            file.write((json.dumps(jsonable(value), indent=1) + "\n").encode())

    def arrays(self, key: str) -> dict[str, NDArray]:
        """The arrays of a node.

        Raises:
            InputError: the file is gone or is not what was stored.
        """
        path = self.blob_path(key)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as blob:
                return dict(blob)
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise InputError(f"blob {path} cannot be read ({error}); restore this file from a copy, or delete it and run its sweep again") from error

    def blob_path(self, key: str) -> Path:
        return self.root / "blobs" / f"{key}.npz"

    def has(self, key: str) -> bool:
        """True if the node succeeded and what it computed is still here."""
        record = self.get(key)
        return record is not None and record.ok and (not record.blob or self.blob_path(key).exists())

    def stored_within(self, key: str, seconds: float) -> Record | None:
        """The record of a success that is at most so old."""
        record = self.get(key) if self.has(key) else None
        fresh = record is not None and time.time() - (self.root / "records" / f"{key}.json").stat().st_mtime <= seconds
        return record if fresh else None

    def find(self, prefix: str) -> Record:
        """The one record whose key begins with `prefix`.

        Raises:
            InputError: none or several.
        """
        keys = [path.stem for path in self.files("records") if path.stem.startswith(prefix)]
        if not keys:
            raise InputError(f"KEY: no record in {self.root} begins with {prefix!r}; give a key that `bench table --format json` shows")
        if len(keys) > 1:
            raise InputError(f"KEY: {len(keys)} records in {self.root} begin with {prefix!r}; give more digits")
        record = self.get(keys[0])
        assert record is not None
        return record

    def records(self) -> Iterator[Record]:
        """Every record, newest first."""
        for path in sorted(self.files("records"), key=lambda path: path.stat().st_mtime, reverse=True):
            record = self.get(path.stem)
            if record is not None:
                yield record

    def files(self, kind: str) -> Iterator[Path]:
        """Every file of `records` or `sweeps`, in the order of their names."""
        return iter(sorted((self.root / kind).glob("*.json")))

    def adopt(self, source: Path) -> None:
        """A copy of a file of another store, with its age.

        Raises:
            InputError: it cannot be read, or its copy not be written.
        """
        try:
            original = source.open("rb")
        except OSError as error:
            raise InputError(f"{source} cannot be read ({error.strerror}); give folders that can be read") from error
        with original, self._whole_file(self.root / source.parent.name / source.name) as file:
            shutil.copyfileobj(original, file)
            file.flush()
            os.utime(file.name, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))

    def put_sweep(self, name: str, sweep: dict[str, Any]) -> Path:
        path = self.root / "sweeps" / f"{name}.json"
        self.put_json(path, sweep)
        return path

    def newest_sweep(self) -> dict[str, Any]:
        """The sweep that was started last.

        Raises:
            InputError: nothing was run here, or the file cannot be read.
        """
        paths = sorted(self.files("sweeps"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        if not paths:
            raise InputError(f"--results: {self.root} holds no sweep; start one with `bench run --results {self.root}`")
        return self._sweep(paths[-1])

    def sweeps(self) -> Iterator[dict[str, Any]]:
        """Every sweep that was run here."""
        return (self._sweep(path) for path in self.files("sweeps"))

    def sweep(self, name: str) -> dict[str, Any] | None:
        """The manifest of a sweep by its name, or None.

        Raises:
            InputError: the file cannot be read.
        """
        path = self.root / "sweeps" / f"{name}.json"
        return self._sweep(path) if path.is_file() else None

    def _sweep(self, path: Path) -> dict[str, Any]:
        """The manifest in a file; fields that are missing are told where they are asked for.

        Raises:
            InputError: it is no manifest.
        """
        file = f"sweep {path}"
        try:
            manifest = _Fields(json.loads(path.read_text()), file)
            for name in manifest.keys() & {"leaves", "audits", "environments"}:
                manifest[name] = [_Fields(fields, file) for fields in manifest[name]]
        except (ValueError, TypeError) as error:
            raise InputError(f"{file} is corrupt ({error}); restore this file from a copy, or delete it and run its sweep again") from error
        return manifest

    def remembering(self, without: Collection[str] = ()) -> Store:
        """The store as it is now: reads each record once, however often it is asked for, and those of the keys in `without` never."""
        return _RememberingStore(self.root, without)

    @contextmanager
    def _whole_file(self, path: Path) -> Iterator[BinaryIO]:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with self._writing(path.name):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("wb") as file:
                    yield file
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = {errno.ENOSPC: "the disk is full", errno.EROFS: "it is read-only", errno.EACCES: "permission is denied"}
            why = reason.get(error.errno or 0, error.strerror or str(error))
            raise InputError(f"--results: cannot write {what} in {self.root}: {why}; free space or give another folder") from error


class _RememberingStore(Store):
    """What was read of a record is kept, and so is that there was none."""

    def __init__(self, root: str | Path, without: Collection[str]) -> None:
        super().__init__(root)
        self._known: dict[str, Record | None] = dict.fromkeys(without)

    def get(self, key: str) -> Record | None:
        if key not in self._known:
            self._known[key] = super().get(key)
        return self._known[key]

    def remembering(self, without: Collection[str] = ()) -> Store:
        return super().remembering(without) if without else self
