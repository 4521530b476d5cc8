"""Attacks on released rows: what each computes, beside other libraries; what all find; and what one finds that others miss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from attack_support import run
from sklearn.neighbors import KernelDensity, NearestNeighbors

from bench.core.data import Transitions, concatenate
from metrics._axes import principal_axes, standard_axes
from metrics._parts import pair_rows
from metrics.classifier import Classifier
from metrics.density import COMPONENTS, DOMIAS, DPI, GenLRA, silverman
from metrics.nearest import NearestRecord

ROW_ATTACKS = [
    NearestRecord(members=600),
    NearestRecord(members=600, difference=True),
    DOMIAS(members=600),
    GenLRA(members=600),
    DPI(members=600),
    Classifier(members=600, steps=400),
]
ATTACKS = pytest.mark.parametrize("attack", ROW_ATTACKS, ids=lambda attack: f"{type(attack).__name__}-{getattr(attack, 'difference', '')}".strip("-"))


@pytest.fixture(scope="module")
def parts(draw):
    """Members, non-members and reference."""
    return [draw(600, seed, length=10) for seed in range(3)]


def scores(attack, *roles: Transitions) -> np.ndarray:
    """Of candidates; `roles` are these, the released rows and the reference."""
    return attack.row_scores(*roles, np.random.default_rng(0))


def blurred(data: Transitions, width: float, seed: int = 0) -> Transitions:
    """Copies with Gaussian noise in each of (s, a, r, s' - s), in its standard deviations."""
    columns, rng = pair_rows(data, slice(None)), np.random.default_rng(seed)
    noisy = columns + width * columns.std(axis=1, keepdims=True) * rng.normal(size=columns.shape)
    state, own, step = np.split(noisy.T, [data.observations.shape[1], -data.observations.shape[1]], axis=1)
    return Transitions.from_table(data.schema, np.column_stack([state, own, state + step, data.terminals]))


# --- power ------------------------------------------------------------------------------------------------------------


@ATTACKS
def test_what_copies_half_of_the_members_lies_between_what_copies_all_and_what_copies_none(attack, parts, draw):
    fresh = draw(300, 3, length=10)
    half = concatenate([parts[0].joined(np.arange(0, 60, 2)), fresh])
    found, between = (run(attack, released, *parts)["auc"] for released in (parts[0], half))
    assert found.low > 0.5
    assert 0.5 < between.value < found.value


@ATTACKS
def test_a_release_that_knows_the_population_alone_is_at_chance(attack, draw):
    covered = 0
    for seed in range(10):
        released, *roles = [draw(600, 10 * seed + part, length=10) for part in range(4)]
        estimate = run(attack, released, *roles, seed=seed)["auc"]
        covered += estimate.low <= 0.5 <= estimate.high
    assert covered >= 8


def test_densities_find_blurred_copies_that_the_nearest_record_hardly_does(draw):
    found = np.zeros(3)
    for seed in range(4):
        members, others, reference = (draw(640, 10 * seed + part) for part in range(3))
        released = blurred(concatenate([members] * 4), 0.3, seed)
        found += [run(ROW_ATTACKS[which], released, members, others, reference)["auc"].value / 4 for which in (0, 2, 3)]
    assert found[0] + 0.01 < found[1:].min()


def test_whole_trajectories_give_away_what_single_rows_hide(draw):
    members, others, reference = (draw(1920, seed, length=32) for seed in range(3))
    released = blurred(concatenate([members] * 4), 0.2)
    rows, trajectories = (run(NearestRecord(members=1920, together=together), released, members, others, reference)["auc"] for together in (1, 32))
    assert 0.5 < rows.value < rows.high < trajectories.value


# --- beside other libraries -------------------------------------------------------------------------------------------


def test_domias_is_the_ratio_of_two_kernel_density_estimates(parts):
    members, candidates, reference = parts
    axes = principal_axes(reference, COMPONENTS)
    h = DOMIAS().bandwidth * silverman(len(members), axes)
    x, s, r = (axes.project(data) for data in (candidates, members, reference))
    one_leaf = KernelDensity(bandwidth=h, leaf_size=1000)  # far from all rows its sum over a tree loses digits
    expected = np.subtract(*(one_leaf.fit(rows).score_samples(x) for rows in (s, r)))
    assert scores(DOMIAS(neighbours=600), candidates, members, reference) == pytest.approx(expected, abs=1e-4)


def test_gen_lra_is_what_a_row_adds_to_the_likelihood_of_the_released_rows_around_it(parts):
    members, candidates, reference = parts
    axes = principal_axes(reference, COMPONENTS)
    h = GenLRA().bandwidth * silverman(len(members), axes)
    x, s, r = (axes.project(data) for data in (candidates, members, reference))
    around = NearestNeighbors(n_neighbors=3).fit(s).kneighbors(x[:5], return_distance=False)
    without = KernelDensity(bandwidth=h).fit(r)
    added = np.log(len(r) / (len(r) + 1))
    for row, near, score in zip(x[:5], around, scores(GenLRA(released_neighbours=3, neighbours=600), candidates, members, reference), strict=False):
        with_it = KernelDensity(bandwidth=h).fit(np.vstack([r, row]))
        ratio = with_it.score_samples(s[near]) - without.score_samples(s[near])
        assert score + 3 * added == pytest.approx(ratio.sum(), abs=1e-4)


def test_dpi_counts_released_rows_among_the_nearest_of_both_sets(parts):
    members, candidates, reference = parts
    axes = principal_axes(reference, COMPONENTS)
    x, s, r = (axes.project(data) for data in (candidates, members, reference))
    near = NearestNeighbors(n_neighbors=7).fit(np.vstack([s, r])).kneighbors(x, return_distance=False)
    assert scores(DPI(neighbours=7), candidates, members, reference) == pytest.approx((near < len(s)).mean(axis=1))


def test_more_neighbours_than_rows_are_all_rows(parts):
    members, candidates, reference = (data.rows(np.arange(30)) for data in parts)
    for attack in (DOMIAS(), GenLRA(), DPI(neighbours=80)):
        assert np.isfinite(scores(attack, candidates, members, reference)).all()
    assert (scores(DPI(neighbours=80), candidates, members, reference) == 0.5).all()


# --- axes -------------------------------------------------------------------------------------------------------------


@ATTACKS
def test_columns_in_other_units_change_nothing(attack, draw, schema):
    def rescaled(data):
        wide = replace(schema, actions=(replace(schema.actions[0], low=-1024.0, high=1024.0),))
        return replace(data, schema=wide, actions=data.actions * np.float32(1024))

    released, *roles = [draw(200, seed) for seed in range(4)]
    before, after = run(attack, released, *roles), run(attack, rescaled(released), *map(rescaled, roles))
    assert before["auc"].value == pytest.approx(after["auc"].value, abs=1e-3)


def test_standard_axes_measure_in_deviations_and_leave_out_what_does_not_vary(parts, schema):
    state = parts[2].observations
    rounded = np.where(np.arange(600)[:, None] % 2, np.nextafter(state, np.float32(9)), state)
    reference = replace(parts[2], rewards=np.full(600, 0.7, np.float32), next_observations=rounded)
    axes = standard_axes(reference)
    assert axes.matrix.shape == (6, 3)
    assert axes.project(reference).mean(axis=0) == pytest.approx(0, abs=1e-4)
    assert axes.project(reference).std(axis=0) == pytest.approx(1, abs=1e-4)


def test_principal_axes_are_as_many_as_the_dimensions_that_rows_fill(parts):
    """The step follows from the push, so that it adds none: two coordinates, a push and a reward."""
    axes = principal_axes(parts[2], COMPONENTS)
    assert axes.matrix.shape == (6, 4)
    assert len(axes.variances) == 4
    whole, short = (kind.project(parts[0]) for kind in (standard_axes(parts[2]), axes))
    distances = [np.linalg.norm(rows[:-1] - rows[1:], axis=1) for rows in (whole, short)]
    assert distances[1] == pytest.approx(distances[0], rel=0.05)
    assert principal_axes(parts[2], 2).matrix.shape == (6, 2)


def test_a_reference_that_is_one_row_over_and_over_is_refused(parts):
    constant = parts[0].rows(np.zeros(50, int))
    with pytest.raises(ValueError, match=r"no column of .* varies in its 50 rows"):
        standard_axes(constant)
