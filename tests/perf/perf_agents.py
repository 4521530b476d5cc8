"""Milliseconds of CPU per gradient step: the IQL agent against the plain eager IQL, interleaved on one thread. Prints; asserts nothing.

Run as `python -m tests.perf.perf_agents [ROUNDS]`.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from agents._parts import Buffer, Coordinates
from agents.bc import BC
from agents.iql import IQL
from bench.core.data import Transitions
from bench.envs.maze2d import UMAZE
from tests.agents.plain_iql import PlainIQL

ROWS, STEPS = 200_000, 50  # rows of the dataset; gradient steps in a round


def agent_step(agent: IQL | BC, data: Transitions) -> Callable[[], None]:
    """One step of the project's agent: minibatch and update."""
    generator = torch.Generator().manual_seed(0)
    learner = agent.learner(4, 2, generator, "cpu")
    batches = Buffer(data, Coordinates.of(data), "cpu").minibatches(agent.batch_size, generator)
    return lambda: learner.update(next(batches), 0.5)


def plain_step(width: int, batch_size: int, data: Transitions) -> Callable[[], None]:
    """One step of the peer, which gathers each column by itself, as CORL's buffer does."""
    peer, rng = PlainIQL(4, 2, width, 10**6), np.random.default_rng(0)
    peer.start()
    arrays = (data.observations, data.actions, data.rewards, data.next_observations, 1 - data.terminals.astype(np.float32))
    columns = [torch.tensor(array) for array in arrays]

    def step() -> None:
        index = rng.integers(0, ROWS, batch_size)
        peer.update([column[index] for column in columns])

    return step


def milliseconds(step: Callable[[], None]) -> float:
    """CPU time of one step, mean of a round."""
    start = time.process_time()
    for _ in range(STEPS):
        step()
    return (time.process_time() - start) / STEPS * 1e3


def main(rounds: int) -> None:
    torch.set_num_threads(1)
    data = UMAZE.dataset(ROWS, 0, "train")
    print(f"median of {rounds} rounds, ms of CPU per step [quartiles]; ratio = median over rounds of plain / agent [quartiles]")
    for width, batch_size in ((256, 256), (128, 256), (128, 128)):
        iql, bc = IQL(width=width, batch_size=batch_size), BC(width=width, batch_size=batch_size)
        steps = {"iql": agent_step(iql, data), "plain iql": plain_step(width, batch_size, data), "bc": agent_step(bc, data)}
        for step in steps.values():
            milliseconds(step)  # warm up
        times = {
            name: np.array(column) for name, *column in zip(steps, *([milliseconds(s) for s in steps.values()] for _ in range(rounds)), strict=True)
        }
        cells = [*(spread(name, column) for name, column in times.items()), spread("ratio", times["plain iql"] / times["iql"])]
        print(f"width {width} batch {batch_size}: " + ", ".join(cells))


def spread(name: str, values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{name} {middle:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
