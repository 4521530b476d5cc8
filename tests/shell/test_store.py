"""The store loses nothing: a file is whole or absent, a failed write says why, and nothing on disk is ever unpickled."""

from __future__ import annotations

import errno
import math
import os
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shell_support import files_in

from bench.core.data import Unit
from bench.core.errors import InputError
from bench.core.privacy import Budget, Exponential, Ledger
from bench.run.store import Record, Store

RECORD = Record("aa11", "fit", "ok", None, {"seed": 0}, {}, {}, {"score": 1.5}, blob=True)
ARRAYS = {"counts": np.arange(6.0).reshape(2, 3), "flag": np.array(True)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that holds `RECORD`."""
    store = Store(tmp_path / "runs")
    store.create()
    store.put(RECORD, ARRAYS)
    return store


def contents(store: Store) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in files_in(store.root)}


def test_what_is_put_is_got(store: Store) -> None:
    assert store.get("aa11") == RECORD
    assert store.has("aa11")
    read = store.arrays("aa11")
    assert read.keys() == ARRAYS.keys()
    assert all(np.array_equal(read[name], array) and read[name].dtype == array.dtype for name, array in ARRAYS.items())


def test_a_pick_without_a_budget_spent_infinity_after_a_reading_too(store: Store) -> None:
    """JSON has no infinity, so the store writes a word."""
    ledger = Ledger(Budget(math.inf, 1e-6, Unit.TRANSITION), 10, np.random.default_rng(0))
    ledger.plan(best=Exponential(sensitivity=1.0, weight=1.0))
    result = {"charges": [asdict(charge) for charge in ledger.charges], "accountant": "rdp", "epsilon_spent": ledger.spent()}
    store.put(replace(RECORD, parameters={"budget": {"delta": 1e-6}}, result=result, blob=False))
    read = store.get("aa11")
    assert read
    assert read.charges == ledger.charges
    assert read.epsilon == math.inf


def test_an_empty_folder_or_none_holds_nothing(tmp_path: Path) -> None:
    for store in (Store(tmp_path), Store(tmp_path / "nowhere")):
        assert store.get("aa11") is None
        assert not store.has("aa11")
        assert list(store.records()) == []
        with pytest.raises(InputError, match="holds no sweep; start one with"):
            store.newest_sweep()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("broken", ["savez", "replace", "open"])
def test_a_write_that_fails_says_why_and_leaves_the_store_as_it_was(code: int, broken: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        if broken == "savez":
            arguments[0].write(b"half a fi")
        raise OSError(code, os.strerror(code))

    owner: Any = {"savez": np, "replace": os, "open": Path}[broken]
    before = contents(store)
    monkeypatch.setattr(owner, broken, refuse)
    with pytest.raises(InputError, match=r"--results: cannot write \S+ in \S+: .+; free space or give another folder"):
        store.put(replace(RECORD, key="bb22"), ARRAYS)
    monkeypatch.undo()
    assert contents(store) == before
    assert store.get("aa11") == RECORD
    assert not store.has("bb22")


def test_a_full_disk_and_a_read_only_store_are_called_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for code, words in ((errno.ENOSPC, "the disk is full"), (errno.EROFS, "it is read-only"), (errno.EACCES, "permission is denied")):

        def refuse(*arguments: Any, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(InputError, match=words):
            store.put(RECORD, ARRAYS)


def test_a_folder_that_cannot_be_made_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "runs")
    assert store.get("aa11") is None
    with pytest.raises(InputError, match="--results: cannot write"):
        store.create()


def test_a_reader_never_sees_half_a_file(store: Store) -> None:
    """A writer replaces a large record and its arrays over and over; every read is one of the two versions, whole."""
    versions = [replace(RECORD, result={"curve": [float(value)] * 5_000}) for value in (1, 2)]
    arrays = [{"counts": np.full(50_000, float(value))} for value in (1, 2)]
    store.put(versions[0], arrays[0])
    done = threading.Event()

    def write() -> None:
        for turn in range(20):
            store.put(versions[turn % 2], arrays[turn % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set() or reads == 0:
        assert store.get("aa11") in versions
        assert len(set(store.arrays("aa11")["counts"])) == 1
        reads += 1
    writer.join()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "aa11"}', "\x00\x01", '{"unknown": 1}'])
def test_a_corrupt_record_names_its_file_and_the_remedy(text: str, store: Store) -> None:
    path = store.root / "records" / "aa11.json"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        store.get("aa11")
    assert str(path) in str(error.value)
    assert "corrupt" in str(error.value)
    assert "restore this file" in str(error.value)


def test_a_corrupt_sweep_names_its_file_and_the_remedy(store: Store) -> None:
    path = store.put_sweep("cc33", {"leaves": []})
    assert store.newest_sweep() == {"leaves": []}
    path.write_text("{")
    for read in (store.newest_sweep, lambda: list(store.sweeps())):
        with pytest.raises(InputError, match=r"cc33\.json is corrupt .*; restore this file"):
            read()


def test_a_node_whose_arrays_are_gone_counts_as_missing(store: Store) -> None:
    store.blob_path("aa11").unlink()
    assert store.get("aa11") == RECORD
    assert not store.has("aa11")


def test_a_failed_node_counts_as_missing(store: Store) -> None:
    store.put(replace(RECORD, status="failed", reason="it raised", blob=False))
    assert not store.has("aa11")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short"])
def test_arrays_that_are_cut_short_name_their_file_and_the_remedy(content: bytes, store: Store) -> None:
    store.blob_path("aa11").write_bytes(content)
    with pytest.raises(InputError, match=r"aa11\.npz cannot be read .*; restore this file"):
        store.arrays("aa11")


class Bomb:
    """Goes off when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("an array was unpickled",))


def test_pickled_objects_are_neither_read_nor_written(store: Store) -> None:
    bomb = np.array([Bomb()], dtype=object)
    np.savez(store.blob_path("aa11"), allow_pickle=True, bomb=bomb)
    with pytest.raises(InputError, match="cannot be read"):
        store.arrays("aa11")
    before = contents(store)
    with pytest.raises(ValueError, match="Object arrays"):
        store.put(replace(RECORD, key="bb22"), {"bomb": bomb})
    assert contents(store) == before


def test_a_record_is_found_by_the_first_digits_of_its_key(store: Store) -> None:
    store.put(replace(RECORD, key="aa22", blob=False))
    assert store.find("aa1") == RECORD
    for prefix, words in (("aa", "2 records"), ("b", "no record"), ("*", "no record"), ("/", "no record"), ("**", "no record")):
        with pytest.raises(InputError, match=rf"KEY: {words} in"):
            store.find(prefix)


def test_records_and_sweeps_come_newest_first(store: Store) -> None:
    store.put(replace(RECORD, key="bb22", blob=False))
    os.utime(store.root / "records" / "aa11.json", (1, 1))
    assert [record.key for record in store.records()] == ["bb22", "aa11"]
    for name in ("first", "second"):
        path = store.put_sweep(name, {"name": name})
    assert store.newest_sweep() == {"name": "second"}
    os.utime(path, (1, 1))
    assert store.newest_sweep() == {"name": "first"}


def test_a_remembering_store_stays_as_it_was_first_seen(store: Store) -> None:
    kept = store.remembering()
    assert kept.get("aa11") == RECORD
    assert kept.get("bb22") is None
    (store.root / "records" / "aa11.json").unlink()
    store.put(replace(RECORD, key="bb22"))
    assert kept.remembering().get("aa11") == RECORD
    assert kept.get("bb22") is None
    assert store.get("aa11") is None


def test_a_file_that_another_run_has_just_renamed_is_not_missed(tmp_path: Path) -> None:
    """It is listed, and gone when it is looked at: as a link that leads nowhere."""
    Store(tmp_path).create()
    (tmp_path / "blobs" / ".k.npz.gone").symlink_to(tmp_path / "nowhere")
    Store(tmp_path).create()


def test_leavings_of_killed_runs_go_after_a_day_and_writes_in_progress_stay(tmp_path: Path) -> None:
    Store(tmp_path).create()
    old, young = tmp_path / "blobs" / ".k.npz.old", tmp_path / "blobs" / ".k.npz.young"
    for file in (old, young):
        file.touch()
    os.utime(old, (0, 0))
    Store(tmp_path).create()
    assert (old.exists(), young.exists()) == (False, True)
