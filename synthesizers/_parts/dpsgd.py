"""DP-SGD (Abadi et al. 2016) around the Ledger's handle, at about the price of ordinary SGD.

One step: the Ledger includes units by Poisson sampling; the gradient of each is clipped to norm C and summed; the Ledger adds noise; the sum is
divided by the *expected* batch. An empty batch is a step like any other.

Clipping is by book-keeping (Bu et al. 2023, arXiv:2210.00038): no per-sample gradient of a wide layer is ever formed. With a_i what enters a layer
and g_i the gradient of sample i's loss with respect to what leaves it, a linear layer's per-sample gradient is g_i a_i^T, so

1. one backward pass to the layers' outputs gives all g (the parameters are frozen meanwhile: no weight gradient is computed),
2. |g_i a_i^T|^2 = |g_i|^2 |a_i|^2 gives the norms,
3. sum_i c_i g_i a_i^T, with c_i = min(1, C / norm_i), is one product of two matrices.

Where a layer sees a sequence, step 2 takes the inner products of its entries (Li et al. 2022, arXiv:2110.05679). Where these are more numbers than a
per-sample gradient, that is formed; so it is for LayerNorm and Embedding, where it is small.

Sensitivity in low precision: under autocast a and g are bfloat16. The *very values* that enter the sum of step 3 are those of which step 2 took the
norms, and both steps compute in float32, so |c_i g_i a_i^T| <= C holds up to float32's rounding whatever was lost before. A weighted product in
bfloat16 would round the sum itself: by more than one sample's share of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bench.core.data import Index
from bench.core.privacy import SgdHandle
from synthesizers._parts.linear import product

_Factors = tuple[Tensor, Tensor]
_NOISE_CHUNK = 1 << 18
"""Normals drawn from one generator: they stay in a processor's cache, and do not depend on the number of threads."""
_LARGEST_NORM = 1e10
"""A sample whose activations or gradients are longer than this in some layer adds nothing."""


def private_gradient(handle: SgdHandle, clipping: PerSampleClipping, losses: Callable[[Index], Tensor], expected: float, physical: int) -> Tensor:
    """One step's noisy mean gradient (P,), valid until the next step.

    Args:
        losses: maps the indices (B,) of included units to their losses (B,), of which each depends on its own unit alone.
        expected: the public batch size, sampling rate x nominal N, by which the sum is divided.
        physical: units whose activations are held in memory at once.
    """
    included, total = handle.include(), clipping.workspace
    if not len(included):
        total.zero_()
    for start in range(0, len(included), physical):
        clipping.add_clipped(total, partial(losses, included[start : start + physical]), handle.clip_norm, overwrite=start == 0)
    noisy: Tensor = handle.release(total, add_normals)
    return noisy.div_(expected)


def add_normals(vector: Tensor, seed: int, scale: float) -> Tensor:
    """Add `scale` times standard normals to `vector` (P,), in place: in chunks with generators of their own, drawn by all threads of the process.

    They are drawn in double precision. What is made of the 24 bits of single precision ends at 5.8 deviations, and a sum beyond that would tell for
    sure that a unit was in. The generators make reproducible noise, as a benchmark needs; they are not cryptographic.
    """
    chunks, threads = vector.split(_NOISE_CHUNK), torch.get_num_threads()

    def add(first: int) -> None:
        for position in range(first, len(chunks), threads):
            chunks[position].add_(_normals(seed, position, len(chunks[position]), vector.device), alpha=scale)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(add, range(threads)))
    return vector


def _normals(seed: int, position: int, count: int, device: torch.device) -> Tensor:
    """Standard normals (count,) in double precision, of a generator of its own for each chunk of each step."""
    words = np.random.SeedSequence([seed, position])
    if device.type == "cpu":
        return torch.from_numpy(np.random.Generator(np.random.SFC64(words)).standard_normal(count))
    generator = torch.Generator(device).manual_seed(int(words.generate_state(1, np.uint64)[0] >> 1))
    return torch.empty(count, dtype=torch.float64, device=device).normal_(generator=generator)


# --- one backward pass ----------------------------------------------------------------------------------------------------------------------------


class PerSampleClipping:
    """Sums of per-sample gradients, each clipped to a norm, for modules made of `Linear`, `LayerNorm` and `Embedding`.

    Raises:
        ValueError: a layer with parameters that has no rule, that shares a parameter, or whose statistics mix the samples of a batch.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = list(module.parameters())
        self._rules = {layer: _rule(name, layer) for name, layer in module.named_modules() if _needs_rule(name, layer)}
        owned = [id(parameter) for layer in self._rules for parameter in layer.parameters()]
        if len(set(owned)) < len(owned):
            raise ValueError("module: two layers share a parameter, whose per-sample gradient no single layer knows; give each layer its own")

    def zeros(self) -> Tensor:
        """The sum (P,) over no sample, in the order of the module's parameters."""
        return torch.zeros(sum(p.numel() for p in self._parameters), dtype=torch.float32, device=self._parameters[0].device)

    @cached_property
    def workspace(self) -> Tensor:
        """A vector (P,) that is kept between steps: the system maps a fresh one of a hundred megabytes page by page."""
        return self.zeros()

    def add_clipped(self, total: Tensor, losses: Callable[[], Tensor], clip_norm: float, overwrite: bool = False) -> Tensor:
        """Add to `total` (P,) the gradients of `losses()` (B,), each clipped to `clip_norm`; one that is not finite adds nothing.

        Args:
            overwrite: put them in the place of what `total` held.

        Returns:
            The norms (B,) before clipping. They are private.

        Raises:
            ValueError: a layer that the losses do not use exactly once, or that does not see one entry for each sample.
        """
        with self._recorded() as calls:
            values = losses()
            self._check(calls, values)
            gradients = torch.autograd.grad(values.sum(), [call.output for call in calls.values()], allow_unused=True)
        with torch.autocast(total.device.type, enabled=False):
            factors = {layer: self._rules[layer].prepare(*_in_float32(call, g)) for (layer, call), g in zip(calls.items(), gradients, strict=True)}
            del calls, gradients
            norms = sum(self._rules[layer].squared_norms(*ag) for layer, ag in factors.items()).sqrt()  # type: ignore[union-attr]
            weights = (clip_norm / norms).clamp(max=1).float()
            if not (finite := norms.isfinite()).all():
                weights = weights.where(finite, 0.0)
                factors = {layer: (_zero_rows(a, ~finite), _zero_rows(g, ~finite)) for layer, (a, g) in factors.items()}
            parts = dict(zip(map(id, self._parameters), total.split([p.numel() for p in self._parameters]), strict=True))
            for layer, (a, g) in factors.items():
                for parameter, summed in zip(layer.parameters(), self._rules[layer].weighted_sums(a, g, weights), strict=True):
                    part = parts[id(parameter)]
                    part.copy_(summed.reshape(-1)) if overwrite else part.add_(summed.reshape(-1))
        return norms

    @contextmanager
    def _recorded(self) -> Iterator[dict[nn.Module, _Call]]:
        """Note what enters and leaves each layer. The parameters are frozen meanwhile, so that the backward pass ends at the layers' outputs."""
        calls: dict[nn.Module, _Call] = {}

        def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if layer in calls:
                raise ValueError(f"module: a {type(layer).__name__} was called twice for one loss; give each call a layer of its own")
            output = output if output.requires_grad else output.requires_grad_()
            calls[layer] = _Call(inputs[0].detach(), output, (inputs[0]._version, output._version))

        hooks = [layer.register_forward_hook(note) for layer in self._rules]
        trainable = [parameter.requires_grad for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        try:
            yield calls
        finally:
            for parameter, before in zip(self._parameters, trainable, strict=True):
                parameter.requires_grad_(before)
            for hook in hooks:
                hook.remove()

    def _check(self, calls: dict[nn.Module, _Call], losses: Tensor) -> None:
        for layer in self._rules:
            kind, call = f"a {type(layer).__name__}", calls.get(layer)
            if call is None:
                raise ValueError(f"module: {kind} has no part in the loss; leave it out of the module")
            if losses.dim() != 1 or len(call.output) != len(losses):
                raise ValueError(f"module: {kind} sees {len(call.output)} entries for losses of shape {tuple(losses.shape)}; give one loss for each")
            if call.versions != (call.inputs._version, call.output._version):
                raise ValueError(f"module: what {kind} saw or returned was changed in place afterwards; use operations that return a new tensor")


@dataclass(frozen=True)
class _Call:
    """What entered a layer and what left it, with the graph behind the latter; how often both had been changed in place by then."""

    inputs: Tensor
    output: Tensor
    versions: tuple[int, int]


def _in_float32(call: _Call, gradient: Tensor | None) -> _Factors:
    """a and g of a layer, a rounded first to the precision in which the layer computed."""
    if gradient is None:
        raise ValueError("module: the output of a layer is thrown away; leave the layer out of the module")
    inputs = call.inputs.to(gradient.dtype).float() if call.inputs.is_floating_point() else call.inputs.long()
    return inputs, gradient.float()


def _zero_rows(tensor: Tensor, rows: Tensor) -> Tensor:
    return tensor.masked_fill(rows.reshape(-1, *[1] * (tensor.dim() - 1)), 0)


# --- the layers -----------------------------------------------------------------------------------------------------------------------------------


class _Rule(Protocol):
    """How one kind of layer turns a (B, ..., I) and g (B, ..., O) into norms and sums."""

    def prepare(self, a: Tensor, g: Tensor) -> _Factors:
        """What norms and sums have in common, first dimension B."""
        ...

    def squared_norms(self, a: Tensor, g: Tensor) -> Tensor:
        """|per-sample gradient|^2 of all the layer's parameters together, (B,)."""
        ...

    def weighted_sums(self, a: Tensor, g: Tensor, weights: Tensor) -> list[Tensor]:
        """Sum over samples of weight x gradient, for each of the layer's parameters in their order."""
        ...


@dataclass(frozen=True)
class _LinearRule:
    """Sequences a (B, T, I) and g (B, T, O) are all that is needed, rows have T = 1; of long ones the per-sample gradients (B, O, I) are formed.

    The gradient of a sequence is sum_t g_t a_t^T, its squared norm sum_ts (g_t g_s) (a_t a_s): two tables (T, T) of inner products.
    """

    biased: bool

    def prepare(self, a: Tensor, g: Tensor) -> _Factors:
        a, g = a.reshape(len(a), -1, a.shape[-1]), g.reshape(len(g), -1, g.shape[-1])
        T, I, O = *a.shape[1:], g.shape[-1]  # noqa: E741
        return (a, g) if T == 1 or T * (I + O) < I * O else (torch.bmm(g.mT, a), g.sum(1))

    def squared_norms(self, a: Tensor, g: Tensor) -> Tensor:
        if g.dim() == 2:
            return _squares(a) + self.biased * _squares(g)
        if a.shape[1] == 1:
            return _squares(g) * (_squares(a) + self.biased)
        return _squares_of_sequences(a, g, self.biased)

    def weighted_sums(self, a: Tensor, g: Tensor, weights: Tensor) -> list[Tensor]:
        if g.dim() == 2:
            return [weights @ a.flatten(1), *([weights @ g] if self.biased else [])]
        T, weights = a.shape[1], weights[:, None, None]
        left, right = (g * weights, a) if g.shape[2] <= a.shape[2] else (g, a * weights)
        summed = product(left.flatten(0, 1).T, right.flatten(0, 1).T)
        return [summed, *([weights.expand(-1, T, 1).reshape(-1) @ g.flatten(0, 1)] if self.biased else [])]


@dataclass(frozen=True)
class _LayerNormRule:
    """Forms the per-sample gradients of gain and bias (B, D), each as small as one activation."""

    layer: nn.LayerNorm

    def prepare(self, a: Tensor, g: Tensor) -> _Factors:
        gain = nn.functional.layer_norm(a, self.layer.normalized_shape, eps=self.layer.eps) * g
        return (gain, g) if a.dim() == 2 else (gain.flatten(1, -2).sum(1), g.flatten(1, -2).sum(1))

    def squared_norms(self, a: Tensor, g: Tensor) -> Tensor:
        return _squares(a) + _squares(g)

    def weighted_sums(self, a: Tensor, g: Tensor, weights: Tensor) -> list[Tensor]:
        return [weights @ a, weights @ g]


@dataclass(frozen=True)
class _EmbeddingRule:
    """Its a are integers (B, ...), rows of the table; forms the per-sample gradients of the table, in which the padding row has none."""

    layer: nn.Embedding

    def prepare(self, a: Tensor, g: Tensor) -> _Factors:
        rows, width = self.layer.weight.shape
        places = a.reshape(len(a), -1) + rows * torch.arange(len(a), device=a.device)[:, None]
        table = g.new_zeros(len(a) * rows, width).index_add_(0, places.flatten(), g.reshape(-1, width)).reshape(len(a), rows, width)
        if self.layer.padding_idx is not None:
            table[:, self.layer.padding_idx] = 0
        return table, g.new_zeros(len(a), 0)

    def squared_norms(self, a: Tensor, g: Tensor) -> Tensor:
        return _squares(a)

    def weighted_sums(self, a: Tensor, g: Tensor, weights: Tensor) -> list[Tensor]:
        return [weights @ a.flatten(1)]


def _squares(values: Tensor) -> Tensor:
    """Squared norm of each sample's values, in float64; infinite above a size at which a product with what float32 rounds to 0 would matter."""
    norms = torch.linalg.vector_norm(values.flatten(1), dim=1).double()
    return norms.masked_fill(norms > _LARGEST_NORM, torch.inf).square()


def _squares_of_sequences(a: Tensor, g: Tensor, biased: bool) -> Tensor:
    """Squared norm of each sum_t g_t a_t^T, with that of sum_t g_t if `biased`; never below the true one.

    What cancels in the sum leaves the rounding of its terms. An inner product of n numbers in float32 is off by n eps / 2 of the product of the norms
    at most, in whatever order it is summed (Higham 2002, section 3.1): so much, and as much again, is added.
    """
    of_a, of_g = torch.bmm(a, a.mT) + biased, torch.bmm(g, g.mT)
    squares_a, squares_g = of_a.diagonal(dim1=1, dim2=2), of_g.diagonal(dim1=1, dim2=2)
    rounding = torch.finfo(torch.float32).eps * (a.shape[2] + g.shape[2]) * (squares_a.sqrt() * squares_g.sqrt()).sum(1).double().square()
    summed = (of_a * of_g).sum((1, 2)).double() + rounding
    return summed.masked_fill(torch.maximum(squares_a.amax(1), squares_g.amax(1)) > _LARGEST_NORM**2, torch.inf)


def _needs_rule(name: str, layer: nn.Module) -> bool:
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        raise ValueError(f"module: {name} is a {type(layer).__name__}, whose statistics mix the samples of a batch; use LayerNorm")
    return any(True for _ in layer.parameters(recurse=False))


def _rule(name: str, layer: nn.Module) -> _Rule:
    frozen = not all(parameter.requires_grad for parameter in layer.parameters(recurse=False))
    match layer:
        case nn.Linear() if not frozen:
            return _LinearRule(layer.bias is not None)
        case nn.LayerNorm(normalized_shape=(_,), bias=nn.Parameter()) if not frozen:
            return _LayerNormRule(layer)
        case nn.Embedding(max_norm=None, scale_grad_by_freq=False, sparse=False) if not frozen:
            return _EmbeddingRule(layer)
    raise ValueError(
        f"module: {name or 'itself'} is a {type(layer).__name__}{' with frozen parameters' if frozen else ''}, for which no rule is known; build "
        "it of Linear, LayerNorm with bias over the last dimension and plain Embedding, and hold what is frozen as buffers"
    )
