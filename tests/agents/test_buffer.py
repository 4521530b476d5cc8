"""What a minibatch says about the future of its rows, and how often rows of good trajectories come."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents._parts import Batch, Buffer, Coordinates, normals
from agents.rebrac import ReBRAC
from bench.core.data import Transitions
from bench.core.protocols import Runtime

LENGTHS = (1, 3, 5, 1, 2)


@pytest.fixture
def walks(make: Callable[..., Transitions]) -> Transitions:
    """Trajectories of LENGTHS: row i has state i, action i / 12 and, over its whole trajectory, the return 0, 1, 2, 3 or 4."""
    rows = np.arange(12.0)
    rewards = np.repeat(np.arange(5) / LENGTHS, LENGTHS)
    return replace(make(rows[:, None], rows[:, None] / 12, rewards, rows[:, None] + 1), trajectories=np.cumsum([0, *LENGTHS]))


def drawn(data: Transitions, size: int = 12_000, **options: bool) -> tuple[np.ndarray, Batch]:
    """Row numbers of a large minibatch, and the minibatch."""
    batch = next(Buffer(data, Coordinates.of(data), "cpu", **options).minibatches(size, [torch.Generator().manual_seed(0)]))
    return (batch.actions[0, :, 0] * 12).round().long().numpy(), Batch(*(column[0] for column in batch))


def test_the_next_action_is_that_of_the_next_row_inside_the_trajectory(walks: Transitions) -> None:
    index, batch = drawn(walks)
    last = np.isin(index, np.cumsum(LENGTHS) - 1)
    np.testing.assert_array_equal(batch.followed, ~last)
    np.testing.assert_allclose(batch.next_actions[~last, 0] * 12, index[~last] + 1, atol=1e-5)


def test_rows_that_stand_alone_are_never_followed(walks: Transitions) -> None:
    assert not drawn(replace(walks, trajectories=None))[1].followed.any()


def test_rows_come_in_proportion_to_their_trajectory_s_return(walks: Transitions) -> None:
    counts = np.bincount(drawn(walks, return_weighted=True)[0], minlength=12)
    weights = np.repeat(np.arange(5) / 4 + 0.01, LENGTHS)
    expected = 12_000 * weights / weights.sum()
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected) + 1).all()


def test_equal_returns_are_drawn_alike(walks: Transitions) -> None:
    counts = np.bincount(drawn(replace(walks, rewards=0 * walks.rewards), return_weighted=True)[0], minlength=12)
    assert (np.abs(counts - 1000) < 160).all()


def test_return_weights_need_trajectories(walks: Transitions) -> None:
    with pytest.raises(ValueError, match=r"^return_weighted: "):
        drawn(replace(walks, trajectories=None), return_weighted=True)


def test_noise_of_a_seed_does_not_depend_on_its_companions() -> None:
    def generators(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    together, alone = normals((4, 2), generators(3, 1), "cpu"), normals((4, 2), generators(1), "cpu")
    for _ in range(300):
        assert torch.equal(next(together)[1:], next(alone))


@pytest.mark.parametrize(("penalty", "trajectories", "said"), [(0.1, False, True), (0.1, True, False), (0.0, False, False)])
def test_rebrac_says_where_its_critics_penalty_cannot_act(walks: Transitions, penalty: float, trajectories: bool, said: bool) -> None:
    data = walks if trajectories else replace(walks, trajectories=None)
    agent = ReBRAC(width=8, batch_size=4, critic_penalty=penalty)
    (curve,) = agent.train(
        data, [np.random.default_rng(0)], steps=2, evaluate_every=2, evaluate=lambda policies: np.zeros(len(policies)), runtime=Runtime()
    )
    assert (list(curve.notes) == ["critic_penalty"]) == said
