"""What the tests of trajectory metrics do to trajectories."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.core.data import Transitions


def permuted(data: Transitions, seed: int = 0) -> Transitions:
    """The same rows, in another order within each trajectory."""
    offsets = data.require_trajectories()
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((np.random.default_rng(seed).random(len(data)), owner))
    return replace(data.rows(order), trajectories=offsets)


def stitched(data: Transitions, length: int, seed: int = 0) -> Transitions:
    """Trajectories of the same lengths from runs of `length` rows, joined at random; runs of one row are independent rows."""
    runs = np.random.default_rng(seed).permutation(len(data) // length)
    rows = (runs[:, None] * length + np.arange(length)).ravel()
    offsets = np.unique(np.minimum(data.require_trajectories(), len(rows)))
    return replace(data.rows(rows), trajectories=offsets)
