"""Shared by all tests."""

from __future__ import annotations

import pytest

from bench.core.protocols import Environment
from bench.core.registry import resolve


@pytest.fixture(scope="session")
def toy() -> Environment:
    """The environment that conformance uses by default."""
    instance: Environment = resolve("environments", "toy").instance
    return instance
