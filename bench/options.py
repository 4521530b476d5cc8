"""What `bench run` and its kin take on the command line, and the sweep that it asks for."""

from __future__ import annotations

import math
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from bench.core import registry
from bench.core.errors import InputError
from bench.run.spec import Sweep, load_sweep


def _told(metavar: str, default: str = "the preset's") -> Any:
    """How `--help` shows an option whose value is decided elsewhere."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


N = TypeVar("N", int, float)
Names = Annotated[tuple[str, ...], _told("NAME ...")]
Numbers = Annotated[tuple[str, ...], _told("NUMBER ...")]
Results = Annotated[Path, tyro.conf.arg(metavar="DIR", help="Folder of records and datasets.")]
Plugins = Annotated[
    tuple[Path, ...],
    tyro.conf.arg(metavar="FILE ...", help="Python files whose `register` decorators add plugins.", help_behavior_hint="(default: none)"),
]
DEFAULT_RESULTS = Path("results/runs")


@dataclass(frozen=True)
class Options:
    """What `run`, `plan`, `audit` and `validate` take. Whatever is not given comes from the preset.

    Numbers and choices are text here and are checked with those of a TOML file, so that a wrong one is told in one sentence.
    """

    env: Names = ()
    """Environments: names separated by commas or spaces, or all."""
    synth: Names = ()
    """Synthesizers: names, variants as name[field=value], or all."""
    agents: Names = ()
    """Offline-RL agents, goals/NAME over the goals of an environment, or all."""
    metrics: Names = ()
    """Fidelity metrics, or all."""
    attacks: Names = ()
    """Attacks, or all."""
    epsilon: Numbers = ()
    """Privacy budgets; inf for the non-private ceiling of a method."""
    rows: Numbers = ()
    """Training rows, for instance 10k 100k 1M."""
    delta: Annotated[str, _told("NUMBER", "the largest power of ten up to 1 / (10 N)")] = ""
    """The delta of every budget, below 1 / N for N units."""
    unit: Annotated[str, _told("UNIT", "both")] = ""
    """transition or trajectory: only methods that protect it."""
    seeds: Annotated[str, _told("NUMBER")] = ""
    """Synthesizer seeds: how often each method is fitted."""
    agent_seeds: Annotated[str, _told("NUMBER")] = ""
    """Agent seeds: how often each agent is trained on the rows of each fit."""
    preset: Annotated[str, tyro.conf.arg(metavar="PRESET")] = "laptop"
    """smoke, laptop, paper, or a TOML file (`bench show KEY` prints one)."""
    accountant: Annotated[str, _told("NAME")] = ""
    """pld, or rdp for the published choice."""
    jobs: Annotated[str, tyro.conf.arg(metavar="NUMBER")] = "0"
    """Worker processes; 0 for one per core."""
    results: Results = DEFAULT_RESULTS
    plugin: Plugins = ()
    fresh: bool = False
    """Compute again what the store holds already."""
    keep: Literal["all", "scores"] = "all"
    """scores deletes the synthetic datasets at the end, which a later run makes again where it needs them. Not beside another run on this folder."""

    @property
    def workers(self) -> int:
        """How many processes run nodes."""
        jobs = _count("jobs", self.jobs) or 0
        if jobs < 0:
            raise InputError(f"--jobs: {jobs} is negative; give a number of processes, or 0 for one per core")
        return jobs or _cores()

    def sweep(self) -> Sweep:
        """The preset with these options on top."""
        registry.load_files(self.plugin)
        names = {key: registry.split_names(getattr(self, key)) for key in ("env", "synth", "agents", "metrics", "attacks")}
        numbers = {"epsilon": _numbers("epsilon", self.epsilon), "rows": _counts("rows", self.rows)}
        seeds = {"synthesizer": _count("seeds", self.seeds), "agent": _count("agent-seeds", self.agent_seeds)}
        choices: dict[str, Any] = {"delta": _single("delta", _numbers("delta", (self.delta,))), "unit": self.unit, "accountant": self.accountant}
        choices["seeds"] = {layer: count for layer, count in seeds.items() if count is not None}
        changes = {key: value for key, value in {**names, **numbers, **choices}.items() if value not in (None, "", (), {})}
        return load_sweep(self.preset, changes)

    def refuse(self, *unused: str) -> None:
        """Refuse fields that a command has no use for: to pass over them would answer another question than was asked.

        Raises:
            InputError: one of them was given.
        """
        given = ", ".join(f"--{name.replace('_', '-')}" for name in unused if getattr(self, name) != getattr(Options, name))
        if given:
            raise InputError(f"{given}: this command has no use for that; leave it out")

    @property
    def again(self) -> str:
        """The options under which another command finds the same records."""
        results = "" if self.results == DEFAULT_RESULTS else f" --results {shlex.quote(str(self.results))}"
        return results + (f" --plugin {shlex.join(map(str, self.plugin))}" if self.plugin else "")


OptionsArgument = Annotated[Options, tyro.conf.arg(name="")]


def _cores() -> int:
    """Those that this process may use: on a cluster fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _numbers(option: str, texts: tuple[str, ...]) -> tuple[float, ...]:
    """Numbers separated by commas or spaces; k and M multiply."""
    found = []
    for text in " ".join(texts).replace(",", " ").split():
        factor = {"k": 1e3, "M": 1e6}.get(text[-1])
        try:
            found.append(float(text[:-1]) * factor if factor else float(text))
        except ValueError as error:
            raise InputError(f"--{option}: {text!r} is not a number; write for instance 1, 10 or 100k") from error
    return tuple(found)


def _counts(option: str, texts: tuple[str, ...]) -> tuple[int, ...]:
    """Whole numbers, written like those of `_numbers`."""
    numbers = _numbers(option, texts)
    for number in numbers:
        if not math.isfinite(number) or abs(number - round(number)) > 1e-6:
            raise InputError(f"--{option}: {number:g} is not a whole number; write for instance 1, 10k or 1M")
    return tuple(round(number) for number in numbers)


def _count(option: str, text: str) -> int | None:
    """The one whole number of an option, None if it was not given."""
    return _single(option, _counts(option, (text,)))


def _single(option: str, numbers: tuple[N, ...]) -> N | None:
    """The one number of an option, None if it was not given."""
    if len(numbers) > 1:
        raise InputError(f"--{option}: {', '.join(f'{number:g}' for number in numbers)} are several numbers; give one")
    return numbers[0] if numbers else None


def refuse_slips(arguments: Sequence[str]) -> None:
    """Of an option that is given twice the last alone would count, and one that is given empty would count as not given.

    Raises:
        InputError: there is such an option.
    """
    options = [argument.partition("=")[0].replace("_", "-") for argument in arguments if argument.startswith("--")]
    for option, times in Counter(options).items():
        if times > 1:
            raise InputError(f"{option}: it is given {times} times, and the last alone would count; give it once, with all its values")
    for option, value in pairwise(("bench", *arguments)):
        if not value:
            raise InputError(f"{option}: its value is empty; give one, or leave the option out")
