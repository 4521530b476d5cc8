"""What every minibatch agent shares: the coordinates, the buffer, the policy handed to the evaluation, and the training loop.

An agent is a frozen dataclass of hyper-parameters that derives from `MinibatchAgent` and builds a `Learner`; everything else happens here.
Learners live in normalised coordinates, in training and in evaluation: states have zero mean and unit deviation under the rows handed in, actions
fill [-1, 1]. The actor's learning rate decays by cosine to 0 over the run: the schedule of this bench, for all agents alike. The agents' sources keep
the rate constant, but for IQL's, whose last evaluations on maze2d-medium then differ by a quarter of what they differ by with a constant rate.

Tensors have a leading dimension for K seeds that are trained side by side, each with its own weights, minibatches and noise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents._actors import Actor
from bench.core.data import Schema, Transitions
from bench.core.protocols import LearningCurve, Policy, Runtime

STATE_EPSILON = 1e-3  # added to the standard deviation of each state column (CORL, `compute_mean_std`)
BLOCK = 256  # steps whose random numbers are drawn in one call: a draw per step costs more than the gather
PROGRESS_REPORTS = 100  # per call of `train`
WEIGHT_FLOOR = 0.01  # added to each trajectory's weight in return-weighted sampling, which lies in [0, 1]; our choice


class Batch(NamedTuple):
    """A minibatch of B rows for each of K seeds, in normalised coordinates."""

    states: Tensor  # (K, B, S)
    actions: Tensor  # (K, B, A)
    rewards: Tensor  # (K, B)
    next_states: Tensor  # (K, B, S)
    continues: Tensor  # (K, B): 0 where s' is terminal and has no value, else 1; a timeout continues
    next_actions: Tensor  # (K, B, A): the action taken in s', where it is known
    followed: Tensor  # (K, B): 1 where it is, 0 at a trajectory's end and in rows that stand alone


@dataclass(frozen=True)
class Coordinates:
    """The affine maps from the environment's units to the learner's: states by the mean and deviation of the data, actions by their declared box."""

    state_mean: Tensor  # (S,)
    state_scale: Tensor  # (S,)
    action_centre: Tensor  # (A,)
    action_scale: Tensor  # (A,)

    @classmethod
    def of(cls, data: Transitions) -> Coordinates:
        """Measured on `data` alone. A constant action keeps its unit."""
        std, mean = torch.std_mean(torch.tensor(data.observations), dim=0, correction=0)
        low, high = action_bounds(data.schema)
        half = (high - low) / 2
        return cls(mean, std + STATE_EPSILON, (low + high) / 2, torch.where(half > 0, half, 1.0))

    def states(self, observations: NDArray) -> Tensor:
        return (torch.tensor(observations, dtype=torch.float32) - self.state_mean) / self.state_scale

    def actions(self, actions: NDArray) -> Tensor:
        return (torch.tensor(actions) - self.action_centre) / self.action_scale


def action_bounds(schema: Schema) -> tuple[Tensor, Tensor]:
    """Declared lows and highs of the actions, (A,) each."""
    return torch.tensor([column.low for column in schema.actions]), torch.tensor([column.high for column in schema.actions])


class Buffer:
    """The dataset as one float32 tensor on the device, so that a minibatch is a single gather.

    Rows are drawn with replacement: uniformly, or, if `return_weighted`, each in proportion to where its trajectory's return lies between the lowest
    and the highest, plus a floor (Yue et al. 2022, arXiv 2210.09241; Hong et al. 2023, arXiv 2310.04413, optimise such weights).
    """

    def __init__(self, data: Transitions, coordinates: Coordinates, device: str, *, return_weighted: bool = False) -> None:
        actions, followed = coordinates.actions(data.actions), torch.zeros(len(data))
        if data.trajectories is not None:
            followed[:] = 1
            followed[torch.tensor(data.trajectories[1:] - 1)] = 0
        columns = Batch(
            coordinates.states(data.observations),
            actions,
            torch.tensor(data.rewards)[:, None],
            coordinates.states(data.next_observations),
            torch.tensor(~data.terminals)[:, None],
            actions.roll(-1, 0),
            followed[:, None],
        )
        self.rows, self.widths = torch.cat(columns, 1).to(device), [column.shape[1] for column in columns]
        self.state_size, self.action_size = self.widths[:2]
        self.draw = _ReturnWeighted(data) if return_weighted else _Uniform(len(data))

    def minibatches(self, size: int, generators: Sequence[torch.Generator]) -> Iterator[Batch]:
        """Batches of `size` rows for each generator, without end."""
        while True:
            block = torch.stack([self.draw((BLOCK, size), generator) for generator in generators], 1).to(self.rows.device)
            for index in block:
                rows = self.rows.index_select(0, index.view(-1)).view(*index.shape, -1)
                states, actions, rewards, next_states, continues, next_actions, followed = rows.split(self.widths, -1)
                yield Batch(states, actions, rewards[..., 0], next_states, continues[..., 0], next_actions, followed[..., 0])


@dataclass(frozen=True)
class _Uniform:
    count: int

    def __call__(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        return torch.randint(self.count, shape, generator=generator)


class _ReturnWeighted:
    """Row numbers by the return of their trajectory: the inverse of a distribution function that is linear over each trajectory."""

    def __init__(self, data: Transitions) -> None:
        if data.trajectories is None:
            raise ValueError("return_weighted: these rows stand alone, without a return to weigh; hand in trajectories or set return_weighted=false")
        returns = np.add.reduceat(data.rewards.astype(np.float64), data.trajectories[:-1])
        weights = (returns - returns.min()) / max(np.ptp(returns), 1e-12) + WEIGHT_FLOOR
        self.first, self.weights = torch.tensor(data.trajectories), torch.tensor(weights)
        self.mass = torch.tensor([0.0, *np.cumsum(weights * np.diff(data.trajectories))], dtype=torch.float64)

    def __call__(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        drawn = torch.rand(shape, dtype=torch.float64, generator=generator) * self.mass[-1]
        chosen = torch.searchsorted(self.mass, drawn, right=True).sub_(1).clamp_(max=len(self.weights) - 1)
        row = self.first[chosen] + ((drawn - self.mass[chosen]) / self.weights[chosen]).long()
        return torch.minimum(row, self.first[chosen + 1] - 1)


def normals(shape: tuple[int, ...], generators: Sequence[torch.Generator], device: str) -> Iterator[Tensor]:
    """Standard normal tensors (K, *shape), without end."""
    while True:
        yield from torch.stack([torch.randn(BLOCK, *shape, generator=generator) for generator in generators], 1).to(device)


def adam(*groups: Sequence[Tensor], learning_rate: float, seeds: int) -> torch.optim.Adam:
    """Adam with PyTorch's defaults over parameter groups whose rates can differ; the fused kernel is one pass over all parameters.

    Losses are means over seeds, so every seed has a K-th of its own gradient. With epsilon a K-th, too, Adam's step is the same but for rounding.
    """
    return torch.optim.Adam([{"params": list(group)} for group in groups], lr=learning_rate, eps=1e-8 / seeds, fused=True)


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One gradient step."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
    loss.backward()
    optimizer.step()


class Learner(Protocol):
    """K seeds of an agent: their networks and optimisers."""

    @property
    def actor(self) -> Actor: ...

    def update(self, batch: Batch, decay: float) -> None:
        """One gradient step; `decay` falls from 1 to 0 over the run and multiplies the actor's learning rate."""
        ...


class FrozenPolicy:
    """A copy of one seed's actor at its present weights, on the CPU: observations (n, S) to actions (n, A) inside the schema's bounds, both numpy."""

    def __init__(self, actor: Actor, seed: int, coordinates: Coordinates, schema: Schema) -> None:
        self.actor, self.coordinates = actor.of_seed(seed), coordinates
        self.low, self.high = action_bounds(schema)

    @torch.inference_mode()
    def __call__(self, observations: NDArray) -> NDArray:
        actions = self.actor(self.coordinates.states(observations)[None])[0]
        return (self.coordinates.action_centre + self.coordinates.action_scale * actions).clamp(self.low, self.high).numpy()


@dataclass(frozen=True)
class MinibatchAgent(ABC):
    """An agent that takes one gradient step for each minibatch: the base of the dataclasses in this package."""

    batch_size: int = 256  # rows of a minibatch (PrivORL and CORL, all agents)
    return_weighted: bool = False  # draw rows in proportion to their trajectory's return; needs trajectories

    @abstractmethod
    def learner(self, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> Learner:
        """A fresh learner on `device` with a seed for each generator; all randomness, now and later, comes from these, which live on the CPU."""

    def notes(self, data: Transitions) -> Mapping[str, str]:
        """What the record must say about a run on `data`, for each field that could not act as it was set."""
        return {}

    def train(
        self,
        data: Transitions,
        rngs: Sequence[np.random.Generator],
        *,
        steps: int,
        evaluate_every: int,
        evaluate: Callable[[Sequence[Policy]], NDArray],
        runtime: Runtime,
    ) -> list[LearningCurve]:
        """Train one policy for each generator and evaluate them together every `evaluate_every` steps and after the last one.

        Every seed has its own weights, minibatches and generator, so its curve is the same with or without companions. Where steps wait for launches
        (a GPU) all seeds are one learner; on a CPU they are trained in turn, because a batch of seeds would only wear out the cache.

        Raises:
            ValueError: no rows, or steps or evaluate_every below 1; return_weighted without trajectories.
        """
        require_trainable(data, steps, evaluate_every)
        with limited_threads(runtime.threads):
            coordinates = Coordinates.of(data)
            buffer = Buffer(data, coordinates, runtime.device, return_weighted=self.return_weighted)
            generators = [torch.Generator().manual_seed(int(rng.integers(2**63))) for rng in rngs]
            groups = [[generator] for generator in generators] if runtime.device == "cpu" else [generators]
            learners = [self.learner(buffer.state_size, buffer.action_size, group, runtime.device) for group in groups]
            streams = [buffer.minibatches(self.batch_size, group) for group in groups]
            progress = Progress(runtime.progress, steps * len(learners))
            marks, returns = [*range(evaluate_every, steps, evaluate_every), steps], []
            for start, stop in pairwise([0, *marks]):
                for learner, batches in zip(learners, streams, strict=True):
                    for step in range(start, stop):
                        learner.update(next(batches), cosine(step / steps))
                        progress.advance()
                seeds = [(learner.actor, seed) for learner, group in zip(learners, groups, strict=True) for seed in range(len(group))]
                returns.append(evaluate([FrozenPolicy(actor, seed, coordinates, data.schema) for actor, seed in seeds]))
        return [LearningCurve(tuple(marks), tuple(map(float, curve)), self.notes(data)) for curve in np.transpose(returns)]


def require_trainable(data: Transitions, steps: int, evaluate_every: int) -> None:
    """Refuse what no agent can learn from."""
    if len(data) == 0:
        raise ValueError("data: 0 rows leave nothing to learn from; hand the agent a dataset with at least one transition")
    for name, count in (("steps", steps), ("evaluate_every", evaluate_every)):
        if count < 1:
            raise ValueError(f"{name}: {count} leaves nothing to do; give a whole number of at least 1")


def cosine(fraction: float) -> float:
    """Cosine decay from 1 at fraction 0 to 0 at fraction 1 of a run."""
    return (1 + math.cos(math.pi * fraction)) / 2


class Progress:
    """Counts steps and reports about a hundred times."""

    def __init__(self, report: Callable[[int, int], None], total: int) -> None:
        self.report, self.total, self.done = report, total, 0
        self.stride = math.ceil(total / PROGRESS_REPORTS)

    def advance(self) -> None:
        self.done += 1
        if self.done % self.stride == 0 or self.done == self.total:
            self.report(self.done, self.total)


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads, and give it back what it had."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
