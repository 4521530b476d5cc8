"""The residual MLP: its formula, its frozen frequencies, its precisions, and a loss of each row that depends on no other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch_support import seeded

from synthesizers._parts.diffusion import (
    Architecture,
    Denoiser,
    ResidualDenoiser,
    Schedule,
    preconditioned,
    sample,
    training_losses,
)

LAYER_NORMS = pytest.mark.parametrize("layer_norm", [False, True], ids=["no LayerNorm", "LayerNorm"])

# --- the network ----------------------------------------------------------------------------------------------------------------------------------


def small(layer_norm: bool = True, precision: Any = "float32", width: int = 32, seed: int = 0, waves: bool = True) -> ResidualDenoiser:
    return Architecture(width, 2, layer_norm, waves, precision).network(5, seeded(seed))


def noisy_rows(n: int) -> tuple[Tensor, Tensor]:
    """Rows (n, 5) and their noise levels (n,)."""
    return torch.randn(n, 5, generator=seeded(1)), torch.randn(n, generator=seeded(2))


def by_hand(network: ResidualDenoiser, x: Tensor, level: Tensor, layer_norm: bool) -> Tensor:
    """F in float64, written out."""
    w = {name: values.double() for name, values in network.state_dict().items()}

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, h: Tensor) -> Tensor:
        centred = h - h.mean(1, keepdim=True)
        return centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    def with_waves(values: Tensor, frequencies: list[float]) -> Tensor:
        angles = [2 * torch.pi * column * frequency for column in values.T for frequency in frequencies]
        return torch.stack([*values.T, *(angle.sin() for angle in angles), *(angle.cos() for angle in angles)], dim=1)

    hidden = linear("embed.0", with_waves(level.double()[:, None], w["frequencies"].tolist()))
    h = linear("widen", linear("project", with_waves(x.double(), network.waves.tolist())) + linear("embed.2", hidden * hidden.sigmoid()))
    for i in range(len(network.blocks)):
        h = h + linear(f"blocks.{i}.linear", (norm(f"blocks.{i}.norm", h) if layer_norm else h).clamp_min(0))
    return linear("read_out", h.clamp_min(0))


@LAYER_NORMS
@pytest.mark.parametrize("waves", [False, True])
def test_the_network_computes_its_formula(layer_norm: bool, waves: bool) -> None:
    network = small(layer_norm, waves=waves)
    assert network.waves.tolist() == ([0.25, 0.5, 1.0] if waves else [])
    with torch.no_grad():
        for parameter in network.parameters():  # gains and biases that differ from 1 and 0
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded(3)))
    x, level = noisy_rows(50)
    torch.testing.assert_close(network(x, level).double(), by_hand(network, x, level, layer_norm), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("columns", "parameters"), [(12, 25_487_372), (42, 25_552_682), (131, 25_746_435)])
def test_the_published_network_has_its_number_of_parameters(columns: int, parameters: int) -> None:
    network = Architecture(2048, 6, layer_norm=False, waves=False, precision="float32").network(columns, seeded())
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_the_fourier_frequencies_are_frozen() -> None:
    network = small()
    before = network.frequencies.clone()
    network(*noisy_rows(10)).square().sum().backward()
    torch.optim.SGD(network.parameters(), lr=1.0).step()
    assert "frequencies" in dict(network.named_buffers())
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert torch.equal(network.frequencies, before)
    assert not network.frequencies.requires_grad


def test_the_fourier_frequencies_are_eight_standard_normals() -> None:
    drawn = torch.stack([small(width=1, seed=seed).frequencies for seed in range(100)])
    assert drawn.shape == (100, 8)
    assert stats.kstest(drawn.flatten(), "norm").pvalue > 1e-3


def test_a_fresh_network_is_a_function_of_the_generator() -> None:
    """Of nothing else: PyTorch's own state of the day does not matter."""

    def weights(seed: int, elsewhere: int) -> list[Tensor]:
        torch.manual_seed(elsewhere)
        return list(small(seed=seed).state_dict().values())

    assert all(map(torch.equal, weights(0, 1), weights(0, 2)))
    random = [not torch.equal(one, other) for one, other in zip(weights(0, 1), weights(1, 1), strict=True)]
    assert sum(random) == len(random) - 4  # all but the gains and biases of two LayerNorms


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_noise_level_for_all_rows_is_a_copy_for_each(precision: str) -> None:
    denoise, (x, _) = preconditioned(small(precision=precision)), noisy_rows(20)
    one, copies = denoise(x, torch.tensor([0.7])), denoise(x, torch.full((20,), 0.7))
    torch.testing.assert_close(one, copies, atol=1e-5 if precision == "float32" else 1e-2, rtol=0)


@LAYER_NORMS
def test_bfloat16_stays_near_float32(layer_norm: bool) -> None:
    """The same weights from the same generator; results and gradients are float32 and off by the rounding of a few products."""
    y, normals = torch.randn(500, 5, generator=seeded(1)), torch.randn(500, 6, generator=seeded(2))
    losses, gradients = [], []
    for precision in ("float32", "bfloat16"):
        network = small(layer_norm, precision, width=128)
        assert network(y, normals[:, 0]).dtype == torch.float32
        losses.append(training_losses(preconditioned(network), y, normals))
        gradients.append(torch.cat([part.flatten() for part in torch.autograd.grad(losses[-1].mean(), list(network.parameters()))]))
    for exact, rounded in (losses, gradients):
        assert rounded.dtype == torch.float32
        assert 1e-5 < (rounded - exact).norm() / exact.norm() < 0.02


@torch.no_grad()
def influence_of_companions(denoise: Denoiser) -> float:
    """The largest relative change of a row's loss where others are left out, change places, or are not even numbers."""
    y, normals = torch.randn(40, 5, generator=seeded(1)), torch.randn(40, 6, generator=seeded(2))
    order, spoilt = torch.randperm(40, generator=seeded(3)), y.clone()
    spoilt[20:] = torch.nan
    losses = training_losses(denoise, y, normals)
    alone = training_losses(denoise, y[:7], normals[:7])
    moved = training_losses(denoise, y[order], normals[order])
    beside_spoilt = training_losses(denoise, spoilt, normals)
    changes = [alone / losses[:7], moved / losses[order], beside_spoilt[:20] / losses[:20]]
    return max(float((change - 1).abs().nan_to_num(torch.inf).max()) for change in changes)


class Mixing(nn.Module):
    """A network that subtracts the mean of the batch."""

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return x - x.mean(0)


@LAYER_NORMS
@pytest.mark.parametrize(("precision", "rounding"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_the_loss_of_a_row_depends_on_no_other_row(layer_norm: bool, precision: str, rounding: float) -> None:
    assert influence_of_companions(preconditioned(small(layer_norm, precision))) < rounding
    assert influence_of_companions(preconditioned(Mixing())) == torch.inf


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_any_number_of_rows_is_sampled_from_a_network_and_leaves_no_graph(rows: int) -> None:
    x = sample(preconditioned(small()), (rows, 5), Schedule(4, 20.0), seeded())
    assert x.shape == (rows, 5)
    assert x.isfinite().all()
    assert not x.requires_grad
