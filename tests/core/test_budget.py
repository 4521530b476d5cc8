"""Budgets and the deltas that they may have."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.data import Unit
from bench.core.errors import InputError
from bench.core.privacy import Budget, check_delta, default_delta


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 1e-5), (-1.0, 1e-5), (math.nan, 1e-5), (1.0, 0.0), (1.0, 1.0), (1.0, math.nan)])
def test_senseless_budgets_are_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(InputError):
        Budget(epsilon, delta, Unit.TRANSITION)


def test_default_delta_at_a_million_rows() -> None:
    assert default_delta(1_000_000) == 1e-7
    assert default_delta(999_999) == 1e-7
    assert default_delta(1_000_001) == 1e-8


@given(st.integers(1, 10**9))
@settings(derandomize=True)
def test_default_delta_is_the_largest_power_of_ten_below_a_tenth_of_one_over_n(units: int) -> None:
    delta = default_delta(units)
    assert delta * 10 * units <= 1 + 1e-9
    assert delta * 100 * units > 1 - 1e-9
    check_delta(delta, units)


@given(st.integers(1, 10**7), st.floats(1, 1000))
@settings(derandomize=True)
def test_a_refused_delta_is_answered_with_one_that_works(units: int, excess: float) -> None:
    with pytest.raises(InputError) as refusal:
        check_delta(min(excess * 1.000001 / units, 1.0), units)
    check_delta(float(str(refusal.value).split("; ")[1].split()[0]), units)
