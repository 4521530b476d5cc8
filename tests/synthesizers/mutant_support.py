"""Methods spoiled on purpose, and the check that must say why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bench.conformance.findings import findings
from bench.conformance.synthesizers import Case
from bench.core.protocols import Environment, Synthesizer
from synthesizers._parts.dpsgd import PerSampleClipping
from synthesizers._parts.training import Average

Spoil = Callable[[pytest.MonkeyPatch], None]
"""Makes a method wrong for the length of a test."""
Mutant = tuple[Spoil, Callable[[Case], None], str]
"""What spoils a method, the check that catches it, and words of its finding."""


def each(mutants: Sequence[Mutant]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mutant", mutants, ids=[spoil.__qualname__.split(".")[0] for spoil, _, _ in mutants])


def require_caught(mutant: Mutant, method: Synthesizer, environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil, check, words = mutant
    spoil(monkeypatch)
    (unit,) = method.units
    (finding,) = findings([check], Case(method, environment, unit))
    assert not finding.ok
    assert words in finding.detail


# --- what spoils any method that trains by DP-SGD -------------------------------------------------------------------------------------------------

_clip = PerSampleClipping.add_clipped


def clips_the_batch_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum of many units is brought below their clip norms together, so that the Ledger alone would not notice."""

    def add_clipped(self: PerSampleClipping, total: Any, losses: Any, clip_norm: float, overwrite: bool) -> Any:
        own = self.zeros()
        norms = _clip(self, own, losses, np.inf)
        own *= (clip_norm * len(norms) / own.norm()).clamp(max=1)
        total.copy_(own) if overwrite else total.add_(own)
        return norms

    monkeypatch.setattr(PerSampleClipping, "add_clipped", add_clipped)


def divides_by_the_realised_batch(module: ModuleType) -> Spoil:
    """Of the method whose gradients `module` asks for."""
    private_gradient = module.private_gradient

    def gradient(handle: Any, clipping: Any, losses: Any, expected: float, physical: int) -> Any:
        units = [1]  # an empty batch is divided by one
        noisy = private_gradient(handle, clipping, lambda included: (units.append(len(included)), losses(included))[1], 1, physical)
        return noisy / max(1, sum(units) - 1)

    def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "private_gradient", gradient)

    return spoil


def forgets_to_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fine-tuned is never released, as in the published PrivORL-j."""
    monkeypatch.setattr(Average, "follow", lambda self, weights: None)
