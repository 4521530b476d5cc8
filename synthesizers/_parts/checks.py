"""Refusals of what makes no sense, by name and value."""

from __future__ import annotations

import math

from bench.core.errors import InputError
from bench.core.protocols import State


def require_at_least(least: float, **fields: float) -> None:
    """Refuse the first field below `least`, or infinite, with an InputError."""
    require_within(least, math.inf, **fields)


def require_within(low: float, high: float, **fields: float) -> None:
    """Refuse the first field that is no number in [low, high], with an InputError."""
    for name, value in fields.items():
        if not low <= value <= high or math.isinf(value):
            wanted = f"{low:g} or more" if math.isinf(high) else f"a number from {low:g} to {high:g}"
            raise InputError(f"{name}: {value} is {'below' if value < low else 'outside'} what works; give {wanted}")


def require_positive(**fields: float) -> None:
    """Refuse the first field that is no positive number, with an InputError."""
    for name, value in fields.items():
        if not 0 < value < math.inf:
            raise InputError(f"{name}: {value} is not positive; give a number above 0")


def require_pretrained(state: State | None) -> State:
    """The pre-trained state of a method that is nothing else, or an InputError."""
    if state is None:
        raise InputError("pretrained: a model that is not fine-tuned is its pre-training; hand it over")
    return state
