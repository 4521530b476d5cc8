"""The rows that plugins are checked on: an environment's own, unrelated ones inside the same schema, and extreme ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.data import ROW_ARRAYS, Column, Float, Schema, Transitions, Unit
from bench.core.protocols import Environment
from bench.core.registry import resolve
from bench.core.rng import rng_for

ROWS = 2_000
"""Enough for a sampler to be checked, few enough for a fit to take a moment."""


def own_rows(environment: Environment, part: str, rows: int = ROWS) -> Transitions:
    """Rows of one part, under a schema whose nominal size they have."""
    data = environment.dataset(rows, 0, part)
    return replace(data, schema=data.schema.with_rows(rows))


def public_rows(environment: Environment) -> Mapping[str, Transitions]:
    """The siblings' rows by name, each under its own schema."""
    return {name: resolve("environments", name).instance.dataset(ROWS, 0, "train") for name in environment.siblings}


def unrelated_rows(schema: Schema, rows: int, key: str) -> Transitions:
    """A reflected random walk through the declared box, in trajectories of random length: inside the schema, and nothing like the task."""
    rng = rng_for(key, "unrelated rows")
    walk = np.column_stack([_walk(*pair, rows, rng) for pair in zip(schema.observations, schema.differences, strict=True)])
    ends = np.cumsum(rng.integers(1, schema.max_trajectory_length + 1, size=rows))
    offsets = np.concatenate([[0], ends[ends < rows], [rows]])
    timeouts = np.zeros(rows, bool)
    timeouts[offsets[1:] - 1] = True
    terminals = timeouts & (rng.random(rows) < 0.5) & (schema.terminal.high == 1)
    return Transitions(
        schema,
        observations=walk[:-1],
        actions=np.column_stack([_uniform(column, rows, rng) for column in schema.actions]),
        rewards=_uniform(schema.reward, rows, rng),
        next_observations=walk[1:],
        terminals=terminals,
        timeouts=timeouts & ~terminals,
        trajectories=offsets.astype(np.int64),
    )


def extreme_unit(schema: Schema, unit: Unit, top: bool) -> Transitions:
    """One unit of the largest influence: a row at the top (or bottom) corner of the declared box, or the longest trajectory that stays there."""
    rows = 1 if unit is Unit.TRANSITION else schema.max_trajectory_length
    corner = np.array([column.high if top else column.low for column in schema.columns], np.float32)
    timeouts = np.arange(rows) == rows - 1
    return Transitions.from_table(schema, np.tile(corner, (rows, 1)), timeouts, np.array([0, rows], np.int64))


def leaping_unit(schema: Schema, unit: Unit) -> Transitions:
    """One unit whose every step leads from one end of each state column to the other: what is declared of s' - s binds no row."""
    rows = 1 if unit is Unit.TRANSITION else schema.max_trajectory_length
    bottom, top = (np.array([getattr(column, end) for column in schema.columns], np.float32) for end in ("low", "high"))
    up, down = top.copy(), top.copy()
    states, next_states = slice(len(schema.observations)), slice(-1 - len(schema.next_observations), -1)
    up[states], down[next_states] = bottom[states], bottom[next_states]
    table = np.where(np.arange(rows)[:, None] % 2 == 0, up, down)
    return Transitions.from_table(schema, table, np.arange(rows) == rows - 1, np.array([0, rows], np.int64))


def first_units(data: Transitions, count: int, unit: Unit) -> Transitions:
    """The first `count` privacy units."""
    return data.without(np.arange(_rows_of(data, count, unit), len(data)))


def units_behind(data: Transitions, count: int, unit: Unit) -> Transitions:
    """All privacy units but the first `count`."""
    return data.without(np.arange(_rows_of(data, count, unit)))


def _rows_of(data: Transitions, count: int, unit: Unit) -> int:
    """How many rows the first `count` units have."""
    return count if unit is Unit.TRANSITION else int(data.require_trajectories()[count])


def signature(data: Transitions) -> tuple[bytes | None, ...]:
    """The bits of every array, and of the offsets: equal if and only if the datasets are."""
    offsets = None if data.trajectories is None else data.trajectories.tobytes()
    return (*(np.ascontiguousarray(getattr(data, name)).tobytes() for name in ROW_ARRAYS), offsets)


def bounds(columns: tuple[Column, ...]) -> tuple[Float, Float]:
    """Declared lows and highs (D,) each, as float32: the precision of the rows."""
    return np.array([column.low for column in columns], np.float32), np.array([column.high for column in columns], np.float32)


def faults(data: Transitions) -> list[str]:
    """What is wrong with rows that claim a schema: one phrase for each column, or trajectory rule, that is broken."""
    found = []
    for column, values in zip(data.schema.columns, data.table().T, strict=True):
        if not np.isfinite(values).all():
            found.append(f"column {column.name!r} is not finite")
        elif values.min(initial=np.inf) < np.float32(column.low) or values.max(initial=-np.inf) > np.float32(column.high):
            found.append(f"column {column.name!r} spans [{values.min():g}, {values.max():g}], outside [{column.low:g}, {column.high:g}]")
        elif column.levels and not np.isin(values, np.array(column.levels, np.float32)).all():
            found.append(f"column {column.name!r} takes values that are none of its levels")
    if data.trajectories is not None and len(data):
        longest = int(np.diff(data.trajectories).max())
        if longest > data.schema.max_trajectory_length:
            found.append(f"a trajectory of {longest} rows exceeds the public maximum of {data.schema.max_trajectory_length}")
        if not (data.terminals | data.timeouts)[data.trajectories[1:] - 1].all():
            found.append("a trajectory ends in neither a terminal nor a timeout")
    return found


def _walk(column: Column, difference: Column, rows: int, rng: np.random.Generator) -> Float:
    """Positions (rows + 1,): steps within the declared differences, reflected at the bounds."""
    reach, width = max(0.0, min(-difference.low, difference.high)), column.high - column.low
    free = rng.uniform(0, width) + np.cumsum(rng.uniform(-reach, reach, rows + 1))
    folded = width - np.abs(np.mod(free, 2 * width) - width) if width else np.zeros(rows + 1)
    return np.clip((column.low + folded).astype(np.float32), np.float32(column.low), np.float32(column.high))


def _uniform(column: Column, rows: int, rng: np.random.Generator) -> Float:
    if column.levels:
        return rng.choice(np.array(column.levels, np.float32), size=rows)
    return np.clip(rng.uniform(column.low, column.high, rows).astype(np.float32), np.float32(column.low), np.float32(column.high))


def differing_arrays(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> list[str]:
    """Names of the arrays that are missing on a side or differ in dtype, shape or bits."""
    names = sorted({*one, *other})
    return [name for name in names if name not in one or name not in other or not _same(one[name], other[name])]


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def rows_inside(array: NDArray[Any], rows: NDArray[Any]) -> int:
    """How many of the rows (n, w) stand as w neighbours somewhere in the array, in row or column order, to four decimals.

    Rows with repeated values (zeros, saturated actions) are passed over: they would be found by chance.
    """
    if array.dtype.kind != "f":
        return 0
    wanted = np.rint(rows * 1e4).astype(np.int64)
    wanted = wanted[(np.diff(np.sort(wanted, axis=1)) != 0).all(axis=1)]
    keys, found, width = _keys(wanted), 0, wanted.shape[1]
    for flat in (array.ravel("C"), array.ravel("F")):
        if flat.size >= width:
            digits = np.rint(np.nan_to_num(flat, posinf=0.0, neginf=0.0).clip(-1e12, 1e12) * 1e4).astype(np.int64)
            found = max(found, int(np.isin(keys, _keys(np.lib.stride_tricks.sliding_window_view(digits, width))).sum()))
    return found


def _keys(windows: NDArray[np.int64]) -> NDArray[np.int64]:
    """A 64-bit hash of each window (n, w): a sum with odd random weights, modulo 2^64."""
    weights = rng_for("conformance", "hash").integers(-(2**62), 2**62, size=windows.shape[1]) * 2 + 1
    return windows @ weights
