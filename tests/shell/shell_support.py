"""What the tests of the shell share: a sweep of seconds, the command line in this process and in another one, a serial run."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

from bench.cli import main
from bench.run.execute import execute_here
from bench.run.plan import Plan, make_plan, pending
from bench.run.secret import Secret
from bench.run.spec import Node, Schedule, Seeds, Sweep
from bench.run.store import Record, Store

PLUGINS = Path(__file__).parent / "plugins"

TINY = Sweep(
    preset="tiny",
    env=("toy",),
    synth=("real", "uniform", "independent"),
    agents=("bc",),
    metrics=("one-way",),
    attacks=("nearest-record",),
    rows=(400,),
    released=200,
    evaluated=200,
    minutes=5.0,
    seeds=Seeds(synthesizer=2),
    schedule=Schedule(steps=20, evaluate_every=10, episodes=5, last=2),
)
"""Every kind of score on `toy`; its numbers mean nothing."""

BARE = replace(TINY, synth=("uniform",), agents=(), attacks=(), seeds=Seeds(synthesizer=1))
"""One synthesizer, one metric: what a test of one stage starts from."""

QUICK = replace(TINY, preset="quick", agents=())
"""Without agents no process has to load torch: for tests that start many."""

COMMAND = [sys.executable, "-m", "bench"]
"""The `bench` script of this interpreter."""


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


def bench(*arguments: object) -> Result:
    """Run a command in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = ["bench", *map(str, arguments)]
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "argv", argv):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


def refused(fragments: list[str], *arguments: object) -> None:
    """The command ends with code 2 and one line on stderr that holds the fragments."""
    result = bench(*arguments)
    assert result.code == 2, result.out
    assert result.out == ""
    assert result.err.startswith("bench: ")
    assert result.err.count("\n") == 1
    assert all(fragment in result.err for fragment in fragments), result.err


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, as a terminal does."""
    argv = [*COMMAND, *map(str, arguments)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def csv_of(results: Path, *arguments: object) -> str:
    """The newest sweep of a store as csv."""
    result = bench("table", "--results", results, "--format", "csv", *arguments)
    assert result.code == 0, result.err
    return result.out


def write_preset(sweep: Sweep, folder: Path) -> Path:
    """The sweep as a file for `--preset`."""
    path = folder / f"{sweep.preset}.toml"
    path.write_text(sweep.to_toml())
    return path


@dataclass
class Log:
    """A watcher that keeps what it is told."""

    started_keys: list[str] = field(default_factory=list)
    records: dict[str, Record] = field(default_factory=dict)

    def started(self, node: Node) -> None:
        self.started_keys.append(node.key)

    def progress(self, node: Node, done: int, total: int) -> None:
        assert 0 <= done <= total

    def finished(self, node: Node, record: Record) -> None:
        self.records[node.key] = record


def run_here(sweep: Sweep, folder: Path, secret: Secret | None = None) -> tuple[Plan, Store, Log]:
    """Run whatever is missing of a sweep in this process."""
    plan, store, log = make_plan(sweep, secret), Store(folder), Log()
    execute_here(pending(plan, store), store, log)
    return plan, store, log


def nodes_of(plan: Plan, stage: str, **plugins: str) -> list[Node]:
    """The nodes of a stage whose plugins bear these labels."""
    return [node for node in plan.nodes.values() if node.stage == stage and plugins.items() <= node.plugins.items()]


def record_of(store: Store, node: Node) -> Record:
    """The record of a node that was run."""
    record = store.get(node.key)
    assert record is not None
    return record


def files_in(folder: Path) -> Sequence[Path]:
    """Every file below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
