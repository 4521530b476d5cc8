"""What is to be run: a `Sweep` (what the user asks), its `Cell`s (one synthesizer under one budget), and the `Node` that a key names.

A sweep is a frozen dataclass, a TOML file and a canonical JSON text; the three are one thing. A preset is a sweep in a TOML file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from bench.core.accounting import ACCOUNTANTS, Accountant
from bench.core.data import Unit
from bench.core.errors import InputError, values_of
from bench.core.registry import canonical_json, did_you_mean
from bench.run.secret import Secret

PRESETS = ("smoke", "laptop", "paper")
_MOST_SEEDS = 10_000
OVER_GOALS = "goals/"
"""Before an agent's name: trained and scored over the environment's goal set instead of on its own task."""
SCORERS: Mapping[str, str] = {"goals": "agents", "utility": "agents", "fidelity": "metrics", "attack": "attacks"}
"""The plugin group that gives each kind of score."""
REFERENCES: Mapping[str, str] = {"goals": "goal_references", "utility": "references"}
"""Where a manifest keeps the record of the reference policies on the scale of each kind of utility."""


@dataclass(frozen=True)
class Seeds:
    """How many seeds at each of the three random layers of a score."""

    synthesizer: int = 3
    sampling: int = 1
    agent: int = 1


@dataclass(frozen=True)
class Schedule:
    """How agents are trained and scored; equal for every row of a table.

    The score of a run is the mean of its last `last` evaluations, each over `episodes` episodes with start states common to all methods.
    """

    steps: int = 30_000
    evaluate_every: int = 3_000
    episodes: int = 100
    last: int = 3


@dataclass(frozen=True)
class Sweep:
    """Everything `bench run` needs to know.

    Attributes:
        agents: names; `goals/NAME` scores an agent over the goal set of the environments that have one, and such a score ranks the table.
        rows: training rows, one block of the table for each number; 0 stands for the environment's nominal number.
        released: synthetic rows that every method releases.
        evaluated: rows of the holdout part, and of the samples and real rows that metrics compare with it.
        delta: None for the largest power of ten that is at most 1 / (10 N).
        unit: None for every unit; otherwise only methods that protect this one.
        minutes: time limit of one stage.
    """

    preset: str = "laptop"
    env: tuple[str, ...] = ()
    synth: tuple[str, ...] = ("all",)
    agents: tuple[str, ...] = ("all",)
    metrics: tuple[str, ...] = ("all",)
    attacks: tuple[str, ...] = ("all",)
    epsilon: tuple[float, ...] = (10.0,)
    delta: float | None = None
    unit: Unit | None = None
    accountant: Accountant = "pld"
    rows: tuple[int, ...] = (0,)
    released: int = 200_000
    evaluated: int = 200_000
    dataset_seed: int = 0
    minutes: float = 30.0
    seeds: Seeds = field(default_factory=Seeds)
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        _check_positive(self)
        _check_schedule(self.schedule)
        if self.accountant not in ACCOUNTANTS:
            raise InputError(f"accountant: {self.accountant!r} is unknown; choose {' or '.join(ACCOUNTANTS)}")
        if not self.env:
            raise InputError("env: no environment is named; give --env NAME, `bench list` shows them")
        if not self.synth:
            raise InputError("synth: no synthesizer is named; give --synth NAME or --synth all, `bench list` shows them")

    def to_toml(self) -> str:
        """The sweep as a TOML file that `--preset FILE` reads back to an equal sweep."""
        plain, tables = [], []
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if dataclasses.is_dataclass(value):
                rows = [f"{part.name} = {_toml(getattr(value, part.name))}" for part in dataclasses.fields(value)]
                tables.append("\n".join([f"\n[{item.name}]", *rows]))
            elif value is not None:
                plain.append(f"{item.name} = {_toml(value)}")
        return "\n".join([*plain, *tables]) + "\n"


def load_sweep(preset: str | None, changes: Mapping[str, Any]) -> Sweep:
    """The preset (a shipped name or a TOML file; None for the plain defaults) with `changes` on top, keys as in `Sweep`.

    Raises:
        InputError: an unknown preset, a file that is no TOML, an unknown key, or a value of the wrong type.
    """
    hints = typing.get_type_hints(Sweep)
    values = {} if preset is None else {"preset": Path(preset).stem, **preset_values(preset)}
    for key, value in changes.items():
        before = values.get(key, {})
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        values[key] = {**before, **value} if both else _coerced(hints.get(key, object), value, f"--{key.replace('_', '-')}")
    return _build(Sweep, values, preset or "sweep")


def preset_values(preset: str) -> dict[str, Any]:
    """What a shipped preset or a TOML file says, and no default.

    Raises:
        InputError: an unknown preset, or a file that is no TOML.
    """
    if preset in PRESETS:
        return tomllib.loads(resources.files("bench").joinpath("presets", f"{preset}.toml").read_text())
    if not Path(preset).is_file():
        raise InputError(f"--preset: {preset!r} is neither {', '.join(PRESETS)} nor a TOML file; give one of them")
    try:
        return tomllib.loads(Path(preset).read_text(encoding="utf-8"))
    except ValueError as error:  # no TOML, or no text at all
        raise InputError(f"--preset: {preset} is not TOML ({error}); mend that line") from error


def _build(kind: type[Any], values: Mapping[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(kind)
    unknown = [key for key in values if key not in hints]
    if unknown:
        place = "a sweep" if kind is Sweep else f"[{kind.__name__.lower()}]"
        raise InputError(f"{where}: {unknown[0]!r} is no key of {place}; {did_you_mean(unknown[0], list(hints))}")
    return kind(**{key: _coerced(hints[key], value, f"{where}: {key}") for key, value in values.items()})


def _coerced(hint: Any, value: Any, where: str) -> Any:
    """`value` from TOML or the command line as the declared type, or one clear sentence."""
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return _build(typing.cast("type[Any]", hint), value, where)
    options = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(_coerced(options[0], item, where) for item in value)
    if type(None) in options:
        return None if value is None else _coerced(next(o for o in options if o is not type(None)), value, where)
    if hint is Unit and value in [unit.value for unit in Unit]:
        return Unit(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if (isinstance(hint, type) and isinstance(value, hint) and not isinstance(value, bool)) or value in options:
        return value
    raise InputError(f"{where} = {value!r} is not {values_of(hint)}; mend it")


def _check_positive(sweep: Sweep) -> None:
    if not sweep.epsilon:
        raise InputError("epsilon: no budget is named; give a number above 0, or inf for the non-private ceiling")
    numbers: list[tuple[str, float]] = [("epsilon", value) for value in sweep.epsilon]
    numbers += [] if sweep.delta is None else [("delta", sweep.delta)]
    numbers += [("released", sweep.released), ("evaluated", sweep.evaluated), ("minutes", sweep.minutes)]
    numbers += [(f"seeds.{name}", value) for name, value in dataclasses.asdict(sweep.seeds).items()]
    numbers += [(f"schedule.{name}", value) for name, value in dataclasses.asdict(sweep.schedule).items()]
    for name, value in numbers:
        if not value > 0:
            raise InputError(f"{name}: {value} is not positive; give a number above 0")
    for layer, count in dataclasses.asdict(sweep.seeds).items():
        if count > _MOST_SEEDS:
            raise InputError(f"seeds.{layer}: {count} is more than a plan can hold; give at most {_MOST_SEEDS:,}")
    if not sweep.rows:
        raise InputError("rows: no number is named; give a number of rows, or 0 for the nominal number")
    if min(sweep.rows) < 0:
        raise InputError(f"rows: {min(sweep.rows)} is negative; give a number of rows, or 0 for the nominal number")


def _check_schedule(schedule: Schedule) -> None:
    evaluations = -(-schedule.steps // schedule.evaluate_every)
    if schedule.last > evaluations:
        counted = f"{schedule.steps} steps evaluated every {schedule.evaluate_every}"
        raise InputError(f"schedule.last: {schedule.last} is more than the {evaluations} evaluations of {counted}; give at most {evaluations}")


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Unit):
        return f'"{value.value}"'
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def sweep_name(manifest: Mapping[str, Any]) -> str:
    """What the store calls the sweep of a manifest: the same whenever it is continued, under the same secret if there is one."""
    secret = {"secret": manifest["secret"]} if "secret" in manifest else {}
    return Node("sweep", 1, {**manifest["sweep"], **secret}, {}, {}).key


@dataclass(frozen=True)
class Cell:
    """One synthesizer on one environment under one budget with one seed: what expands into stages.

    `epsilon` and `delta` are None where no budget applies (data-free methods, the real data).
    """

    environment: str
    synthesizer: str
    rows: int
    unit: Unit
    epsilon: float | None
    delta: float | None
    seed: int


@dataclass(frozen=True)
class Node:
    """One stage of the DAG, named by its content.

    Attributes:
        stage: name of the stage function.
        version: version of that function.
        parameters: plain JSON: plugin identities, budget, seeds, sizes. Nothing else decides the result.
        inputs: role -> key of the node whose output is read.
        plugins: role -> label under which the plugin is resolved; not part of the key, its identity in `parameters` is.
        minutes: time limit; not part of the key.
        secret: mixed into the noise of a fit; not part of the key, its fingerprint in `parameters` is.
    """

    stage: str
    version: int
    parameters: dict[str, Any]
    inputs: dict[str, str]
    plugins: dict[str, str]
    minutes: float = 30.0
    secret: Secret | None = None

    @cached_property
    def key(self) -> str:
        """sha256 of the canonical JSON of everything that decides the result, first 20 hexadecimal digits."""
        text = canonical_json({"stage": self.stage, "version": self.version, "parameters": self.parameters, "inputs": self.inputs})
        return hashlib.sha256(text.encode()).hexdigest()[:20]
