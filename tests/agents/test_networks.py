"""The ensemble of perceptrons: the outputs and gradients of modules that autograd differentiates, on both ways to compute them."""

import pytest
import torch
from onednn_support import UNUSABLE
from torch import Tensor, nn
from torch.nn import functional as F

import agents._networks
from agents._networks import MLP, has_onednn

SEEDS, MEMBERS, ROWS = 2, 3, 20
SIZES = {"deep": (6, 16, 24, 16, 1), "wide ends": (20, 16, 12), "one layer": (5, 3), "narrow": (4, 8, 2)}
shapes = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)


def ensemble(sizes: tuple[int, ...], layer_norm: bool = False, dtype: torch.dtype = torch.float32) -> MLP:
    """With scales and shifts that are not 1 and 0."""
    made = MLP.fresh(sizes, [torch.Generator().manual_seed(seed) for seed in range(SEEDS)], "cpu", members=MEMBERS, layer_norm=layer_norm)
    rows = made.parameters.detach() + 0.1 * normals(*made.parameters.shape, seed=9)
    return MLP(sizes, rows.to(dtype).requires_grad_(), SEEDS, layer_norm)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def modules(ensemble: MLP) -> list[nn.Sequential]:
    """The networks one by one, seed by seed."""
    networks = []
    for row in ensemble.parameters.detach():
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip(ensemble.sizes, ensemble.sizes[1:], strict=False):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), *([nn.LayerNorm(fan_out)] if ensemble.layer_norm else [])]
        while not isinstance(layers[-1], nn.Linear):
            layers.pop()
        networks.append(nn.Sequential(*layers).to(row.dtype))
        nn.utils.vector_to_parameters(row.clone(), networks[-1].parameters())
    return networks


def outputs_of(networks: list[nn.Sequential], inputs: Tensor) -> Tensor:
    return torch.stack([network(inputs[i // MEMBERS]) for i, network in enumerate(networks)]).unflatten(0, (SEEDS, MEMBERS))


def gradients_of(networks: list[nn.Sequential]) -> Tensor:
    return torch.stack([torch.cat([parameter.grad.flatten() for parameter in network.parameters()]) for network in networks])


@shapes
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.usefixtures("way")
def test_equals_modules_and_their_gradients(sizes: tuple[int, ...], layer_norm: bool, dtype: torch.dtype) -> None:
    own = ensemble(sizes, layer_norm, dtype)
    networks, inputs, weight = modules(own), normals(SEEDS, ROWS, sizes[0]).to(dtype), normals(SEEDS, MEMBERS, ROWS, sizes[-1], seed=1).to(dtype)
    ours, theirs = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    found, expected = own(ours), outputs_of(networks, theirs)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    close = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-12, "rtol": 1e-9}
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(ours.grad, theirs.grad, **close)
    torch.testing.assert_close(own.parameters.grad, gradients_of(networks), **close)


@pytest.mark.usefixtures("way")
def test_slopes_equal_differentiating_twice() -> None:
    own = ensemble((6, 16, 24, 16, 1))
    networks, inputs = modules(own), normals(SEEDS, ROWS, 6)
    at_values, at_slopes = normals(SEEDS, MEMBERS, ROWS, seed=1), normals(SEEDS, MEMBERS, ROWS, 6, seed=2)
    values, slopes = own.with_slopes(inputs)
    (values * at_values).sum().add((slopes * at_slopes).sum()).backward()
    own_inputs = inputs.repeat_interleave(MEMBERS, 0).requires_grad_()
    expected = torch.stack([network(x)[:, 0] for network, x in zip(networks, own_inputs, strict=True)])
    (expected_slopes,) = torch.autograd.grad(expected.sum(), own_inputs, create_graph=True)
    (expected * at_values.flatten(0, 1)).sum().add((expected_slopes * at_slopes.flatten(0, 1)).sum()).backward()
    torch.testing.assert_close(values, expected.view_as(values), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(slopes, expected_slopes.view_as(slopes), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(own.parameters.grad, gradients_of(networks), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("way")
def test_fixed_networks_follow_the_weights_and_pass_gradients_to_their_inputs_alone() -> None:
    own, inputs = ensemble((6, 16, 1)), normals(SEEDS, ROWS, 6).requires_grad_()
    fixed, first = own.fixed(), own.fixed(slice(1))
    with torch.no_grad():
        own.parameters.mul_(1.5)
    assert torch.equal(fixed(inputs), own(inputs))
    torch.testing.assert_close(first(inputs)[:, 0], own(inputs)[:, 0])
    fixed(inputs).sum().backward()
    assert own.parameters.grad is None
    (expected,) = torch.autograd.grad(outputs_of(modules(own), inputs).sum(), inputs)
    torch.testing.assert_close(inputs.grad, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("way")
def test_copies_stay_and_follow_only_when_told() -> None:
    own, inputs = ensemble((6, 16, 1)), normals(SEEDS, ROWS, 6)
    target, second = own.copy(), own.of_seed(1)
    before = own(inputs)
    torch.testing.assert_close(second(inputs[1:]), before[1:])
    with torch.no_grad():
        own.parameters.add_(1)
    assert torch.equal(target(inputs), before)
    target.follow(own, 0.25)
    torch.testing.assert_close(target.parameters, own.parameters.detach() - 0.75)


def test_members_start_differently_inside_their_layer_s_bound() -> None:
    first, second = MLP.fresh((4, 9, 1), [torch.Generator().manual_seed(0)], "cpu", members=2).parameters.detach()
    hidden, last = first[: 5 * 9], first[5 * 9 :]
    assert not (first == second).any()
    assert 0.4 < hidden.abs().max() <= 0.5
    assert 0.2 < last.abs().max() <= 1 / 3


# --- where oneDNN is not --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", UNUSABLE)
def test_where_the_private_operation_is_missing_or_wrong_products_are_batched(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", UNUSABLE[operation])
    has_onednn.cache_clear()
    try:
        assert ensemble((6, 16, 1)).batched
    finally:
        has_onednn.cache_clear()


@pytest.mark.skipif(not has_onednn(), reason="no oneDNN product here")
def test_onednn_s_product_equals_pytorch_s() -> None:
    inputs, weight, bias = normals(64, 48), normals(32, 48, seed=1) / 7, normals(32, seed=2)
    found = agents._networks._affine(inputs, weight, bias, relu=True)
    torch.testing.assert_close(found, F.linear(inputs, weight, bias).relu(), atol=1e-6, rtol=1e-6)
