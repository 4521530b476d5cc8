"""The statistics of audits, against published examples, ideal attacks and mechanisms whose epsilon is known."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from scipy.stats import binom

from metrics import _bounds
from metrics._bounds import Errors, Guesses, bounds_of_guesses, epsilon_of_gaussian, guess, lower_bound, mu_of_gaussian, p_value

CANARIES, DELTA = 5_000, 1e-6


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(_bounds) == (0, 3)


@pytest.mark.parametrize(("correct", "bound"), [(100, 3.479), (60, 0.0507)])
def test_the_public_log_of_a_one_run_audit(correct: int, bound: float) -> None:
    assert lower_bound(Guesses(500, 100, correct, 1e-5).refute) == pytest.approx(bound, abs=5e-4)


@pytest.mark.parametrize(("guesses", "ceiling"), [(50, 2.8), (200, 4.2), (1_000, 5.8), (5_000, 7.4)])
def test_the_ceiling_of_one_run(guesses: int, ceiling: float) -> None:
    assert lower_bound(Guesses(guesses, guesses, guesses, DELTA).refute) == pytest.approx(ceiling, abs=0.05)


@pytest.mark.parametrize(("runs", "epsilon", "mu"), [(100, 3.3, 3.6), (500, 4.9, 4.9), (1_000, 5.6, 5.4), (5_000, 7.2, 6.4)])
def test_the_ceilings_of_many_runs(runs: int, epsilon: float, mu: float) -> None:
    perfect = Errors(runs, 0, 0, DELTA)
    assert lower_bound(perfect.refute) == pytest.approx(epsilon, abs=0.05)
    assert mu_of_gaussian(lower_bound(perfect.refute_gaussian), DELTA) == pytest.approx(mu, abs=0.05)


@pytest.mark.parametrize(("epsilon", "mu"), [(1, 0.237), (3, 0.648), (5, 1.02), (10, 1.848)])
def test_the_gaussian_mechanism_with_a_given_epsilon(epsilon: float, mu: float) -> None:
    assert mu_of_gaussian(epsilon, DELTA) == pytest.approx(mu, abs=5e-4)
    assert epsilon_of_gaussian(mu_of_gaussian(epsilon, DELTA), DELTA) == pytest.approx(epsilon, abs=1e-6)


@pytest.mark.parametrize("delta", [1e-5, 1e-7, 1e-10])
def test_delta_alone_pays_for_a_tiny_mu(delta: float) -> None:
    """At epsilon 0 the two sides differ by the density around 0: delta = mu / sqrt(2 pi)."""
    assert mu_of_gaussian(0.0, delta) == pytest.approx(delta * math.sqrt(2 * math.pi), rel=1e-4)


def ideal_attack(mu: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and coins of canaries that do not disturb each other, under a mechanism of that mu."""
    rng = np.random.default_rng(seed)
    coins = rng.random(CANARIES) < 0.5
    return rng.standard_normal(CANARIES) + mu * coins, coins


@pytest.mark.parametrize(("mu", "one_run", "f_dp"), [(0.237, 0.15, 0.19), (1.0, 1.9, 2.6), (1.848, 3.3, 4.7)])
def test_an_ideal_attack_on_a_gaussian_mechanism_gets_the_known_figures(mu: float, one_run: float, f_dp: float) -> None:
    """The known ones are single simulations with a number of guesses of their own: ours come up to three quarters of them, and not to the truth."""
    bounds = bounds_of_guesses(guess(*ideal_attack(mu), DELTA), 1.0, gaussian=True)
    assert list(bounds) == ["one-run f-dp", "one-run"], "the sharper form is the headline"
    for name, known in (("one-run", one_run), ("one-run f-dp", f_dp)):
        assert 0.75 * known - 0.1 < bounds[name].epsilon < epsilon_of_gaussian(mu, DELTA)


def test_randomised_response_is_audited_almost_exactly() -> None:
    """Each coin is told truly with probability e^3 / (1 + e^3): of a thousand, all guessed about, the known bound is 2.76."""
    right = round(1_000 * math.exp(3) / (1 + math.exp(3)))
    assert lower_bound(Guesses(1_000, 1_000, right, DELTA).refute) == pytest.approx(2.76, abs=0.06)


@pytest.mark.parametrize(("guesses", "bound"), [((500, 100, 90), 3.046), ((5_000, 500, 450), 3.123), ((1_000, 200, 150), 1.477)])
def test_the_f_dp_bound_of_some_of_the_canaries(guesses: tuple[int, int, int], bound: float) -> None:
    """What jax_privacy says of them; the last test of this file asks it, where it is installed."""
    assert lower_bound(Guesses(*guesses, DELTA).refute_gaussian) == pytest.approx(bound, abs=1e-3)


def test_scores_that_tell_nothing_are_right_half_of_the_time() -> None:
    """Ties are broken by what the coins know nothing of."""
    coins = np.random.default_rng(0).random(CANARIES) < 0.5
    for each in guess(np.zeros(CANARIES), coins, DELTA):
        assert abs(each.correct - each.guesses / 2) < 4 * each.guesses**0.5 / 2


@pytest.mark.parametrize("epsilon", [1.0, 3.0])
def test_a_true_claim_of_randomised_response_is_refuted_hardly_less_often_than_said(epsilon: float) -> None:
    """The bound for any mechanism is attained there: by the binomial itself 9.1 and 9.4 %, where 10 are allowed."""
    refuted = [Guesses(300, 300, correct, 1e-9).refute(epsilon, 0.1) for correct in range(301)]
    least = refuted.index(True)
    assert all(refuted[least:])
    assert 0.08 < binom.sf(least - 1, 300, 1 / (1 + np.exp(-epsilon))) <= 0.1


@pytest.mark.parametrize(("form", "most"), [("one-run f-dp", 2), ("one-run", 2), ("gaussian dp", 8), ("clopper-pearson", 2)])
def test_a_true_claim_of_a_gaussian_is_refuted_no_more_often_than_said(form: str, most: int) -> None:
    """Two hundred audits at a chance of error of 10 %, which these bounds are far from: `gaussian dp`, with both errors at 5 %, refutes .75 %."""
    mu, rng = 1.02, np.random.default_rng(1)
    refuted = 0
    for seed in range(200):
        if "run" in form:
            scores, coins = ideal_attack(mu, seed)
            _, half, *_ = guess(scores[:300], coins[:300], DELTA)
            refuted += {"one-run": half.refute, "one-run f-dp": half.refute_gaussian}[form](epsilon_of_gaussian(mu, DELTA), 0.1)
        else:
            errors = Errors(100, *(int((rng.standard_normal(100) > mu / 2).sum()) for _ in range(2)), DELTA)
            refuted += {"clopper-pearson": errors.refute, "gaussian dp": errors.refute_gaussian}[form](epsilon_of_gaussian(mu, DELTA), 0.1)
    assert refuted <= most


@pytest.mark.parametrize("evidence", [Guesses(500, 100, 90, DELTA), Errors(200, 10, 12, DELTA)], ids=["guesses", "errors"])
@pytest.mark.parametrize("form", ["refute", "refute_gaussian"])
def test_the_p_value_is_the_level_at_which_the_bound_meets_the_claim(evidence: Guesses | Errors, form: str) -> None:
    refutes = getattr(evidence, form)
    claim = lower_bound(refutes, alpha=0.01)
    assert p_value(refutes, claim) == pytest.approx(0.01, rel=1e-3)
    assert lower_bound(refutes, alpha=0.001) < claim < lower_bound(refutes, alpha=0.05)


@pytest.mark.parametrize(("claim", "blind"), [(1.0, False), (4.0, False), (10.0, True)])
def test_the_least_p_is_what_all_guesses_right_would_give(claim: float, blind: bool) -> None:
    """Five hundred canaries have a ceiling of 10.7 at 95 %, and nothing against a claim of 10 at the confidence of a verdict."""
    coins = np.arange(500) % 2 == 0
    found = [bounds_of_guesses(guess(scores, coins, 1e-7), claim, gaussian=True) for scores in (coins.astype(float), np.zeros(500))]
    for name, perfect in found[0].items():
        assert perfect.least_p == perfect.p_value == found[1][name].least_p <= found[1][name].p_value
        assert perfect.epsilon == perfect.ceiling
    assert (found[0]["one-run f-dp"].least_p > 0.001) == blind
    assert found[0]["one-run f-dp"].ceiling == pytest.approx(10.7, abs=0.1)


def test_a_gaussian_bound_is_too_high_where_noise_is_not_gaussian() -> None:
    """Of randomised response with epsilon 2: this is what the bound beside it is for."""
    errors = Errors(200, *[round(200 / (1 + math.exp(2)))] * 2, 1e-7)
    assert lower_bound(errors.refute) < 2 < lower_bound(errors.refute_gaussian)


def test_evidence_of_nothing_bounds_nothing() -> None:
    for refutes in (Guesses(500, 100, 50, DELTA).refute, Guesses(500, 100, 0, DELTA).refute_gaussian, Errors(50, 0, 50, DELTA).refute_gaussian):
        assert lower_bound(refutes) == 0
        assert p_value(refutes, 1.0) == pytest.approx(1)


def test_the_top_is_guessed_in_and_the_bottom_out() -> None:
    coins = np.array([True, True, False, True, False, False, False, True, False, False])
    every, half, *_ = guess(-np.arange(10.0), coins, DELTA)
    assert (every.guesses, every.correct) == (10, 3 + 4)
    assert (half.guesses, half.correct) == (4, 2 + 2)


def test_every_candidate_number_of_guesses_is_paid_for() -> None:
    guesses = guess(*ideal_attack(0.3), DELTA)
    single = [p_value(each.refute, 0.0) for each in guesses]
    assert bounds_of_guesses(guesses, 0.0, gaussian=False)["one-run"].p_value == pytest.approx(len(guesses) * min(single), rel=1e-3)


@pytest.mark.parametrize("mu", [0.237, 1.0, 1.848])
@pytest.mark.parametrize("threshold", [0.5, 1.5, 2.5])
def test_the_reference_implementation_agrees_on_the_same_guesses(mu: float, threshold: float) -> None:
    auditing = pytest.importorskip("jax_privacy.auditing", reason="jax_privacy is not installed; it is the oracle of the one-run bounds")
    scores, coins = ideal_attack(mu)
    guesses = Guesses(CANARIES, int((scores >= threshold).sum()), int(coins[scores >= threshold].sum()), DELTA)
    auditor, same = auditing.CanaryScoreAuditor(scores[coins], scores[~coins]), auditing.Explicit(threshold)
    for theirs, refute in ((auditor.epsilon_one_run, guesses.refute), (auditor.epsilon_one_run_fdp, guesses.refute_gaussian)):
        assert lower_bound(refute) == pytest.approx(theirs(0.05, DELTA, threshold_strategy=same), abs=1e-4)
