"""What a plugin must offer before anyone plans with it: the attributes of its kind and, if it is a synthesizer, a promise that can be read."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from bench.core.data import Unit
from bench.core.protocols import Agent, Attack, Audit, Environment, Guarantee, Metric, Synthesizer

ROLES: Mapping[str, type] = {
    "environments": Environment,
    "synthesizers": Synthesizer,
    "metrics": Metric,
    "attacks": Attack,
    "audits": Audit,
    "agents": Agent,
}
"""The protocol of each plugin group."""


def shortcoming(group: str, instance: Any) -> str:
    """What keeps an instance from being a plugin of its group, as one phrase; empty if nothing does. Nothing is run."""
    role = ROLES[group]
    missing = sorted(name for name in _attributes(role) if not hasattr(type(instance), name) and not hasattr(instance, name))
    if missing:
        return f"it lacks {', '.join(missing)} of bench.{role.__name__}; add what is missing"
    if not isinstance(instance.version, int) or instance.version < 1:
        return f"version is {instance.version!r}; give a whole number from 1 on"
    return _unreadable_promise(instance) if group == "synthesizers" else ""


def _attributes(role: type) -> set[str]:
    return {name for name in {*vars(role), *role.__annotations__} if not name.startswith("_")}


def _unreadable_promise(synthesizer: Any) -> str:
    guarantee, units = synthesizer.guarantee, synthesizer.units
    if not isinstance(guarantee, Guarantee):
        return f"guarantee is {guarantee!r}; write for instance Guarantee.DP"
    if not isinstance(units, Set) or not units or not all(isinstance(unit, Unit) for unit in units):
        return f"units is {units!r}; name the privacy units that it can protect, for instance frozenset({{Unit.TRANSITION}})"
    return ""
