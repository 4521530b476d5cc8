"""EDM: the identities its preconditioning is made for, noise levels by the formula, and a sampler that hits distributions known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch_support import seeded

from synthesizers._parts.diffusion import (
    P_MEAN,
    P_STD,
    PUBLISHED_SCHEDULE,
    Denoiser,
    Schedule,
    denoising_losses,
    preconditioned,
    sample,
    training_losses,
)

DETERMINISTIC = Schedule(64)
RENEWED = Schedule(64, eta=0.5)
SAMPLERS = pytest.mark.parametrize("schedule", [DETERMINISTIC, RENEWED, PUBLISHED_SCHEDULE], ids=["deterministic", "half renewed", "published"])


# --- distributions with known denoisers -----------------------------------------------------------------------------------------------------------

MEAN = torch.tensor([1.0, -0.5])
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.5]])
VARIANCES, AXES = torch.linalg.eigh(COVARIANCE)


def gaussian_rows(n: int) -> Tensor:
    return MEAN + torch.randn(n, 2, generator=seeded()) * VARIANCES.sqrt() @ AXES.T


def gaussian_denoiser(x: Tensor, sigma: Tensor) -> Tensor:
    """E(y | x) for y ~ N(MEAN, COVARIANCE)."""
    return MEAN + (x - MEAN) @ AXES * (VARIANCES / (VARIANCES + sigma[:, None] ** 2)) @ AXES.T


def gaussian_loss(sigma: float) -> float:
    """The weighted loss that remains: (sigma^2 + 1) / sigma^2 times the mean variance of y given x."""
    return float(((sigma**2 + 1) * VARIANCES / (VARIANCES + sigma**2)).mean())


POINTS = torch.tensor([[-1.0, 0.5], [1.0, -0.5]])
SHARES = torch.tensor([0.3, 0.7])


def mixture_denoiser(x: Tensor, sigma: Tensor) -> Tensor:
    """E(y | x) for y one of two POINTS, drawn with their SHARES."""
    squares = (x[:, None] - POINTS).square().sum(2)
    return (SHARES.log() - squares / (2 * sigma[:, None] ** 2)).softmax(1) @ POINTS


class Watched:
    """A denoiser that remembers its calls."""

    def __init__(self, denoise: Denoiser) -> None:
        self._denoise = denoise
        self.rows: list[Tensor] = []
        self.levels: list[Tensor] = []

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.rows.append(x)
        self.levels.append(sigma)
        return self._denoise(x, sigma)


# --- preconditioning ------------------------------------------------------------------------------------------------------------------------------


class Constant(nn.Module):
    """A network that answers the same to everything and remembers what it was asked."""

    def __init__(self, answer: float) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        self.rows, self.level = x, level
        return torch.full_like(x, self.answer)


LEVELS = torch.logspace(-3, 2, 50, dtype=torch.float64)


def coefficients(sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in, c_noise, read off what a denoiser does with known rows."""
    nothing, network = torch.zeros(len(sigma), 1, dtype=sigma.dtype), Constant(1.0)
    c_out = preconditioned(network)(nothing, sigma)
    c_skip = preconditioned(network)(nothing + 1, sigma) - c_out
    return c_skip[:, 0], c_out[:, 0], network.rows[:, 0], network.level


def test_the_network_sees_unit_variance_and_a_quarter_of_the_log_level() -> None:
    _, _, c_in, c_noise = coefficients(LEVELS)
    torch.testing.assert_close(c_in**2 * (1 + LEVELS**2), torch.ones_like(LEVELS))
    torch.testing.assert_close(c_noise, LEVELS.log() / 4)


def test_what_the_network_predicts_has_unit_variance_and_no_correlation_with_the_noisy_row() -> None:
    """The target is (y - c_skip x) / c_out; the lack of correlation is what makes c_out as small as can be."""
    c_skip, c_out, _, _ = coefficients(LEVELS)
    torch.testing.assert_close(((1 - c_skip) ** 2 + (c_skip * LEVELS) ** 2) / c_out**2, torch.ones_like(LEVELS))
    torch.testing.assert_close((1 - c_skip) - c_skip * LEVELS**2, torch.zeros_like(LEVELS))


def test_the_weighted_loss_is_the_plain_error_of_the_network() -> None:
    """So every noise level weighs the same in the gradient, however little or much noise there is to take away."""
    y, noise = torch.randn(2, len(LEVELS), 3, generator=seeded(), dtype=torch.float64)
    c_skip, c_out, _, _ = (values[:, None] for values in coefficients(LEVELS))
    target = (y - c_skip * (y + LEVELS[:, None] * noise)) / c_out
    found = denoising_losses(preconditioned(Constant(0.3)), y, LEVELS, noise)
    torch.testing.assert_close(found, (0.3 - target).square().mean(1))


def test_without_noise_a_row_is_its_own_denoised_self_whatever_the_network_says() -> None:
    x = torch.randn(10, 3, generator=seeded())
    torch.testing.assert_close(preconditioned(Constant(1.0))(x, torch.tensor([1e-6])), x, atol=1e-5, rtol=0)


def test_in_nothing_but_noise_the_denoised_row_is_what_the_network_says() -> None:
    x = 1e6 * torch.randn(10, 3, generator=seeded())
    torch.testing.assert_close(preconditioned(Constant(0.3))(x, torch.tensor([1e6])), torch.full_like(x, 0.3), atol=1e-5, rtol=0)


# --- the loss -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0, 20.0])
def test_the_best_denoiser_of_a_gaussian_has_the_loss_of_its_closed_form(sigma: float) -> None:
    y, noise = gaussian_rows(100_000), torch.randn(100_000, 2, generator=seeded(1))
    losses = denoising_losses(gaussian_denoiser, y, torch.full((len(y),), sigma), noise)
    assert losses.mean().item() == pytest.approx(gaussian_loss(sigma), rel=0.01)


def test_training_draws_log_normal_levels_and_standard_normal_noise() -> None:
    denoise, y = Watched(gaussian_denoiser), gaussian_rows(1000)
    normals = torch.randn(1000, 3, generator=seeded(1))
    training_losses(denoise, y, normals)
    (sigma,), (x,) = denoise.levels, denoise.rows
    torch.testing.assert_close((sigma.log() - P_MEAN) / P_STD, normals[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close((x - y) / sigma[:, None], normals[:, 1:], atol=1e-3, rtol=0)


def test_the_training_loss_averages_the_closed_form_over_the_levels() -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    expected = np.average([gaussian_loss(math.exp(P_MEAN + P_STD * node)) for node in nodes], weights=weights)
    losses = training_losses(gaussian_denoiser, gaussian_rows(100_000), torch.randn(100_000, 3, generator=seeded(1)))
    assert losses.mean().item() == pytest.approx(expected, rel=0.01)


# --- the schedule ---------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [Schedule(2), Schedule(18, 20.0), Schedule(40, 10.0, sigma_min=0.1, rho=3.0), PUBLISHED_SCHEDULE], ids=repr)
def test_the_noise_levels_are_those_of_the_formula(schedule: Schedule) -> None:
    """Evenly spaced in sigma^(1/rho), from sigma_max to sigma_min, and 0 after them."""
    *levels, last = schedule.sigmas()
    roots = np.linspace(schedule.sigma_max ** (1 / schedule.rho), schedule.sigma_min ** (1 / schedule.rho), schedule.steps)
    assert levels == pytest.approx(roots**schedule.rho, rel=1e-12)
    assert (levels[0], levels[-1], last) == (pytest.approx(schedule.sigma_max), pytest.approx(schedule.sigma_min), 0)
    assert all(sigma > following for sigma, following in pairwise([*levels, last]))


def test_the_published_schedule_is_that_of_the_paper() -> None:
    assert PUBLISHED_SCHEDULE.steps == 128
    assert PUBLISHED_SCHEDULE.evaluations == 255
    assert PUBLISHED_SCHEDULE.sigmas()[0] == pytest.approx(80)
    assert PUBLISHED_SCHEDULE.sigmas()[-2] == pytest.approx(0.002)
    assert PUBLISHED_SCHEDULE.rho == 7
    assert PUBLISHED_SCHEDULE.noise_inflation == 1.003


def test_noise_is_raised_by_the_published_share_inside_its_range_and_not_outside() -> None:
    inside, outside = (0.05, 0.051, 1.0, 49.9, 50.0), (80.0, 50.1, 0.0499, 0.002)
    assert [PUBLISHED_SCHEDULE.gamma(sigma) for sigma in inside] == pytest.approx([0.4142] * 5, abs=1e-4)
    assert [PUBLISHED_SCHEDULE.gamma(sigma) for sigma in outside] == [0] * 4


def test_a_little_churn_is_spread_over_the_steps_and_none_is_none() -> None:
    assert Schedule(100, churn=10.0).gamma(1.0) == pytest.approx(0.1)
    assert Schedule(100).gamma(1.0) == 0


def test_noise_is_renewed_in_the_same_range_alone() -> None:
    assert [RENEWED.renewal(sigma) for sigma in (0.05, 1.0, 50.0)] == [0.5] * 3
    assert [RENEWED.renewal(sigma) for sigma in (50.1, 0.0499)] == [0, 0]


@pytest.mark.parametrize("schedule", [Schedule(1), Schedule(2), Schedule(18, 20.0), PUBLISHED_SCHEDULE], ids=repr)
def test_the_denoiser_is_asked_at_the_levels_of_the_algorithm_as_often_as_announced(schedule: Schedule) -> None:
    expected = []
    for sigma, following in pairwise(schedule.sigmas()):
        expected += [sigma * (1 + schedule.gamma(sigma)), following] if schedule.churn else [sigma]
    denoise = Watched(gaussian_denoiser)
    sample(denoise, (3, 2), schedule, seeded())
    assert torch.cat(denoise.levels).tolist() == pytest.approx(expected[: schedule.evaluations], rel=1e-6)
    assert len(denoise.levels) == schedule.evaluations


# --- sampling -------------------------------------------------------------------------------------------------------------------------------------


@SAMPLERS
def test_the_sampler_reproduces_a_gaussian(schedule: Schedule) -> None:
    x = sample(gaussian_denoiser, (40_000, 2), schedule, seeded())
    torch.testing.assert_close(x.mean(0), MEAN, atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(x.T), COVARIANCE, atol=0.035, rtol=0)
    assert stats.kstest((x[:, 0] - x[:, 0].mean()) / x[:, 0].std(), "norm").pvalue > 1e-3


@SAMPLERS
def test_the_sampler_reproduces_a_mixture_of_two_points(schedule: Schedule) -> None:
    x = sample(mixture_denoiser, (20_000, 2), schedule, seeded())
    distances = torch.cdist(x, POINTS)
    assert distances.min(1).values.max() < 0.01
    torch.testing.assert_close((distances[:, 1] > distances[:, 0]).float().mean(), SHARES[0], atol=0.015, rtol=0)


@pytest.mark.parametrize("sigma_max", [20.0, 80.0])
def test_without_churn_rows_follow_the_probability_flow_to_second_order(sigma_max: float) -> None:
    """For a Gaussian the flow is known: it shrinks each axis from its noisy deviation to its own. Twice the steps leave a quarter of the error."""

    def error(steps: int) -> float:
        denoise = Watched(gaussian_denoiser)
        end = sample(denoise, (500, 2), Schedule(steps, sigma_max), seeded())
        shrunk = (denoise.rows[0] - MEAN) @ AXES * (VARIANCES / (VARIANCES + sigma_max**2)).sqrt()
        return float((end - MEAN - shrunk @ AXES.T).abs().max())

    errors = [error(steps) for steps in (16, 32, 64, 128)]
    assert all(3.5 < coarse / fine < 5.5 for coarse, fine in pairwise(errors))
    assert errors[-1] < 0.005


def test_fresh_noise_makes_rows_forget_where_they_started() -> None:
    def memory(schedule: Schedule) -> float:
        denoise = Watched(gaussian_denoiser)
        end = sample(denoise, (5000, 2), schedule, seeded())
        return abs(float(torch.corrcoef(torch.stack([denoise.rows[0][:, 0], end[:, 0]]))[0, 1]))

    assert memory(DETERMINISTIC) > 0.8
    assert 0.05 < memory(RENEWED) < 0.5
    assert memory(replace(RENEWED, eta=1.0)) < 0.05
    assert memory(PUBLISHED_SCHEDULE) < 0.05


def test_churn_adds_the_noise_that_the_raised_level_lacks_times_its_inflation() -> None:
    """Under a denoiser that takes nothing away, all of it is still there in the end."""
    schedule = Schedule(20, 2.0, churn=5.0, noise_inflation=1.5)
    added = [((1 + schedule.gamma(sigma)) ** 2 - 1) * sigma**2 for sigma in schedule.sigmas()]
    x = sample(lambda x, sigma: x, (20_000, 2), schedule, seeded())
    assert sum(added) > 1
    assert x.var().item() == pytest.approx(2.0**2 + 1.5**2 * sum(added), rel=0.03)


def test_the_sampler_starts_from_noise_of_the_highest_level() -> None:
    denoise = Watched(gaussian_denoiser)
    sample(denoise, (5000, 2), Schedule(1, 20.0), seeded())
    assert stats.kstest(denoise.rows[0].flatten() / 20, "norm").pvalue > 1e-3


def test_one_step_is_the_denoised_noise() -> None:
    denoise = Watched(gaussian_denoiser)
    end = sample(denoise, (10, 2), Schedule(1, 20.0), seeded())
    torch.testing.assert_close(end, gaussian_denoiser(denoise.rows[0], torch.tensor([20.0])), atol=1e-5, rtol=0)


@SAMPLERS
def test_samples_are_a_function_of_the_generator(schedule: Schedule) -> None:
    def drawn(seed: int) -> Tensor:
        return sample(gaussian_denoiser, (10, 2), schedule, seeded(seed))

    torch.manual_seed(1)
    first = drawn(0)
    torch.manual_seed(2)
    assert torch.equal(drawn(0), first)
    assert not torch.equal(drawn(1), first)
