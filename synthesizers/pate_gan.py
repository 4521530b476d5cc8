"""PATE-GAN: a generator trained through a student that sees generated rows alone, labelled by a noisy vote of teachers.

Jordon, Yoon and van der Schaar (ICLR 2019), on the teachers of Papernot et al. (2017) with Gaussian votes (Papernot et al. 2018).

Privacy: a keyed hash gives each row to one teacher, for good. In each round the teachers take one step and vote on q fresh generated rows: how
many of the K teachers take the row for real. Adding or removing one row changes one teacher, which moves each count by at most 1 and the q
counts together by at most sqrt(q): a Gaussian answer of that L2 sensitivity in each round, every count charged; any number of rows moves them at
most K times as far. Rounds, counts and noise are declared before the first step, and nothing stops early. Student and generator know the noisy
counts and public randomness alone. The columns' distribution functions come from one Gaussian answer, their histograms (a fixed share of the
budget). Unit: transition.

Differs from the paper, and from the code that the published comparison runs (synthcity's), in:
1. A vote is a Gaussian answer, and the student learns the noisy *share* of the votes: the logistic loss is linear in its label, so noise of mean 0
   leaves its gradient right on average. A threshold would throw away how sure the teachers were.
2. The accounting knows no votes: rounds and noise are fixed beforehand. The paper's depends on the votes, and training goes on until it has spent
   epsilon, a number that tells of the rows itself.
3. Thousands of small teachers that persist, trained side by side, where synthcity has 15 that are built anew every round: the noise of a vote is
   measured in teachers. The student learns from the labels of 8 rounds.
4. Student and generator have logistic losses, as in the paper; synthcity's student is a Wasserstein critic.
5. Synthcity's encoder of columns is fitted on private rows for nothing; ours is paid for. Levels and terminals become intervals of normal scores.
6. The generator begins as independent columns, each distributed as it was bought: the game is left with what ties columns together.
7. What is released is an average of the generator's weights. Its columns are made standard normal again by their ranks among many rows of
   its own, which costs nothing: so each column stays distributed as it was bought.
8. One budget buys few rounds (1,000, where the published comparison plays 3,195 of 10 epochs each), so all players learn at higher rates.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from bench.core.data import Schema, Transitions, Unit
from bench.core.errors import InputError
from bench.core.privacy import Gaussian, Ledger
from bench.core.protocols import Runtime, State
from synthesizers._parts.checks import require_at_least, require_positive, require_pretrained, require_within
from synthesizers._parts.discretize import exact_columns, varying_grids
from synthesizers._parts.linear import perceptron
from synthesizers._parts.marginals import learn_columns
from synthesizers._parts.normal_scores import NormalScores, renormalized
from synthesizers._parts.phases import Phases
from synthesizers._parts.teachers import Shards, Teachers, dither, row_hashes
from synthesizers._parts.training import Average, flatten_parameters

Ask = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""Counts of votes (q,) to counts with noise."""
_COLUMNS_WEIGHT = 0.05
"""Share of the budget for the histograms behind the normal scores."""
_CELLS, _BINS = 4096, 64
"""Resolution of these histograms."""
_BETAS = (0.5, 0.9)
_SLOPE = 0.2
_RANKED = 2**16
"""Generated rows that a released one finds its ranks among."""


@dataclass(frozen=True)
class PateGAN(Phases):
    """PATE-GAN. The defaults were chosen on the public mazes; what the published comparison runs stands in brackets.

    Attributes:
        teachers: K (15).
        teacher_width, teacher_batch, teacher_rate: units of a teacher's two layers, rows in its step, rate of its Adam (boosted trees).
        queries: generated rows in a round whose votes are asked, and charged (200 rows, charged in part).
        memory: rounds whose labels the student still learns from (1).
        width: units of student and generator, two layers each (113 and 141).
        latent: normals that a row is generated from, beside one for each column.
        student_rate, generator_rate: rates of their Adam (7.5e-5).
        generator_batch: rows in a step of the generator.
        decay: of the average over the generator's weights (none).
        pretraining_rounds: rounds on public rows, without noise on the votes; 0 for none.
        rounds: on sensitive rows.
        fine_tune: false for the pre-trained generator alone.
    """

    version: ClassVar[int] = 1
    unit: ClassVar[Unit] = Unit.TRANSITION

    teachers: int = 4000
    teacher_width: int = 16
    teacher_batch: int = 8
    teacher_rate: float = 5e-3
    queries: int = 64
    memory: int = 8
    width: int = 128
    latent: int = 32
    student_rate: float = 3e-3
    generator_rate: float = 4e-4
    generator_batch: int = 256
    decay: float = 0.99
    pretraining_rounds: int = 0
    rounds: int = 1000
    fine_tune: bool = True

    def __post_init__(self) -> None:
        counts = ("teachers", "teacher_width", "teacher_batch", "queries", "memory", "width", "latent", "generator_batch", "rounds")
        require_at_least(1, **{name: getattr(self, name) for name in counts})
        require_at_least(0, pretraining_rounds=self.pretraining_rounds)
        require_positive(**{name: getattr(self, name) for name in ("teacher_rate", "student_rate", "generator_rate")})
        require_within(0, 1, decay=self.decay)
        if not self.fine_tune and not self.pretraining_rounds:
            raise InputError("fine_tune: false with pretraining_rounds=0 leaves a generator that was trained on nothing; set one of them")

    @property
    def pretraining(self) -> Pretraining | None:
        """The public phase; variants that differ in what follows it share one."""
        return Pretraining(replace(self, rounds=1, fine_tune=True)) if self.pretraining_rounds else None

    def audit_size(self) -> PateGAN:
        """Small enough for hundreds of fits."""
        return replace(self, teachers=20, teacher_width=4, width=8, latent=4, queries=8, pretraining_rounds=min(self.pretraining_rounds, 5), rounds=5)

    def fit(
        self,
        data: Transitions,
        ledger: Ledger,
        rng: np.random.Generator,
        *,
        public: Mapping[str, Transitions],
        pretrained: State | None,
        runtime: Runtime,
    ) -> PateSampler:
        if not self.fine_tune:
            return self.restore(data.schema, require_pretrained(pretrained))
        d = len(varying_grids(data.schema, _CELLS))
        plan = ledger.plan(
            one_way=Gaussian(l2=sqrt(d), weight=_COLUMNS_WEIGHT),
            votes=Gaussian(l2=sqrt(self.queries), count=self.rounds, weight=1 - _COLUMNS_WEIGHT, saturation=self.teachers),
        )
        scores = NormalScores(learn_columns(data, plan.one_way, _CELLS, _BINS)[0])
        hashes = row_hashes(data, ledger.secret_key())
        shards = Shards.of(scores.encode(data, dither(hashes, d)), hashes, self.teachers)
        start = pretrained or self.random_start(d, rng)
        trained = self.play(start, shards, plan.votes, self.rounds, rng, runtime)
        return self.restore(data.schema, {**trained, **scores.state()})

    def restore(self, schema: Schema, state: State) -> PateSampler:
        return PateSampler(self, NormalScores.restore(schema, state), state["generator"])

    def random_start(self, columns: int, rng: np.random.Generator) -> State:
        """Weights of the three players before any training."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        networks = {"generator": self.generator(columns, generator), "student": self.student(columns, generator)}
        teachers = Teachers.random(self.teachers, columns, self.teacher_width, generator)
        return {**{name: flatten_parameters(network).numpy() for name, network in networks.items()}, "teachers": teachers.numpy()}

    def generator(self, columns: int, draws: torch.Generator | None = None) -> Generator:
        return Generator(columns, self.latent, self.width, draws or torch.Generator())

    def student(self, columns: int, draws: torch.Generator | None = None) -> nn.Sequential:
        """Scores (n, columns) to the logit of being real (n, 1)."""
        return perceptron([columns, self.width, self.width, 1], nn.LeakyReLU(_SLOPE), draws or torch.Generator())

    def play(self, start: State, shards: Shards, ask: Ask, rounds: int, rng: np.random.Generator, runtime: Runtime) -> State:
        """The players after so many rounds from `start`; the generator is the average over its rounds.

        In each round the teachers learn and vote on fresh rows, the student learns the shares that it is told, the generator from it.
        """
        players, draws = _Players(self, start, shards.rows.shape[1]), torch.Generator().manual_seed(int(rng.integers(2**62)))
        places, coins = rng.spawn(2)
        votes_of_the_empty = coins.random((self.teachers, 1)) < 0.5
        labelled: deque[tuple[Tensor, Tensor]] = deque(maxlen=self.memory)
        for done in range(rounds):
            with torch.no_grad():
                fakes = players.generated(self.teacher_batch + self.queries, draws)
            shown, asked = fakes.split([self.teacher_batch, self.queries])
            players.teachers.learn(shards.draw(places.random((self.teachers, self.teacher_batch))), shown)
            votes = np.where(shards.empty[:, None], votes_of_the_empty, players.teachers.votes(asked))
            labelled.append((asked, torch.from_numpy(ask(votes.sum(0)) / self.teachers).float()))
            rows, shares = map(torch.cat, zip(*labelled, strict=True))
            players.student_learns(rows, shares)
            players.generator_learns(players.generated(self.generator_batch, draws))
            runtime.progress(done + 1, rounds)
        return players.state()


class _Players:
    """Teachers, student and generator in training: made of a state, and a state again at the end."""

    def __init__(self, method: PateGAN, start: State, columns: int) -> None:
        self.teachers = Teachers(torch.from_numpy(start["teachers"]), columns, method.teacher_width, method.teacher_rate)
        self._generator, self._student = method.generator(columns), method.student(columns)
        self._weights = {"generator": flatten_parameters(self._generator), "student": flatten_parameters(self._student)}
        for name, weights in self._weights.items():
            weights.copy_(torch.from_numpy(start[name]))
        self._average = Average(self._weights["generator"], method.decay)
        self._generator_optimizer = torch.optim.Adam(self._generator.parameters(), lr=method.generator_rate, betas=_BETAS, fused=True)
        self._student_optimizer = torch.optim.Adam(self._student.parameters(), lr=method.student_rate, betas=_BETAS, fused=True)

    def generated(self, rows: int, draws: torch.Generator) -> Tensor:
        """Scores (rows, D)."""
        return self._generator.generated(rows, draws)

    def student_learns(self, rows: Tensor, shares: Tensor) -> None:
        """One step on labelled rows (n, D); the loss is linear in the noisy shares (n,)."""
        logits = self._student(rows).squeeze(1)
        _descend((softplus(logits) - shares * logits).mean(), self._student_optimizer)

    def generator_learns(self, rows: Tensor) -> None:
        """One step towards rows that the student takes for real."""
        _descend(softplus(-self._student(rows)).mean(), self._generator_optimizer)
        self._average.follow(self._weights["generator"])

    def state(self) -> State:
        arrays = {"teachers": self.teachers.weights, "student": self._weights["student"], "generator": self._average.values}
        return {name: array.detach().numpy() for name, array in arrays.items()}


class Generator(nn.Module):
    """Normals (n, D + latent) to scores (n, D): the first D normals, and what a perceptron of two layers adds to them.

    At first it adds nothing, so that the game begins at independent columns.
    """

    def __init__(self, columns: int, latent: int, width: int, draws: torch.Generator) -> None:
        super().__init__()
        self.columns, self.latent = columns, latent
        self.added = perceptron([columns + latent, width, width, columns], nn.LeakyReLU(_SLOPE), draws)
        for parameter in self.added[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, normals: Tensor) -> Tensor:
        scores: Tensor = normals[:, : self.columns] + self.added(normals)
        return scores

    def generated(self, rows: int, draws: torch.Generator) -> Tensor:
        """Scores (rows, D) of fresh normals."""
        scores: Tensor = self(torch.randn(rows, self.columns + self.latent, generator=draws))
        return scores


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# --- pre-training ---------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pretraining:
    """The public phase: the same game on the siblings' rows, whose votes need no noise."""

    version: ClassVar[int] = 1

    method: PateGAN

    def run(self, public: Mapping[str, Transitions], rng: np.random.Generator, *, runtime: Runtime) -> State:
        """Weights of all players, and the siblings' columns: what `PateGAN.restore` takes.

        Raises:
            InputError: no siblings.
        """
        if not public:
            raise InputError("public: there are no sibling datasets to pre-train on; set pretraining_rounds=0 to use sensitive rows alone")
        scores = [NormalScores(exact_columns(sibling, _CELLS, _BINS)) for sibling in public.values()]
        hashes = [row_hashes(sibling, 0) for sibling in public.values()]
        encoded = [own.encode(sibling, dither(h, own.width)) for own, sibling, h in zip(scores, public.values(), hashes, strict=True)]
        shards = Shards.of(np.concatenate(encoded), np.concatenate(hashes), self.method.teachers)
        start = self.method.random_start(scores[0].width, rng)
        trained = self.method.play(start, shards, lambda counts: counts.astype(np.float64), self.method.pretraining_rounds, rng, runtime)
        return {**trained, **NormalScores.pooled(scores).state()}


# --- sample ---------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PateSampler:
    """The averaged generator and the distribution functions of the columns. A generator of more normals than columns has no likelihood: no `loss`."""

    method: PateGAN
    scores: NormalScores
    weights: NDArray[np.float32]

    def state(self) -> State:
        return {"generator": self.weights, **self.scores.state()}

    def sample(self, n: int, rng: np.random.Generator, *, runtime: Runtime) -> Transitions:
        network = self.method.generator(self.scores.width)
        flatten_parameters(network).copy_(torch.from_numpy(self.weights))
        with torch.inference_mode():
            drawn = network.generated(_RANKED, torch.Generator().manual_seed(0))
            z = network.generated(n, torch.Generator().manual_seed(int(rng.integers(2**62))))
        return self.scores.decode(renormalized(z.numpy(), drawn.numpy()))


PRETRAINED = PateGAN(pretraining_rounds=300)
"""The same method, started from what it learns on public siblings."""
