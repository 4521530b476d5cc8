"""What the performance scripts of the synthesizers share: clocks, one fit under a ledger of its own, and the distance of a release."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import TypeVar
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from bench.core.data import Transitions, Unit
from bench.core.privacy import Budget, Ledger, default_delta
from bench.core.protocols import Runtime, Sampler, State, Synthesizer
from bench.core.rng import rng_for
from bench.envs.maze2d import MEDIUM
from bench.run.execute import _ENVIRONMENT
from synthesizers._parts.discretize import Codes, modelled_column, modelled_columns
from synthesizers._parts.marginals import count_pairs

EPSILON = 10.0
RELEASED = 200_000
BINS = 20
"""Equal bins of a column, between the smallest and the largest value of the data, in which releases are compared."""

T = TypeVar("T")


@dataclass(frozen=True)
class Seconds:
    """CPU seconds of all threads of this process, and wall seconds."""

    cpu: float
    wall: float

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.cpu + other.cpu, self.wall + other.wall)

    def __str__(self) -> str:
        return f"{self.cpu:.2f} CPU-s, {self.wall:.2f} s of wall"


def clocked(call: Callable[[], T]) -> tuple[T, Seconds]:
    """What `call` returns, and how long it took."""
    cpu, wall = time.process_time(), time.perf_counter()
    value = call()
    return value, Seconds(time.process_time() - cpu, time.perf_counter() - wall)


@contextmanager
def watched(module: ModuleType, *names: str) -> Iterator[dict[str, float]]:
    """CPU seconds spent inside some functions of a module, by name, while the context lasts."""
    spent = dict.fromkeys(names, 0.0)

    def watch(name: str) -> Callable[..., object]:
        inner = getattr(module, name)

        def outer(*args: object, **options: object) -> object:
            value, seconds = clocked(lambda: inner(*args, **options))
            spent[name] += seconds.cpu
            return value

        return outer

    with patch.dict(vars(module), {name: watch(name) for name in names}):
        yield spent


def restart_as_worker() -> None:
    """Start this script again with one thread and the memory settings of the bench's workers, unless it has them: peers profit from them too."""
    if not _ENVIRONMENT.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **_ENVIRONMENT})


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, NDArray[np.float64]]:
    """CPU and wall seconds (rounds, 2) of calls that take turns, after a round to warm up: the load of the machine meets all of them alike."""
    for call in calls.values():
        call()
    times = np.empty((len(calls), rounds, 2))
    for turn in range(rounds):
        for i, call in enumerate(calls.values()):
            seconds = clocked(call)[1]
            times[i, turn] = seconds.cpu, seconds.wall
    return dict(zip(calls, times, strict=True))


def median(values: NDArray, digits: int = 2) -> str:
    """Median and its 95 % interval between two order statistics; below 6 values these are the smallest and the largest, and cover less."""
    ordered = np.sort(values)
    below = max(int(binom.ppf(0.025, len(ordered), 0.5)), 1)
    return f"{np.median(ordered):.{digits}f} [{ordered[below - 1]:.{digits}f}, {ordered[-below]:.{digits}f}]"


def print_times(times: Mapping[str, NDArray], unit: str, scale: float) -> None:
    """A line for each call; `scale` makes the unit of a second."""
    for name, seconds in times.items():
        cpu, wall = (median(clock * scale) for clock in seconds.T)
        print(f"  {name:34} {cpu:28} CPU-{unit}   {wall:28} {unit} of wall", flush=True)


def print_ratio(times: Mapping[str, NDArray], one: str, other: str, goal: str = "") -> None:
    """How many times as long `one` takes as `other`, round by round."""
    cpu, wall = (median(clock, 3) for clock in (times[one] / times[other]).T)
    print(f"  {f'{one} / {other}':50} {cpu} in CPU time   {wall} in wall time" + (f"   (goal: {goal})" if goal else ""), flush=True)


def in_a_process_of_its_own(call: Callable[..., T], *args: object) -> T:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *args).result()


def resident(field: str) -> int:
    """Bytes of this process in memory: now (VmRSS), or at most since it began (VmHWM)."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def spread(values: Sequence[float] | NDArray, digits: int = 2) -> str:
    """Median, smallest and largest."""
    return f"{np.median(values):.{digits}f} [{np.min(values):.{digits}f}, {np.max(values):.{digits}f}]"


def print_load(when: str) -> None:
    print(f"{when}: load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", flush=True)


# --- data, fits, distances ------------------------------------------------------------------------------------------------------------------------


def maze(rows: int) -> Transitions:
    """maze2d-medium, whose nominal number of rows follows: 12 modelled columns, of which the terminal is a known constant."""
    data = MEDIUM.dataset(rows, 0, "train")
    return replace(data, schema=data.schema.with_rows(rows))


@dataclass(frozen=True, eq=False)
class Run:
    """A fitted model and what it released; `spent` is the ledger's epsilon."""

    sampler: Sampler
    released: Transitions
    spent: float
    fit: Seconds
    sample: Seconds

    @property
    def seconds(self) -> Seconds:
        return self.fit + self.sample


def run_method(synthesizer: Synthesizer, data: Transitions, released: int = RELEASED, seed: int = 0, pretrained: State | None = None) -> Run:
    """Fit at `EPSILON` and the default delta, then sample."""
    budget = Budget(EPSILON, default_delta(data.schema.nominal_rows), Unit.TRANSITION)
    ledger = Ledger(budget, len(data), rng_for(str(seed), "ledger"))
    sampler, fit = clocked(lambda: synthesizer.fit(data, ledger, rng_for(str(seed), "fit"), public={}, pretrained=pretrained, runtime=Runtime()))
    rows, sample = clocked(lambda: sampler.sample(released, rng_for(str(seed), "sample"), runtime=Runtime()))
    return Run(sampler, rows, ledger.spent(), fit, sample)


class Yardstick:
    """Mean total variation to the data over all pairs of its varying columns (s, a, r, s' - s).

    Values outside the range of the data count in its outermost bins.
    """

    def __init__(self, data: Transitions) -> None:
        self.columns = [i for i, column in enumerate(modelled_columns(data.schema)) if column.low < column.high]
        self.ranges = [(float(values.min()), float(values.max())) for values in (modelled_column(data, i) for i in self.columns)]
        self.wanted = self._tables(self._codes(data))

    def distance(self, released: Transitions) -> float:
        found = self._tables(self._codes(released))
        return float(np.abs(found - self.wanted).sum(axis=(1, 2)).mean()) / 2

    def _codes(self, data: Transitions) -> Codes:
        scaled = [(modelled_column(data, i) - low) * (BINS / (high - low)) for i, (low, high) in zip(self.columns, self.ranges, strict=True)]
        return np.clip(scaled, 0, BINS - 1).astype(np.uint8)

    def _tables(self, codes: Codes) -> NDArray[np.float64]:
        return np.stack(list(count_pairs(codes, [BINS] * len(codes)).values())) / codes.shape[1]
