"""Ledgers that watch a fit from outside: what it asked, what it was told, what it logged."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bench.core.accounting import Accountant
from bench.core.privacy import Budget, Ledger, Plan, RecordingLedger, ReplayLedger, Request

Inclusion = Callable[[NDArray[np.int64]], NDArray[np.int64]]
Tape = list[tuple[str, Any]]
ACCOUNTANT: Accountant = "rdp"
"""Calibrates in milliseconds where a privacy-loss distribution takes seconds; what is checked here does not depend on the choice."""


class _Watching(Ledger):
    """Keeps the exact value of every question on `asked`: (name, value)."""

    asked: Tape

    def plan(self, **requests: Request) -> Plan:
        return cast(Plan, _WatchedPlan(super().plan(**requests), self.asked))


class Recorder(_Watching, RecordingLedger):
    """Records questions and answers. `inclusion` may overrule the Poisson batches of DP-SGD."""

    def __init__(self, budget: Budget | None, units: int, rng: np.random.Generator, inclusion: Inclusion | None = None) -> None:
        super().__init__(budget, units, rng, ACCOUNTANT)
        self.asked, self._inclusion = [], inclusion

    def poisson_inclusion(self, rate: float) -> NDArray[np.int64]:
        included = super().poisson_inclusion(rate)
        return self._inclusion(included) if self._inclusion else included


class Replayer(_Watching, ReplayLedger):
    """Records the questions of a fit that is told the answers of another one."""

    def __init__(self, budget: Budget | None, tape: Tape) -> None:
        super().__init__(budget, tape, ACCOUNTANT)
        self.asked = []


class _WatchedPlan:
    """A plan whose questions are noted before they are answered."""

    def __init__(self, plan: Plan, asked: Tape) -> None:
        self._plan, self._asked = plan, asked

    def __getattr__(self, name: str) -> Any:
        return _WatchedQuestion(name, getattr(self._plan, name), self._asked)


class _WatchedQuestion:
    """A question of any mechanism; scale, noise multiplier and inclusion are passed on."""

    def __init__(self, name: str, question: Any, asked: Tape) -> None:
        self._name, self._question, self._asked = name, question, asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._question, name)

    def __call__(self, value: Any) -> Any:
        self._asked.append((self._name, np.array(value, np.float64)))
        return self._question(value)

    def release(self, clipped_sum: Any, add_noise: Callable[[Any, int, float], Any] | None = None) -> Any:
        here = clipped_sum.cpu() if hasattr(clipped_sum, "cpu") else clipped_sum  # a torch tensor, wherever it lives
        self._asked.append((self._name, np.asarray(here).astype(np.float64)))
        return self._question.release(clipped_sum, add_noise)


@contextlib.contextmanager
def captured_log() -> Iterator[list[str]]:
    """Everything that is logged or printed inside the block: whatever the log of a release says is released too.

    `absl` is left out: it is the voice of dp-accounting, which knows the plan and no row, and speaks only when its cache is cold.
    """
    lines: list[str] = []
    handler, root, printed = _Lines(lines), logging.getLogger(), io.StringIO()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield lines
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        lines.extend(printed.getvalue().splitlines())


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines
        self.addFilter(lambda record: record.name != "absl")

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {record.levelname} {record.getMessage()}")
