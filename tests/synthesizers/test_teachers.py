"""Teachers: a row belongs to one shard, a shard to one teacher, and no teacher learns of another's rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from method_support import umaze
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import softplus
from torch_support import seeded

from bench.core.data import Transitions
from synthesizers._parts.teachers import Shards, Teachers, dither, row_hashes

KEY, K = 12345, 50

# --- shards ---------------------------------------------------------------------------------------------------------------------------------------


def sharded(data: Transitions, key: int = KEY, count: int = K) -> Shards:
    """The rows (s, a) of the data, by teacher."""
    return Shards.of(np.hstack([data.observations, data.actions]), row_hashes(data, key), count)


def pieces(shards: Shards) -> list[bytes]:
    """The rows of each shard."""
    return [shards.rows[a:b].tobytes() for a, b in pairwise(shards.offsets)]


def test_shards_are_a_partition_of_the_rows() -> None:
    data, shards = umaze(2000), sharded(umaze(2000))
    assert list(shards.offsets[[0, -1]]) == [0, 2000]
    own = np.hstack([data.observations, data.actions])
    assert np.array_equal(np.unique(shards.rows[:-1], axis=0), np.unique(own, axis=0))
    assert not shards.rows[-1].any()


@pytest.mark.parametrize("place", [0, 777, 1999])
def test_a_row_more_or_less_changes_one_shard(place: int) -> None:
    data = umaze(2000)
    whole, fewer = pieces(sharded(data)), pieces(sharded(data.without([place])))
    assert sum(one != other for one, other in zip(whole, fewer, strict=True)) == 1


def test_the_order_of_the_rows_does_not_matter() -> None:
    data = umaze(2000)
    shuffled = data.rows(np.random.default_rng(0).permutation(2000))
    assert pieces(sharded(data)) == pieces(sharded(shuffled))


def test_copies_of_a_row_stay_together() -> None:
    copies = umaze(100).rows(np.zeros(30, np.int64))
    assert sorted(np.diff(sharded(copies).offsets))[-1] == 30


def test_the_key_decides_and_shards_are_about_equal() -> None:
    """Within five standard deviations of a binomial, for two keys that share no more than chance."""
    data, n = umaze(20_000), 20_000
    for key in (KEY, KEY + 1):
        sizes = np.diff(sharded(data, key).offsets)
        assert np.abs(sizes - n / K).max() < 5 * (n / K) ** 0.5
    one, other = (row_hashes(data, key) % np.uint64(K) for key in (KEY, KEY + 1))
    assert abs((one == other).mean() - 1 / K) < 0.01


def test_the_smallest_change_of_any_value_is_another_hash() -> None:
    data = umaze(1)
    table = data.table().repeat(len(data.schema.columns), axis=0)
    np.fill_diagonal(table[:, :-1], np.nextafter(np.diagonal(table[:, :-1]), np.float32(np.inf)))
    assert len(np.unique(row_hashes(Transitions.from_table(data.schema, table), KEY))) == len(table)


def test_dither_is_uniform_and_follows_from_the_row_alone() -> None:
    hashes = row_hashes(umaze(20_000), KEY)
    found = dither(hashes, 3)
    some = np.random.default_rng(0).permutation(20_000)[:100]
    assert np.array_equal(dither(hashes[some], 3), found[some])
    assert 0 <= found.min() < found.max() < 1
    assert np.abs(np.sort(found, axis=0) - np.arange(20_000)[:, None] / 20_000).max() < 0.015
    assert np.abs(np.corrcoef(found.T)[np.triu_indices(3, 1)]).max() < 0.03


def test_rows_are_drawn_from_each_teachers_own_shard_and_zeros_from_none() -> None:
    shards = sharded(umaze(60), count=100)
    drawn = shards.draw(np.random.default_rng(0).random((100, 8)))
    assert drawn.shape == (100, 8, 6)
    assert 0 < shards.empty.sum() < 100
    for k, batch in enumerate(drawn.numpy()):
        own = {row.tobytes() for row in shards.rows[shards.offsets[k] : shards.offsets[k + 1]]} or {bytes(24)}
        assert {row.tobytes() for row in batch} <= own


@pytest.mark.parametrize("place", [0.0, 0.5, 1 - 2**-53])
def test_every_place_is_inside_the_shard(place: float) -> None:
    shards = sharded(umaze(2000))
    drawn = shards.draw(np.full((K, 1), place))[:, 0].numpy()
    expected = shards.offsets[:-1] + (place * np.diff(shards.offsets)).astype(int)
    assert np.array_equal(drawn, shards.rows[expected])
    assert (expected < shards.offsets[1:]).all()


# --- teachers -------------------------------------------------------------------------------------------------------------------------------------

D, H, RATE = 5, 6, 1e-2


def batches(count: int, steps: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Own rows (count, 8, D) and generated ones (9, D) of each step; a teacher's rows follow from its index."""
    return [
        (
            torch.stack([torch.randn(8, D, generator=seeded(100 * step + k + seed)) for k in range(count)]),
            torch.randn(9, D, generator=seeded(1_000_000 + step)),
        )
        for step in range(steps)
    ]


def trained(weights: torch.Tensor, steps: list[tuple[torch.Tensor, torch.Tensor]]) -> Teachers:
    teachers = Teachers(weights, D, H, RATE)
    for own, generated in steps:
        teachers.learn(own, generated)
    return teachers


def module_of(weights: NDArray) -> nn.Sequential:
    """The same teacher as a plain PyTorch module."""
    network = nn.Sequential(nn.Linear(D, H), nn.LeakyReLU(0.2), nn.Linear(H, H), nn.LeakyReLU(0.2), nn.Linear(H, 1))
    parts = iter(torch.from_numpy(weights).split([D * H, H, H * H, H, H, 1]))
    with torch.no_grad():
        for layer in network[::2]:
            layer.weight.copy_(next(parts).view(layer.in_features, layer.out_features).T)
            layer.bias.copy_(next(parts))
    return network


def test_the_batch_of_teachers_is_a_loop_over_plain_ones() -> None:
    weights, steps = Teachers.random(4, D, H, seeded()), batches(4, 20)
    together, asked = trained(weights, steps), torch.randn(200, D)
    for k in range(4):
        alone = module_of(weights[k].numpy())
        optimizer = torch.optim.Adam(alone.parameters(), lr=RATE, betas=(0.5, 0.9))
        for own, generated in steps:
            optimizer.zero_grad()
            (softplus(-alone(own[k])).mean() + softplus(alone(generated)).mean()).backward()
            optimizer.step()
        np.testing.assert_allclose(together.votes(asked)[k], alone(asked)[:, 0].detach() > 0)
        expected = torch.cat([part.reshape(-1) for layer in alone[::2] for part in (layer.weight.T, layer.bias)])
        np.testing.assert_allclose(together.weights[k].detach(), expected.detach(), atol=1e-4)


@pytest.mark.parametrize("strange", [3.0, 1e20, np.nan])
def test_no_teacher_learns_of_anothers_rows(strange: float) -> None:
    """To the last bit, however strange the rows are."""
    weights, steps = Teachers.random(7, D, H, seeded()), batches(7, 10)
    other = [(own.clone(), generated) for own, generated in steps]
    for own, _ in other:
        own[3, 2] = strange
    one, two = (trained(weights, chosen).weights.detach().numpy() for chosen in (steps, other))
    changed = [k for k in range(7) if one[k].tobytes() != two[k].tobytes()]
    assert changed == [3]


def test_a_teacher_tells_its_rows_from_the_generated_ones() -> None:
    teachers = Teachers(Teachers.random(3, D, H, seeded()), D, H, RATE)
    for _ in range(200):
        teachers.learn(torch.randn(3, 32, D) + 2, torch.randn(32, D))
    assert teachers.votes(torch.randn(500, D) + 2).mean() > 0.9 > 0.1 > teachers.votes(torch.randn(500, D)).mean()


def test_random_teachers_differ_and_their_generator_repeats_them() -> None:
    one, two = (Teachers.random(5, D, H, seeded()) for _ in range(2))
    assert torch.equal(one, two)
    assert len(np.unique(one[:, 0])) == 5
    assert one[:, : (D + 1) * H].abs().max() <= D**-0.5
