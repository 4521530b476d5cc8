"""DP-SGD (Abadi et al. 2016) around the Ledger's handle, at about the price of ordinary SGD.

One step: the Ledger includes units by Poisson sampling; the gradient of each is clipped to norm C and summed; the Ledger adds noise; the sum is
divided by the *expected* batch. An empty batch is a step like any other.

Clipping is by book-keeping (Bu et al. 2023, arXiv:2210.00038): no per-sample gradient is ever formed. With a_i what enters a layer and g_i the
gradient of sample i's loss with respect to what leaves it, a linear layer's per-sample gradient is g_i a_i^T, so

1. one backward pass to the layers' outputs gives all g (the parameters are frozen meanwhile: no weight gradient is computed),
2. |g_i a_i^T|^2 = |g_i|^2 |a_i|^2 gives the norms (for sequences: sum over t, u of (a_t . a_u)(g_t . g_u)),
3. sum_i c_i g_i a_i^T, with c_i = min(1, C / norm_i), is one product of two matrices.

Sensitivity in low precision: under autocast a and g are bfloat16. The *very values* that enter the sum of step 3 are those of which step 2 took the
norms, and both steps compute in float32, so |c_i g_i a_i^T| <= C holds up to float32's rounding whatever was lost before. A weighted product in
bfloat16 would round the sum itself: by more than one sample's share of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from bench.core.data import Index
from bench.core.privacy import SgdHandle
from synthesizers._parts.linear import product

_Factors = tuple[Tensor, Tensor]
_NOISE_CHUNK = 1 << 20
"""Normals drawn from one generator; a constant, so that the noise does not depend on the number of threads."""


def private_gradient(handle: SgdHandle, clipping: PerSampleClipping, losses: Callable[[Index], Tensor], expected: float, physical: int) -> Tensor:
    """One step's noisy mean gradient (P,).

    Args:
        losses: maps the indices (B,) of included units to their losses (B,), of which each depends on its own unit alone.
        expected: the public batch size, sampling rate x nominal N, by which the sum is divided.
        physical: units whose activations are held in memory at once.
    """
    included = handle.include()
    total = clipping.zeros()
    for start in range(0, len(included), physical):
        chunk = included[start : start + physical]
        clipping.add_clipped(total, lambda chunk=chunk: losses(chunk), handle.clip_norm)  # type: ignore[misc]  # a default argument binds the chunk
    noisy: Tensor = handle.release(total, lambda seed: standard_normal(total, seed))
    return noisy.div_(expected)


def standard_normal(like: Tensor, seed: int) -> Tensor:
    """Normals of the shape, dtype and device of `like` (P,): in chunks with seeds of their own, drawn by all threads of the process.

    PyTorch's generators make reproducible noise, as a benchmark needs; they are not cryptographic.
    """
    normals = torch.empty_like(like)
    chunks = normals.split(_NOISE_CHUNK)
    seeds = torch.randint(2**62, (len(chunks),), generator=torch.Generator().manual_seed(seed)).tolist()

    def fill(chunk: Tensor, seed: int) -> None:
        chunk.normal_(generator=torch.Generator(chunk.device).manual_seed(seed))

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(fill, chunks, seeds))
    return normals


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

    def add_clipped(self, total: Tensor, losses: Callable[[], Tensor], clip_norm: float) -> Tensor:
        """Add to `total` (P,) the gradients of `losses()` (B,), each clipped to `clip_norm`; one that is not finite adds nothing.

        Returns:
            The norms (B,) before clipping. They are private.

        Raises:
            ValueError: a layer that the losses do not use exactly once, or that does not see one entry for each sample.
        """
        with self._recorded() as calls:
            values = losses()
            self._check(calls, len(values))
            gradients = torch.autograd.grad(values.sum(), [call.output for call in calls.values()])
        factors = {layer: self._rules[layer].prepare(*_in_float32(call, g)) for (layer, call), g in zip(calls.items(), gradients, strict=True)}
        del calls, gradients
        norms = sum(self._rules[layer].squared_norms(*ag) for layer, ag in factors.items()).sqrt()  # type: ignore[union-attr]
        weights = (clip_norm / norms).clamp(max=1)
        if not (finite := norms.isfinite()).all():
            weights = weights.where(finite, 0.0)
            factors = {layer: (_zero_rows(a, ~finite), _zero_rows(g, ~finite)) for layer, (a, g) in factors.items()}
        parts = dict(zip(map(id, self._parameters), total.split([p.numel() for p in self._parameters]), strict=True))
        for layer, (a, g) in factors.items():
            for parameter, summed in zip(layer.parameters(), self._rules[layer].weighted_sums(a, g, weights), strict=True):
                parts[id(parameter)] += summed.reshape(-1)
        return norms

    @contextmanager
    def _recorded(self) -> Iterator[dict[nn.Module, _Call]]:
        """Note what enters and leaves each layer. The parameters are frozen meanwhile, so that the backward pass ends at the layers' outputs."""
        calls: dict[nn.Module, _Call] = {}

        def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if layer in calls:
                raise ValueError(f"module: a {type(layer).__name__} was called twice for one loss; give each call a layer of its own")
            calls[layer] = _Call(inputs[0].detach(), output if output.requires_grad else output.requires_grad_())

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

    def _check(self, calls: dict[nn.Module, _Call], samples: int) -> None:
        for layer in self._rules:
            if layer not in calls:
                raise ValueError(f"module: a {type(layer).__name__} has no part in the loss; leave it out of the module")
            if len(calls[layer].output) != samples:
                raise ValueError(
                    f"module: a {type(layer).__name__} sees {len(calls[layer].output)} entries for {samples} losses; give it one for each"
                )


@dataclass(frozen=True)
class _Call:
    """What entered a layer and what left it, with the graph behind the latter."""

    inputs: Tensor
    output: Tensor


def _in_float32(call: _Call, gradient: Tensor) -> _Factors:
    """a and g of a layer, a rounded first to the precision in which the layer computed."""
    inputs = call.inputs if call.inputs.dtype == torch.int64 else call.inputs.to(gradient.dtype).float()
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
    biased: bool

    def prepare(self, a: Tensor, g: Tensor) -> _Factors:
        return (a, g) if a.dim() == 2 else (a.flatten(1, -2), g.flatten(1, -2))

    def squared_norms(self, a: Tensor, g: Tensor) -> Tensor:
        if a.dim() == 2:
            return _squares(g) * (_squares(a) + self.biased)
        norms = (torch.bmm(a, a.mT) * torch.bmm(g, g.mT)).sum((1, 2))
        return norms + _squares(g.sum(1)) if self.biased else norms

    def weighted_sums(self, a: Tensor, g: Tensor, weights: Tensor) -> list[Tensor]:
        weighted = _weighted(g, weights).flatten(0, -2)
        return [product(weighted.T, a.flatten(0, -2).T), *([weighted.sum(0)] if self.biased else [])]


@dataclass(frozen=True)
class _LayerNormRule:
    """Here the per-sample gradients themselves are formed, of gain and bias (B, D): they are as small as one activation."""

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
    """Its a are integers (B, ...), rows of the table; the padding row has no gradient."""

    layer: nn.Embedding

    def prepare(self, a: Tensor, g: Tensor) -> _Factors:
        a, g, padding = a.reshape(len(a), -1), g.reshape(len(g), -1, g.shape[-1]), self.layer.padding_idx
        return a, g if padding is None else g.masked_fill((a == padding)[:, :, None], 0)

    def squared_norms(self, a: Tensor, g: Tensor) -> Tensor:
        return (torch.bmm(g, g.mT) * (a[:, :, None] == a[:, None, :])).sum((1, 2))

    def weighted_sums(self, a: Tensor, g: Tensor, weights: Tensor) -> list[Tensor]:
        return [torch.zeros_like(self.layer.weight).index_add_(0, a.flatten(), _weighted(g, weights).flatten(0, 1))]


def _squares(values: Tensor) -> Tensor:
    """Squared norm of each row."""
    return torch.linalg.vector_norm(values, dim=1).square()


def _weighted(g: Tensor, weights: Tensor) -> Tensor:
    return g * weights.reshape(-1, *[1] * (g.dim() - 1))


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
