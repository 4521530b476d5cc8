"""Steps on one vector: the same steps as the module's, a rate that falls as a cosine, and an average that forgets its start but not its past."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from synthesizers._parts.training import Average, Training, flatten_parameters


def module(seed: int = 0) -> nn.Sequential:
    """Parameters of several shapes, and a buffer."""
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    made.register_buffer("frozen", torch.ones(5))
    return made


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def concatenated(net: nn.Module) -> Tensor:
    """A copy of all parameters as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


# --- one vector -----------------------------------------------------------------------------------------------------------------------------------


def test_the_vector_holds_the_parameters_and_nothing_else() -> None:
    net, x = module(), normals(6, 3)
    before, output = concatenated(net), net(x)
    vector = flatten_parameters(net)
    assert torch.equal(vector, before)
    assert torch.equal(net(x), output)


def test_the_parameters_are_views_of_the_vector_in_both_directions() -> None:
    net, other, x = module(0), module(1), normals(6, 3)
    vector = flatten_parameters(net)
    vector.copy_(concatenated(other))
    assert torch.equal(net(x), other(x))
    with torch.no_grad():
        net[0].bias.zero_()
    assert torch.equal(vector, concatenated(net))


def test_gradients_still_reach_the_parameters() -> None:
    net, x = module(), normals(6, 3)
    expected = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    flatten_parameters(net)
    found = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    assert all(map(torch.equal, found, expected))


# --- steps ----------------------------------------------------------------------------------------------------------------------------------------


def test_steps_are_those_of_adamw_on_the_module_s_own_parameters() -> None:
    """With betas (.9, .99), no weight decay and PyTorch's own cosine, for gradients of any size."""
    net, reference, steps, rate = module(), module(), 50, 0.01
    training = Training(net, steps, rate, decay=0.9)
    optimizer = torch.optim.AdamW(reference.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    parameters = list(reference.parameters())
    for step in range(steps):
        gradient = normals(len(training.weights), seed=step) * 10 ** (step % 5 - 2)
        for parameter, part in zip(parameters, gradient.split([parameter.numel() for parameter in parameters]), strict=True):
            parameter.grad = part.view_as(parameter).clone()
        optimizer.step()
        schedule.step()
        training.step(gradient)
        torch.testing.assert_close(concatenated(net), concatenated(reference), atol=1e-6, rtol=1e-5)
    assert torch.equal(training.weights, concatenated(net))


def rates(steps: int, rate: float) -> Tensor:
    """The learning rate of every step: how far Adam goes under a gradient that never changes."""
    training, positions = Training(module(), steps, rate, decay=0.9), []
    for _ in range(steps):
        positions.append(training.weights[0].item())
        training.step(torch.ones_like(training.weights))
    return -torch.tensor([*positions, training.weights[0].item()], dtype=torch.float64).diff()


def test_the_rate_falls_as_a_cosine_from_its_start_to_almost_zero() -> None:
    found = rates(100, 0.01)
    assert found[0].item() == pytest.approx(0.01, rel=1e-4)
    assert found[50].item() == pytest.approx(0.005, rel=1e-3)
    assert (found.diff() < 1e-7).all()
    assert 0 <= found[-1] < 1e-5
    torch.testing.assert_close(found, 0.005 * (1 + torch.cos(math.pi * torch.arange(100) / 100)).double(), atol=1e-6, rtol=0)


def test_a_run_of_one_step_takes_it_at_the_full_rate() -> None:
    assert rates(1, 0.01).tolist() == pytest.approx([0.01], rel=1e-4)


# --- the average ----------------------------------------------------------------------------------------------------------------------------------

DECAYS = pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.99, 0.9999])


def by_hand(path: Tensor, decay: float) -> Tensor:
    """The average after each step along a path (T + 1, P), in float64."""
    values, averages = path[0].double(), []
    for t, weights in enumerate(path[1:].double(), start=1):
        kept = min(decay, 1 - (1 + t) ** (-2 / 3))
        values = kept * values + (1 - kept) * weights
        averages.append(values)
    return torch.stack(averages)


def error(kind: type[Average], decay: float) -> float:
    """How far an average strays from the recursion along a random walk whose vector, as in training, changes in place."""
    path = 5 + normals(200, 4).cumsum(0)
    weights = path[0].clone()
    average, found = kind(weights, decay), []
    for following in path[1:]:
        average.follow(weights.copy_(following))
        found.append(average.values.clone())
    return float((torch.stack(found) - by_hand(path, decay)).abs().max())


class Frozen(Average):
    """Stays where it started."""

    def follow(self, weights: Tensor) -> None:
        pass


class Aliased(Average):
    """Is the weights themselves."""

    def __init__(self, start: Tensor, decay: float) -> None:
        super().__init__(start, decay)
        self.values = start


class WithoutWarmUp(Average):
    """Clings to its start."""

    def follow(self, weights: Tensor) -> None:
        self.values.lerp_(weights, 1 - self._decay)


class Uncapped(Average):
    """Forgets ever less."""

    def __init__(self, start: Tensor, decay: float) -> None:
        super().__init__(start, 1.0)


@DECAYS
def test_the_average_is_its_recursion(decay: float) -> None:
    assert error(Average, decay) < 1e-4


@pytest.mark.parametrize("broken", [Frozen, Aliased, WithoutWarmUp, Uncapped])
def test_a_broken_average_is_caught(broken: type[Average]) -> None:
    assert error(broken, 0.95) > 0.1


def follow(average: Average, weights: Tensor, steps: int) -> Tensor:
    for _ in range(steps):
        average.follow(weights)
    return average.values


@pytest.mark.parametrize("decay", [0.99, 0.9999])
def test_the_start_is_soon_forgotten_however_slow_the_decay(decay: float) -> None:
    """Without a warm-up nine tenths and more would be left after ten steps."""
    average = Average(torch.ones(3), decay)
    assert follow(average, torch.zeros(3), 10).max() < 0.02
    assert follow(average, torch.zeros(3), 90).max() < 1e-4


@DECAYS
def test_the_average_of_constant_weights_is_these(decay: float) -> None:
    weights = normals(4)
    assert torch.equal(follow(Average(weights, decay), weights, 20), weights)
    torch.testing.assert_close(follow(Average(weights + 1, decay), weights, 200), weights, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_once_warm_the_average_keeps_what_the_decay_says(decay: float) -> None:
    average = Average(torch.zeros(3), decay)
    follow(average, torch.zeros(3), 100)
    assert follow(average, torch.ones(3), 1).tolist() == pytest.approx([1 - decay] * 3, abs=1e-6)


def test_training_averages_the_weights_it_passes() -> None:
    training = Training(module(), 30, 0.1, decay=0.9)
    path = [training.weights.clone()]
    for step in range(30):
        training.step(normals(len(training.weights), seed=step))
        path.append(training.weights.clone())
    torch.testing.assert_close(training.average.values.double(), by_hand(torch.stack(path), 0.9)[-1], atol=1e-5, rtol=1e-5)
    assert not torch.equal(training.average.values, training.weights)
