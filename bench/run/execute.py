"""Running a plan: worker processes, one node each at a time, and a record whatever happens.

One process per core, one BLAS thread per process. A worker talks to the parent over a pipe: the pool knows which node died with a killed
worker or outlived its time limit, fails that node alone, and starts a fresh worker. Nothing is raised across the pipe but bad input.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from bench.core import registry
from bench.core.errors import InputError
from bench.core.protocols import Runtime
from bench.run.spec import Node
from bench.run.stages import STAGES, sources
from bench.run.store import Record, Store

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""glibc returns blocks of a megabyte to the system at once and asks for them again: a fifth of the time of a training step went into that."""
_OWN_FILES = {"PYTHONSAFEPATH": "1"}
"""A plugin file that is called like a module of Python hides that one where the folder of a run comes first."""
_ENVIRONMENT = _ONE_THREAD | _KEPT_MEMORY | _OWN_FILES


class Watcher(Protocol):
    """Who is told how a run goes on. Step counts and outcomes only."""

    def started(self, node: Node) -> None: ...
    def progress(self, node: Node, done: int, total: int) -> None: ...
    def finished(self, node: Node, record: Record) -> None: ...


def run_node(node: Node, store: Store, runtime: Runtime) -> Record:
    """Run one stage and store its record; a stage that raises makes a failure record with its reason.

    Raises:
        InputError: a dataset that the user must mend, a plugin file that was changed since the node was planned, or a store that cannot be written.
    """
    _refuse_changed_files(node)
    _forget_peak_memory()
    started = time.monotonic()
    try:
        outcome = STAGES[node.stage].run(node, store, runtime)
    except Exception as error:  # the boundary between plugins and the bench: whatever a plugin raises becomes a record
        if node.stage == "dataset" and isinstance(error, ValueError | OSError):
            raise InputError(f"{node.plugins['environments']}: {error}") from error
        return fail(node, store, registry.told(error), time.monotonic() - started)
    record = _record(node, "ok", None, outcome.result, outcome.arrays is not None, time.monotonic() - started)
    try:
        store.put(record, outcome.arrays)
    except InputError:
        raise
    except (TypeError, ValueError) as error:  # a plugin's result that is neither JSON nor plain arrays
        return fail(node, store, f"the result cannot be stored ({error})", time.monotonic() - started)
    return record


def _refuse_changed_files(node: Node) -> None:
    """What new code computes must not bear the key of the old one."""
    for group, label in node.plugins.items():
        role = "pretraining" if node.stage == "pretrain" else group.removesuffix("s")
        planned = node.parameters.get(role) or {}
        if planned.get("digest", (today := registry.resolve(group, label)).digest) != today.digest:
            raise InputError(f"--plugin: {today.owner} was changed while it was running; run the same command again for the {label} of today")


def fail(node: Node, store: Store, reason: str, seconds: float) -> Record:
    """Store that a node failed; the next run tries it again. What another run has stored in these seconds stands, and is returned."""
    if found := store.stored_within(node.key, seconds):
        return found
    record = _record(node, "failed", reason, {}, False, seconds)
    store.put(record)
    return record


def _record(node: Node, status: str, reason: str | None, result: dict[str, Any], blob: bool, seconds: float) -> Record:
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    provenance = {"sources": sources(node), "seconds": round(seconds, 3), "peak_bytes": _peak_memory(), "finished": finished, **_machine()}
    return Record(node.key, node.stage, status, reason, node.parameters, node.inputs, node.plugins, result, blob, provenance)


_PROCESS = Path("/proc/self")  # Linux's account of this process


def _forget_peak_memory() -> None:
    """Let the peak begin at what is resident now, since a worker runs stage after stage. A system that cannot keeps that of the process."""
    with suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")


def _peak_memory() -> int:
    """The largest resident memory since then, in bytes."""
    status = _PROCESS / "status"
    if told := re.search(r"VmHWM:\s*(\d+) kB", status.read_text() if status.exists() else ""):
        return int(told[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@cache
def _machine() -> dict[str, Any]:
    packages = ("orl-bench", "numpy", "torch", "dp-accounting")
    return {
        "versions": {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}},
        "hardware": {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()},
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of this checkout; None for an installed wheel, which may lie inside somebody else's repository."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return None
    git = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return git.stdout.strip() or None


@dataclass
class _Frontier:
    """Which nodes wait, which are ready, and what a failure takes with it."""

    store: Store
    waiting: dict[str, Node] = field(default_factory=dict)
    running: dict[str, Node] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.time)

    def ready(self) -> Iterator[Node]:
        """Nodes whose inputs are all there, in plan order."""
        for node in list(self.waiting.values()):
            if not any(key in self.waiting or key in self.running or key in self.failed for key in node.inputs.values()):
                yield node

    def doomed(self) -> Iterator[tuple[Node, str]]:
        """Nodes that can never run, with the reason."""
        for node in list(self.waiting.values()):
            for key in node.inputs.values():
                if key in self.failed:
                    yield node, self.failed[key]
                    break

    def stored_meanwhile(self, node: Node) -> Record | None:
        """The success that another run on this store has had with a node since this one began."""
        return self.store.stored_within(node.key, time.time() - self.began)

    def start(self, node: Node) -> None:
        self.running[node.key] = self.waiting.pop(node.key)

    def finish(self, node: Node, record: Record) -> None:
        self.running.pop(node.key, None)
        self.waiting.pop(node.key, None)
        if not record.ok:
            self.failed[node.key] = record.reason or "failed"


def execute(nodes: Sequence[Node], store: Store, watcher: Watcher, jobs: int, plugin_files: Sequence[str]) -> None:
    """Run `nodes` (inputs first) on `jobs` worker processes.

    Raises:
        InputError: a dataset that the user must mend, or a store that cannot be written; what finished before is stored.
        KeyboardInterrupt: after the workers were stopped.
    """
    frontier = _Frontier(store, {node.key: node for node in nodes})
    workers = [_Worker(store, plugin_files) for _ in range(min(jobs, len(nodes)))]
    try:
        while frontier.waiting or frontier.running:
            _assign(frontier, workers, watcher)
            for worker in _with_news(workers):
                for node, record in worker.news(watcher):
                    frontier.finish(node, record)
                    watcher.finished(node, record)
    finally:
        for worker in workers:
            worker.stop()


def execute_here(nodes: Sequence[Node], store: Store, watcher: Watcher) -> None:
    """Run `nodes` one after another in this process, without time limits: for tests and debuggers."""
    frontier = _Frontier(store, {node.key: node for node in nodes})
    while frontier.waiting:
        _sweep_doomed(frontier, watcher)
        for node in frontier.ready():
            record = frontier.stored_meanwhile(node)
            if record is None:
                frontier.start(node)
                watcher.started(node)
                record = run_node(node, store, Runtime(progress=_progress_of(watcher, node)))
            frontier.finish(node, record)
            watcher.finished(node, record)


def _progress_of(watcher: Watcher, node: Node) -> Callable[[int, int], None]:
    return lambda done, total: watcher.progress(node, done, total)


def _sweep_doomed(frontier: _Frontier, watcher: Watcher) -> None:
    for node, reason in frontier.doomed():
        cause = reason if reason.startswith("an input failed") else f"an input failed: {reason}"
        record = frontier.stored_meanwhile(node) or fail(node, frontier.store, cause, 0.0)
        frontier.finish(node, record)
        watcher.finished(node, record)


def _assign(frontier: _Frontier, workers: list[_Worker], watcher: Watcher) -> None:
    _sweep_doomed(frontier, watcher)
    idle = [worker for worker in workers if worker.node is None]
    for node in frontier.ready():
        if not idle:
            return
        if record := frontier.stored_meanwhile(node):
            frontier.finish(node, record)
            watcher.finished(node, record)
        else:
            frontier.start(node)
            watcher.started(node)
            idle.pop(0).give(node)


def _with_news(workers: list[_Worker]) -> list[_Worker]:
    """The workers that said something, died, or ran out of time."""
    busy = {worker.connection: worker for worker in workers if worker.node is not None}
    spoken = wait(list(busy), timeout=0.2)
    return [worker for connection, worker in busy.items() if connection in spoken or worker.overdue]


class _Worker:
    """A process that runs one node after another."""

    def __init__(self, store: Store, plugin_files: Sequence[str]) -> None:
        self._store, self._plugin_files = store, list(plugin_files)
        self.node: Node | None = None
        self._started = 0.0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, str(self._store.root), self._plugin_files), daemon=True)
        with _inheritance():
            self._process.start()
        theirs.close()

    def give(self, node: Node) -> None:
        if not self._process.is_alive():
            self.stop()
            self._start()
        self.node, self._started = node, time.monotonic()
        self.connection.send(node)

    @property
    def overdue(self) -> bool:
        return self.node is not None and time.monotonic() - self._started > 60 * self.node.minutes

    def news(self, watcher: Watcher) -> Iterator[tuple[Node, Record]]:
        """What the worker says of its node: progress, its record, bad input, or nothing because it is dead or too late."""
        node = self.node
        assert node is not None
        if self.overdue and not self.connection.poll():
            remedy = "run again with fewer --jobs, or raise `minutes` in a TOML file"
            yield node, self._lose(node, f"no result within the time limit of {node.minutes:g} minutes; {remedy}")
            return
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):  # OSError: in the middle of a word
            self._process.join(timeout=5)
            yield node, self._lose(node, f"the worker process died (exit code {self._process.exitcode})")
            return
        if kind == "progress":
            watcher.progress(node, *value)
        elif kind == "bad input":
            raise InputError(value)
        else:
            self.node = None
            yield node, value

    def _lose(self, node: Node, reason: str) -> Record:
        self.stop()
        self.node = None
        self._start()
        return fail(node, self._store, reason, time.monotonic() - self._started)

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


@contextmanager
def _inheritance() -> Iterator[None]:
    """What a worker has from its first instant: one BLAS thread, memory that it keeps, and deafness to Ctrl-C, which the terminal sends to all."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(connection: Connection, root: str, plugin_files: list[str]) -> None:
    """The life of a worker: load plugins, then run what comes through the pipe until it closes."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    registry.load_files(plugin_files)
    store = Store(root)
    while True:
        try:
            node = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("record", run_node(node, store, Runtime(progress=_throttled(connection)))))
        except InputError as error:
            connection.send(("bad input", str(error)))


def _follow_parent() -> None:
    """End this process when its parent is gone, however and whenever the parent went."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    sys.stdout.flush()
    os._exit(1)


def _throttled(connection: Connection) -> Callable[[int, int], None]:
    last = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        counts = int(done), int(total)  # what cannot be drawn fails here, in the node that says it
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            connection.send(("progress", counts))

    return tell
