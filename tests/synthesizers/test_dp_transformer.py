"""DP-Transformer: a distribution over windows, number by number, drawn as it is learned; sensitive trajectories enter through DP-SGD alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from dp_transformer_support import TINY, TOY, VARIANTS, case_of
from torch import Tensor, nn
from torch_support import seeded

from bench.conformance import synthesizers as conformance
from bench.conformance.rows import differing_arrays
from bench.conformance.synthesizers import Case
from bench.core.errors import InputError
from bench.core.protocols import Runtime
from metrics.dynamics import Dynamics
from metrics.fidelity import OneWay
from synthesizers._parts.adapters import adapt
from synthesizers._parts.dpsgd import PerSampleClipping
from synthesizers._parts.windows import Layout
from synthesizers.dp_transformer import TransformerArchitecture, WindowTransformer, bin_edges

LAYOUT = Layout(horizon=4, states=2, columns=3, moves=(1, None))
"""The second of three columns moves the first of two states."""
BINS = 8


def model_of(layout: Layout = LAYOUT, seed: int = 0) -> WindowTransformer:
    """A network whose choices depend strongly on what it sees."""
    model = TransformerArchitecture(width=16, blocks=2, bins=BINS).model(layout, seeded(seed))
    with torch.no_grad():
        for head in (*model.read_first, *model.read_rows):
            head[-1].weight *= 20
    return model


def windows_of(layout: Layout, n: int, opening: bool, present: int, seed: int = 0) -> Tensor:
    """Random windows (n, D) that open their trajectories or not, of which the first rows are `present`."""
    windows = torch.randn(n, layout.content + layout.flags + layout.condition, generator=seeded(seed))
    flags = layout.split(windows)[1]
    flags[:, 0], flags[:, 1:] = opening, torch.arange(layout.horizon) < present
    return windows


def surprise(model: WindowTransformer, windows: Tensor) -> Tensor:
    """- ln p of each number (n, S + H d) under those before it."""
    content, flags, condition = model.layout.split(windows)
    chosen = torch.bucketize(content.contiguous(), model.edges[1:-1])
    return -model.logits(content, flags, condition).log_softmax(-1).gather(-1, chosen[..., None])[..., 0]


# --- the bins -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [7, 64])
def test_bins_grow_from_the_middle_to_the_tails_alike_on_both_sides(bins: int) -> None:
    edges = bin_edges(bins)
    assert edges.shape == (bins + 1,)
    torch.testing.assert_close(edges, -edges.flip(0))
    assert (edges.diff() > 0).all()
    assert (edges.diff()[bins // 2 :].diff() > 0).all()


def test_the_released_state_holds_the_edges_by_which_it_is_read() -> None:
    case = case_of(TINY)
    state = case.recorded.sampler.state()
    wider = case.synthesizer.restore(case.schema, {**state, "model.edges": 3 * state["model.edges"]})
    one, other = (case.sample(sampler, 500).actions for sampler in (case.recorded.sampler, wider))
    assert np.abs(other).mean() > 1.2 * np.abs(one).mean()


def test_what_lies_beyond_the_last_edge_counts_as_lying_before_it() -> None:
    model, windows = model_of(), windows_of(LAYOUT, 5, opening=True, present=4)
    content, (last, beyond) = LAYOUT.split(windows)[0], (9.9, 1e3)
    for sign in (-1, 1):
        content[:, -1] = sign * last
        inside = model.losses(windows, seeded())
        content[:, -1] = sign * beyond
        torch.testing.assert_close(model.losses(windows, seeded()), inside)


# --- the distribution -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(LAYOUT.content))
def test_a_number_is_seen_by_all_that_come_after_it_and_by_nothing_else(place: int) -> None:
    model, windows = model_of(), windows_of(LAYOUT, 3, opening=True, present=LAYOUT.horizon)
    content, flags, condition = LAYOUT.split(windows)
    other = content.clone()
    other[:, place] += 0.7
    moved = (model.logits(other, flags, condition) - model.logits(content, flags, condition)).abs().amax((0, 2))
    assert (moved[: place + 1] < 1e-6).all()
    assert (moved[place + 1 :] > 1e-4).all()


@pytest.mark.parametrize("opening", [False, True])
def test_the_probabilities_of_all_windows_of_a_kind_sum_to_one(opening: bool) -> None:
    layout = Layout(horizon=2, states=1, columns=1, moves=(0,))
    model, centres = model_of(layout), (bin_edges(BINS)[1:] + bin_edges(BINS)[:-1]) / 2
    contents = torch.tensor(list(product(*[centres.tolist() if opening else [0.3], centres.tolist(), centres.tolist()])))
    windows = windows_of(layout, 1, opening, present=2).repeat(len(contents), 1)
    windows[:, : layout.content] = contents
    probabilities = (-model.losses(windows, seeded()) * layout.horizon * layout.columns).exp()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("opening", [False, True])
@pytest.mark.parametrize("present", [1, 3, 4])
def test_a_loss_is_the_surprise_at_what_is_to_be_drawn_over_the_size_of_a_full_window(opening: bool, present: int) -> None:
    model, windows = model_of(), windows_of(LAYOUT, 6, opening, present)
    first, rows = LAYOUT.split_content(surprise(model, windows))
    expected = (opening * first.sum(-1) + rows[:, :present].sum((-2, -1))) / (LAYOUT.horizon * LAYOUT.columns)
    torch.testing.assert_close(model.losses(windows, seeded()), expected)


def test_a_loss_depends_on_no_padded_row_nor_on_the_first_state_of_a_window_that_goes_on() -> None:
    model, windows = model_of(), windows_of(LAYOUT, 5, opening=False, present=2)
    other = windows.clone()
    first, rows = LAYOUT.split_content(LAYOUT.split(other)[0])
    first += 1
    rows[:, 2:] += 1
    torch.testing.assert_close(model.losses(other, seeded()), model.losses(windows, seeded(1)))


def test_a_loss_depends_on_no_other_window_however_they_are_arranged() -> None:
    model, windows = model_of(), windows_of(LAYOUT, 6, opening=True, present=3)
    together = model.losses(windows, seeded())
    torch.testing.assert_close(model.losses(windows.reshape(2, 3, -1), seeded()).flatten(), together)
    torch.testing.assert_close(model.losses(windows[4:5], seeded()), together[4:5])


@pytest.mark.parametrize("opening", [False, True])
def test_windows_are_drawn_from_the_distribution_that_is_trained(opening: bool) -> None:
    """On average over its own draws a model is as surprised at each number as it expects to be: by the entropy of its choice."""
    model, n = model_of(), 3000
    windows = windows_of(LAYOUT, n, opening, present=4)
    _, flags, condition = LAYOUT.split(windows)
    windows[:, : LAYOUT.content] = model.draw(flags, condition, seeded(1))
    with torch.no_grad():
        logs = model.logits(*LAYOUT.split(windows)).log_softmax(-1)
        excess = (surprise(model, windows) + (logs.exp() * logs).sum(-1))[:, 0 if opening else LAYOUT.states :]
    assert (excess.mean(0).abs() < 4.5 * excess.std(0) / n**0.5 + 1e-6).all()
    assert (-(logs.exp() * logs).sum(-1)).mean() < 0.7 * np.log(BINS), "the choices of the model are hardly choices"


def test_places_within_a_bin_are_uniform() -> None:
    model = model_of()
    _, flags, condition = LAYOUT.split(windows_of(LAYOUT, 2000, opening=True, present=4))
    drawn = model.draw(flags, condition, seeded())
    bins = torch.bucketize(drawn, model.edges[1:-1])
    places = (drawn - model.edges[bins]) / model.edges.diff()[bins]
    assert places.flatten().histc(10, 0, 1).numpy() / places.numel() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("rank", [0, 2])
def test_the_gradient_of_a_unit_is_clipped_as_one_by_one(rank: int) -> None:
    model, units = model_of(), windows_of(LAYOUT, 10, opening=True, present=3).reshape(5, 2, -1)
    trained: nn.Module = adapt(model, rank, seeded()) if rank else model
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=seeded(1))
    clipping = PerSampleClipping(trained)
    alone = [torch.autograd.grad(model.losses(unit, seeded()).mean(), list(trained.parameters())) for unit in units]
    gradients = torch.stack([torch.cat([part.flatten() for part in parts]) for parts in alone])
    norms = gradients.norm(dim=1)
    clip_norm = norms.median().item()
    found = clipping.add_clipped(total := clipping.zeros(), lambda: model.losses(units, seeded()).mean(1), clip_norm)
    torch.testing.assert_close(found.float(), norms, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(total, (gradients * (clip_norm / norms).clamp(max=1)[:, None]).sum(0), rtol=1e-3, atol=1e-4)


# --- the method -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [conformance.replay, conformance.sensitivity, conformance.inclusion, conformance.restores])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_contract_holds_beyond_the_size_of_audits(variant: str, check: Callable[[Case], None]) -> None:
    check(case_of(VARIANTS[variant]))


def test_a_model_that_was_trained_for_long_draws_the_toy() -> None:
    method = replace(TINY, horizon=8, width=32, bins=64, pretraining_steps=500, fine_tune=False)
    data, target = (TOY.dataset(20_000, 0, part) for part in ("train", "holdout"))
    assert method.pretraining is not None
    state = method.pretraining.run({"toy": data}, np.random.default_rng(0), runtime=Runtime())
    drawn = method.restore(data.schema, state).sample(2_000, np.random.default_rng(0), runtime=Runtime())
    assert OneWay().score(drawn, target, TOY, np.random.default_rng(0))["one_way"] > 0.95
    assert Dynamics().score(drawn, target, TOY, np.random.default_rng(0))["dynamics_median"] < 0.15
    assert np.abs(drawn.rewards + np.hypot(*drawn.next_observations.T)).mean() < 0.1


def test_more_budget_is_less_noise_and_another_model() -> None:
    case = case_of(TINY)
    states = [case.fit(case.data, epsilon=epsilon).sampler.state() for epsilon in (1.0, 10.0)]
    changed = differing_arrays(*states)
    assert "lengths" in changed
    assert {name for name in changed if name.startswith("model.project")}


ENDS = ("model.project.", "model.read_")
LEARNS: Mapping[str, Callable[[str], bool]] = {
    "ends": lambda name: name.startswith(ENDS),
    "adapters": lambda name: name.endswith(".weight") and "normalize" not in name,
    "all weights": lambda name: name.startswith("model.") and name != "model.edges",
}


@pytest.mark.parametrize("part", LEARNS)
def test_fine_tuning_changes_lengths_and_what_is_to_learn_and_nothing_else(part: str) -> None:
    case = case_of(VARIANTS[part])
    assert case.pretrained is not None
    changed = set(differing_arrays(case.recorded.sampler.state(), case.pretrained))
    assert changed == {name for name in case.pretrained if LEARNS[part](name)} | {"lengths"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, 0)
            for name in ("horizon", "width", "blocks", "pretraining_batch", "rank", "steps", "batch", "windows", "physical_batch", "clip_norm")
        ),
        *((name, -1) for name in ("pretraining_steps", "decay", "pretraining_rate", "learning_rate")),
        ("bins", 1),
    ],
)
def test_a_hyper_parameter_out_of_range_is_refused_by_name_and_value(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"^{name}: {value} "):
        replace(TINY, **{name: value})
