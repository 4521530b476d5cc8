"""Ledgers that watch a fit from outside: what it asked, what it was told, what it logged."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from bench.core.accounting import Accountant
from bench.core.privacy import Budget, RecordingLedger

Inclusion = Callable[[NDArray[np.int64]], NDArray[np.int64]]
ACCOUNTANT: Accountant = "rdp"
"""Calibrates in milliseconds where a privacy-loss distribution takes seconds; what is checked here does not depend on the choice."""


class Recorder(RecordingLedger):
    """Records questions and answers, and counts the secret keys it drew. `inclusion` may overrule the Poisson batches of DP-SGD."""

    def __init__(self, budget: Budget | None, units: int, rng: np.random.Generator, inclusion: Inclusion | None = None) -> None:
        super().__init__(budget, units, rng, ACCOUNTANT)
        self._inclusion = inclusion
        self.keys_drawn = 0

    def secret_key(self) -> int:
        self.keys_drawn += 1
        return super().secret_key()

    def poisson_inclusion(self, rate: float) -> NDArray[np.int64]:
        included = super().poisson_inclusion(rate)
        return self._inclusion(included) if self._inclusion else included


@contextlib.contextmanager
def captured_log() -> Iterator[list[str]]:
    """Everything that is logged or printed inside the block: whatever the log of a release says is released too.

    `absl` is left out: it is the voice of dp-accounting, which knows the plan and no row, and speaks only when its cache is cold. Warnings
    that Python has shown before are shown again, so that two fits which warn alike are alike.
    """
    lines: list[str] = []
    handler, root, printed = _Lines(lines), logging.getLogger(), io.StringIO()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), warnings.catch_warnings():
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
