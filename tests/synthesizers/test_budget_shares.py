"""How methods divide their budget, as their docstrings say."""

from __future__ import annotations

import pytest
from method_support import umaze, watched
from pate_gan_support import TINY

from bench.core.protocols import Synthesizer
from synthesizers.pgm import PGM
from synthesizers.privsyn import PrivSyn

SHARES = [
    (PGM(), {"one_way": 1 / 3, "scores": 1 / 3, "tables": 1 / 3}),
    (PGM(select="exponential"), {"one_way": 1 / 3, "scores": 1 / 3, "tables": 1 / 3}),
    (PrivSyn(), {"one_way": 0.1, "in_dif": 0.1, "tables": 0.8}),
    (TINY, {"one_way": 0.05, "votes": 0.95}),
]


@pytest.mark.parametrize(("method", "shares"), SHARES, ids=lambda value: type(value).__name__)
def test_the_budget_is_shared_as_the_docstring_says(method: Synthesizer, shares: dict[str, float]) -> None:
    """Shares of rho: count / (2 sigma^2) for answers, count epsilon^2 / 8 for picks."""
    rho = {}
    for charge in watched(method, umaze(400)).charges:
        one = charge.pick_epsilon**2 / 8 if charge.pick_epsilon else 1 / (2 * charge.noise_multiplier**2)
        rho[charge.name] = charge.count * one
    assert {name: part / sum(rho.values()) for name, part in rho.items()} == pytest.approx(shares)
