"""What a person sees while a sweep runs: one bar with an ETA, a line for each stage at work, a line for each failure and finished row."""

from __future__ import annotations

from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.run.plan import Leaf, Plan
from bench.run.spec import Node
from bench.run.store import Record


class Display:
    """Draws a running plan; a `Watcher` of `execute`. Without a terminal only the finished rows and failures are printed."""

    def __init__(self, plan: Plan, todo: list[Node], seconds: dict[str, float], console: Console) -> None:
        self._leaves: dict[str, list[Leaf]] = {}
        for leaf in plan.leaves:
            self._leaves.setdefault(leaf.key, []).append(leaf)
        self._seconds, self._console = seconds, console
        pending = {node.key for node in todo}
        self._left = Counter(_row(leaf) for leaf in plan.leaves if leaf.key in pending)
        self._failed: Counter[str] = Counter()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
        self._whole = self._progress.add_task("[bold]sweep", total=sum(seconds[node.key] for node in todo))
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def started(self, node: Node) -> None:
        self._tasks[node.key] = self._progress.add_task(f"  {self._title(node)}", total=None)

    def progress(self, node: Node, done: int, total: int) -> None:
        self._progress.update(self._tasks[node.key], completed=done, total=total)

    def finished(self, node: Node, record: Record) -> None:
        if node.key in self._tasks:
            self._progress.remove_task(self._tasks.pop(node.key))
        self._progress.advance(self._whole, self._seconds.get(node.key, 0.0))
        if not record.ok and not (record.reason or "").startswith("an input failed"):
            self._console.print(f"[red]failed[/] {self._title(node)}: {escape(record.reason or '')}", soft_wrap=True)
        for leaf in self._leaves.get(node.key, ()):
            self._scored(_row(leaf), record.ok)

    def _scored(self, row: str, ok: bool) -> None:
        """One score less to wait for; the last one tells how the row came out."""
        self._left[row] -= 1
        self._failed[row] += not ok
        if not self._left[row]:
            failed = self._failed[row]
            self._console.print(f"[red]failed[/] {row}; scores without a result: {failed}" if failed else f"[green]done[/]   {row}", soft_wrap=True)

    def _title(self, node: Node) -> str:
        for leaf in self._leaves.get(node.key, ())[:1]:
            return escape(f"{leaf.synth} · {leaf.plugin} · seed {'/'.join(str(seed) for seed in leaf.seeds.values())}")
        names = [label for group, label in node.plugins.items() if group != "environments"] or list(node.plugins.values())
        return escape(" · ".join([node.stage, *names]))


def _row(leaf: Leaf) -> str:
    budget = f" at epsilon {leaf.epsilon:g}" if leaf.epsilon is not None else ""
    return escape(f"{leaf.synth}{budget} on {leaf.env}, {leaf.rows:,} rows, unit {leaf.unit}")
