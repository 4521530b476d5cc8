"""One attack on given rows."""

from __future__ import annotations

import numpy as np

from bench.core.data import Transitions
from bench.core.protocols import Attack, Estimate, Runtime, Target


def run(attack: Attack, released: Transitions | None, *roles: Transitions, seed: int = 0) -> dict[str, Estimate]:
    """The estimates of an attack on released rows; `roles` are members, non-members and reference."""
    return attack.attack(Target(released, None), {}, *roles, np.random.default_rng(seed), runtime=Runtime())
