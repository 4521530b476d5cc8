"""Curiosity: novelty that only learning changes, and training batches that hold the shares of novel rows which the two rules ask for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from synthesizers._parts.curiosity import Curiosity, Novelty, Rule, batch_shares, sampling_weights

COLUMNS = 6


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cluster(centre: float, n: int, seed: int = 0) -> Tensor:
    """Rows around one point of the diagonal."""
    return centre + 0.3 * torch.randn(n, COLUMNS, generator=seeded(seed))


def numbered(n: int, sign: int) -> Tensor:
    """Rows that say who they are: their first column is 1 to n, or -1 to -n for synthetic ones."""
    rows = torch.zeros(n, COLUMNS)
    rows[:, 0] = sign * torch.arange(1, n + 1)
    return rows


def counted(batch: Tensor, n: int, sign: int) -> Tensor:
    """How often each of the `numbered` rows is in a batch (n,)."""
    numbers = (sign * batch[:, 0]).long()
    return numbers[numbers > 0].bincount(minlength=n + 1)[1:]


# --- novelty --------------------------------------------------------------------------------------------------------------------------------------


def novelty(seed: int = 0) -> Novelty:
    return Novelty(COLUMNS, seeded(seed), torch.device("cpu"))


def test_scoring_trains_nothing() -> None:
    """The published code takes a step whenever it scores, so that a row's novelty depends on who was asked about before."""
    scorer, rows, others = novelty(), cluster(1, 200), cluster(-1, 300)
    before, elsewhere = scorer.score(rows), scorer.score(others)
    for _ in range(5):
        assert torch.equal(scorer.score(rows), before)
    assert torch.equal(scorer.score(others), elsewhere)


def test_the_novelty_of_a_row_depends_on_no_other_row() -> None:
    scorer, rows = novelty(), cluster(1, 100)
    together, order = scorer.score(rows), torch.randperm(100, generator=seeded())
    torch.testing.assert_close(torch.cat([scorer.score(row[None]) for row in rows]), together, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(scorer.score(rows[order]), together[order], atol=1e-6, rtol=1e-5)
    assert together.shape == (100,)
    assert (together > 0).all()


def test_learning_makes_the_learned_rows_less_novel_than_others() -> None:
    for seed in range(5):
        scorer, rows, others = novelty(seed), cluster(1, 1000), cluster(-1, 1000)
        before, elsewhere = scorer.score(rows).mean(), scorer.score(others).mean()
        for _ in range(3):
            scorer.learn(rows)
        assert scorer.score(rows).mean() < 0.6 * before
        assert scorer.score(others).mean() > 0.8 * elsewhere


def test_a_row_is_judged_by_what_was_learned_and_not_by_where_it_is() -> None:
    """Rows unlike the seen ones stay novel, and rows of the same kind that were not shown themselves do not."""
    scorer = novelty()
    for _ in range(20):
        scorer.learn(cluster(1, 1000))
    assert scorer.score(cluster(1, 500, seed=1)).mean() < 0.1 * scorer.score(cluster(-1, 500)).mean()


def test_the_target_is_random_small_and_never_trained() -> None:
    scorer = novelty()
    before = [values.clone() for values in scorer._target.state_dict().values()]
    scorer.learn(cluster(1, 1000))
    assert all(map(torch.equal, before, scorer._target.state_dict().values()))
    assert [tuple(values.shape) for values in before] == [(128, COLUMNS), (128,), (64, 128), (64,), (32, 64), (32,)]
    assert all(stats.kstest(weight.flatten() / 0.1, "norm").pvalue > 1e-3 for weight in before[::2])
    assert not any(bias.any() for bias in before[1::2])


def test_the_predictor_is_narrower_than_the_target() -> None:
    assert [tuple(values.shape) for values in novelty()._predictor.parameters()] == [(64, COLUMNS), (64,), (32, 64), (32,)]


# --- the rules ------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 3.0])
def test_the_paper_prefers_candidates_in_proportion_to_the_exponential_of_their_novelty_s_normal_score(beta: float) -> None:
    scores = torch.rand(500, generator=seeded())
    c = stats.norm.ppf((stats.rankdata(scores.numpy()) - 0.5) / 500)
    expected = np.exp(beta * c)
    np.testing.assert_allclose(sampling_weights(scores, "paper", beta), expected / expected.sum(), rtol=1e-4)


def test_without_preference_all_candidates_are_alike() -> None:
    weights = sampling_weights(torch.rand(500, generator=seeded()), "paper", 0.0)
    torch.testing.assert_close(weights, torch.full((500,), 1 / 500))


def test_the_unit_of_novelty_does_not_matter() -> None:
    scores = torch.rand(500, generator=seeded())
    torch.testing.assert_close(sampling_weights(scores.square() / 4, "paper", 1.0), sampling_weights(scores, "paper", 1.0), rtol=1e-3, atol=0)


def test_no_candidate_fills_the_batch_however_far_out_it_lies() -> None:
    """Rows that a young model throws far away are a thousand times as novel as others; as novelty itself one of them had nearly all weight."""
    scores = torch.cat([torch.rand(9_999, generator=seeded()), torch.tensor([1e4])])
    assert sampling_weights(scores, "paper", 1.0).max() < 0.005


@pytest.mark.parametrize("n", [1, 500])
def test_equally_novel_candidates_are_drawn_evenly(n: int) -> None:
    torch.testing.assert_close(sampling_weights(torch.full((n,), 0.1), "paper", 3.0), torch.full((n,), 1 / n))


@pytest.mark.parametrize(("n", "kept"), [(1000, 300), (10, 3), (1, 1)])
@pytest.mark.parametrize("beta", [0.0, 3.0])
def test_the_code_draws_evenly_from_the_most_novel_three_tenths(n: int, kept: int, beta: float) -> None:
    scores = torch.rand(n, generator=seeded())
    weights = sampling_weights(scores, "code", beta)
    chosen = weights > 0
    assert chosen.sum() == kept
    torch.testing.assert_close(weights[chosen], torch.full((kept,), 1 / kept))
    assert scores[chosen].min() > scores[~chosen].max() if n > 1 else chosen.all()


@pytest.mark.parametrize(("batch", "share", "synthetic"), [(128, 0.3, 38), (1024, 0.3, 307), (100, 0.0, 0), (100, 1.0, 100), (1, 0.3, 0)])
def test_the_paper_replaces_its_share_of_the_batch(batch: int, share: float, synthetic: int) -> None:
    assert batch_shares(batch, "paper", share) == (batch - synthetic, synthetic)


@pytest.mark.parametrize(("batch", "appended"), [(128, 16), (256, 32), (1024, 128)])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_code_appends_sixteen_rows_for_every_128_whatever_the_share(batch: int, appended: int, share: float) -> None:
    assert batch_shares(batch, "code", share) == (batch, appended)


# --- batches --------------------------------------------------------------------------------------------------------------------------------------

PUBLIC, SYNTHETIC = numbered(20, 1), numbered(50, -1)


def curiosity(rule: Rule, share: float = 0.3, beta: float = 1.0, seed: int = 0) -> Curiosity:
    return Curiosity(rule, share, beta, COLUMNS, seeded(seed))


@pytest.fixture
def known_novelty(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Makes the number of a synthetic row its novelty, whatever was learned; its value for SYNTHETIC."""
    monkeypatch.setattr(Novelty, "score", lambda self, rows: rows[:, 0].abs())
    return SYNTHETIC[:, 0].abs()


@pytest.mark.parametrize("rule", ["paper", "code", "off"])
def test_without_a_pool_the_batch_is_public(rule: Rule) -> None:
    batch = curiosity(rule, share=1.0).batch(PUBLIC, 128)
    assert batch.shape == (128, COLUMNS)
    assert counted(batch, 20, 1).sum() == 128


@pytest.mark.parametrize(("rule", "public", "synthetic"), [("paper", 90, 38), ("code", 128, 16)])
def test_with_a_pool_the_batch_has_the_shares_of_its_rule(rule: Rule, public: int, synthetic: int) -> None:
    mixer = curiosity(rule, share=0.3)
    mixer.renew(SYNTHETIC)
    batch = mixer.batch(PUBLIC, 128)
    assert batch.shape == (public + synthetic, COLUMNS)
    assert counted(batch, 20, 1).sum() == public
    assert counted(batch, 50, -1).sum() == synthetic


@pytest.mark.parametrize("rule", ["paper", "code"])
@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_synthetic_rows_are_drawn_by_weight_and_public_ones_evenly(rule: Rule, beta: float, known_novelty: Tensor) -> None:
    mixer = curiosity(rule, share=0.5, beta=beta)
    mixer.renew(SYNTHETIC)
    batch = torch.cat([mixer.batch(PUBLIC, 128) for _ in range(300)])
    expected = sampling_weights(known_novelty, rule, beta).double().numpy()
    drawn, public = counted(batch, 50, -1).numpy(), counted(batch, 20, 1).numpy()
    assert not drawn[expected == 0].any()
    assert stats.chisquare(drawn[expected > 0], drawn.sum() * expected[expected > 0] / expected.sum()).pvalue > 1e-3
    assert stats.chisquare(public).pvalue > 1e-3


def test_rows_enter_whole_and_unclipped() -> None:
    public, candidates, mixer = cluster(0, 200), 100 * cluster(1, 200, seed=1), curiosity("paper", share=0.5)
    mixer.renew(candidates)
    distances = torch.cdist(mixer.batch(public, 128), torch.cat([public, candidates]), compute_mode="donot_use_mm_for_euclid_dist")
    assert distances.min(1).values.max() == 0


@pytest.mark.parametrize("rule", ["paper", "code"])
def test_a_new_pool_replaces_the_old_one(rule: Rule) -> None:
    mixer = curiosity(rule, share=0.5)
    mixer.renew(SYNTHETIC[:25])
    mixer.renew(SYNTHETIC[25:])
    drawn = counted(torch.cat([mixer.batch(PUBLIC, 128) for _ in range(20)]), 50, -1)
    assert not drawn[:25].any()
    assert drawn[25:].any()


def share_of_others(mixer: Curiosity) -> float:
    """The share of one of two kinds of candidates, the one below zero, among the synthetic rows."""
    mixer.renew(torch.cat([cluster(1, 5000, seed=1), cluster(-1, 5000, seed=1)]))
    return float((mixer.batch(PUBLIC, 2000).mean(1) < 0).float().mean())


@pytest.mark.parametrize("seed", range(3))
def test_candidates_seen_before_are_preferred_less(seed: int) -> None:
    fresh, experienced = (curiosity("paper", share=1.0, seed=seed) for _ in range(2))
    experienced.renew(cluster(1, 10_000))
    assert share_of_others(experienced) > max(0.8, share_of_others(fresh) + 0.05)


def test_candidates_are_judged_before_they_are_learned(known_novelty: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: Novelty, rows: Tensor) -> None:
        monkeypatch.setattr(Novelty, "score", lambda self, rows: -rows[:, 0].abs())

    monkeypatch.setattr(Novelty, "learn", forget)
    mixer = curiosity("paper", share=1.0, beta=3.0)
    mixer.renew(SYNTHETIC)
    drawn = counted(mixer.batch(PUBLIC, 1000), 50, -1)
    assert drawn[25:].sum() > 900


@pytest.mark.parametrize("rule", ["paper", "code", "off"])
def test_batches_are_a_function_of_the_generator(rule: Rule) -> None:
    def drawn(seed: int) -> Tensor:
        mixer = curiosity(rule, seed=seed)
        batches = [mixer.batch(PUBLIC, 128)]
        for renewal in range(2) if rule != "off" else ():
            mixer.renew(cluster(1, 500, seed=renewal))
            batches.append(mixer.batch(PUBLIC, 128))
        return torch.cat(batches)

    torch.manual_seed(1)
    first = drawn(0)
    torch.manual_seed(2)
    assert torch.equal(drawn(0), first)
    assert not torch.equal(drawn(1), first)


@pytest.mark.parametrize(("rule", "candidates"), [("paper", 10_000), ("code", 1_000)])
def test_the_pool_has_the_size_of_its_rule(rule: Rule, candidates: int) -> None:
    assert curiosity(rule).candidates == candidates
