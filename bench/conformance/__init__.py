"""The contract of each plugin kind as executable checks: `bench check NAME`, or `check(plugin)` from a test of your own.

Every check is a function whose docstring is the promise and whose violation is one sentence; a plugin of any origin can be checked:

    from bench.conformance import check
    from bench.core.registry import resolve
    assert all(finding.ok for finding in check(resolve("synthesizers", "independent")))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bench.conformance.agents import check_agent
from bench.conformance.attacks import check_attack
from bench.conformance.audits import check_audit
from bench.conformance.environments import check_environment
from bench.conformance.findings import Finding, in_order, require
from bench.conformance.metrics import check_metric
from bench.conformance.synthesizers import check_synthesizer
from bench.core.protocols import Environment
from bench.core.registry import Plugin, canonical_json, resolve
from bench.core.roles import shortcoming

__all__ = ["Finding", "check"]

_KINDS: Mapping[str, Callable[[Any, Environment], Iterator[Finding]]] = {
    "environments": check_environment,
    "synthesizers": check_synthesizer,
    "metrics": check_metric,
    "attacks": check_attack,
    "audits": check_audit,
    "agents": check_agent,
}


def check(plugin: Plugin, environment: Environment | None = None) -> Iterator[Finding]:
    """Every check of the plugin's kind, as it finishes; the rest is left out where the plugin does not even have its kind's attributes.

    Args:
        plugin: as `bench.core.registry.resolve` returns it.
        environment: where the rows come from; the registered `toy` by default. An environment is checked on its own rows.
    """
    kept = True
    for finding in in_order([offers_its_role, has_an_identity], [], plugin):
        yield finding
        kept &= finding.ok
    if kept and plugin.group in _KINDS:
        yield from _KINDS[plugin.group](plugin.instance, environment or resolve("environments", "toy").instance)


def offers_its_role(plugin: Plugin) -> None:
    """Offers every attribute of its kind, a version from 1 on and, if it is a synthesizer, a known guarantee and units."""
    found = shortcoming(plugin.group, plugin.instance)
    require(not found, found)


def has_an_identity(plugin: Plugin) -> None:
    """Is a frozen dataclass whose fields can be written as JSON: they are its key."""
    parameters = getattr(type(plugin.instance), "__dataclass_params__", None)
    require(parameters is not None and parameters.frozen, f"{type(plugin.instance).__name__} is no frozen dataclass; decorate it so")
    canonical_json(plugin.identity)
