"""Every agent takes the same hundred steps as its plain twin, whichever way the products go."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from agents._networks import MLP
from agents._parts import Batch, normals
from agents.awac import AWAC
from agents.bc import BC
from agents.cql import CQL
from agents.edac import EDAC
from agents.iql import IQL
from agents.rebrac import ReBRAC
from agents.td3_bc import TD3BC
from tests.agents.plain import Plain
from tests.agents.plain_awac import PlainAWAC
from tests.agents.plain_bc import PlainBC
from tests.agents.plain_cql import PlainCQL
from tests.agents.plain_edac import PlainEDAC
from tests.agents.plain_iql import PlainIQL
from tests.agents.plain_td3 import PlainReBRAC, PlainTD3BC

STEPS, ROWS, STATES, ACTIONS = 100, 64, 4, 2
TOLERANCE = 1e-5
"""EDAC's twin comes within 1.4e-6, the others within 1e-7; a temperature that is not learned makes a difference of 2e-5."""
TWINS: dict[str, tuple[Any, type[Plain]]] = {
    "bc": (BC(width=32, batch_size=ROWS), PlainBC),
    "iql": (IQL(width=32, batch_size=ROWS), PlainIQL),
    "td3-bc": (TD3BC(width=32, batch_size=ROWS), PlainTD3BC),
    "rebrac": (ReBRAC(width=32, batch_size=ROWS, critic_penalty=0.1), PlainReBRAC),
    "rebrac, shallow": (ReBRAC(width=32, depth=2, layer_norm=False, learning_rate=1e-3, batch_size=ROWS), PlainReBRAC),
    "edac": (EDAC(width=32, batch_size=ROWS, critics=4, eta=1.0), PlainEDAC),
    "awac": (AWAC(width=32, batch_size=ROWS), PlainAWAC),
    "cql": (CQL(width=32, batch_size=ROWS, proposals=3), PlainCQL),
    "cql, fixed weight": (CQL(width=32, batch_size=ROWS, proposals=3, lagrange=False, conservatism=5, softness=0.1), PlainCQL),
}
every_twin = pytest.mark.parametrize("name", TWINS)


def batches(seed: int) -> Iterator[Batch]:
    """Minibatches of one seed, (1, B, ...): unrelated rows, of which some end and some are followed."""
    rng = torch.Generator().manual_seed(seed)
    while True:
        states, next_states = torch.randn(2, 1, ROWS, STATES, generator=rng)
        actions, next_actions = torch.rand(2, 1, ROWS, ACTIONS, generator=rng) * 2 - 1
        rewards, chances = 3 * torch.randn(1, ROWS, generator=rng), torch.rand(2, 1, ROWS, generator=rng)
        yield Batch(states, actions, rewards, next_states, (chances[0] > 0.3).float(), next_actions, (chances[1] > 0.3).float())


def networks(learner: Any) -> list[Tensor]:
    """The weights of every network that a learner holds, each in one vector (K, P), in the order in which it made them."""
    found = [value for part in vars(learner).values() for value in (part, *getattr(part, "__dict__", {}).values())]
    own = [value for value in found if isinstance(value, MLP) and value.parameters.is_leaf and value.parameters.requires_grad]
    return [row for network in own for row in network.parameters.detach().unflatten(0, (network.seeds, -1)).unbind(1)]


def scalars(holder: Any) -> dict[str, Tensor]:
    """What is learned beside the networks, by name: deviations, temperatures, Lagrange factors."""
    parts = [vars(part) for part in (holder, getattr(holder, "actor", None)) if hasattr(part, "__dict__")]
    return {name: value.detach().flatten() for part in parts for name, value in part.items() if name.startswith("log_") and value.requires_grad}


@every_twin
@pytest.mark.usefixtures("way")
def test_a_hundred_steps_equal_the_plain_twin(name: str) -> None:
    agent, plain = TWINS[name]
    generator, twin = torch.Generator().manual_seed(0), torch.Generator()
    learner = agent.learner(STATES, ACTIONS, [generator], "cpu")
    twin.set_state(generator.get_state())
    shape = (2 + 3 * agent.proposals, ROWS, ACTIONS) if isinstance(agent, CQL) else (ROWS, ACTIONS)
    noise = (drawn[0] for drawn in normals(shape, [twin], "cpu"))
    reference = plain(agent, STATES, ACTIONS, STEPS, [row[0] for row in networks(learner)], noise)
    for step, batch in zip(range(STEPS), batches(1), strict=False):
        learner.update(batch, float((1 + torch.cos(torch.tensor(torch.pi * step / STEPS))) / 2))
        reference.update([column[0] for column in batch])
    for row, network in zip(networks(learner), reference.networks(), strict=True):
        torch.testing.assert_close(row[0], torch.nn.utils.parameters_to_vector(network.parameters()).detach(), atol=TOLERANCE, rtol=0)
    for learned, value in scalars(learner).items():
        torch.testing.assert_close(value, getattr(reference, learned).detach().flatten(), atol=TOLERANCE, rtol=0)


@every_twin
@pytest.mark.usefixtures("way")
def test_a_seed_in_a_batch_of_seeds_equals_the_seed_alone(name: str) -> None:
    """Four seeds: a power of two scales gradients without rounding, which Adam's first steps would amplify."""
    agent = TWINS[name][0]

    def trained(seeds: list[int]) -> list[Tensor]:
        learner = agent.learner(STATES, ACTIONS, [torch.Generator().manual_seed(seed) for seed in seeds], "cpu")
        for _, *given in zip(range(20), *map(batches, seeds), strict=False):
            learner.update(Batch(*map(torch.cat, zip(*given, strict=True))), 1.0)
        return networks(learner)

    together, alone = trained([3, 1, 2, 0]), [trained([seed]) for seed in (3, 1, 2, 0)]
    for position, rows in enumerate(alone):
        for row, joint in zip(rows, together, strict=True):
            torch.testing.assert_close(joint[position], row[0], atol=1e-5, rtol=1e-5)
