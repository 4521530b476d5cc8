"""What programs read: tidy CSV and nested JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.tables.leaderboard import UTILITIES, Cell, Column, Group, Row, Table

OF_AGENTS = (*UTILITIES, "gain", "aggregate", "variance", "retest", "difference")
"""Kinds of score whose scorers are agents."""
CSV_COLUMNS = (
    *("env", "source", "preset", "rows", "synth", "unit", "guarantee", "epsilon", "delta", "epsilon_spent", "epsilon_trajectory", "accountant"),
    *("metric", "agent", "mean", "low", "high", "interval", "n", "failed", "stale", "better", "ceiling", "sources", "verdict"),
)


def csv_of(table: Table) -> str:
    """One line for each row and score that was planned; no timings, so that equal runs give equal bytes."""
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for group in table.groups:
        for row in group.body:
            scores = ((column, cell) for column, cell in zip(group.columns, row.cells, strict=True) if cell)
            writer.writerows(_csv_line(group, row, column, cell) for column, cell in scores)
    return file.getvalue()


def _csv_line(group: Group, row: Row, column: Column, cell: Cell) -> dict[str, str]:
    """`metric` is the score's name, with its scorer in front where that says more; `failed` counts every planned run without a result.

    A published number has `published/` before its name, which may be that of a score of ours.
    """
    of_agents = column.kind in OF_AGENTS
    name = column.score if of_agents or column.score.replace("_", "-") == column.scorer else f"{column.scorer}/{column.score}"
    name = f"published/{name}" if column.kind == "published" else name
    agent = column.scorer if of_agents else ""
    of_row = ("synth", "guarantee", "epsilon", "delta", "epsilon_spent", "epsilon_trajectory", "accountant", "verdict")
    values = {name: getattr(group, name) for name in ("env", "source", "preset", "rows", "unit")}
    values |= {name: getattr(row, name) for name in of_row}
    values |= {name: getattr(cell.summary, name, None) for name in ("mean", "low", "high", "interval")}
    values |= {name: getattr(cell, name) for name in ("n", "failed", "stale", "ceiling")}
    values |= {"env": column.env or group.env, "metric": name, "agent": agent, "better": column.better}
    values |= {"sources": "; ".join(dict.fromkeys(cell.sources))}
    return {name: _csv_value(values[name]) for name in CSV_COLUMNS}


def _csv_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def json_of(table: Table) -> str:
    return json.dumps(_plain(table), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Plain JSON, floats with six digits; infinity is a string, a missing score null."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None if math.isnan(value) else str(value)
    return value
