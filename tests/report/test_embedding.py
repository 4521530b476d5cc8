"""t-SNE against scikit-learn's, by the divergence that both minimise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.manifold import TSNE, trustworthiness

from bench.report.embedding import PERPLEXITY, _affinities, _gradient, tsne


def clusters(n: int = 300, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return 4 * rng.normal(size=(5, 6))[rng.integers(5, size=n)] + rng.normal(size=(n, 6))


def divergence(affinities: NDArray, places: NDArray) -> float:
    """KL(P || Q) of section 3.1, with Q by Student's t."""
    kernel = 1 / (1 + cdist(places, places, "sqeuclidean"))
    np.fill_diagonal(kernel, 0)
    shares, near = kernel / kernel.sum(), affinities > 0
    return float((affinities[near] * np.log(affinities[near] / np.maximum(shares[near], 1e-300))).sum())


def test_it_is_as_good_as_the_oracle() -> None:
    rows = clusters()
    places, oracle = tsne(rows), TSNE(2, perplexity=PERPLEXITY, init="pca", random_state=0, method="exact", max_iter=500).fit_transform(rows)
    affinities = _affinities(rows).astype(np.float64)
    assert divergence(affinities, places) <= 1.05 * divergence(affinities, oracle)
    assert trustworthiness(rows, places) >= trustworthiness(rows, oracle) - 0.01


def test_affinities_have_the_perplexity_that_was_asked_for() -> None:
    """On a circle all rows are alike, so that a row of P is a conditional distribution over n."""
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    affinities = _affinities(np.column_stack([np.cos(angles), np.sin(angles)])).astype(np.float64)
    assert affinities.sum() == pytest.approx(1, abs=1e-5)
    conditional = affinities * len(angles)
    entropy = -(conditional * np.log(np.maximum(conditional, 1e-300))).sum(1)
    np.testing.assert_allclose(np.exp(entropy), PERPLEXITY, rtol=1e-3)


def test_the_gradient_is_the_slope_of_the_divergence() -> None:
    affinities = _affinities(clusters(120)).astype(np.float64)
    places = np.random.default_rng(1).normal(size=(120, 2))
    slope = _gradient(places.astype(np.float32), affinities.astype(np.float32), 1.0)
    for i, axis in ((0, 0), (7, 1), (119, 0)):
        nudge = np.zeros_like(places)
        nudge[i, axis] = 1e-5
        measured = (divergence(affinities, places + nudge) - divergence(affinities, places - nudge)) / 2e-5
        assert slope[i, axis] == pytest.approx(measured, rel=1e-2, abs=1e-5)


def test_equal_tables_have_equal_places() -> None:
    rows = clusters(150)
    np.testing.assert_array_equal(tsne(rows, steps=120), tsne(rows.copy(), steps=120))


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        tsne(clusters(90))
