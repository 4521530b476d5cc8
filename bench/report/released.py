"""Rows to draw: what each method released beside held-out real rows, as far as the store still has them.

Held-out rows are real and serve evaluation alone; a report on sensitive data shows some of them, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core import registry
from bench.core.data import Column, Schema, Transitions
from bench.core.errors import InputError
from bench.report.evidence import Method, Section

Float64 = NDArray[np.float64]

MOST_ROWS = 200_000
"""Rows of one release that are read: what the metrics of the `laptop` preset compare."""
PAIR_BINS = 50
"""Of columns without levels, as in the metric `pairwise-tv`."""
MARGINAL_BINS = 48
EMBEDDED, EMBEDDED_IN_ALL = 300, 1_800
"""Rows of each method in the embedding, fewer where all methods together would be more than this: its time grows with their square."""
GRID = 160
"""Points of a floor plan along the longer side."""
BEYOND = 0.06
"""How far a floor plan reaches beyond the declared bounds, as a share of the longer side: enough to see an outer wall."""


@dataclass(frozen=True)
class Releases:
    """Held-out rows and one release of each method (seed 0), by the title of their panel, held-out first.

    Attributes:
        keys: of the records whose rows these are.
        gone: titles of methods whose rows are not in the store, and why.
        left_out: titles of methods whose rows are there and were not read.
    """

    schema: Schema
    rows: dict[str, Transitions]
    keys: tuple[str, ...]
    gone: tuple[str, ...]
    left_out: tuple[str, ...]


HELD_OUT = "held-out real rows"


def read_releases(section: Section, most: int) -> Releases | str:
    """The releases of the first `most` methods of a section that have one, or in one sentence why there is nothing to draw."""
    try:
        schema = registry.resolve("environments", section.group.env).instance.schema
    except InputError:
        return f"The environment {section.group.env!r} is not installed here, so its columns are unknown."
    holdout = next((key for method in section.methods if (key := _holdout(method))), None)
    if holdout is None:
        return "No metric has finished, and with it no record that names held-out rows."
    if not _kept(section, holdout):
        return f"The store holds records alone: the rows themselves are not in {Path(section.store.root.name) / 'blobs'}."
    keys = {HELD_OUT: holdout}
    gone = []
    for method in section.methods:
        key = method.first_release
        if key is None or not _kept(section, key):
            gone.append(f"{method.title} ({'not released yet' if key is None else 'no longer in the store'})")
        else:
            keys[method.title] = key
    titles = list(keys)
    shown = {title: keys[title] for title in titles[: most + 1]}
    rows = {title: _read(section, schema, key) for title, key in shown.items()}
    return Releases(schema, rows, tuple(shown.values()), tuple(gone), tuple(titles[most + 1 :]))


def _holdout(method: Method) -> str | None:
    return next((record.inputs["holdout"] for _, record in method.finished("fidelity") if "holdout" in record.inputs), None)


def _kept(section: Section, key: str) -> bool:
    return section.store.has(key) and section.store.blob_path(key).exists()


def _read(section: Section, schema: Schema, key: str) -> Transitions:
    """The rows of a record; of a larger release the first trajectories, or rows drawn without order."""
    data = Transitions(schema, **section.store.arrays(key))
    if len(data) <= MOST_ROWS:
        return data
    if data.trajectories is not None:
        whole = int(np.searchsorted(data.trajectories, MOST_ROWS, side="right")) - 1
        return data.joined(np.arange(max(1, whole)))
    return data.rows(np.sort(np.random.default_rng(0).choice(len(data), MOST_ROWS, replace=False)))


# --- columns ----------------------------------------------------------------------------------------------------------


def drawn_columns(schema: Schema) -> tuple[Column, ...]:
    """s, a, r, s' - s, as the pairwise metric looks at rows, less the columns that are constant by declaration."""
    return tuple(column for column in _all_columns(schema) if column.low < column.high)


def _all_columns(schema: Schema) -> tuple[Column, ...]:
    return (*schema.observations, *schema.actions, schema.reward, *schema.differences)


def table_of(data: Transitions) -> Float64:
    """The rows (n, D) in the order of `drawn_columns`."""
    steps = data.next_observations - data.observations
    everything = np.column_stack([data.observations, data.actions, data.rewards, steps]).astype(np.float64)
    return everything[:, [column.low < column.high for column in _all_columns(data.schema)]]


def codes(values: Float64, column: Column, bins: int) -> NDArray[np.int64]:
    """The bin (n,) of each value; beyond the declared bounds it is an edge bin."""
    return np.clip((values - column.low) * (bins / (column.high - column.low)), 0, bins - 1).astype(np.int64)


def shares(values: Float64, column: Column) -> Float64:
    """The share (MARGINAL_BINS,) of values in equal bins between the declared bounds."""
    return np.bincount(codes(values, column, MARGINAL_BINS), minlength=MARGINAL_BINS) / len(values)


def pairwise_errors(ours: Float64, theirs: Float64, columns: Sequence[Column]) -> Float64:
    """Total variation distance (D, D) of the two-way histograms of every pair of columns of two tables (n, D); NaN on the diagonal."""
    pairs = [_pair_codes(ours[:, j], theirs[:, j], column) for j, column in enumerate(columns)]
    coded = [np.column_stack(side) for side in zip(*pairs, strict=True)]
    errors = np.full((len(columns), len(columns)), np.nan)
    for i, j in combinations(range(len(columns)), 2):
        first, second = (np.bincount(code[:, i] * PAIR_BINS + code[:, j], minlength=PAIR_BINS**2) / len(code) for code in coded)
        errors[i, j] = errors[j, i] = np.abs(first - second).sum() / 2
    return errors


def _pair_codes(ours: Float64, theirs: Float64, column: Column) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The bins (n,), (m,) of two columns, as in the metric: with equal shares of theirs, and one for each value that is several edges at once."""
    if column.levels is not None:
        return codes(ours, column, PAIR_BINS), codes(theirs, column, PAIR_BINS)
    edges, repeats = np.unique(np.sort(theirs)[len(theirs) * np.arange(1, PAIR_BINS) // PAIR_BINS], return_counts=True)
    edges = np.union1d(edges, np.nextafter(edges[repeats > 1], np.inf))
    first, second = (np.searchsorted(edges, values.clip(column.low, column.high), side="right") for values in (ours, theirs))
    return first, second


def standardised_sample(releases: Releases) -> dict[str, Float64]:
    """As many rows of each release for all, in units of the held-out rows' standard deviations; columns that do not vary there are left out."""
    size = min(EMBEDDED, EMBEDDED_IN_ALL // len(releases.rows), *(len(rows) for rows in releases.rows.values()))
    held_out = table_of(releases.rows[HELD_OUT])
    mean, deviation = held_out.mean(0), held_out.std(0)
    varying = deviation > 0
    sample = {title: table_of(picked(rows, size)) for title, rows in releases.rows.items()}
    return {title: ((table - mean) / np.where(varying, deviation, 1))[:, varying] for title, table in sample.items()}


def picked(data: Transitions, count: int) -> Transitions:
    """At most `count` rows, the same ones of tables of one length."""
    return data.rows(np.random.default_rng(0).choice(len(data), min(count, len(data)), replace=False))


# --- the plane in which an environment moves --------------------------------------------------------------------------


@dataclass(frozen=True)
class FloorPlan:
    """Where in the plane of the first two observations the simulator lets a state be: `free` (points along y, points along x) from low to high."""

    x: Column
    y: Column
    free: NDArray[np.bool_]


def floor_plan(environment: str) -> FloorPlan | None:
    """The plan of an environment whose first observations are the position (x, y), that can be stepped and has walls; None for any other.

    A step from where no state can be is NaN (`Environment.step`), so a grid of resting states shows the walls.
    """
    instance = registry.resolve("environments", environment).instance
    schema: Schema = instance.schema
    if not hasattr(instance, "step") or [column.name for column in schema.observations[:2]] != ["x", "y"]:
        return None
    bounds = schema.observations[:2]
    beyond = BEYOND * max(side.high - side.low for side in bounds)
    x, y = (replace(side, low=side.low - beyond, high=side.high + beyond) for side in bounds)
    longer = max(x.high - x.low, y.high - y.low)
    sides = [np.linspace(side.low, side.high, max(2, round(GRID * (side.high - side.low) / longer))) for side in (x, y)]
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    states = np.zeros((len(grid), len(schema.observations)), np.float32)
    states[:, :2] = grid
    free = np.isfinite(instance.step(states, np.zeros((len(grid), len(schema.actions)), np.float32))).all(1)
    inside = np.all([(side.low <= own) & (own <= side.high) for side, own in zip(bounds, grid.T, strict=True)], axis=0)
    return None if free[inside].all() else FloorPlan(x, y, free.reshape(len(sides[1]), len(sides[0])))


def some_trajectories(data: Transitions, count: int) -> list[NDArray]:
    """The positions (length, 2) along at most `count` whole trajectories; empty where rows stand alone."""
    if data.trajectories is None:
        return []
    offsets = data.trajectories
    chosen = np.random.default_rng(0).choice(len(offsets) - 1, min(count, len(offsets) - 1), replace=False)
    return [data.observations[offsets[i] : offsets[i + 1], :2] for i in chosen]
