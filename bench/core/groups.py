"""Group privacy: what the charges of a fit say about several units at once, such as the rows of one trajectory.

Datasets that differ in k units are k neighbours apart. So a Gaussian answer moves by up to k sensitivities, and a pick costs k times its epsilon.
DP-SGD clips unit by unit and includes each by its own coin: a step moves by a binomial number of clip norms, which makes it a mixture of Gaussians
(Charles et al. 2024, arXiv 2407.07737). Larger sensitivities only make a mixture cost more (Choquette-Choo et al. 2023, arXiv 2310.15526): counts
too rare to matter are rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.accounting import Accountant, Charge, epsilon_spent, library

NO_PROTECTION = 50.0
"""An epsilon above this protects nobody, and counts as infinite."""

_RARE = 1e-3
"""Share of delta that may go to rare counts and to the tails of the privacy loss, all steps together."""
_BLUR = 0.05
"""Standard deviation of what rounding to cells may do to the privacy loss of all steps together: a cell times the root of their number."""
_CELLS = 50_000
"""Cells of the privacy loss of one step at most, which take about a second; where steps are many they are wider than `_BLUR` asks for."""


def group_epsilon(charges: Sequence[Charge], delta: float, accountant: Accountant, size: int) -> float:
    """Upper bound on epsilon at `delta` of adding or removing up to `size` units together; infinite above `NO_PROTECTION`.

    For one unit it is `epsilon_spent`. Where DP-SGD samples from several, PLD judges whatever the accountant, and a pick beside it is pure DP.
    """
    if any(charge.is_free_of_noise for charge in charges):
        return math.inf
    sampled = tuple(charge for charge in charges if charge.mechanism == "dp-sgd" and charge.rate < 1 and size > 1)
    others = tuple(_enlarged(charge, size) for charge in charges if charge not in sampled)
    epsilon = epsilon_spent(others, delta, accountant)
    if max([epsilon, *(_least_epsilon(charge, delta, size) for charge in sampled)]) > NO_PROTECTION:
        return math.inf
    if sampled:
        epsilon = _composed_epsilon(others, sampled, delta, size)
    return epsilon if epsilon <= NO_PROTECTION else math.inf


def _enlarged(charge: Charge, size: int) -> Charge:
    """The same mechanism with the group for its unit."""
    reach = min(size, charge.saturation or size)
    if charge.pick_epsilon is not None:
        return replace(charge, pick_epsilon=charge.pick_epsilon * reach)
    return replace(charge, noise_multiplier=_noise(charge) / reach)


def _least_epsilon(charge: Charge, delta: float, size: int) -> float:
    """A lower bound, at once: the sum of all steps is a Gaussian answer, which at least the median number of rows moves half of the time or more."""
    median = math.floor(size * charge.rate * charge.count)
    if not median:
        return 0.0
    return float(library().get_epsilon_gaussian(_noise(charge) * math.sqrt(charge.count) / median, min(2 * delta, 1.0))) - math.log(2)


@lru_cache(maxsize=4096)
def _composed_epsilon(others: tuple[Charge, ...], sampled: tuple[Charge, ...], delta: float, size: int) -> float:
    """By PLD: `others` are enlarged already, `sampled` are mixtures of Gaussians."""
    steps = sum(charge.count for charge in sampled)
    rare = _RARE * delta / steps
    included = [_included(size, charge.rate, rare / 4) for charge in sampled]  # less than the tails that are cut, so that these reach no further
    widths = [_width(counts[-2] / _noise(charge), rare) for charge, (counts, _) in zip(sampled, included, strict=True)]
    cell = max(_BLUR / math.sqrt(steps), *(width / _CELLS for width in widths))
    losses = [_loss(charge, cell) for charge in others]
    for charge, (counts, chances) in zip(sampled, included, strict=True):
        step = library().pld.privacy_loss_distribution.from_mixture_gaussian_mechanism(
            _noise(charge), counts, chances, value_discretization_interval=cell, log_mass_truncation_bound=math.log(rare)
        )
        losses.append(step.self_compose(charge.count))
    return float(reduce(lambda composed, loss: composed.compose(loss), losses).get_epsilon_for_delta(delta))


def _included(size: int, rate: float, rare: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many of `size` units a step may include, and the chances. Rare counts are rounded up, large ones to `size`: the last entry."""
    counts = np.arange(size + 1)
    ways = math.lgamma(size + 1) - np.array([math.lgamma(i + 1) + math.lgamma(size - i + 1) for i in range(size + 1)])
    chances = np.exp(ways + counts * math.log(rate) + (size - counts) * math.log1p(-rate))
    at_most, at_least = np.cumsum(chances), np.cumsum(chances[::-1])[::-1]
    kept = (at_most > rare) & (at_least > rare)
    rounded = np.append(chances[kept], rare)
    return np.append(counts[kept], size), rounded / rounded.sum()


def _width(shift: float, rare: float) -> float:
    """Of the privacy losses of a Gaussian moved by `shift` standard deviations, between their rare tails."""
    return shift**2 / 2 + shift * math.sqrt(-2 * math.log(rare))


def _loss(charge: Charge, cell: float) -> Any:
    """The privacy-loss distribution of all answers of a charge."""
    pld = library().pld.privacy_loss_distribution
    if charge.pick_epsilon is not None:
        pure = library().pld.common.DifferentialPrivacyParameters(charge.pick_epsilon, 0)
        pick = pld.from_privacy_parameters(pure, value_discretization_interval=cell)
        return pick.self_compose(charge.count)
    return pld.from_gaussian_mechanism(_noise(charge) / math.sqrt(charge.count), value_discretization_interval=cell)


def _noise(charge: Charge) -> float:
    assert charge.noise_multiplier is not None
    return charge.noise_multiplier
