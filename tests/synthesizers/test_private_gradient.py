"""A step of DP-SGD as the ledger sold it: inclusion, micro-batches, division by the expected batch, and noise that never repeats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from clipping_support import PROBLEMS, UNCLIPPED
from method_support import budget
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from bench.core.privacy import DPSGD, Budget, Ledger, PlanError, SgdHandle
from synthesizers._parts import dpsgd
from synthesizers._parts.dpsgd import PerSampleClipping, add_normals, private_gradient

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
    used = PerSampleClipping(STEP.module)
    step(sgd(np.inf, EVERYONE), clipping=used)
    assert not step(sgd(np.inf, NOBODY), clipping=used).any()


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
    """And does not tell how many units were in it, which is private."""
    with pytest.raises(PlanError, match=r"^\D*: a sum exceeds the clip norms of its units together; clip each unit$"):
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


def test_the_tails_of_noise_go_on() -> None:
    """Normals made of uniforms with b bits end at sqrt(2 b log 2) deviations, 5.8 in single precision: a number beyond tells that a unit was in.

    Rare as that is, the last radii of such pairs show it: exp(-r^2 / 2) counts in steps of 2^-b.
    """
    pairs = noise(1 << 24, seed=0).double().reshape(-1, 2, 8)
    steps = 2**24 * torch.exp(-pairs.square().sum(1) / 2)
    last = steps[steps < 200]
    assert len(last) > 50
    assert (last - last.round()).abs().mean() > 0.2


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
