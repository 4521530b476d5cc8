"""Methods spoiled on purpose, and the check that must say why."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from bench.conformance.findings import findings
from bench.conformance.synthesizers import Case
from bench.core.protocols import Environment, Synthesizer

Spoil = Callable[[pytest.MonkeyPatch], None]
"""Makes a method wrong for the length of a test."""
Mutant = tuple[Spoil, Callable[[Case], None], str]
"""What spoils a method, the check that catches it, and words of its finding."""


def each(mutants: Sequence[Mutant]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mutant", mutants, ids=[spoil.__name__ for spoil, _, _ in mutants])


def require_caught(mutant: Mutant, method: Synthesizer, environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil, check, words = mutant
    spoil(monkeypatch)
    (unit,) = method.units
    (finding,) = findings([check], Case(method, environment, unit))
    assert not finding.ok
    assert words in finding.detail
