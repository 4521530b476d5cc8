"""Layers over sequences: they compute what PyTorch's own do, and see as far as they should."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch_support import seeded

from bench.core.errors import InputError
from synthesizers._parts.sequences import ConvolutionBlock, TransformerBlock, places, require_heads

HORIZON = 7


def sequences(width: int, *leading: int) -> Tensor:
    return torch.randn(*leading, HORIZON, width, generator=seeded(1))


def pytorchs_own(block: TransformerBlock, width: int, heads: int) -> nn.TransformerEncoderLayer:
    """The same weights in an encoder layer that normalises first, without gains and biases there, and drops nothing."""
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, 0.0, activation=lambda h: nn.functional.gelu(h, approximate="tanh"), batch_first=True, norm_first=True
    )
    w = block.state_dict()
    names = {
        "self_attn.in_proj_": "queries_keys_values.",
        "self_attn.out_proj.": "attended.",
        "linear1.": "widen.",
        "linear2.": "narrow.",
    }
    own = {theirs + kind: w[ours + kind] for theirs, ours in names.items() for kind in ("weight", "bias")}
    layer.load_state_dict({**layer.state_dict(), **own})
    return layer


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("width", "heads"), [(8, 1), (32, 1), (64, 2), (96, 3)])
def test_a_transformer_block_is_the_encoder_layer_of_pytorch(width: int, heads: int, causal: bool) -> None:
    block, h = TransformerBlock(width, seeded(), causal), sequences(width, 5)
    with torch.no_grad():
        mask = nn.Transformer.generate_square_subsequent_mask(HORIZON) if causal else None
        expected = pytorchs_own(block, width, heads)(h, src_mask=mask, is_causal=causal)
        torch.testing.assert_close(block(h), expected, atol=1e-5, rtol=1e-4)


def test_a_convolution_block_is_relu_and_the_convolution_of_pytorch() -> None:
    block, h = ConvolutionBlock(6, seeded()), sequences(6, 5)
    kernel = block.convolve.weight.reshape(6, 3, 6).transpose(1, 2)
    expected = nn.functional.conv1d(h.relu().mT, kernel, block.convolve.bias, padding=1).mT
    torch.testing.assert_close(block(h), expected, atol=1e-5, rtol=1e-4)


BLOCKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int, int], bool]]] = {
    "transformer": (lambda: TransformerBlock(8, seeded()), lambda place, other: True),
    "causal transformer": (lambda: TransformerBlock(8, seeded(), causal=True), lambda place, other: other <= place),
    "convolution": (lambda: ConvolutionBlock(8, seeded()), lambda place, other: abs(place - other) <= 1),
}
"""A block, and whether a place sees another."""


@pytest.mark.parametrize("name", BLOCKS)
def test_a_place_sees_as_far_as_it_should(name: str) -> None:
    block, sees = BLOCKS[name][0](), BLOCKS[name][1]
    h = sequences(8)
    for other in range(HORIZON):
        changed = h.clone()
        changed[other] = torch.arange(1.0, 9.0)
        moved = (block(changed) - block(h)).abs().amax(1) > 1e-6
        assert moved.tolist() == [sees(place, other) for place in range(HORIZON)]


@pytest.mark.parametrize("name", BLOCKS)
def test_a_sequence_is_transformed_alike_whatever_is_beside_it(name: str) -> None:
    block, h = BLOCKS[name][0](), sequences(8, 3, 4)
    torch.testing.assert_close(block(h)[1, 2], block(h[1, 2]), atol=1e-6, rtol=1e-5)
    h[0] = torch.nan
    assert block(h)[1:].isfinite().all()


@pytest.mark.parametrize("horizon", [1, 2, 32, 128])
def test_every_place_of_a_window_has_a_code_of_its_own(horizon: int) -> None:
    codes = places(horizon, 8)
    assert codes.shape == (horizon, 8)
    assert codes.abs().max() <= 1
    assert (torch.cdist(codes, codes) + torch.eye(horizon)).min() > 0.1
    torch.testing.assert_close(codes[:, 0], torch.arange(horizon).sin())
    torch.testing.assert_close(codes[:, 3], (torch.arange(horizon) / (2 * horizon)).sin())


@pytest.mark.parametrize("width", [2, 8, 62, 64, 96, 256])
def test_a_width_of_whole_heads_is_accepted_and_makes_a_block(width: int) -> None:
    require_heads(width)
    h = sequences(width, 2) + places(HORIZON, width)
    assert TransformerBlock(width, seeded())(h).shape == h.shape


@pytest.mark.parametrize("width", [1, 7, 33, 66, 100])
def test_a_width_without_whole_heads_is_refused(width: int) -> None:
    with pytest.raises(InputError, match=f"^width: {width} does not split into attention heads; give a multiple of 32, or an even number below 64"):
        require_heads(width)
