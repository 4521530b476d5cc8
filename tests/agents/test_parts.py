"""The training loop's promises, which hold for every agent: what it reads, when it evaluates, and on what its result depends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agents._actors import TanhActor
from agents._parts import Batch, Buffer, Coordinates, Learner, MinibatchAgent, cosine
from agents.awac import AWAC
from agents.bc import BC
from agents.cql import CQL
from agents.edac import EDAC
from agents.iql import IQL
from agents.rebrac import ReBRAC
from agents.td3_bc import TD3BC
from bench.core.data import Transitions
from bench.core.protocols import Agent, LearningCurve, Policy, Runtime

AGENTS = [agent(width=16, batch_size=32) for agent in (BC, IQL, TD3BC, ReBRAC, EDAC, AWAC, CQL)]
every_agent = pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: type(agent).__name__)
PROBES = np.random.default_rng(5).normal(3, 2, (50, 4))


def fingerprint(policies: Sequence[Policy]) -> NDArray:
    """Stands for returns: any change of a policy changes it."""
    return np.array([(policy(PROBES) * np.cos(PROBES[:, :2])).sum() for policy in policies])


def curves(agent: Agent, data: Transitions, seeds: Sequence[int], steps: int = 20, every: int = 7, **runtime: object) -> list[LearningCurve]:
    rngs = [np.random.default_rng(seed) for seed in seeds]
    return agent.train(data, rngs, steps=steps, evaluate_every=every, evaluate=fingerprint, runtime=Runtime(**runtime))


@dataclass(frozen=True)
class Spy(MinibatchAgent):
    """Learns nothing and remembers what it was given."""

    version: ClassVar[int] = 1
    batch_size: int = 8
    batches: list[Batch] = field(default_factory=list)
    decays: list[float] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def learner(self, state_size: int, action_size: int, generators: Sequence[torch.Generator], device: str) -> Learner:
        return _SpyLearner(self, TanhActor.fresh([state_size, action_size], generators, device))


@dataclass
class _SpyLearner:
    spy: Spy
    actor: TanhActor

    def update(self, batch: Batch, decay: float) -> None:
        self.spy.batches.append(batch)
        self.spy.decays.append(decay)
        self.spy.threads.append(torch.get_num_threads())


@every_agent
def test_offers_what_the_protocol_asks(agent: Agent) -> None:
    assert isinstance(agent, Agent)


@every_agent
def test_same_generator_same_curve_to_the_last_bit(agent: Agent, noise: Transitions) -> None:
    torch.manual_seed(1)
    first = curves(agent, noise, [0])
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert curves(agent, noise, [0]) == first
    assert curves(agent, noise, [1]) != first
    assert torch.equal(torch.get_rng_state(), state)


@every_agent
def test_a_seed_does_not_depend_on_its_companions(agent: Agent, noise: Transitions) -> None:
    together = curves(agent, noise, [3, 1, 2])
    assert together == [curve for seed in (3, 1, 2) for curve in curves(agent, noise, [seed])]


@every_agent
def test_all_seeds_as_one_learner_score_what_they_score_in_turn(agent: Agent, noise: Transitions) -> None:
    """By any name but `cpu` a device gets all seeds as one batch, as a GPU does: so this one trains that way, and asks for no GPU."""
    in_turn, together = (curves(agent, noise, [3, 1, 2], device=device) for device in ("cpu", "cpu:0"))
    assert [curve.steps for curve in together] == [curve.steps for curve in in_turn]
    np.testing.assert_allclose([curve.returns for curve in together], [curve.returns for curve in in_turn], atol=1e-3)
    assert len({curve.returns for curve in together}) == 3


@pytest.mark.parametrize(("every", "expected"), [(4, (4, 8, 10)), (5, (5, 10)), (10, (10,)), (99, (10,))])
def test_evaluates_at_every_mark_and_after_the_last_step(noise: Transitions, every: int, expected: tuple[int, ...]) -> None:
    for curve in curves(Spy(), noise, [0, 1], steps=10, every=every):
        assert curve.steps == expected
        assert len(curve.returns) == len(expected)


def test_seeds_are_evaluated_together_and_each_gets_its_own_return(noise: Transitions) -> None:
    sizes = []

    def evaluate(policies: Sequence[Policy]) -> NDArray:
        sizes.append(len(policies))
        return np.arange(len(policies)) + 10.0 * len(sizes)

    trained = Spy().train(noise, [np.random.default_rng(i) for i in range(3)], steps=2, evaluate_every=1, evaluate=evaluate, runtime=Runtime())
    assert sizes == [3, 3]
    assert [curve.returns for curve in trained] == [(10, 20), (11, 21), (12, 22)]


def test_the_actor_s_rate_decays_by_cosine_over_the_run_s_own_length(noise: Transitions) -> None:
    spy = Spy()
    curves(spy, noise, [0], steps=200)
    np.testing.assert_allclose(spy.decays, (1 + np.cos(np.pi * np.arange(200) / 200)) / 2, atol=1e-12)
    assert cosine(1) == 0


@every_agent
def test_at_the_end_of_the_decay_the_actor_stands_still(agent: MinibatchAgent, noise: Transitions) -> None:
    learner = agent.learner(4, 2, [torch.Generator().manual_seed(0)], "cpu")
    batches = Buffer(noise, Coordinates.of(noise), "cpu").minibatches(32, [torch.Generator().manual_seed(0)])
    before = [parameter.clone() for parameter in learner.actor.parameters]
    for _ in range(2):  # the actor may wait for every second step
        learner.update(next(batches), 0.0)
    assert all(map(torch.equal, before, learner.actor.parameters))
    for _ in range(2):
        learner.update(next(batches), 1.0)
    assert not any(map(torch.equal, before, learner.actor.parameters))


@every_agent
@pytest.mark.parametrize("states", [np.full((1, 4), 3.0), np.full((30, 4), 3.0)], ids=["a single row", "constant columns"])
@pytest.mark.parametrize("terminal", [False, True])
def test_degenerate_rows_leave_policies_within_the_box(agent: Agent, make: Callable[..., Transitions], states: NDArray, terminal: bool) -> None:
    """What a collapsed synthesizer releases gets a score, and no NaN."""
    n = len(states)
    data = make(states, np.full((n, 2), 1.0), np.full(n, 10.0), terminals=np.full(n, terminal))
    seen = []

    def evaluate(policies: Sequence[Policy]) -> NDArray:
        seen.extend(policy(PROBES) for policy in policies)
        return np.zeros(len(policies))

    agent.train(data, [np.random.default_rng(0)], steps=30, evaluate_every=30, evaluate=evaluate, runtime=Runtime())
    assert np.isfinite(seen).all()
    assert np.abs(seen).max() <= 1


def test_states_are_normalised_by_the_given_rows_and_nothing_else(noise: Transitions) -> None:
    spy = Spy(batch_size=4000)
    curves(spy, noise, [0], steps=1)
    batch = Batch(*(column[0] for column in spy.batches[0]))
    mean, scale = noise.observations.mean(0), noise.observations.std(0) + 1e-3
    for seen, given in ((batch.states, noise.observations), (batch.next_states, noise.next_observations)):
        expected = (given - mean) / scale
        distance = np.abs(seen.numpy()[:, None, 0] - expected[None, :, 0]).min(1)
        assert distance.max() < 1e-5  # every row seen is a given row in the coordinates of the states
        np.testing.assert_allclose(seen.mean(0), expected.mean(0), atol=0.1)


def test_minibatches_keep_rows_whole_and_only_terminals_cut(make: Callable[..., Transitions]) -> None:
    rows = np.arange(40.0)
    data = make(rows[:, None], (rows[:, None] / 40), rows, rows[:, None] + 1, rows % 4 == 0, rows % 4 == 1)
    coordinates = Coordinates.of(data)
    batch = Batch(*(column[0] for column in next(Buffer(data, coordinates, "cpu").minibatches(4000, [torch.Generator().manual_seed(0)]))))
    index = batch.rewards
    scale = coordinates.state_scale
    torch.testing.assert_close(batch.states[:, 0] * scale + coordinates.state_mean, index)
    torch.testing.assert_close(batch.next_states[:, 0] * scale + coordinates.state_mean, index + 1)
    torch.testing.assert_close(batch.actions[:, 0], index / 40)
    assert torch.equal(batch.continues, (index % 4 != 0).float())
    counts = torch.bincount(index.long(), minlength=40)
    assert (counts - 100).abs().max() <= 40  # uniform: four standard deviations


def test_policies_map_raw_observations_into_the_declared_box(make: Callable[..., Transitions]) -> None:
    rng = np.random.default_rng(0)
    data = make(rng.normal(50, 9, (200, 3)), rng.uniform(2, 5, (200, 2)), action_bounds=(2, 5))
    inside, outside = rng.normal(50, 9, (70, 3)), rng.normal(50, 5000, (70, 3))
    seen: list[Policy] = []

    def evaluate(policies: Sequence[Policy]) -> NDArray:
        seen.extend(policies)
        return np.zeros(1)

    for agent in AGENTS:
        agent.train(data, [rng], steps=3, evaluate_every=3, evaluate=evaluate, runtime=Runtime())
    for policy in seen:
        for actions in (policy(inside), policy(outside)):
            assert isinstance(actions, np.ndarray)
            assert actions.shape == (70, 2)
            assert (actions >= 2).all()
            assert (actions <= 5).all()
        assert 2.5 < np.median(policy(inside)) < 4.5
        assert np.ptp(policy(inside)) > 0.1


def test_a_policy_stays_what_it_was_when_training_goes_on(noise: Transitions) -> None:
    kept: list[Policy] = []

    def evaluate(policies: Sequence[Policy]) -> NDArray:
        kept.extend(policies)
        return fingerprint(policies)

    [curve] = AGENTS[0].train(noise, [np.random.default_rng(0)], steps=9, evaluate_every=3, evaluate=evaluate, runtime=Runtime())
    np.testing.assert_array_equal(fingerprint(kept), curve.returns)
    assert len(set(curve.returns)) == 3


def test_progress_rises_to_the_total_in_about_a_hundred_reports(noise: Transitions) -> None:
    reports: list[tuple[int, int]] = []
    curves(Spy(), noise, [0, 1], steps=733, progress=lambda done, total: reports.append((done, total)))
    done = [report[0] for report in reports]
    assert done == sorted(set(done))
    assert reports[-1] == (1466, 1466)
    assert 50 <= len(reports) <= 101


def test_threads_are_those_of_the_runtime_and_given_back(noise: Transitions) -> None:
    before, spy = torch.get_num_threads(), Spy()
    curves(spy, noise, [0], threads=before + 1)
    assert set(spy.threads) == {before + 1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("name", "change"), [("data", {}), ("steps", {"steps": 0}), ("evaluate_every", {"every": 0})])
def test_refuses_what_cannot_be_trained(noise: Transitions, name: str, change: dict[str, int]) -> None:
    data = Transitions.empty(noise.schema) if name == "data" else noise
    with pytest.raises(ValueError, match=f"^{name}: 0"):
        curves(Spy(), data, [0], **change)
