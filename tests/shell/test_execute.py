"""A run ends with a record for every node, whatever its plugins do; serial or parallel, stopped or not, the results are the same."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import Finished
from rich.console import Console
from shell_support import BARE, PLUGINS, QUICK, TINY, Log, bench, csv_of, nodes_of, record_of, run_here, start, write_preset

from bench import examples, register
from bench.core import registry
from bench.core.data import Unit
from bench.core.errors import InputError
from bench.core.protocols import Estimate
from bench.run.cost import cost
from bench.run.execute import _Worker, execute, execute_here, fail
from bench.run.plan import Plan, make_plan, pending
from bench.run.progress import Display
from bench.run.spec import Node, Seeds
from bench.run.store import Store
from synthesizers.uniform import Uniform

PLUGIN = PLUGINS / "faulty.py"
PUBLIC_PHASE = """
@dataclass(frozen=True)
class Phase:
    version = 1

    def run(self, public, rng, *, runtime):
        return {}


"""
REASONS = {
    "raises": "RuntimeError: this fit always raises",
    "hangs": "no result within the time limit of 0.02 minutes",
    "dies": "the worker process died (exit code 7)",
    "mumbles": "ValueError: invalid literal for int() with base 10: 'half' (faulty.py, line",
    "nan": "column 'x' of the release holds NaN or infinity",
}


def test_parallel_and_serial_runs_agree_to_the_bit(finished: Finished, tmp_path: Path) -> None:
    plan, serial, _ = run_here(TINY, tmp_path)
    parallel = Store(finished.results)
    for node in plan.nodes.values():
        here, there = record_of(serial, node), record_of(parallel, node)
        assert replace(here, provenance={}) == replace(there, provenance={})
        if here.blob:
            ours, theirs = serial.arrays(node.key), parallel.arrays(node.key)
            assert ours.keys() == theirs.keys()
            assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@dataclass(frozen=True)
class FaultyRun:
    plan: Plan
    store: Store
    log: Log


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyRun]:
    """Two workers, methods that misbehave and one that does not; the one that hangs has a time limit of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_declared", dict(registry._declared))
        registry.load_file(PLUGIN)
        synth = ("uniform", *(f"faulty[fault={fault}]" for fault in REASONS))
        run = FaultyRun(make_plan(replace(BARE, synth=synth)), Store(tmp_path_factory.mktemp("faulty")), Log())
        nodes = [replace(node, minutes=0.02) if "hangs" in str(node.plugins) else node for node in pending(run.plan, run.store)]
        execute(nodes, run.store, run.log, 2, [str(PLUGIN)])
        yield run


@pytest.mark.parametrize("fault", REASONS)
def test_whatever_a_plugin_does_its_record_says_so(fault: str, faulty: FaultyRun) -> None:
    label = f"faulty[fault={fault}]"
    nodes = [*nodes_of(faulty.plan, "fit", synthesizers=label), *nodes_of(faulty.plan, "sample", synthesizers=label)]
    first, *rest = (record for node in nodes if not (record := record_of(faulty.store, node)).ok)
    assert first.reason is not None
    assert REASONS[fault] in first.reason
    leaves = [record_of(faulty.store, faulty.plan.nodes[leaf.key]) for leaf in faulty.plan.leaves if leaf.synth == label]
    assert leaves
    assert all(record.reason == f"an input failed: {first.reason}" for record in (*rest, *leaves))


def test_the_rest_of_the_sweep_finishes(faulty: FaultyRun) -> None:
    assert faulty.log.records.keys() == faulty.plan.nodes.keys()
    assert all(faulty.store.has(leaf.key) for leaf in faulty.plan.leaves if leaf.synth == "uniform")


def test_the_next_run_tries_again_what_failed_and_only_that(faulty: FaultyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.load_file(PLUGIN)
    todo = pending(faulty.plan, faulty.store)
    assert todo
    assert not any(record_of(faulty.store, node).ok for node in todo)
    monkeypatch.setenv("FAULTY_HEALED", "yes")
    log = Log()
    execute(todo, faulty.store, log, 2, [str(PLUGIN)])
    assert all(record.ok for record in log.records.values())
    assert pending(faulty.plan, faulty.store) == []


def test_a_worker_that_died_while_it_was_idle_costs_no_node(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (node, *_) = make_plan(BARE).nodes.values()
    worker = _Worker(store, [])
    try:
        worker._process.kill()
        worker._process.join()
        worker.give(node)
        log, deadline = Log(), time.monotonic() + 60
        while worker.node is not None and time.monotonic() < deadline:
            for _, record in worker.news(log):
                assert record.ok
    finally:
        worker.stop()
    assert store.has(node.key)


def test_a_worker_that_was_killed_while_it_spoke_costs_its_node_alone(tmp_path: Path) -> None:
    (node, *_) = make_plan(BARE).nodes.values()
    worker = _Worker(Store(tmp_path), [])
    try:
        worker.connection, theirs = Pipe()
        os.write(theirs.fileno(), struct.pack("!i", 100) + b"the first of a hundred bytes")
        theirs.close()
        worker.node = node
        ((_, record),) = worker.news(Log())
    finally:
        worker.stop()
    assert (record.reason or "").startswith("the worker process died")


def test_a_plugin_file_that_changes_while_it_runs_makes_no_record(tmp_path: Path) -> None:
    """What new code computes would bear the key of the old code, and `bench verify` could not tell."""
    file, store = tmp_path / "changing.py", Store(tmp_path / "runs")
    source = (Path(examples.__file__).parent / "synthesizer.py").read_text().replace("my-synthesizer", "changing")
    source = source.replace("@register", f"{PUBLIC_PHASE}@register").replace("needs_public = False", "needs_public, pretraining = True, Phase()")
    file.write_text(source)
    registry.load_file(file)
    plan = make_plan(replace(BARE, synth=("changing",)))
    file.write_text(file.read_text() + "CHANGED = True\n")
    store.create()
    with pytest.raises(InputError, match=r"--plugin: .*changing\.py was changed while it was running; run the same command again"):
        execute(pending(plan, store), store, Log(), 1, [str(file)])
    assert nodes_of(plan, "pretrain")
    assert not any(store.has(node.key) for stage in ("pretrain", "fit") for node in nodes_of(plan, stage))


def test_a_file_called_like_a_module_of_python_disturbs_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("signal.py").write_text("raise RuntimeError('this is no signal')\n")
    ran = bench("run", "--preset", write_preset(replace(BARE, metrics=("one-way",)), tmp_path), "--results", "runs", "--jobs", 1)
    assert (ran.code, ran.err) == (0, "")


@dataclass(frozen=True)
class OddAttack:
    """Returns what no JSON can hold."""

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "samples"
    better: ClassVar[dict[str, str]] = {"auc": "lower"}

    def views(self, target: object) -> dict[str, object]:
        return {}

    def attack(self, *arguments: object, runtime: object) -> dict[str, Estimate]:
        return {"auc": Estimate(0.5, np.array([0.4]), 0.6)}  # type: ignore[arg-type]


def test_a_result_that_cannot_be_stored_is_a_failure_and_no_crash(tmp_path: Path) -> None:
    register("attacks", "odd")(OddAttack)
    plan, store, _ = run_here(replace(BARE, attacks=("odd",)), tmp_path)
    (attack,) = nodes_of(plan, "attack")
    assert (record_of(store, attack).reason or "").startswith("the result cannot be stored")


@dataclass(frozen=True)
class EndlessAttack(OddAttack):
    """Returns an interval without an end."""

    def attack(self, *arguments: object, runtime: object) -> dict[str, Estimate]:
        return {"auc": Estimate(0.5, 0.4, float("nan"))}


def test_an_interval_without_an_end_is_a_failure(tmp_path: Path) -> None:
    register("attacks", "endless")(EndlessAttack)
    plan, store, _ = run_here(replace(BARE, attacks=("endless",)), tmp_path)
    (attack,) = nodes_of(plan, "attack")
    assert record_of(store, attack).reason == "ValueError: the interval of score 'auc' is not finite"


@dataclass(frozen=True)
class Hungry(Uniform):
    """Uniform draws by a fit that holds some memory for a moment."""

    megabytes: int = 0

    def fit(self, *arguments: Any, **named: Any) -> Any:
        np.ones(self.megabytes << 17)
        return super().fit(*arguments, **named)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets the peak of a process")
def test_a_record_holds_the_memory_of_its_own_stage(tmp_path: Path) -> None:
    register("synthesizers", "hungry")(Hungry)
    plan, store, _ = run_here(replace(BARE, synth=("hungry[megabytes=500]", "hungry")), tmp_path)
    first, second = (record_of(store, node).provenance["peak_bytes"] for node in nodes_of(plan, "fit"))
    assert first - second > 400e6


def test_a_malformed_dataset_ends_the_run_in_one_sentence(tmp_path: Path) -> None:
    preset = write_preset(replace(BARE, env=("malformed",)), tmp_path)
    result = bench("run", "--preset", preset, "--plugin", PLUGINS / "malformed.py", "--results", tmp_path / "runs", "--jobs", 1)
    assert result.code == 2
    assert result.err == "bench: malformed: rewards: 3 values are NaN; mend the file or leave this environment out\n"


def test_a_disk_that_fills_up_ends_the_run_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store = make_plan(BARE), Store(tmp_path)
    replaced, room = os.replace, 7

    def fill_up(source: Path, target: Path) -> None:
        nonlocal room
        room -= 1
        if room < 0:
            raise OSError(28, "No space left on device")
        replaced(source, target)

    monkeypatch.setattr(os, "replace", fill_up)
    with pytest.raises(InputError, match="the disk is full; free space or give another folder"):
        run_here(BARE, tmp_path)
    monkeypatch.undo()
    kept = [key for key in plan.nodes if store.has(key)]
    assert 0 < len(kept) < len(plan.nodes)
    _, _, log = run_here(BARE, tmp_path)
    assert set(log.started_keys) == plan.nodes.keys() - set(kept)
    assert all(store.has(key) for key in plan.nodes)


def _wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the run stores nothing"
        time.sleep(0.05)


def test_ctrl_c_stops_with_130_and_the_same_command_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle of a fit that hangs; healed, the same command does what is left and no more."""
    preset = write_preset(replace(BARE, synth=("uniform", "faulty[fault=hangs]")), tmp_path)
    command = ("run", "--preset", preset, "--plugin", PLUGIN, "--jobs", 1, "--results")
    process = start(*command, tmp_path / "stopped")
    _wait_for(lambda: len(list((tmp_path / "stopped" / "records").glob("*.json"))) >= 3)
    records = set((tmp_path / "stopped" / "records").glob("*.json"))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert err.strip() == "Stopped. What finished is stored; run the same command again to continue."
    times = {path: path.stat().st_mtime_ns for path in records}
    monkeypatch.setenv("FAULTY_HEALED", "yes")
    for results in (tmp_path / "stopped", tmp_path / "whole"):
        assert bench(*command, results).code == 0
    assert {path: path.stat().st_mtime_ns for path in records} == times, "nothing that was finished ran twice"
    assert csv_of(tmp_path / "stopped", "--plugin", PLUGIN) == csv_of(tmp_path / "whole", "--plugin", PLUGIN)


INTERRUPT = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, *rest):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
runpy.run_module("bench", run_name="__main__")
"""
"""Presses Ctrl-C when a module is about to be imported."""


@pytest.mark.parametrize("module", ["bench.cli", "scipy", "tyro"])
def test_ctrl_c_while_the_command_line_is_imported_is_as_quiet(module: str) -> None:
    """That takes a second; what is imported before it, a fifth."""
    process = subprocess.run([sys.executable, "-c", INTERRUPT, module], capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr.strip().count("\n")) == (130, "", 0), process.stderr
    assert process.stderr.strip().startswith("Stopped.")


def test_ctrl_c_while_the_workers_start_is_as_quiet(tmp_path: Path) -> None:
    """The sweep is written just before the first worker is started; a worker imports for a second or more."""
    process = start("run", "--preset", write_preset(QUICK, tmp_path), "--results", tmp_path / "runs", "--jobs", 4)
    _wait_for(lambda: list((tmp_path / "runs" / "sweeps").glob("*.json")))
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip().count("\n")) == (130, 0), err


def test_workers_that_were_starting_when_their_run_was_killed_end_too(tmp_path: Path) -> None:
    """They hold the pipe of its output open as long as they live."""
    plugin = tmp_path / "endless.py"
    plugin.write_text("import multiprocessing, time\nif multiprocessing.parent_process():\n    time.sleep(3600)\n")
    process = start("run", "--preset", write_preset(BARE, tmp_path), "--plugin", plugin, "--results", tmp_path / "runs", "--jobs", 2)
    try:
        _wait_for(lambda: list((tmp_path / "runs" / "sweeps").glob("*.json")))
        time.sleep(0.3)
        process.kill()
        process.communicate(timeout=30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_failure_does_not_take_the_place_of_what_another_run_has_stored_meanwhile(tmp_path: Path) -> None:
    """Two runs share a store, and one of them allows less time; a success of before the stage began, computed afresh, is replaced."""
    plan, store, _ = run_here(BARE, tmp_path)
    (node,) = nodes_of(plan, "fit")
    made = record_of(store, node)
    assert fail(node, store, "no result within the time limit", 60.0) == made == record_of(store, node)
    os.utime(tmp_path / "records" / f"{node.key}.json", (time.time() - 61, time.time() - 61))
    assert not fail(node, store, "no result within the time limit", 60.0).ok
    assert record_of(store, node).reason == "no result within the time limit"


@dataclass
class Overtaken(Log):
    """As the first stage of its run begins, another run does all of the sweep."""

    theirs: Callable[[], None] | None = None

    def started(self, node: Node) -> None:
        super().started(node)
        if self.theirs:
            self.theirs()
            self.theirs = None


@pytest.mark.parametrize("jobs", [0, 2])
def test_what_another_run_has_done_meanwhile_is_not_done_again(jobs: int, tmp_path: Path) -> None:
    """Whatever would have become of it here: a run that then ran out of memory left failures in the place of the other's records."""
    plan, store = make_plan(BARE), Store(tmp_path)
    store.create()
    log = Overtaken(theirs=lambda: execute_here(pending(plan, store), store, Log()))
    todo = pending(plan, store)
    execute(todo, store, log, jobs, []) if jobs else execute_here(todo, store, log)
    assert set(log.started_keys) < plan.nodes.keys()
    assert not set(log.started_keys) & {node.key for node in nodes_of(plan, "fit")}
    assert log.records.keys() == plan.nodes.keys()


def test_every_row_is_told_when_it_is_done_whatever_it_shares(tmp_path: Path) -> None:
    """Real and data-free rows stand in the tables of both units, under the same keys."""
    sweep = replace(QUICK, synth=("real", "uniform", "independent", "dp-transformer[steps=2,pretraining_steps=0]"), attacks=(), seeds=Seeds(1))
    said = Console(file=io.StringIO(), width=200)
    plan, store = make_plan(sweep), Store(tmp_path)
    with Display(plan, todo := pending(plan, store), cost(todo, store), said) as display:
        execute_here(todo, store, display)
    lines = [" ".join(line.split()) for line in said.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert len(lines) == len(set(lines)) == len({(leaf.synth, leaf.unit) for leaf in plan.leaves}) == 6
    assert {line for line in lines if "uniform" in line} == {f"done uniform on toy, 400 rows, unit {unit.value}" for unit in Unit}


def test_two_runs_on_one_store_do_not_harm_each_other(tmp_path: Path) -> None:
    run_here(QUICK, tmp_path / "alone")
    command = ("run", "--preset", write_preset(QUICK, tmp_path), "--jobs", 1, "--results")
    assert bench(*command, tmp_path / "alone").code == 0
    processes = [start(*command, tmp_path / "shared") for _ in range(2)]
    outcomes = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outcomes
    assert csv_of(tmp_path / "shared") == csv_of(tmp_path / "alone")
