"""The linear layer on oneDNN: the same function as PyTorch's, nothing computed that nobody asks for, and PyTorch's own where oneDNN is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from onednn_support import UNUSABLE
from torch import Tensor, nn

from synthesizers._parts import linear
from synthesizers._parts.linear import Linear, has_onednn, product


@pytest.fixture(autouse=True)
def _fresh_feature_test() -> Iterator[None]:
    """Each test finds out anew whether oneDNN is there, and leaves no wrong answer behind."""
    has_onednn.cache_clear()
    yield
    has_onednn.cache_clear()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


# --- the same function as PyTorch's ---------------------------------------------------------------------------------------------------------------

SHAPES = [(1, 1, 1), (5, 3, 7), (128, 64, 32), (33, 17, 1), (2, 1, 40)]
"""Rows, fan-in and fan-out."""
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda matrix: matrix,
    "transposed": lambda matrix: matrix.T.contiguous().T,
    "every second column": lambda matrix: matrix.repeat_interleave(2, dim=1)[:, ::2],
    "one row, repeated": lambda matrix: matrix[:1].expand_as(matrix),
}


def everything(function: Callable[[Tensor, Tensor, Tensor], Tensor], operands: list[Tensor], upstream: Tensor) -> list[Tensor]:
    """The output for (inputs, weight, bias) and the three gradients."""
    leaves = [operand.detach().requires_grad_() for operand in operands]
    output = function(*leaves)
    return [output, *torch.autograd.grad(output, leaves, upstream)]


def of_layer(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    output: Tensor = torch.func.functional_call(Linear(*weight.T.shape, generator()), {"weight": weight, "bias": bias}, inputs)
    return output


def check_equal(shape: tuple[int, int, int], layout: Callable[[Tensor], Tensor]) -> None:
    rows, fan_in, fan_out = shape
    operands = [layout(normals(rows, fan_in)), layout(normals(fan_out, fan_in, seed=1)), normals(fan_out, seed=2)]
    upstream = layout(normals(rows, fan_out, seed=3))
    expected = everything(nn.functional.linear, [operand.double() for operand in operands], upstream.double())
    for found, wanted in zip(everything(of_layer, operands, upstream), expected, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_output_and_gradients_are_those_of_a_linear_layer(shape: tuple[int, int, int], layout: str) -> None:
    check_equal(shape, LAYOUTS[layout])


def test_an_empty_batch_has_an_output_and_gradients_too() -> None:
    check_equal((0, 3, 2), LAYOUTS["contiguous"])


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 3)])
def test_any_number_of_leading_dimensions_is_served(leading: tuple[int, ...]) -> None:
    operands, upstream = [normals(*leading, 4), normals(5, 4, seed=1), normals(5, seed=2)], normals(*leading, 5, seed=3)
    for found, wanted in zip(everything(of_layer, operands, upstream), everything(nn.functional.linear, operands, upstream), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("leading", [(3,), (2, 3)])
def test_double_precision_passes_a_gradient_check(leading: tuple[int, ...]) -> None:
    layer, inputs = Linear(4, 5, generator()).double(), normals(*leading, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda *_: layer(inputs), (inputs, layer.weight, layer.bias))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_product_is_left_times_right_transposed(dtype: torch.dtype, layout: str) -> None:
    left, right = (LAYOUTS[layout](matrix.to(dtype)) for matrix in (normals(9, 6), normals(4, 6, seed=1)))
    found = product(left, right)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), left.double() @ right.double().T, rtol=1e-5, atol=1e-5)


# --- only what is asked for -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shape of each product that oneDNN computes."""
    if not has_onednn():
        pytest.skip("oneDNN's private operation is not here")
    shapes, operation = [], linear._onednn

    def noted(*operands: Any) -> Tensor:
        result = operation(*operands)
        shapes.append(result.shape)
        return result

    monkeypatch.setattr(linear, "_onednn", noted)
    return shapes


@pytest.mark.parametrize("frozen_layer", [False, True])
@pytest.mark.parametrize("frozen_inputs", [False, True])
def test_what_is_frozen_gets_no_gradient_and_is_neither_computed_nor_kept(
    frozen_layer: bool, frozen_inputs: bool, products: list[torch.Size]
) -> None:
    layer, inputs, head = Linear(3, 2, generator()), normals(5, 3).requires_grad_(not frozen_inputs), torch.ones((), requires_grad=True)
    layer.requires_grad_(not frozen_layer)
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda tensor: tensor):
        output = layer(inputs)
    (output * head).sum().backward()
    assert products == [(5, 2), *([] if frozen_inputs else [(5, 3)]), *([] if frozen_layer else [(2, 3)])]
    assert kept == [*([] if frozen_layer else [(5, 3)]), *([] if frozen_inputs else [(2, 3)])]
    assert (inputs.grad is None, layer.weight.grad is None, layer.bias.grad is None) == (frozen_inputs, frozen_layer, frozen_layer)


def test_a_frozen_weight_leaves_the_bias_its_gradient() -> None:
    layer = Linear(3, 2, generator())
    layer.weight.requires_grad_(False)
    layer(normals(5, 3)).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad.tolist() == [5, 5]


# --- where oneDNN is not --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", UNUSABLE)
def test_where_the_private_operation_is_missing_or_wrong_pytorch_takes_over(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", UNUSABLE[operation])
    assert not has_onednn()
    check_equal((5, 3, 7), LAYOUTS["contiguous"])
    left, right = normals(9, 6), normals(4, 6, seed=1)
    assert torch.equal(product(left, right), left @ right.T)


# --- autocast -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leading", [(3,), (2, 3)])
def test_autocast_computes_in_bfloat16_and_keeps_the_gradients_of_weights_in_float32(leading: tuple[int, ...]) -> None:
    layer, inputs = Linear(4, 5, generator()), normals(*leading, 4)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(inputs)
        expected = nn.functional.linear(inputs, layer.weight, layer.bias)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, expected)
    output.float().sum().backward()
    assert layer.weight.grad.dtype == layer.bias.grad.dtype == torch.float32


def test_a_first_call_under_autocast_does_not_decide_about_float32() -> None:
    there = has_onednn()
    has_onednn.cache_clear()
    with torch.autocast("cpu", torch.bfloat16):
        Linear(4, 5, generator())(normals(3, 4))
    assert has_onednn() == there


def test_a_first_product_under_autocast_is_still_in_float32() -> None:
    left, right = normals(9, 6), normals(4, 6, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        found = product(left, right)
    torch.testing.assert_close(found, left @ right.T, rtol=1e-5, atol=1e-5)


# --- the start ------------------------------------------------------------------------------------------------------------------------------------


def test_weights_and_bias_start_uniform_within_the_inverse_root_of_the_fan_in() -> None:
    layer = Linear(100, 2000, generator())
    for parameter in (layer.weight, layer.bias):
        assert 0.099 < float(parameter.detach().abs().max()) <= 0.1
        assert float(parameter.detach().std()) == pytest.approx(0.1 / 3**0.5, rel=0.05)
        assert float(parameter.detach().mean()) == pytest.approx(0, abs=0.005)


def test_the_start_is_the_generators_alone() -> None:
    def start(seed: int, global_seed: int) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(global_seed)
            layer = Linear(3, 4, generator(seed))
        return torch.cat([layer.weight.detach().flatten(), layer.bias.detach()])

    assert torch.equal(start(0, 0), start(0, 1))
    assert not torch.equal(start(0, 0), start(1, 0))


def test_layers_of_one_generator_start_apart() -> None:
    source = generator()
    assert not torch.equal(Linear(3, 4, source).weight, Linear(3, 4, source).weight)
