"""CPU milliseconds of a gradient step: the agents against their plain twins, which are written as CORL writes its own. Prints; asserts nothing.

Run as `python -m tests.perf.perf_agents [ROUNDS [AGENT]]`. The twins run as they are, with fused Adam, and with oneDNN's product as well, which costs
more than it gives where networks are small or differentiated twice: the tuned peer is the faster of these two. On a GPU: not measured.
"""

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from agents._parts import Buffer, Coordinates, MinibatchAgent
from agents.awac import AWAC
from agents.edac import EDAC
from agents.iql import IQL
from agents.rebrac import ReBRAC
from agents.td3_bc import TD3BC
from bench.core.data import Transitions
from bench.envs.maze2d import UMAZE
from tests.agents.plain import Plain
from tests.agents.plain_awac import PlainAWAC
from tests.agents.plain_edac import PlainEDAC
from tests.agents.plain_iql import PlainIQL
from tests.agents.plain_td3 import PlainReBRAC, PlainTD3BC
from tests.perf.side_by_side import clocked, interleaved, print_load, print_ratio, print_times, restart_as_worker

ROWS, SECONDS = 200_000, 0.3  # rows of the dataset; about what a round of an agent takes
CASES: dict[str, tuple[Any, type[Plain], str, str]] = {  # agent, twin, goals: plain / agent, tuned / agent
    "iql, 256 x 256": (IQL(), PlainIQL, ">= 2.5", ">= 1.4"),
    "td3-bc, 256 x 256": (TD3BC(), PlainTD3BC, ">= 2.5", ">= 1.4"),
    "edac, 3 x 256, 10 critics": (EDAC(), PlainEDAC, ">= 2.5", ">= 1.4"),
    "awac, 3 x 256": (AWAC(), PlainAWAC, "", ""),
    "iql, 128 x 128": (IQL(width=128), PlainIQL, "", ""),
    "rebrac, 128 x 128": (ReBRAC(width=128, depth=2, layer_norm=False, critic_penalty=0), PlainReBRAC, "", ""),
    "rebrac, 3 x 256, layer_norm": (ReBRAC(), PlainReBRAC, "", ""),
}

PEERS: dict[str, dict[str, bool]] = {"plain": {}, "fused": {"fused": True}, "onednn": {"fused": True, "onednn": True}}


def agent_step(agent: MinibatchAgent, data: Transitions) -> Callable[[], None]:
    """A step of the project's agent: minibatch and update."""
    generators = [torch.Generator().manual_seed(0)]
    learner = agent.learner(data.observations.shape[1], data.actions.shape[1], generators, "cpu")
    batches = Buffer(data, Coordinates.of(data), "cpu").minibatches(agent.batch_size, generators)
    return lambda: learner.update(next(batches), 0.5)


def plain_step(peer: Plain, data: Transitions) -> Callable[[], None]:
    """A step of a peer, which gathers each column by itself, as CORL's buffer does."""
    rng, actions, unknown = np.random.default_rng(0), data.actions, 0 * data.rewards
    arrays = (data.observations, actions, data.rewards, data.next_observations, 1 - data.terminals.astype(np.float32), actions, unknown)
    columns = [torch.tensor(array) for array in arrays]

    def step() -> None:
        index = rng.integers(0, len(data), peer.agent.batch_size)
        peer.update([column[index] for column in columns])

    return step


def repeated(step: Callable[[], None], count: int) -> Callable[[], None]:
    def steps() -> None:
        for _ in range(count):
            step()

    return steps


def main(rounds: int, only: str) -> None:
    torch.set_num_threads(1)
    data = UMAZE.dataset(ROWS, 0, "train")
    print(f"minibatches of 256, {rounds} rounds: medians and their 95 % intervals")
    print_load("before")
    for name, (agent, twin, goal, tuned_goal) in CASES.items():
        if not name.startswith(only):
            continue
        step = agent_step(agent, data)
        count = math.ceil(SECONDS / min(clocked(step)[1].cpu for _ in range(5)))
        peers = {kind: plain_step(twin(agent, 4, 2, 10**6, **parts), data) for kind, parts in PEERS.items()}
        times = interleaved({kind: repeated(one, count) for kind, one in {"agent": step, **peers}.items()}, rounds)
        print(name)
        print_times(times, "ms", 1e3 / count)
        print_ratio(times, "plain", "agent", goal)
        print_ratio(times, "fused", "agent", tuned_goal)
        print_ratio(times, "onednn", "agent", tuned_goal)
    print_load("after")


if __name__ == "__main__":
    restart_as_worker()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15, sys.argv[2] if len(sys.argv) > 2 else "")
