"""Tiny variants of PATE-GAN on the toy environment, and a look at the teachers of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.conformance.synthesizers import Case
from bench.core.data import Transitions, Unit
from bench.core.registry import resolve
from synthesizers._parts.teachers import Teachers
from synthesizers.pate_gan import PateGAN

TOY = resolve("environments", "toy").instance
TINY = PateGAN(
    teachers=20,
    teacher_width=4,
    teacher_batch=8,
    teacher_rate=0.05,
    queries=8,
    memory=3,
    width=8,
    latent=4,
    student_rate=1e-3,
    generator_rate=1e-3,
    generator_batch=8,
    decay=0.5,
    pretraining_rounds=0,
    rounds=6,
    fine_tune=True,
)
"""Fits in a moment; what it learns does not matter."""


@cache
def case_of(method: PateGAN) -> Case:
    """The method, on 2,000 rows of the toy environment and its siblings."""
    return Case(method, TOY, Unit.TRANSITION)


def weights_of_teachers(case: Case, datasets: Sequence[Transitions], monkeypatch: pytest.MonkeyPatch) -> list[NDArray]:
    """Weights (K, P) of the teachers at the end of a fit of each dataset; all fits are told the answers of the first."""
    made: list[Teachers] = []
    create = Teachers.__init__

    def watched(self: Teachers, *arguments: object) -> None:
        create(self, *arguments)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Teachers, "__init__", watched)
    tape = case.fit(datasets[0]).ledger.tape  # type: ignore[union-attr]
    made.clear()
    for data in datasets:
        case.replay(data, tape)
    return [teachers.weights.detach().numpy() for teachers in made]


def differing_rows(one: NDArray, other: NDArray) -> list[int]:
    """Which rows are not equal to the last bit."""
    return [k for k in range(len(one)) if not np.array_equal(one[k], other[k], equal_nan=True)]
