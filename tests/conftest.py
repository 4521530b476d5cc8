"""Shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from bench.core import registry
from bench.core.protocols import Environment
from bench.core.registry import resolve

# A run that fails says that a change broke something, not that it met a rare example. `pytest --hypothesis-profile default` looks for those.
settings.register_profile("same examples on every run", derandomize=True)
settings.load_profile("same examples on every run")


@pytest.fixture(scope="session")
def toy() -> Environment:
    """The environment that conformance uses by default."""
    instance: Environment = resolve("environments", "toy").instance
    return instance


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins that a test registers are gone after it."""
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor fill the user's cache; neither do the processes that they start."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
