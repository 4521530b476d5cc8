"""DP-SGD: sums equal those of per-sample gradients, one sample's share bounded in every precision, refusals, and steps as the ledger sold them."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
import torch
from method_support import budget
from numpy.typing import NDArray
from opacus import GradSampleModule
from scipy import stats
from torch import Tensor, nn

from bench.core.privacy import DPSGD, Budget, Ledger, PlanError, SgdHandle
from synthesizers._parts import dpsgd
from synthesizers._parts.diffusion import Architecture, preconditioned, training_losses
from synthesizers._parts.dpsgd import PerSampleClipping, add_normals, private_gradient
from synthesizers._parts.linear import Linear

Precision = Literal["float32", "bfloat16"]
Forward = Callable[[nn.Module, nn.Module, Tensor], Tensor]
COLUMNS = 12
UNCLIPPED = float("inf")


# --- problems -------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Samples (n, ...) and the losses (n,) that a module has on any of them."""

    module: nn.Module
    samples: Tensor
    losses: Callable[[nn.Module, Tensor], Tensor]

    def clipped(self, clip_norm: float) -> tuple[Tensor, Tensor]:
        """The clipped sum (P,) in float64, and the norms before clipping (n,)."""
        clipping = PerSampleClipping(self.module)
        total = clipping.zeros()
        norms = clipping.add_clipped(total, lambda: self.losses(self.module, self.samples), clip_norm)
        return total.double(), norms

    def of(self, samples: Any) -> Problem:
        """The same problem on these of its samples."""
        return replace(self, samples=self.samples[samples])

    def without(self, sample: int) -> Problem:
        return self.of([i for i in range(len(self.samples)) if i != sample])

    def alone(self) -> Iterator[Problem]:
        return (self.of([i]) for i in range(len(self.samples)))


def denoiser(width: int, layer_norm: bool, rows: int, blocks: int = 2, precision: Precision = "float32") -> Problem:
    """The denoiser at random rows and noise levels."""
    generator = torch.Generator().manual_seed(0)
    network = Architecture(width, blocks, layer_norm, False, precision).network(COLUMNS, generator)

    def losses(module: nn.Module, samples: Tensor) -> Tensor:
        return training_losses(preconditioned(module), samples[:, :COLUMNS], samples[:, COLUMNS:])

    return around_one(Problem(network, torch.randn(rows, 2 * COLUMNS + 1, generator=generator), losses))


def stacked(*layers: nn.Module, samples: Tensor) -> Problem:
    """Layers one after the other, with parameters that are nowhere zero or one."""
    module, generator = nn.Sequential(*layers), torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.7, generator=generator)
    return around_one(Problem(module, samples, of_outputs))


def of_outputs(module: nn.Module, samples: Tensor) -> Tensor:
    """Smooth losses (n,) of all that leaves a module."""
    losses: Tensor = module(samples).sin().flatten(1).sum(1)
    return losses


def around_one(problem: Problem) -> Problem:
    """The losses times a constant that brings half of the gradients to a norm below 1 and half of them above."""
    median = problem.clipped(UNCLIPPED)[1].median()
    return replace(problem, losses=lambda module, samples: problem.losses(module, samples) / median)


def in_bfloat16(problem: Problem) -> Problem:
    """The same losses under autocast."""

    def losses(module: nn.Module, samples: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return problem.losses(module, samples)

    return replace(problem, losses=losses)


def normals(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def tokens(*shape: int) -> Tensor:
    return torch.randint(5, shape, generator=torch.Generator().manual_seed(1))


PROBLEMS: dict[str, Problem] = {
    "denoiser of width 64": denoiser(64, False, 48),
    "denoiser of width 64, LayerNorm": denoiser(64, True, 48),
    "denoiser of width 256": denoiser(256, False, 48),
    "denoiser of width 256, LayerNorm": denoiser(256, True, 48),
    "a linear layer": stacked(nn.Linear(6, 5), samples=normals(30, 6)),
    "rows": stacked(nn.Linear(6, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3, bias=False), samples=normals(30, 6)),
    "sequences": stacked(nn.Linear(6, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3, bias=False), samples=normals(30, 4, 6)),
    "sequences of sequences": stacked(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 3), samples=normals(30, 2, 4, 6)),
    "a token a sample": stacked(nn.Embedding(5, 4), nn.Linear(4, 3), samples=tokens(30)),
    "tokens": stacked(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3), samples=tokens(30, 6)),
    "padded tokens": stacked(nn.Embedding(5, 4, padding_idx=2), nn.LayerNorm(4), nn.Linear(4, 3), samples=tokens(30, 6)),
}
IN_BFLOAT16: dict[str, Problem] = {
    "denoiser of width 64": denoiser(64, False, 48, precision="bfloat16"),
    "denoiser of width 64, LayerNorm": denoiser(64, True, 48, precision="bfloat16"),
    **{name: in_bfloat16(PROBLEMS[name]) for name in ("a linear layer", "rows", "sequences", "padded tokens")},
}
IN_BOTH = {**PROBLEMS, **{f"{name}, bfloat16": problem for name, problem in IN_BFLOAT16.items()}}


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


def check_against(oracle: str, problem: Problem) -> None:
    found, norms = problem.clipped(1.0)
    expected, expected_norms = clipped_by_hand(ORACLES[oracle](problem), 1.0)
    assert expected_norms.min() < 1 < expected_norms.max(), "the problem clips all samples or none"
    assert float((found - expected).abs().max()) < 1e-5
    torch.testing.assert_close(norms.double(), expected_norms, rtol=1e-5, atol=1e-6)


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

ROUNDING = 1e-5


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
    assert furthest_move(BOUNDED[problem], 0.01) >= 1 - ROUNDING, "the bound is attained"


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
    torch.testing.assert_close(shares, few.clipped(1.0)[1].double(), rtol=ROUNDING, atol=0)


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
    "Embedding": (nn.Embedding(2, 2), torch.ones(1, 2, dtype=torch.int64)),
}
"""A layer, and a sequence of two equal entries, whose gradients add up."""


@pytest.mark.parametrize("layer", OPPOSED)
def test_entries_of_a_sequence_that_nearly_cancel_stay_within_the_clip_norm(layer: str) -> None:
    module, entries = OPPOSED[layer]
    upstream, rest = normals(2, 200, 2) * torch.tensor([1e4, 2.0])[:, None, None]
    samples = torch.stack([upstream, rest - upstream], dim=1)
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


# --- one step -------------------------------------------------------------------------------------------------------------------------------------

UNITS, RATE, CLIP = 48, 0.25, 0.5
EXPECTED = RATE * UNITS
EVERYONE, NOBODY = range(UNITS), range(0)
STEP = PROBLEMS["denoiser of width 64"]


class Overruled(Ledger):
    """Always draws the same noise, and includes whom it is told."""

    def __init__(self, budget: Budget, batch: Sequence[int]) -> None:
        super().__init__(budget, UNITS, np.random.default_rng(0), "rdp")
        self._batch = batch

    def poisson_inclusion(self, rate: float) -> NDArray[np.int64]:
        return np.array(self._batch, np.int64)


def sgd(epsilon: float, batch: Sequence[int], steps: int = 1) -> SgdHandle:
    """The handle of a plan of DP-SGD alone, whose every batch is this one."""
    return Overruled(budget(epsilon), batch).plan(sgd=DPSGD(RATE, steps, CLIP)).sgd


def step(handle: SgdHandle, physical: int = 10, clipping: PerSampleClipping | None = None) -> Tensor:
    """The noisy mean gradient (P,) of one step."""
    return private_gradient(
        handle, clipping or PerSampleClipping(STEP.module), lambda included: STEP.losses(STEP.module, STEP.samples[included]), EXPECTED, physical
    )


@pytest.mark.parametrize("batch", [EVERYONE, range(3), range(20, 33), [7]])
def test_the_sum_is_divided_by_the_expected_batch_whatever_the_realised_one(batch: Sequence[int]) -> None:
    found = step(sgd(np.inf, batch))
    torch.testing.assert_close(found.double(), STEP.of(list(batch)).clipped(CLIP)[0] / EXPECTED, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("epsilon", [1.0, np.inf])
def test_micro_batches_of_any_size_give_the_same_step_with_noise_drawn_once(epsilon: float) -> None:
    whole = step(sgd(epsilon, EVERYONE), physical=UNITS)
    for physical in (1, 5, 47, 1000):
        torch.testing.assert_close(step(sgd(epsilon, EVERYONE), physical), whole, rtol=1e-5, atol=1e-6)


def test_every_included_unit_enters_once_and_no_more_than_fit_at_a_time() -> None:
    seen: list[NDArray] = []

    def losses(included: NDArray) -> Tensor:
        seen.append(included)
        return STEP.losses(STEP.module, STEP.samples[included])

    private_gradient(sgd(1.0, EVERYONE), PerSampleClipping(STEP.module), losses, EXPECTED, physical=10)
    assert np.array_equal(np.concatenate(seen), np.arange(UNITS))
    assert max(map(len, seen)) <= 10


def correlation(one: Tensor, other: Tensor) -> float:
    """In standard deviations of what independent normals have."""
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1]) * len(one) ** 0.5


def test_an_empty_batch_is_a_step_like_any_other() -> None:
    handle = sgd(1.0, NOBODY, steps=2)
    one, other = step(handle), step(handle)
    for gradient in (one, other):
        assert float(gradient.std()) == pytest.approx(handle.noise_multiplier * CLIP / EXPECTED, rel=0.05)
    assert abs(correlation(one, other)) < 5
    with pytest.raises(PlanError, match="planned for 2 answers"):
        step(handle)
    assert not step(sgd(np.inf, NOBODY)).any()


def test_the_noise_is_that_of_the_ledger_on_top_of_the_clipped_sum() -> None:
    handle, exact = sgd(1.0, EVERYONE), STEP.clipped(CLIP)[0]
    added = step(handle).double() * EXPECTED - exact
    deviation = handle.noise_multiplier * CLIP
    assert float(added.std()) == pytest.approx(deviation, rel=0.03)
    assert float(added.mean()) == pytest.approx(0, abs=5 * deviation / len(added) ** 0.5)


@pytest.mark.parametrize("epsilon", [1.0, np.inf])
def test_a_step_carries_nothing_over_from_the_one_before(epsilon: float) -> None:
    clipping = PerSampleClipping(STEP.module)
    once, after_another = step(sgd(epsilon, [0, 1]), clipping=clipping).clone(), step(sgd(epsilon, [0, 1]), clipping=clipping)
    assert torch.equal(once, after_another)


class Unclipped(PerSampleClipping):
    def add_clipped(self, total: Tensor, losses: Callable[[], Tensor], clip_norm: float, overwrite: bool = False) -> Tensor:
        return super().add_clipped(total, losses, UNCLIPPED, overwrite)


def test_the_ledger_refuses_a_sum_that_nobody_clipped() -> None:
    with pytest.raises(PlanError, match="exceeds their clip norms together; clip each unit"):
        step(sgd(1.0, [0]), clipping=Unclipped(STEP.module))


# --- noise ----------------------------------------------------------------------------------------------------------------------------------------

LONG = 3 * dpsgd._NOISE_CHUNK


def noise(size: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return add_normals(torch.zeros(size, dtype=dtype), seed, 1.0)


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
def test_noise_is_the_seeds_alone_whatever_the_threads_and_the_global_generator() -> None:
    drawn = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        torch.rand(threads)
        drawn.append(noise(LONG, seed=5))
    assert all(torch.equal(*pair) for pair in pairwise(drawn))
    before = torch.get_rng_state()
    noise(LONG, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_is_standard_normal() -> None:
    drawn = noise(LONG, seed=0)[::3].numpy()
    assert drawn.mean() == pytest.approx(0, abs=5 * len(drawn) ** -0.5)
    assert drawn.var() == pytest.approx(1, abs=5 * (2 / len(drawn)) ** 0.5)
    assert stats.kstest(drawn, "norm").pvalue > 1e-3


def test_chunks_of_noise_are_independent() -> None:
    first, second, third = noise(LONG, seed=0).chunk(3)
    assert max(abs(correlation(*pair)) for pair in [(first, second), (second, third), (first, third)]) < 5


@pytest.mark.parametrize("seed", [1, 2**31, 2**62 + 1, 2**63 - 1])
def test_noise_of_another_seed_is_independent(seed: int) -> None:
    assert abs(correlation(noise(LONG, 0), noise(LONG, seed))) < 5


@pytest.mark.parametrize("seed", [2**32, 2**62])
def test_all_63_bits_of_a_seed_count(seed: int) -> None:
    assert abs(correlation(noise(LONG, 0), noise(LONG, seed))) < 5


@pytest.mark.parametrize("size", [1, 15, dpsgd._NOISE_CHUNK - 1, dpsgd._NOISE_CHUNK + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_fills_a_vector_of_any_size_and_dtype(size: int, dtype: torch.dtype) -> None:
    drawn = noise(size, 0, dtype)
    assert (drawn.shape, drawn.dtype) == ((size,), dtype)
    assert drawn.isfinite().all()
    assert len(drawn.unique()) > 0.9 * size
