"""`bench merge`: the stores of several machines give the table of one, and nothing is lost or overwritten."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Finished
from shell_support import TINY, Log, bench, csv_of, files_in, run_here

from bench.core.errors import InputError
from bench.run.execute import execute_here
from bench.run.merging import merge
from bench.run.plan import make_plan, pending
from bench.run.spec import Seeds, sweep_name
from bench.run.store import Record, Store

RECORD = Record("aa11", "fit", "ok", None, {"seed": 0}, {}, {}, {"score": 1.5, "curve": [1, 2]}, True, {"seconds": 3.0})
FAILURE = replace(RECORD, status="failed", reason="it raised", result={}, blob=False)
ARRAYS = {"counts": np.arange(6.0)}


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store, Store]:
    """Two empty machines, and where they are to be joined."""
    one, other, joint = (Store(tmp_path / name) for name in ("one", "other", "joint"))
    one.create()
    other.create()
    return one, other, joint


def contents(store: Store) -> dict[Path, bytes]:
    return {path.relative_to(store.root): path.read_bytes() for path in files_in(store.root)}


def ages(folder: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in files_in(folder)]


# --- several machines, one table ---


def test_two_stores_with_half_of_the_seeds_give_the_table_of_one_with_all(finished: Finished, tmp_path: Path) -> None:
    """Each machine plans the whole sweep and runs the fits of one seed, with what rests on them."""
    plan, manifest = make_plan(TINY), Store(finished.results).newest_sweep()
    halves = [Store(tmp_path / f"seed{seed}") for seed in (0, 1)]
    for seed, half in enumerate(halves):
        half.create()
        half.put_sweep(sweep_name(manifest), {**manifest, "started": f"2026-01-0{seed + 1}"})
        others = {leaf.key for leaf in plan.leaves if leaf.seeds["synthesizer"] != seed}
        fits = {leaf.fit for leaf in plan.leaves if leaf.seeds["synthesizer"] == seed}
        lost = {key for key, node in plan.nodes.items() if key in others or (node.stage == "fit" and key not in fits)}
        for key, node in plan.nodes.items():
            lost |= {key} if lost & set(node.inputs.values()) else set()
        execute_here([node for key, node in plan.nodes.items() if key not in lost], half, Log())
        assert csv_of(half.root) != finished.csv
    result = bench("merge", *(half.root for half in halves), "--results", tmp_path / "joint")
    assert (result.code, result.err) == (0, "")
    assert csv_of(tmp_path / "joint") == finished.csv
    assert not pending(plan, Store(tmp_path / "joint"))


def test_merging_again_changes_nothing(finished: Finished, tmp_path: Path) -> None:
    for _ in range(2):
        assert bench("merge", finished.results, "--results", tmp_path / "joint").code == 0
        assert contents(Store(tmp_path / "joint")) == contents(Store(finished.results))
        assert ages(tmp_path / "joint") == ages(finished.results)
    assert "0 records are new, 0 successes took" in bench("merge", finished.results, "--results", tmp_path / "joint").out


@pytest.mark.parametrize("files", range(6))
def test_a_merge_that_is_stopped_after_any_file_is_whole_so_far_and_is_continued(
    files: int, stores: tuple[Store, Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _, joint = stores
    for key in ("aa11", "bb22", "cc33"):
        one.put(replace(RECORD, key=key), ARRAYS)
    adopt, left = Store.adopt, iter(range(files))

    def adopt_some(store: Store, path: Path) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        adopt(store, path)

    monkeypatch.setattr(Store, "adopt", adopt_some)
    with pytest.raises(KeyboardInterrupt):
        merge([one], joint)
    assert len(contents(joint)) == files
    assert all(joint.has(record.key) for record in joint.records()), "arrays come before the record that vouches for them"
    monkeypatch.undo()
    merge([one], joint)
    assert contents(joint) == contents(one)


def test_different_sweeps_are_united_and_the_joint_one_needs_no_run(tmp_path: Path) -> None:
    parts = [replace(TINY, synth=(name,), agents=(), attacks=(), seeds=Seeds(synthesizer=1)) for name in ("uniform", "independent")]
    for name, part in zip(("one", "other"), parts, strict=True):
        plan, store, _ = run_here(part, tmp_path / name)
        store.put_sweep(name, plan.manifest("2026"))
        os.utime(store.root / "sweeps" / f"{name}.json", (9, 9 if name == "one" else 5))
    result = bench("merge", tmp_path / "one", tmp_path / "other", "--results", tmp_path / "joint")
    joint = Store(tmp_path / "joint")
    assert len(list(joint.sweeps())) == 2
    assert joint.newest_sweep() == Store(tmp_path / "one").newest_sweep(), "files keep their age"
    assert "one of its 2 sweeps that was started last" in result.out
    assert not pending(make_plan(replace(parts[0], synth=("uniform", "independent"))), joint)


def test_of_one_sweep_the_manifest_that_was_started_first_stays_in_either_order(stores: tuple[Store, Store, Store], tmp_path: Path) -> None:
    one, other, joint = stores
    for store, started, age in ((one, "2026-02", 5), (other, "2026-01", 3)):
        os.utime(store.put_sweep("cc33", {"leaves": [], "environments": [], "started": started}), (age, age))
    for order, target in (([one, other], joint), ([other, one], Store(tmp_path / "reverse"))):
        assert merge(order, target).sweeps == 1
        assert target.newest_sweep()["started"] == "2026-01"
        assert next(target.files("sweeps")).stat().st_mtime == 5


# --- one key, two answers ---


def test_a_success_takes_the_place_of_a_failure_and_never_the_other_way(stores: tuple[Store, Store, Store], tmp_path: Path) -> None:
    one, other, joint = stores
    one.put(FAILURE)
    other.put(RECORD, ARRAYS)
    for order, target, mended in (([one, other], joint, 1), ([other, one], Store(tmp_path / "reverse"), 0)):
        merged = merge(order, target)
        assert (merged.mended, merged.differences) == (mended, [])
        assert target.get("aa11") == RECORD
        assert target.has("aa11")


def test_two_failures_are_no_contradiction(stores: tuple[Store, Store, Store]) -> None:
    one, other, joint = stores
    one.put(FAILURE)
    other.put(replace(FAILURE, reason="killed"))
    assert not merge([one, other], joint).differences
    assert joint.get("aa11") == FAILURE


def test_the_rounding_of_another_processor_is_no_other_answer(stores: tuple[Store, Store, Store]) -> None:
    one, other, joint = stores
    one.put(RECORD, ARRAYS)
    other.put(replace(RECORD, result={"score": 1.5 + 1e-11, "curve": [1, 2]}), {"counts": ARRAYS["counts"] * (1 + 1e-12)})
    assert not merge([one, other], joint).differences
    assert joint.get("aa11") == RECORD
    assert np.array_equal(joint.arrays("aa11")["counts"], ARRAYS["counts"])


def test_provenance_may_differ(stores: tuple[Store, Store, Store]) -> None:
    one, other, joint = stores
    one.put(RECORD, ARRAYS)
    other.put(replace(RECORD, provenance={"seconds": 99.0}), ARRAYS)
    merged = merge([one, other], joint)
    assert (merged.new, merged.alike, merged.differences) == (1, 1, [])
    assert joint.get("aa11") == RECORD


@pytest.mark.parametrize(
    ("theirs", "arrays", "words"),
    [
        (replace(RECORD, result={"score": 2.5, "curve": [1, 2]}), ARRAYS, "result.score: 1.5 and 2.5"),
        (replace(RECORD, result={"score": 1.5, "curve": [1, 3]}), ARRAYS, "result.curve[1]: 2 and 3"),
        (replace(RECORD, result={"score": 1.5, "curve": [1, 2], "more": 0}), ARRAYS, "result.more: None and 0"),
        (RECORD, {"counts": ARRAYS["counts"] + 1e-6}, "arrays counts"),
        (RECORD, {**ARRAYS, "mean": np.zeros(1)}, "arrays mean"),
        (RECORD, {"counts": np.arange(6, dtype=np.float32)}, "arrays counts"),
    ],
)
def test_two_answers_are_reported_with_both_folders_and_the_first_stays(
    theirs: Record, arrays: dict[str, np.ndarray], words: str, stores: tuple[Store, Store, Store]
) -> None:
    one, other, joint = stores
    one.put(RECORD, ARRAYS)
    other.put(theirs, arrays)
    other.put(replace(RECORD, key="bb22"), ARRAYS)
    before = contents(other)
    result = bench("merge", one.root, other.root, "--results", joint.root)
    assert (result.code, result.err) == (1, "")
    assert f"  fit aa11: {one.root} and {other.root} differ in {words}\n" in result.out
    assert joint.get("aa11") == RECORD
    assert np.array_equal(joint.arrays("aa11")["counts"], ARRAYS["counts"])
    assert joint.has("bb22"), "the others are joined"
    assert contents(other) == before
    assert f"{joint.root} and {other.root} differ in" in bench("merge", other.root, "--results", joint.root).out


def test_sweeps_that_other_code_planned_are_reported(stores: tuple[Store, Store, Store]) -> None:
    one, other, joint = stores
    one.put_sweep("cc33", {"leaves": [{"key": "a"}], "started": "2026-02"})
    other.put_sweep("cc33", {"leaves": [{"key": "b"}], "started": "2026-01"})
    (difference,) = merge([one, other], joint).differences
    assert (difference.kept, difference.other) == (one.root, other.root)
    assert joint.newest_sweep()["started"] == "2026-02"


# --- arrays ---


def test_arrays_that_are_gone_are_missed_by_nobody_and_filled_in_where_they_can_be(stores: tuple[Store, Store, Store]) -> None:
    one, other, joint = stores
    one.put(RECORD, ARRAYS)
    one.blob_path("aa11").unlink()
    assert merge([one], joint).arrays == 0
    assert joint.get("aa11") == RECORD
    assert not joint.has("aa11")
    other.put(RECORD, ARRAYS)
    assert merge([other], joint).arrays == 1
    assert joint.has("aa11")


def test_another_answers_arrays_are_not_filled_in(stores: tuple[Store, Store, Store]) -> None:
    one, other, joint = stores
    one.put(RECORD, ARRAYS)
    one.blob_path("aa11").unlink()
    other.put(replace(RECORD, result={"score": 7}), ARRAYS)
    merge([one, other], joint)
    assert not joint.blob_path("aa11").exists()


# --- bad input ---


def test_what_is_no_store_is_refused_before_anything_is_written(finished: Finished, tmp_path: Path) -> None:
    joint = tmp_path / "joint"
    for folders, words in (
        ((), "no folder is named"),
        ((finished.results, tmp_path / "nowhere"), "nowhere holds no records; give folders that"),
        ((joint,), "holds no records"),
    ):
        result = bench("merge", *folders, "--results", joint)
        assert (result.code, result.out) == (2, "")
        assert words in result.err
        assert result.err.count("\n") == 1
        assert not joint.exists()
    result = bench("merge", finished.results, "--results", f"{finished.results}/../{finished.results.name}")
    assert result.code == 2
    assert "is the folder of --results itself" in result.err


@pytest.mark.parametrize("kind", ["records", "sweeps", "blobs"])
def test_a_corrupt_file_is_named_and_nothing_is_lost(kind: str, finished: Finished, tmp_path: Path) -> None:
    source = Store(Path(shutil.copytree(finished.results, tmp_path / "source")))
    merge([Store(finished.results)], Store(tmp_path / "joint"))
    before = contents(Store(tmp_path / "joint"))
    corrupt = sorted((source.root / kind).iterdir())[0]
    corrupt.write_text('{"cut sho')
    with pytest.raises(InputError, match=rf"{corrupt} (is corrupt|cannot be read) .*; restore this file"):
        merge([source], Store(tmp_path / "joint"))
    assert contents(Store(tmp_path / "joint")) == before
    corrupt.unlink()
    merge([source], Store(tmp_path / "joint"))
    assert contents(Store(tmp_path / "joint")) == before


def test_a_full_disk_is_told(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    result = bench("merge", finished.results, "--results", tmp_path / "joint")
    assert result.code == 2
    assert "cannot write" in result.err
    assert "the disk is full" in result.err
    assert not files_in(tmp_path / "joint")


def test_what_a_machine_wrote_by_hand_is_copied_byte_for_byte(stores: tuple[Store, Store, Store]) -> None:
    one, _, joint = stores
    one.put(RECORD, ARRAYS)
    path = one.root / "records" / "aa11.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    merge([one], joint)
    assert contents(joint) == contents(one)
