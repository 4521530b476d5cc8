"""The denoiser of windows: it is shown the true states, learns from what is there alone, and its draws have the variance they should have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_support import seeded
from window_support import EVERY_SCHEMA, EVERY_TRUNK, HORIZON, TRAJECTORIES, Walks, model_of, tensors, walks

from bench.core.data import Float
from synthesizers._parts.diffusion import Schedule
from synthesizers._parts.window_denoiser import WindowDenoiser

SLIGHT = 1e-4
"""A noise level at which next to nothing is hidden."""


def batch(w: Walks, count: int = 3) -> Float:
    """Windows (TRAJECTORIES, count, D)."""
    return w.anywhere(range(TRAJECTORIES), count)


def normals_for(model: WindowDenoiser, *leading: int) -> Tensor:
    return torch.randn(*leading, model.normals, generator=seeded(5))


# --- the states it is shown -----------------------------------------------------------------------------------------------------------------------


def states_shown(model: WindowDenoiser, content: Tensor, sigma: float, flags: Tensor, condition: Tensor) -> Tensor:
    """The states (n, H, S) before each row that the network sees."""
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    model.denoiser(flags, condition)(content, torch.full((len(content),), sigma))
    (states,) = seen
    return states


@EVERY_SCHEMA
@pytest.mark.parametrize("horizon", [1, HORIZON, 20])
def test_where_nothing_is_hidden_the_states_shown_are_the_true_ones(name: str, horizon: int) -> None:
    w, model = walks(name, horizon), model_of("conv", name, horizon)
    offsets = w.data.require_trajectories()
    for begin in (0, 1, 2, 5):
        (units,) = np.nonzero(w.lengths > begin)
        content, flags, condition = tensors(*w.parts(w.beginning(units, begin)))
        rows = offsets[:-1][units, None] + begin + np.arange(horizon)
        present = flags[:, 1:].bool().numpy()
        true = w.scaling.encode_states(w.data.observations[rows[present]])
        np.testing.assert_allclose(states_shown(model, content, SLIGHT, flags, condition)[present].numpy(), true, atol=2e-3)


@pytest.mark.parametrize("sigma", [0.3, 1.0])
@EVERY_SCHEMA
def test_under_noise_they_keep_the_variance_that_they_have_without(name: str, sigma: float) -> None:
    """What noise hides of a state of variance 1 is taken off its size; a state that was reached before the window is not hidden."""
    w, model, copies = walks(name), model_of("conv", name), 4000
    (units,) = np.nonzero(w.lengths >= 2 * HORIZON)
    for begin in (0, 1):
        parts = [part.expand(copies, -1) for part in tensors(*w.parts(w.beginning(units[:1], begin)))]
        (true,) = states_shown(model, parts[0][:1], SLIGHT, parts[1][:1], parts[2][:1])
        noisy = parts[0] + sigma * torch.randn(parts[0].shape, generator=seeded())
        shown = states_shown(model, noisy, sigma, *parts[1:])
        hidden = shown.var(0)
        assert (hidden[0] > 0.05).all() if begin == 0 else (hidden[0] == 0).all()
        assert (hidden.diff(dim=0) > -0.05).all()
        torch.testing.assert_close(shown.mean(0), true * (1 - hidden).clamp_min(0).sqrt(), atol=0.1, rtol=0.1)


# --- what its loss depends on ---------------------------------------------------------------------------------------------------------------------


def losses_of(trunk: str, name: str) -> tuple[Walks, WindowDenoiser, Tensor, Tensor]:
    """Walks, a model of their windows, windows (B, K, D), and normals for their losses."""
    w, model = walks(name), model_of(trunk, name)
    windows = torch.from_numpy(batch(w))
    return w, model, windows, normals_for(model, *windows.shape[:2])


def undrawn(w: Walks, windows: Tensor) -> Tensor:
    """Which numbers of the windows (..., D) are content that is not for the model to draw."""
    _, flags, _ = w.layout.split(windows)
    rest = torch.zeros_like(windows[..., w.layout.content :], dtype=torch.bool)
    return torch.cat([~w.layout.is_drawn(flags), rest], dim=-1)


@torch.no_grad()
@EVERY_SCHEMA
@EVERY_TRUNK
def test_the_loss_depends_on_nothing_that_is_padded_or_known_and_on_no_noise_there(trunk: str, name: str) -> None:
    w, model, windows, normals = losses_of(trunk, name)
    idle = undrawn(w, windows)
    other_windows = torch.where(idle, torch.full_like(windows, 3.0), windows)
    silenced = torch.cat([torch.zeros_like(idle[..., :1]), idle[..., : w.layout.content]], dim=-1)
    other_normals = torch.where(silenced, torch.full_like(normals, -2.0), normals)
    losses = model.losses(windows, normals)
    assert losses.shape == windows.shape[:2]
    assert 0.1 < idle[..., : w.layout.content].float().mean() < 0.9
    torch.testing.assert_close(model.losses(other_windows, other_normals), losses, rtol=1e-5, atol=1e-7)


@torch.no_grad()
@EVERY_TRUNK
def test_the_loss_depends_on_every_number_that_is_drawn_or_known_otherwise(trunk: str) -> None:
    w, model, windows, normals = losses_of(trunk, "terminals")
    for opening in (False, True):
        _, flags, _ = w.layout.split(windows.flatten(0, 1))
        chosen = (flags[:, 1:].all(1) & (flags[:, 0].bool() == opening)).nonzero()[0]
        window, noise = windows.flatten(0, 1)[chosen], normals.flatten(0, 1)[chosen]
        changed = window.expand(window.shape[1], -1) + 0.3 * torch.eye(window.shape[1])
        moved = (model.losses(changed, noise.expand(len(changed), -1)) - model.losses(window, noise)).abs() > 1e-6
        first, flagged = slice(0, w.layout.states), slice(w.layout.content, w.layout.content + w.layout.flags)
        assert moved[first].tolist() == [opening] * w.layout.states
        assert moved[w.layout.states : flagged.start].all()
        assert moved[flagged.stop :].float().mean() > 0.8  # what does not move is the scale of no difference


@torch.no_grad()
@EVERY_TRUNK
def test_the_loss_of_a_window_depends_on_no_other(trunk: str) -> None:
    _, model, windows, normals = losses_of(trunk, "maze")
    losses = model.losses(windows, normals)
    torch.testing.assert_close(model.losses(windows[5, 1], normals[5, 1]), losses[5, 1], rtol=1e-4, atol=1e-6)
    windows[:5] = torch.nan
    torch.testing.assert_close(model.losses(windows, normals)[5:], losses[5:], rtol=1e-5, atol=1e-7)


@torch.no_grad()
def test_a_denoiser_that_is_right_has_no_loss_and_one_that_says_nothing_the_norm_of_what_it_should_have_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number of a row weighs the same, in a full window and in one that is nearly over; one of a first state sixteen times as much."""
    w, model, windows, normals = losses_of("conv", "toy")
    y, flags, _ = w.layout.split(windows)
    drawn = w.layout.is_drawn(flags)
    monkeypatch.setattr(WindowDenoiser, "denoiser", lambda self, flags, condition: lambda x, sigma: y)
    assert not model.losses(windows, normals).any()
    monkeypatch.setattr(WindowDenoiser, "denoiser", lambda self, flags, condition: lambda x, sigma: torch.zeros_like(x))
    sigma = (0.5 + 1.6 * normals[..., 0]).exp()
    first, rows = (y.square() * drawn).split([w.layout.states, w.layout.content - w.layout.states], dim=-1)
    expected = (1 + sigma**-2) * (16 * first.sum(-1) + rows.sum(-1)) / w.layout.content
    torch.testing.assert_close(model.losses(windows, normals), expected)


# --- draws ----------------------------------------------------------------------------------------------------------------------------------------


def test_draws_of_a_denoiser_that_is_exact_have_the_variance_that_they_should_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published sampler took the variance of the posterior for its deviation."""
    w, model = walks("toy"), model_of("conv", "toy")
    mean, variance = torch.linspace(-1, 1, w.layout.content), torch.linspace(0.2, 1.5, w.layout.content)

    def exact(self: WindowDenoiser, flags: Tensor, condition: Tensor) -> object:
        return lambda x, sigma: mean + (x - mean) * variance / (variance + sigma[:, None] ** 2)

    monkeypatch.setattr(WindowDenoiser, "denoiser", exact)
    nothing = torch.zeros(20_000, 0)
    drawn = model.draw(nothing, nothing, seeded(), Schedule(30, 20.0, eta=0.5))
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.var(0), variance, atol=0, rtol=0.07)


@torch.no_grad()
@EVERY_TRUNK
def test_a_draw_is_made_of_its_own_flags_and_condition(trunk: str) -> None:
    w, model = walks("maze"), model_of(trunk, "maze")
    _, flags, condition = tensors(*w.parts(batch(w)[:, 0]))
    schedule = Schedule(3, 20.0)
    drawn = model.draw(flags, condition, seeded(), schedule)
    assert drawn.shape == (TRAJECTORIES, w.layout.content)
    assert drawn.isfinite().all()
    assert torch.equal(model.draw(flags, condition, seeded(), schedule), drawn)
    assert not torch.equal(model.draw(flags, condition, seeded(1), schedule), drawn)
    swapped = condition.clone()
    swapped[[0, 1]] = condition[[1, 0]]
    moved = (model.draw(flags, swapped, seeded(), schedule) - drawn).abs().amax(1) > 1e-5
    assert moved.tolist() == [True, True] + [False] * (TRAJECTORIES - 2)


@torch.no_grad()
@EVERY_TRUNK
def test_the_state_before_a_window_is_the_one_drawn_where_it_opens_and_the_one_reached_elsewhere(trunk: str) -> None:
    w, model = walks("maze"), model_of(trunk, "maze")
    content, flags, condition = tensors(*w.parts(batch(w)[:, 0]))
    opening, states, sigma = flags[:, 0].bool(), w.layout.states, torch.ones(len(flags))
    assert 0 < opening.float().mean() < 1
    elsewhere, otherwise = content.clone(), content.clone()
    elsewhere[:, :states] += 1
    otherwise[:, states:] += 1
    estimates = [model.denoiser(flags, condition)(x, sigma) for x in (content, elsewhere, otherwise)]
    assert torch.equal((estimates[1] - estimates[0])[:, states:].abs().amax(1) > 1e-5, opening)
    assert ((estimates[2] - estimates[0])[:, :states].abs().amax(1) > 1e-5).all()
