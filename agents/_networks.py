"""The networks of the agents: ensembles of ReLU perceptrons whose parameters lie in one tensor.

To autograd a whole ensemble is one operation, written out below with its gradients: the graph of a loss is a few nodes long, the optimiser sees
one tensor, and a target network follows in one call. On a GPU all networks are one batched product. On a CPU they are visited one by one, because
oneDNN's product of two matrices, which has no batched form, is about twice as fast as the default library on processors that the latter was not
written for. PyTorch offers it as a private operation, so it is tested once for being there and being right; else the batched form serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

NORM_EPSILON = 1e-5  # added to the variance by a layer normalisation, PyTorch's default
THIN = 8  # a product of this few columns does not repay the call of oneDNN


class Layer(NamedTuple):
    """A layer of one network, or of all G networks, whose shapes then begin with G. Where there is a norm, the layer is normalised after its ReLU."""

    weight: Tensor  # (O, I)
    bias: Tensor  # (O,), or (G, 1, O)
    norm: tuple[Tensor, Tensor] | None  # scale and shift of the normalised layer, as the bias


@dataclass(frozen=True, eq=False)
class MLP:
    """N ReLU networks of one shape for each of K seeds. With `layer_norm` every hidden layer is normalised after its ReLU."""

    sizes: tuple[int, ...]
    parameters: Tensor  # (K N, P): one row for each network, seed by seed
    seeds: int  # K
    layer_norm: bool = False

    @classmethod
    def fresh(cls, sizes: Sequence[int], generators: Sequence[torch.Generator], device: str, *, members: int = 1, layer_norm: bool = False) -> MLP:
        """`members` independent networks for each generator; weights and biases start uniform in +-1/sqrt(fan-in), PyTorch's default for a layer."""
        rows = []
        for generator in generators:
            columns = []
            for depth, (fan_in, fan_out) in enumerate(pairwise(sizes)):
                columns.append(torch.empty(members, (fan_in + 1) * fan_out).uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator))
                if layer_norm and depth < len(sizes) - 2:
                    columns += [torch.ones(members, fan_out), torch.zeros(members, fan_out)]
            rows.append(torch.cat(columns, 1))
        return cls(tuple(sizes), torch.cat(rows).to(device).requires_grad_(), len(rows), layer_norm)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Inputs (K, B, I), common to the members of a seed, to (K, N, B, O)."""
        outputs: Tensor = _Outputs.apply(inputs, self.parameters, self)
        return outputs

    def values(self, inputs: Tensor) -> Tensor:
        """The outputs (K, N, B) of networks that have one."""
        return self(inputs).squeeze(-1)

    def fixed(self, members: slice = slice(None)) -> MLP:
        """The same networks, or the first of each seed, as constants that follow every change: gradients flow to their inputs alone."""
        rows = self.parameters.detach().unflatten(0, (self.seeds, -1))[:, members]
        return replace(self, parameters=rows.view(-1, rows.shape[-1]))

    def with_slopes(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Values (K, N, B) and their gradients in the inputs, (K, N, B, I), both as functions of the parameters. No layer normalisation."""
        values, slopes = _ValuesAndSlopes.apply(inputs, self.parameters, self)
        return values.squeeze(-1), slopes

    def copy(self) -> MLP:
        """The same networks with parameters of their own and no gradient."""
        return replace(self, parameters=self.parameters.detach().clone())

    def of_seed(self, seed: int) -> MLP:
        """A copy of the networks of one seed, on the CPU."""
        return replace(self, parameters=self.parameters.detach().unflatten(0, (self.seeds, -1))[seed].cpu().clone(), seeds=1)

    @torch.no_grad()
    def follow(self, source: MLP, rate: float) -> None:
        """Polyak averaging: parameters <- (1 - rate) parameters + rate source."""
        self.parameters.lerp_(source.parameters, rate)

    # --- blocks: what is computed at once, one network or all of them ----------------------------------------------------------------------------

    @cached_property
    def batched(self) -> bool:
        """Whether all networks are one block."""
        return not (self.parameters.device.type == "cpu" and self.parameters.dtype == torch.float32 and has_onednn())

    @cached_property
    def blocks(self) -> list[list[Layer]]:
        """The layers of each block, as views of the parameters."""
        return [self._layers(rows) for rows in self.per_block(self.parameters.detach())]

    def _layers(self, rows: Tensor) -> list[Layer]:
        """Views of parameters (P,) or (G, P)."""
        networks, start = rows.shape[:-1], 0
        layers: list[Layer] = []
        for fan_in, fan_out in pairwise(self.sizes):
            vectors = 3 if self.layer_norm and len(layers) < len(self.sizes) - 2 else 1
            stop = start + (fan_in + vectors) * fan_out
            weight, *rest = rows[..., start:stop].split([fan_in * fan_out, *[fan_out] * vectors], -1)
            bias, *norm = (vector.unsqueeze(-2) if networks else vector for vector in rest)
            layers.append(Layer(weight.view(*networks, fan_out, fan_in), bias, (norm[0], norm[1]) if norm else None))
            start = stop
        return layers

    def per_block(self, rows: Tensor) -> Sequence[Tensor]:
        """What has one row for each network, (K N, ...), in the pieces that the blocks need."""
        return [rows] if self.batched else rows.unbind()

    def per_network(self, blocks: Sequence[Tensor]) -> Tensor:
        """The results of the blocks as (K, N, ...)."""
        return (blocks[0] if self.batched else torch.stack(list(blocks))).unflatten(0, (self.seeds, -1))

    def shared(self, inputs: Tensor) -> Sequence[Tensor]:
        """Inputs (K, B, I) in the pieces that the blocks need: every member gets those of its seed."""
        members = len(self.parameters) // self.seeds
        return [inputs.repeat_interleave(members, 0)] if self.batched else [x for x in inputs.contiguous().unbind() for _ in range(members)]


class _Outputs(torch.autograd.Function):
    """The outputs of an ensemble. Only the gradients that are asked for are computed."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, parameters: Tensor, network: MLP) -> Tensor:
        outputs, tapes = zip(*map(_forward, network.blocks, network.shared(inputs)), strict=True)
        ctx.network, ctx.tapes = network, tapes
        return network.per_network(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        network, wanted = ctx.network, ctx.needs_input_grad
        at_inputs, at_parameters = [], []
        for layers, tape, g in zip(network.blocks, ctx.tapes, network.per_block(gradient.flatten(0, 1).contiguous()), strict=True):
            inward, pieces = _backward(layers, tape, g, of_inputs=wanted[0], of_parameters=wanted[1])
            at_inputs.append(inward)
            at_parameters += pieces
        return (
            network.per_network(at_inputs).sum(1) if wanted[0] else None,
            torch.cat(at_parameters, -1).view_as(network.parameters) if wanted[1] else None,
            None,
        )


class _ValuesAndSlopes(torch.autograd.Function):
    """The values of an ensemble with their gradients in the inputs, as functions of the parameters alone.

    A ReLU's second derivative is 0, so with its zeros held fixed the slope is a product of matrices. Let a_l be what layer l is given, u_l the
    gradient of the value at its result, delta the gradient of the loss at the value and v that at the slope. The loss then has the gradient
    u_l^T (delta a_l + t_l) in W_l, where t carries v forward as a tangent: value and slope share u and one product.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, parameters: Tensor, network: MLP) -> tuple[Tensor, Tensor]:
        values, tapes = zip(*map(_forward, network.blocks, network.shared(inputs)), strict=True)
        slopes, adjoints = zip(*map(_slopes, network.blocks, tapes), strict=True)
        ctx.network, ctx.tapes, ctx.adjoints = network, tapes, adjoints
        return network.per_network(values), network.per_network(slopes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, at_values: Tensor, at_slopes: Tensor) -> tuple[None, Tensor, None]:
        network = ctx.network
        given = (network.per_block(gradient.flatten(0, 1).contiguous()) for gradient in (at_values, at_slopes))
        pieces = [piece for block in zip(network.blocks, ctx.tapes, ctx.adjoints, *given, strict=True) for piece in _joint_gradients(*block)]
        return None, torch.cat(pieces, -1).view_as(network.parameters), None


class _Tape(NamedTuple):
    """What a backward pass needs of a forward pass, layer by layer."""

    entered: list[Tensor]  # what each layer was given, (B, I) or (G, B, I)
    norms: list[tuple[Tensor, Tensor, Tensor]]  # of each normalised layer: its ReLU, with mean and 1 / deviation


def _forward(layers: list[Layer], inputs: Tensor) -> tuple[Tensor, _Tape]:
    """The outputs of a block, and its tape."""
    tape = _Tape([inputs], [])
    for layer in layers[:-1]:
        hidden = _affine(tape.entered[-1], layer.weight, layer.bias, relu=True)
        tape.entered.append(_normalised(hidden, *layer.norm, tape) if layer.norm else hidden)
    return _affine(tape.entered[-1], layers[-1].weight, layers[-1].bias), tape


def _backward(layers: list[Layer], tape: _Tape, gradient: Tensor, *, of_inputs: bool, of_parameters: bool) -> tuple[Tensor, list[Tensor]]:
    """The gradient at the inputs, if asked for, and those at the parameters in their order, each (..., numel)."""
    pieces: list[Tensor] = []  # from last to first
    for depth in reversed(range(len(layers))):
        layer, last = layers[depth], depth == len(layers) - 1
        if not last and layer.norm:
            gradient, at_scale, at_shift = _norm_gradients(gradient, *layer.norm, *tape.norms[depth])
            pieces += [at_shift, at_scale] if of_parameters else []
        if not last:
            hidden = tape.norms[depth][0] if layer.norm else tape.entered[depth + 1]
            gradient = torch.ops.aten.threshold_backward(gradient, hidden, 0)
        if of_parameters:
            pieces += [gradient.sum(-2), _weight_gradient(gradient, tape.entered[depth])]
        if depth > 0 or of_inputs:
            gradient = _input_gradient(gradient, layer.weight)
    return gradient, pieces[::-1]


def _normalised(hidden: Tensor, scale: Tensor, shift: Tensor, tape: _Tape) -> Tensor:
    """A layer's ReLU normalised, scaled and shifted; one call does it all for a network, but not for a batch of them."""
    whole: tuple[Tensor | None, Tensor | None] = (scale, shift) if hidden.dim() == 2 else (None, None)
    result, mean, inverse = torch.native_layer_norm(hidden, hidden.shape[-1:], *whole, NORM_EPSILON)
    tape.norms.append((hidden, mean, inverse))
    return result if hidden.dim() == 2 else torch.addcmul(shift, result, scale)


def _norm_gradients(gradient: Tensor, scale: Tensor, shift: Tensor, hidden: Tensor, mean: Tensor, inverse: Tensor) -> Sequence[Tensor]:
    """The gradients of `_normalised` at its ReLU, scale and shift."""
    backward, shape = torch.ops.aten.native_layer_norm_backward, hidden.shape[-1:]
    if hidden.dim() == 2:
        found: Sequence[Tensor] = backward(gradient, hidden, shape, mean, inverse, scale, shift, [True, True, True])
        return found
    at_scale = (gradient * (hidden - mean) * inverse).sum(-2)
    return backward(gradient * scale, hidden, shape, mean, inverse, None, None, [True, False, False])[0], at_scale, gradient.sum(-2)


def _slopes(layers: list[Layer], tape: _Tape) -> tuple[Tensor, list[Tensor]]:
    """The gradients of a block's values in its inputs, and in the results of all layers but the last, from first to last."""
    slope, adjoints = layers[-1].weight, []
    for layer, hidden in zip(layers[-2::-1], tape.entered[:0:-1], strict=True):
        adjoints.append(torch.ops.aten.threshold_backward(slope.expand_as(hidden), hidden, 0))
        slope = _input_gradient(adjoints[-1], layer.weight)
    return slope, adjoints[::-1]


def _joint_gradients(layers: list[Layer], tape: _Tape, adjoints: list[Tensor], at_values: Tensor, at_slopes: Tensor) -> list[Tensor]:
    """The gradients of a block's parameters, from those at its values (..., B, 1) and slopes (..., B, I)."""
    pieces, tangent = [], at_slopes
    for layer, adjoint, entered, hidden in zip(layers, adjoints, tape.entered, tape.entered[1:], strict=False):
        pieces += [_weight_gradient(adjoint, torch.addcmul(tangent, entered, at_values)), (adjoint.mT @ at_values).squeeze(-1)]
        tangent = torch.ops.aten.threshold_backward(_affine(tangent, layer.weight), hidden, 0)
    last = torch.addcmul(tangent, tape.entered[-1], at_values).sum(-2)
    return [*pieces, last, at_values.sum(-2)]


# --- products of one block: matrices, or batches of them -----------------------------------------------------------------------------------------


def _affine(inputs: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """inputs weight^T + bias, and the positive part of that if asked for."""
    if inputs.dim() == 3:
        outputs = inputs @ weight.mT if bias is None else torch.baddbmm(bias, inputs, weight.mT)
    elif min(weight.shape) > THIN:
        return _onednn(inputs, weight, bias, "relu" if relu else "none")
    else:
        outputs = F.linear(inputs, weight, bias)
    return outputs.relu_() if relu else outputs


def _input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """(..., B, O) and (..., O, I) to (..., B, I)."""
    if gradient.dim() == 3 or len(weight) <= THIN:
        return gradient @ weight
    return _onednn(gradient, weight.T)


def _weight_gradient(gradient: Tensor, inputs: Tensor) -> Tensor:
    """(..., B, O) and (..., B, I) to the (..., O I) sums over the batch."""
    if gradient.dim() == 3 or gradient.shape[1] <= THIN:
        return (gradient.mT @ inputs).flatten(-2)
    if inputs.shape[1] <= THIN:  # this way round the product is about four times as fast
        return (inputs.T @ gradient).T.flatten()
    return _onednn(gradient.T, inputs.T).flatten()


def _onednn(left: Tensor, right: Tensor, bias: Tensor | None = None, after: str = "none") -> Tensor:
    """left right^T + bias of matrices, then `after`."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, after, [], "")
    return result


@cache
def has_onednn() -> bool:
    """Whether the private operation exists here and agrees with `torch.nn.functional.linear`."""
    inputs, weight, bias = torch.linspace(-1, 1, 12).reshape(4, 3), torch.linspace(-2, 1, 6).reshape(2, 3), torch.tensor([0.5, -0.5])
    try:
        found = _onednn(inputs, weight, bias, "relu")
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(found, F.linear(inputs, weight, bias).relu(), atol=1e-6)
