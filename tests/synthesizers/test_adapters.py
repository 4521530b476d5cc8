"""Adapters: fresh ones change nothing, they alone are trained, and merged they are the network that they made."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from clipping_support import UNCLIPPED, MeanLosses
from torch import Tensor, nn
from torch_support import seeded
from window_support import EVERY_TRUNK, TRAJECTORIES, model_of, walks

from synthesizers._parts.adapters import adapt, merge
from synthesizers._parts.dpsgd import PerSampleClipping
from synthesizers._parts.linear import Linear
from synthesizers._parts.training import flatten_parameters

RANK = 2


def network(trunk: str) -> MeanLosses:
    return MeanLosses(model_of(trunk, "toy"))


def samples(units: int = TRAJECTORIES) -> Tensor:
    """Windows of some trajectories, three of each, beside the normals of their losses."""
    own = torch.from_numpy(walks("toy").anywhere(range(units), 3))
    normals = torch.randn(units, 3, model_of("conv", "toy").normals, generator=seeded(1))
    return torch.cat([own, normals], dim=-1)


def held(net: nn.Module) -> dict[str, Tensor]:
    return {name: values.clone() for name, values in net.state_dict().items()}


def train(net: nn.Module, adapters: nn.Module, steps: int = 5) -> None:
    """Some steps of plain SGD on the adapters, as one vector."""
    weights = flatten_parameters(adapters)
    for _ in range(steps):
        gradients = torch.autograd.grad(net(samples()).mean(), list(adapters.parameters()))
        weights -= 0.1 * torch.cat([gradient.flatten() for gradient in gradients])


# --- a network with adapters ----------------------------------------------------------------------------------------------------------------------


@EVERY_TRUNK
def test_a_fresh_adapter_changes_nothing(trunk: str) -> None:
    net = network(trunk)
    before = net(samples())
    adapt(net, RANK, seeded())
    assert torch.equal(net(samples()), before)


@EVERY_TRUNK
def test_adapters_are_small_one_for_each_linear_layer_and_all_that_can_be_trained(trunk: str) -> None:
    net = network(trunk)
    layers = [layer for layer in net.modules() if isinstance(layer, Linear)]
    whole = sum(parameter.numel() for parameter in net.parameters())
    adapters = adapt(net, RANK, seeded())
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    assert {id(parameter) for parameter in trainable} == {id(parameter) for parameter in adapters.parameters()}
    assert sum(parameter.numel() for parameter in trainable) == sum(RANK * (layer.in_features + layer.out_features) for layer in layers) < whole


@EVERY_TRUNK
def test_training_moves_every_adapter_and_nothing_frozen(trunk: str) -> None:
    net = network(trunk)
    adapters = adapt(net, RANK, seeded())
    before, trained = held(net), {id(parameter) for parameter in adapters.parameters()}
    adapted = {name for name, parameter in net.named_parameters() if id(parameter) in trained}
    train(net, adapters)
    moved = {name for name, values in net.state_dict().items() if not torch.equal(values, before[name])}
    assert moved == adapted
    assert len(adapted) == len(list(adapters.parameters()))


def test_adapters_are_a_function_of_the_generator() -> None:
    """Of nothing else: PyTorch's own state of the day does not matter."""

    def drawn(seed: int, elsewhere: int) -> Tensor:
        torch.manual_seed(elsewhere)
        return flatten_parameters(adapt(network("conv"), RANK, seeded(seed)))

    assert torch.equal(drawn(0, 1), drawn(0, 2))
    assert not torch.equal(drawn(0, 1), drawn(1, 1))


def test_what_is_learned_is_of_the_rank_asked_for() -> None:
    layer = Linear(9, 7, seeded())
    net, before = nn.Sequential(layer), layer.weight.clone()
    with torch.no_grad():
        for parameter in adapt(net, RANK, seeded()).parameters():
            parameter.normal_(generator=seeded(1))
    merge(net)
    assert torch.linalg.matrix_rank(layer.weight - before) == RANK


# --- and without --------------------------------------------------------------------------------------------------------------------------------


@EVERY_TRUNK
def test_merged_it_computes_what_it_computed_with_them_under_its_first_names(trunk: str) -> None:
    net = network(trunk)
    before = held(net)
    train(net, adapt(net, RANK, seeded()))
    losses = net(samples())
    merge(net)
    after = net.state_dict()
    torch.testing.assert_close(net(samples()), losses, atol=1e-5, rtol=1e-4)
    assert [(name, values.shape) for name, values in after.items()] == [(name, values.shape) for name, values in before.items()]
    assert {name for name in after if not torch.equal(after[name], before[name])} == {
        f"{name}.weight" for name, layer in net.named_modules() if isinstance(layer, Linear)
    }


# --- clipping -------------------------------------------------------------------------------------------------------------------------------------


@EVERY_TRUNK
def test_the_gradients_of_adapters_are_clipped_for_each_unit(trunk: str) -> None:
    """As in a loop of one backward pass for each unit, in float64; half of the gradients are longer than the norm."""
    net, units = network(trunk), samples(12)
    adapters = adapt(net, RANK, seeded())
    train(net, adapters)
    clipping, (exact, own) = PerSampleClipping(adapters), copy.deepcopy((net, adapters))
    parameters = list(own.double().parameters())
    passes = [torch.autograd.grad(exact.double()(unit[None].double()).sum(), parameters) for unit in units]
    loops = torch.stack([torch.cat([gradient.flatten() for gradient in gradients]) for gradients in passes])
    norms = loops.norm(dim=1)
    clip_norm = float(norms.median())

    def clipped(chosen: Tensor, bound: float) -> tuple[Tensor, Tensor]:
        total = clipping.zeros()
        return total, clipping.add_clipped(total, lambda: net(chosen), bound)

    found, found_norms = clipped(units, clip_norm)
    torch.testing.assert_close(found.double(), (clip_norm / norms).clamp(max=1) @ loops, atol=1e-4 * clip_norm, rtol=1e-3)
    torch.testing.assert_close(found_norms.double(), norms, rtol=1e-3, atol=0)
    sums = [clipped(units[:n], clip_norm)[0] for n in range(1, 13)]
    assert max(float((more - fewer).norm()) for fewer, more in pairwise(sums)) <= clip_norm * (1 + 1e-4)
    assert float(clipped(units, UNCLIPPED)[0].norm()) > 0


@pytest.mark.parametrize("rank", [1, 3])
def test_frozen_layers_stay_frozen_while_gradients_are_clipped(rank: int) -> None:
    net = network("transformer")
    adapters = adapt(net, rank, seeded())
    before = held(net)
    clipping = PerSampleClipping(adapters)
    clipping.add_clipped(clipping.zeros(), lambda: net(samples()), 1.0)
    assert all(torch.equal(values, before[name]) for name, values in net.state_dict().items())
    assert sum(parameter.requires_grad for parameter in net.parameters()) == len(list(adapters.parameters()))
