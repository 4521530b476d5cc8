"""Named streams: the same everywhere, and independent of one another."""

from __future__ import annotations

import numpy as np

from bench.core.rng import rng_for


def test_a_stream_is_pinned() -> None:
    """A change here changes every stored result."""
    assert rng_for("key", "stage").integers(1000, size=4).tolist() == [76, 896, 313, 861]


def test_keys_and_stages_name_different_streams() -> None:
    draws = {(key, stage): tuple(rng_for(key, stage).integers(2**62, size=2)) for key in ("a", "b") for stage in ("fit", "sample")}
    assert len(set(draws.values())) == 4


def test_streams_are_uncorrelated() -> None:
    one, other = (rng_for("key", stage).standard_normal(100_000) for stage in ("fit", "sample"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(100_000)
