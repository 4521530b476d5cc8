"""What `bench check` says of noise: normals of any number pass, and what only looks like them at a glance does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.conformance.findings import Violation
from bench.conformance.questions import require_standard_normals

Normals = NDArray[np.float64]


@pytest.mark.parametrize("n", [0, 1, 2, 7, 60, 1000])
def test_standard_normals_pass(n: int) -> None:
    for seed in range(300):
        require_standard_normals("sound", np.random.default_rng(seed).standard_normal(n))


def scaled(z: Normals) -> Normals:
    """So that nothing is caught for its size by chance."""
    unit: Normals = z / np.sqrt(np.mean(z**2))
    return unit


def one_step_is_turned(z: Normals) -> Normals:
    """Of four steps the last has the noise of the second with its sign turned."""
    steps = z.reshape(4, -1)
    return np.concatenate([steps[0], steps[1], steps[2], -steps[1]])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda z: 1.1 * z, "1.1 times the standard deviation"),
        (lambda z: np.tile(scaled(z[:100]), 40), "repeats itself after"),
        (one_step_is_turned, "repeats itself after 2000 values"),
        (lambda z: (z + np.roll(z, 1)) / np.sqrt(2), "repeats itself after 1 values"),
        (lambda z: np.random.default_rng(0).uniform(-(3**0.5), 3**0.5, len(z)), "is not Gaussian"),
        (lambda z: np.random.default_rng(0).laplace(0, 0.5**0.5, len(z)), "is not Gaussian"),
    ],
    ids=["too-large", "periodic", "turned", "smooth", "uniform", "laplace"],
)
def test_what_is_not_independent_or_not_normal_is_named(spoil: Callable[[Normals], Normals], words: str) -> None:
    normals = scaled(np.random.default_rng(1).standard_normal(4000))
    with pytest.raises(Violation, match=words):
        require_standard_normals("spoiled", spoil(normals))
