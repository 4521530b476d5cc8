"""`public-data`: whole trajectories of the siblings, as far as they fit into the sensitive schema."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from bench.conformance.rows import faults, unrelated_rows
from bench.core.data import Column, Schema, Transitions
from bench.core.errors import InputError
from bench.core.privacy import Ledger
from bench.core.protocols import Runtime, Sampler
from bench.core.registry import resolve
from synthesizers.public_data import PublicData

TOY = resolve("environments", "toy").instance
SCHEMA: Schema = replace(TOY.schema, max_trajectory_length=7)
NARROW = replace(SCHEMA, observations=(Column("x", -0.5, 0.5), Column("y", -1.0, 1.0)))


def sampler(schema: Schema, **public: Transitions) -> Sampler:
    nothing, closed = Transitions.empty(schema), Ledger(None, 0, np.random.default_rng(0))
    return PublicData().fit(nothing, closed, np.random.default_rng(0), public=public, pretrained=None, runtime=Runtime())


def released(schema: Schema, rows: int, **public: Transitions) -> Transitions:
    return sampler(schema, **public).sample(rows, np.random.default_rng(1), runtime=Runtime())


def siblings(rows: int = 2_000) -> dict[str, Transitions]:
    return {name: resolve("environments", name).instance.dataset(rows, 0, "train") for name in TOY.siblings}


@pytest.mark.parametrize("schema", [SCHEMA, NARROW])
def test_trajectories_are_runs_of_a_siblings_trajectory_inside_the_box(schema: Schema) -> None:
    public = siblings()
    rows = released(schema, 1_000, **public)
    assert len(rows) == 1_000
    assert not faults(rows)
    sources = {row.tobytes(): (name, i) for name, data in public.items() for i, row in enumerate(data.table())}
    owners = {name: np.repeat(np.arange(len(data.require_trajectories()) - 1), np.diff(data.require_trajectories())) for name, data in public.items()}
    for start, end in pairwise(rows.require_trajectories()):
        places = [sources[row.tobytes()] for row in rows.table()[start:end]]
        name, first = places[0]
        assert places == [(name, first + i) for i in range(end - start)]
        assert len({owners[name][i] for _, i in places}) == 1


def test_a_run_is_as_long_as_the_box_and_the_public_maximum_allow() -> None:
    lengths = np.diff(released(SCHEMA, 1_000, **siblings()).require_trajectories())
    assert set(lengths[:-1].tolist()) == {7, 6}  # 20 rows are 7, 7 and 6


def test_siblings_have_equal_shares_whatever_their_size() -> None:
    small, large = (unrelated_rows(SCHEMA, rows, str(rows)) for rows in (300, 3_000))
    rows = released(SCHEMA, 600, small=small, large=large)
    known = {row.tobytes() for row in small.table()}
    assert sum(row.tobytes() in known for row in rows.table()) == 300


def test_a_sibling_outside_the_box_has_no_share_and_siblings_that_all_are_make_no_release() -> None:
    """A share of none is none of the others either: the release would be empty."""
    within = unrelated_rows(SCHEMA, 300, "within")
    outside = replace(within, observations=within.observations + 100, next_observations=within.next_observations + 100)
    known = {row.tobytes() for row in within.table()}
    assert {row.tobytes() for row in released(SCHEMA, 300, within=within, outside=outside).table()} == known
    with pytest.raises(InputError, match="no row of the public siblings lies inside this environment's bounds; leave the row out"):
        sampler(SCHEMA, outside=outside)
