"""What every minibatch agent shares: the buffer, the networks, the policy handed to the evaluation, and the training loop.

An agent is a frozen dataclass of hyper-parameters that derives from `MinibatchAgent` and builds a `Learner`; everything else happens here.
Learners live in normalised coordinates: states have zero mean and unit deviation under the rows handed in, actions fill [-1, 1].
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.core.data import Schema, Transitions
from bench.core.protocols import LearningCurve, Policy, Runtime

STATE_EPSILON = 1e-3  # added to the standard deviation of each state column (CORL, `compute_mean_std`)
INDEX_BLOCK = 256  # minibatches whose row numbers are drawn in one call: a draw per step costs more than the gather
PROGRESS_REPORTS = 100  # per call of `train`


class Batch(NamedTuple):
    """A minibatch of B rows in normalised coordinates. `continues` is 0 where s' is terminal and has no value, else 1; a timeout continues."""

    states: Tensor  # (B, S)
    actions: Tensor  # (B, A)
    rewards: Tensor  # (B,)
    next_states: Tensor  # (B, S)
    continues: Tensor  # (B,)


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
    """The dataset as one float32 tensor on the device, so that a minibatch is a single gather."""

    def __init__(self, data: Transitions, coordinates: Coordinates, device: str) -> None:
        columns = Batch(
            coordinates.states(data.observations),
            coordinates.actions(data.actions),
            torch.tensor(data.rewards),
            coordinates.states(data.next_observations),
            torch.tensor(~data.terminals),
        )
        self.rows = torch.column_stack(columns).to(device)
        self.state_size, self.action_size = data.observations.shape[1], data.actions.shape[1]

    def minibatches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Batches of `size` rows, uniform with replacement, without end."""
        widths = [self.state_size, self.action_size, 1, self.state_size, 1]
        while True:
            for index in torch.randint(len(self.rows), (INDEX_BLOCK, size), generator=generator).to(self.rows.device):
                states, actions, rewards, next_states, continues = self.rows.index_select(0, index).split(widths, dim=1)
                yield Batch(states, actions, rewards[:, 0], next_states, continues[:, 0])


class EnsembleLinear(nn.Module):
    """`members` independent linear layers, evaluated as one batched product.

    Weights and biases start uniform in +-1/sqrt(fan-in), PyTorch's default for a linear layer, drawn from `generator`.
    """

    def __init__(self, members: int, fan_in: int, fan_out: int, generator: torch.Generator, device: str) -> None:
        super().__init__()
        bound = fan_in**-0.5
        self.weight = nn.Parameter(torch.empty(members, fan_in, fan_out).uniform_(-bound, bound, generator=generator).to(device))
        self.bias = nn.Parameter(torch.empty(members, 1, fan_out).uniform_(-bound, bound, generator=generator).to(device))

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, I) common to all members, or (members, B, I), to (members, B, O)."""
        inputs = inputs.expand(len(self.weight), -1, -1)
        if self.weight.shape[2] == 1:  # a batched product of one column falls into a kernel that is slower than this sum by far
            return (inputs * self.weight.mT).sum(2, keepdim=True) + self.bias
        return torch.baddbmm(self.bias, inputs, self.weight)


def mlp(sizes: Sequence[int], generator: torch.Generator, device: str, members: int = 1) -> nn.Sequential:
    """`members` independent ReLU networks with layers of the given sizes: (B, sizes[0]) to (members, B, sizes[-1])."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [EnsembleLinear(members, fan_in, fan_out, generator, device), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class TanhActor(nn.Module):
    """A deterministic policy in the open box (-1, 1)^A."""

    def __init__(self, sizes: Sequence[int], generator: torch.Generator, device: str) -> None:
        super().__init__()
        self.network = mlp(sizes, generator, device)

    def forward(self, states: Tensor) -> Tensor:
        """States (B, S) to actions (B, A)."""
        return self.network(states)[0].tanh()


def adam(*groups: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Adam:
    """Adam with PyTorch's defaults over parameter groups whose rates can differ; the fused kernel is one pass over all parameters."""
    return torch.optim.Adam([{"params": list(group)} for group in groups], lr=learning_rate, fused=True)


@torch.no_grad()
def polyak_update(target: nn.Module, source: nn.Module, rate: float) -> None:
    """target <- (1 - rate) target + rate source."""
    for old, new in zip(target.parameters(), source.parameters(), strict=True):
        old.lerp_(new, rate)


class Learner(Protocol):
    """One seed of an agent: its networks and optimisers."""

    @property
    def actor(self) -> nn.Module:
        """From normalised states (B, S) to the deterministic actions (B, A) that are evaluated; they are clipped to [-1, 1] afterwards."""
        ...

    def update(self, batch: Batch, decay: float) -> None:
        """One gradient step; `decay` falls from 1 to 0 over the run and multiplies the actor's learning rate."""
        ...


class FrozenPolicy:
    """A copy of an actor at its present weights, on the CPU: observations (n, S) to actions (n, A) inside the schema's bounds, both numpy."""

    def __init__(self, actor: nn.Module, coordinates: Coordinates, schema: Schema) -> None:
        self.actor, self.coordinates = copy.deepcopy(actor).cpu(), coordinates
        self.low, self.high = action_bounds(schema)

    @torch.inference_mode()
    def __call__(self, observations: NDArray) -> NDArray:
        actions = self.actor(self.coordinates.states(observations))
        return (self.coordinates.action_centre + self.coordinates.action_scale * actions).clamp(self.low, self.high).numpy()


class MinibatchAgent(ABC):
    """An agent that takes one gradient step for each uniform minibatch: the base of the dataclasses in this package."""

    batch_size: int

    @abstractmethod
    def learner(self, state_size: int, action_size: int, generator: torch.Generator, device: str) -> Learner:
        """A fresh learner on `device`; all its randomness, now and later, comes from `generator`, which lives on the CPU."""

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

        Every seed has its own weights, minibatches and generator, so its curve is the same with or without companions.

        Raises:
            ValueError: no rows, or steps or evaluate_every below 1.
        """
        require_trainable(data, steps, evaluate_every)
        with limited_threads(runtime.threads):
            coordinates = Coordinates.of(data)
            buffer = Buffer(data, coordinates, runtime.device)
            generators = [torch.Generator().manual_seed(int(rng.integers(2**63))) for rng in rngs]
            learners = [self.learner(buffer.state_size, buffer.action_size, generator, runtime.device) for generator in generators]
            streams = [buffer.minibatches(self.batch_size, generator) for generator in generators]
            progress = Progress(runtime.progress, steps * len(rngs))
            marks, returns = [*range(evaluate_every, steps, evaluate_every), steps], []
            for start, stop in pairwise([0, *marks]):
                for learner, batches in zip(learners, streams, strict=True):
                    for step in range(start, stop):
                        learner.update(next(batches), cosine(step / steps))
                        progress.advance()
                returns.append(evaluate([FrozenPolicy(learner.actor, coordinates, data.schema) for learner in learners]))
        return [LearningCurve(tuple(marks), tuple(map(float, curve))) for curve in np.transpose(returns)]


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
