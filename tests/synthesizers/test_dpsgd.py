"""Per-sample clipping: sums equal those of gradients clipped by hand, one sample's share is bounded in every precision, and what it refuses."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from clipping_support import IN_BFLOAT16, IN_BOTH, PROBLEMS, UNCLIPPED, Forward, Problem, denoiser, normals
from opacus import GradSampleModule
from torch import Tensor, nn

from synthesizers._parts import dpsgd
from synthesizers._parts.dpsgd import PerSampleClipping
from synthesizers._parts.linear import Linear

# --- the sum is that of per-sample gradients clipped by hand --------------------------------------------------------------------------------------


def in_float64(problem: Problem) -> Iterator[Tensor]:
    """The gradient (P,) of each sample, one backward pass each, in float64 (but for the denoiser's output, which is float32 by design)."""
    samples = problem.samples.double() if problem.samples.is_floating_point() else problem.samples
    double = replace(problem, module=copy.deepcopy(problem.module).double(), samples=samples)
    for one in double.alone():
        gradients = torch.autograd.grad(one.losses(one.module, one.samples).sum(), list(one.module.parameters()))
        yield torch.cat([gradient.flatten() for gradient in gradients])


def by_opacus(problem: Problem, physical: int = 8) -> Iterator[Tensor]:
    """The gradient (P,) of each sample from the hooks of Opacus."""
    for samples in problem.samples.split(physical):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = GradSampleModule(copy.deepcopy(problem.module), loss_reduction="sum")
            problem.losses(module, samples).sum().backward()
        yield from torch.cat([parameter.grad_sample.flatten(1) for parameter in module.parameters()], dim=1).double()


def clipped_by_hand(gradients: Iterator[Tensor], clip_norm: float) -> tuple[Tensor, Tensor]:
    """The sum (P,) of gradients clipped one by one, and their norms (n,); never more than one of them is held."""
    total, norms = torch.zeros(()), []
    for gradient in gradients:
        norms.append(gradient.norm())
        total = total + gradient * min(1.0, clip_norm / float(norms[-1]))
    return total, torch.stack(norms)


ORACLES = {"float64": in_float64, "Opacus": by_opacus}


@pytest.fixture
def _opacus_knows_our_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GradSampleModule.GRAD_SAMPLERS, Linear, GradSampleModule.GRAD_SAMPLERS[nn.Linear])


ROUNDING, CAUTION = 1e-5, 1e-4
"""By how much, relatively, a norm may lie below the true one, and above it: what cancels in float32 is counted in full."""


def assert_just_above(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, (found / expected).clamp(1 - ROUNDING, 1 + CAUTION) * expected, rtol=0, atol=1e-6)


def check_against(oracle: str, problem: Problem) -> None:
    found, norms = problem.clipped(1.0)
    expected, expected_norms = clipped_by_hand(ORACLES[oracle](problem), 1.0)
    assert expected_norms.min() < 1 < expected_norms.max(), "the problem clips all samples or none"
    assert float((found - expected).abs().max()) < CAUTION
    assert_just_above(norms.double(), expected_norms)


@pytest.mark.usefixtures("_opacus_knows_our_linear")
@pytest.mark.parametrize(
    ("oracle", "problem"),
    [(oracle, problem) for oracle in ORACLES for problem in PROBLEMS if (oracle, problem) != ("Opacus", "padded tokens")],  # it forgets the padding
)
def test_clipped_sums_and_norms_are_those_of_per_sample_gradients(oracle: str, problem: str) -> None:
    check_against(oracle, PROBLEMS[problem])


@pytest.mark.slow
@pytest.mark.usefixtures("_opacus_knows_our_linear")
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("oracle", ORACLES)
def test_clipped_sums_and_norms_are_those_of_per_sample_gradients_at_full_size(oracle: str, layer_norm: bool) -> None:
    check_against(oracle, denoiser(2048, layer_norm, 32, blocks=6))


@pytest.mark.parametrize("problem", IN_BFLOAT16)
def test_in_bfloat16_the_sum_is_that_of_float64_up_to_its_rounding(problem: str) -> None:
    found, _ = IN_BFLOAT16[problem].clipped(1.0)
    expected, _ = clipped_by_hand(in_float64(PROBLEMS[problem]), 1.0)
    assert float((found - expected).norm() / expected.norm()) < 0.05


def test_in_bfloat16_the_gradient_of_one_sample_is_pytorchs_own() -> None:
    for one in IN_BFLOAT16["a linear layer"].of(range(8)).alone():
        gradients = torch.autograd.grad(one.losses(one.module, one.samples).sum(), list(one.module.parameters()))
        assert torch.equal(one.clipped(UNCLIPPED)[0].bfloat16(), torch.cat([gradient.flatten() for gradient in gradients]).bfloat16())


@pytest.mark.parametrize("problem", IN_BOTH)
def test_a_gradient_below_the_norm_stays_whole_and_one_above_it_is_brought_to_it(problem: str) -> None:
    for one in IN_BOTH[problem].of([0, 1, 2]).alone():
        whole, norm = one.clipped(UNCLIPPED)
        assert torch.equal(one.clipped(1.001 * float(norm))[0], whole)
        torch.testing.assert_close(one.clipped(0.999 * float(norm))[0], 0.999 * whole, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("after", [lambda h: h.relu_(), lambda h: h * h.mul_(2)], ids=["what left a layer", "both of its uses"])
def test_a_change_in_place_of_what_a_layer_returned_is_refused(after: Callable[[Tensor], Tensor]) -> None:
    problem = two_layers(lambda one, other, x: after(other(one(x))))
    with pytest.raises(ValueError, match="a Linear saw or returned was changed in place afterwards"):
        problem.clipped(1.0)


def test_a_change_in_place_of_what_a_layer_saw_is_refused() -> None:
    problem = two_layers(lambda one, other, x: other(one(y := x.clone())) + y.mul_(2).detach())
    with pytest.raises(ValueError, match="a Linear saw or returned was changed in place afterwards"):
        problem.clipped(1.0)


# --- what one sample can do -----------------------------------------------------------------------------------------------------------------------


def furthest_move(problem: Problem, clip_norm: float) -> float:
    """How far the sum moves when any one sample leaves, in units of the clip norm."""
    total, _ = problem.clipped(clip_norm)
    return max(float((total - problem.without(i).clipped(clip_norm)[0]).norm()) / clip_norm for i in range(len(problem.samples)))


def spoiled(problem: Problem, value: float) -> Problem:
    """The first sample all of one value."""
    samples = problem.samples.clone()
    samples[0] = value
    return replace(problem, samples=samples)


BOUNDED = {name: problem.of(range(8)) for name, problem in IN_BOTH.items() if "256" not in name}
NUMERIC = [name for name, problem in BOUNDED.items() if problem.samples.is_floating_point()]


@pytest.mark.parametrize("problem", BOUNDED)
def test_one_sample_moves_the_sum_by_the_clip_norm_at_most(problem: str) -> None:
    for clip_norm in (1.0, 0.01):
        assert furthest_move(BOUNDED[problem], clip_norm) <= 1 + ROUNDING
    assert furthest_move(BOUNDED[problem], 0.01) >= 1 - CAUTION, "the bound is attained"


@pytest.mark.parametrize("problem", BOUNDED)
def test_a_duplicated_sample_counts_as_often_as_it_is_there(problem: str) -> None:
    one, eight = BOUNDED[problem].of([0]), BOUNDED[problem].of([0] * 8)
    torch.testing.assert_close(eight.clipped(0.5)[0], 8 * one.clipped(0.5)[0], rtol=1e-4, atol=1e-6)
    assert furthest_move(eight, 0.5) <= 1 + ROUNDING


@pytest.mark.parametrize("value", [30.0, 1e4, 1e10, 1e15, 1e30, float("nan"), float("inf")])
@pytest.mark.parametrize("problem", NUMERIC)
def test_an_adversarial_sample_adds_the_clip_norm_at_most_and_nothing_if_it_is_not_finite(problem: str, value: float) -> None:
    among = spoiled(BOUNDED[problem], value)
    (total, norms), (others, _) = among.clipped(0.1), among.without(0).clipped(0.1)
    assert float((total - others).norm()) <= 0.1 * (1 + ROUNDING if norms[0].isfinite() else ROUNDING)
    assert norms[1:].isfinite().all()
    if not np.isfinite(value):
        assert not norms[0].isfinite()


@pytest.mark.parametrize("problem", IN_BOTH)
def test_the_norms_are_those_of_the_very_values_that_enter_the_sum(problem: str) -> None:
    few = IN_BOTH[problem].of(range(8))
    shares = torch.stack([one.clipped(UNCLIPPED)[0].norm() for one in few.alone()])
    assert_just_above(few.clipped(1.0)[1].double(), shares)


@pytest.mark.parametrize("problem", [name for name in BOUNDED if "denoiser" in name])
def test_a_weighted_product_in_bfloat16_would_be_caught(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpsgd, "product", lambda left, right: (left.bfloat16() @ right.bfloat16().T).float())
    assert furthest_move(BOUNDED[problem], 0.01) > 1 + 10 * ROUNDING


@pytest.mark.parametrize("problem", ["rows", "sequences", "padded tokens"])
def test_autocast_around_the_whole_step_leaves_the_bound_as_it_is(problem: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        for clip_norm in (1.0, 0.01):
            assert furthest_move(BOUNDED[problem], clip_norm) <= 1 + ROUNDING


OPPOSED: dict[str, tuple[nn.Module, Tensor]] = {
    "Linear": (nn.Linear(2, 2, bias=False), torch.ones(1, 2, 2)),
    "wide Linear": (nn.Linear(64, 64, bias=False), torch.ones(1, 2, 64)),
    "wide Linear, many entries": (nn.Linear(128, 128), torch.ones(1, 32, 128)),
    "Embedding": (nn.Embedding(2, 2), torch.ones(1, 2, dtype=torch.int64)),
}
"""A layer, and a sequence of equal entries, whose gradients add up."""


@pytest.mark.parametrize("layer", OPPOSED)
def test_entries_of_a_sequence_that_nearly_cancel_stay_within_the_clip_norm(layer: str) -> None:
    module, entries = OPPOSED[layer]
    upstream, rest = normals(2, 200, module(entries).shape[-1]) * torch.tensor([1e4, 2.0])[:, None, None]
    samples = torch.stack([upstream, -upstream] * (entries.shape[1] // 2), dim=1)
    samples[:, -1] += rest
    problem = Problem(module, samples, lambda module, g: (module(entries.expand(len(g), *entries.shape[1:])) * g).sum((1, 2)))
    assert max(float(one.clipped(1.0)[0].norm()) for one in problem.alone()) <= 1 + ROUNDING


# --- refusals -------------------------------------------------------------------------------------------------------------------------------------


def frozen(layer: nn.Module, parameter: str) -> nn.Module:
    layer.get_parameter(parameter).requires_grad_(False)
    return layer


def tied() -> nn.Module:
    layers = nn.ModuleDict({"encode": nn.Linear(3, 3), "decode": nn.Linear(3, 3)})
    layers["decode"].weight = layers["encode"].weight
    return layers


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "BatchNorm": (nn.BatchNorm1d(3), "layer is a BatchNorm1d, whose statistics mix the samples of a batch; use LayerNorm"),
    "BatchNorm without parameters": (nn.BatchNorm1d(3, affine=False), "layer is a BatchNorm1d, whose statistics mix the samples"),
    "Conv": (nn.Conv1d(3, 3, 1), "layer is a Conv1d, for which no rule is known"),
    "MultiheadAttention": (nn.MultiheadAttention(4, 2), "layer is a MultiheadAttention, for which no rule is known"),
    "attention inside a block": (nn.TransformerEncoderLayer(4, 2), "layer.self_attn is a MultiheadAttention, for which no rule is known"),
    "LSTM": (nn.LSTM(3, 3), "layer is a LSTM, for which no rule is known"),
    "EmbeddingBag": (nn.EmbeddingBag(3, 3), "layer is a EmbeddingBag, for which no rule is known"),
    "Embedding that renormalises": (nn.Embedding(3, 3, max_norm=1.0), "layer is a Embedding, for which no rule is known"),
    "Embedding that counts the batch": (nn.Embedding(3, 3, scale_grad_by_freq=True), "layer is a Embedding, for which no rule is known"),
    "LayerNorm without bias": (nn.LayerNorm(3, bias=False), "LayerNorm with bias over the last dimension"),
    "LayerNorm over two dimensions": (nn.LayerNorm((2, 3)), "LayerNorm with bias over the last dimension"),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), "layer.parametrizations.weight is a ParametrizationList, for which"),
    "parameter of no layer": (nn.ParameterList([torch.zeros(3)]), "layer is a ParameterList, for which no rule is known"),
    "frozen layer": (nn.Linear(3, 3).requires_grad_(False), "layer is a Linear with frozen parameters, for which no rule is known; .*buffers"),
    "frozen bias": (frozen(nn.Linear(3, 3), "bias"), "layer is a Linear with frozen parameters"),
    "shared parameter": (tied(), "two layers share a parameter.*; give each layer its own"),
}
"""Modules, and what is said of them and done about it."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_that_cannot_be_clipped_by_its_layers_is_refused_at_once(name: str) -> None:
    module, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"^module: .*{message}"):
        PerSampleClipping(nn.ModuleDict({"layer": module}))


def two_layers(forward: Forward) -> Problem:
    """Two linear layers 3 x 3, called as `forward` has it."""

    def losses(module: nn.Module, samples: Tensor) -> Tensor:
        return forward(*module.children(), samples).sum(-1)

    return Problem(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), normals(4, 3), losses)


MISUSED: dict[str, tuple[Forward, str]] = {
    "called twice": (lambda one, other, x: other(one(one(x))), "a Linear was called twice for one loss; give each call a layer of its own"),
    "never called": (lambda one, other, x: one(x), "a Linear has no part in the loss; leave it out of the module"),
    "fewer entries than losses": (
        lambda one, other, x: one(x) + other(x[:1]),
        r"a Linear sees 1 entries for losses of shape \(4,\); give one loss for each",
    ),
    "more entries than losses": (lambda one, other, x: one(x) + other(x.repeat(2, 1))[:4], r"a Linear sees 8 entries for losses of shape \(4,\)"),
    "losses that are a mean": (lambda one, other, x: other(one(x)).mean(0, keepdim=True), r"a Linear sees 4 entries for losses of shape \(1,\)"),
}


@pytest.mark.parametrize("name", MISUSED)
def test_a_layer_that_does_not_see_each_sample_once_is_refused(name: str) -> None:
    forward, message = MISUSED[name]
    with pytest.raises(ValueError, match=f"^module: {message}"):
        two_layers(forward).clipped(1.0)


def test_a_layer_whose_output_is_thrown_away_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^module: the output of a layer is thrown away; leave the layer out of the module"):
        two_layers(lambda one, other, x: [one(x), other(x)][0]).clipped(1.0)


LEFT_ALONE: dict[str, Forward] = {
    "no failure": lambda one, other, x: other(one(x)),
    "a refusal": MISUSED["called twice"][0],
    "a failure of its own": lambda one, other, x: other(one(x[:, :2])),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_a_module_is_left_as_it_was_also_after_a_failure(name: str) -> None:
    problem = two_layers(LEFT_ALONE[name])
    clipping, trainable = PerSampleClipping(problem.module), [True, False, True, False]
    for parameter, requires_grad in zip(problem.module.parameters(), trainable, strict=True):
        parameter.requires_grad_(requires_grad)
    with contextlib.suppress(ValueError, RuntimeError):
        clipping.add_clipped(clipping.zeros(), lambda: problem.losses(problem.module, problem.samples), 1.0)
    assert [parameter.requires_grad for parameter in problem.module.parameters()] == trainable
    assert [parameter.grad for parameter in problem.module.parameters()] == [None] * 4
    assert not any(layer._forward_hooks for layer in problem.module.modules())


def test_the_weights_are_frozen_during_the_backward_pass_so_that_their_gradients_are_computed_once() -> None:
    problem, trainable = two_layers(LEFT_ALONE["no failure"]), []

    def losses(module: nn.Module, samples: Tensor) -> Tensor:
        trainable.extend(parameter.requires_grad for parameter in module.parameters())
        return problem.losses(module, samples)

    replace(problem, losses=losses).clipped(1.0)
    assert trainable == [False] * 4
