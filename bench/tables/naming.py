"""The names that people give to the rows of a leaderboard, a synthesizer or "SYNTHESIZER at EPSILON", and to what scores them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.core.errors import InputError
from bench.tables.leaderboard import Column, Group, Row

Pair = tuple[str, str]


def row_label(row: Row) -> str:
    """The full name of a row."""
    return f"{row.synth} at {row.epsilon:g}"


def rows_named(groups: Sequence[Group], names: Pair, option: str, what: str) -> list[tuple[Group, Row, Row]]:
    """Each group that has both rows, with the two.

    Args:
        option: how the names were given; it begins every refusal.
        what: such as "no agent was trained on", for the refusal of names that no group has both.

    Raises:
        InputError: a name fits several rows of a group, no group has both rows, or both names are those of one row.
    """
    pairs = [(group, one, other) for group in groups if (one := _named(group, names[0], option)) and (other := _named(group, names[1], option))]
    if not pairs:
        if all(any(_named(group, name, option) for group in groups) for name in names):
            raise InputError(f"{option}: {names[0]!r} and {names[1]!r} share no heading; choose rows of one environment, size and privacy unit")
        known = dict.fromkeys(row_label(row) for group in groups for row in group.body)
        remedy = f"choose from {', '.join(known)}" if known else "run a sweep that asks for such scores"
        raise InputError(f"{option}: {what} both {names[0]!r} and {names[1]!r}; {remedy}")
    if pairs[0][1] is pairs[0][2]:
        raise InputError(f"{option}: {names[0]!r} and {names[1]!r} are one row; name two")
    return pairs


def _named(group: Group, name: str, option: str) -> Row | None:
    """The row with this name, None if there is none."""
    synth, _, epsilon = name.partition(" at ")
    rows = [row for row in group.body if row.synth == synth and epsilon in ("", f"{row.epsilon:g}")]
    if len(rows) > 1:
        raise InputError(f"{option}: {name!r} has several rows; choose from {', '.join(repr(row_label(row)) for row in rows)}")
    return rows[0] if rows else None


def short_names(columns: Iterable[Column]) -> dict[str, str]:
    """What each scorer is called: without its settings, where that tells it from the others; published ones stand apart."""
    scorers = list(dict.fromkeys(column.scorer for column in columns if column.kind != "published"))
    bare = [scorer.partition("[")[0] for scorer in scorers]
    return {scorer: name if bare.count(name) == 1 else scorer for scorer, name in zip(scorers, bare, strict=True)}
