"""The contract of a synthesizer.

Five checks carry the privacy claim, and none of them trusts the method:

- *replay*: a fit on unrelated rows that is told the recorded answers builds the same model, so all that depends on data went through the Ledger;
- *noise*: what was answered less what was asked is as large as was charged for, Gaussian, and never the same again;
- *sensitivity*: a fit on neighbouring rows that is told the recorded answers asks nearly the same, so no question is more sensitive than declared;
- *position*: nor is it where the unit that makes the neighbours stands among others, whose indices it shifts;
- *inclusion*: a DP-SGD sum does not change with rows that the Ledger left out of the batch.

A method that offers `audit_size()` is checked at that size.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.conformance.findings import Finding, in_order, require
from bench.conformance.probes import ACCOUNTANT, Inclusion, Recorder, captured_log
from bench.conformance.questions import distance, pairs, require_standard_normals, standard_noise, uncharged, without_unit
from bench.conformance.rows import (
    differing_arrays,
    extreme_unit,
    faults,
    first_units,
    leaping_unit,
    own_rows,
    public_rows,
    rows_inside,
    signature,
    units_behind,
    unrelated_rows,
)
from bench.core.accounting import Charge
from bench.core.data import Schema, Transitions, Unit, concatenate
from bench.core.privacy import Budget, ReplayLedger, Tape, default_delta
from bench.core.protocols import Environment, Guarantee, Runtime, Sampler, State, Synthesizer
from bench.core.rng import rng_for

EPSILON = 1.0
"""Small: noise then drowns any answer of a toy-sized fit, and what is not noise stands out."""
SURPLUS = 200
"""Rows (or trajectories) that the unrelated dataset has more, so that a private count which is used as the public N shows."""
ROUNDING = 1.001
"""Room for float32 sums in the comparison of two questions with the declared sensitivity."""


@dataclass(frozen=True)
class Fit:
    """A finished fit and all that was seen of it."""

    sampler: Sampler
    ledger: Recorder | ReplayLedger
    progress: list[tuple[int, int]]
    log: list[str]


@dataclass(frozen=True, eq=False)
class Case:
    """A synthesizer, the environment whose rows it is checked on, and the privacy unit."""

    synthesizer: Synthesizer
    environment: Environment
    unit: Unit

    @cached_property
    def data(self) -> Transitions:
        return own_rows(self.environment, "train")

    @property
    def schema(self) -> Schema:
        return self.data.schema

    @cached_property
    def unrelated(self) -> Transitions:
        """More units than `data`, as declared, so that its inclusion indices exist here too."""
        everything = unrelated_rows(self.schema, (self.data.units(self.unit) + SURPLUS) * self._longest_unit, "unrelated")
        return first_units(everything, self.data.units(self.unit) + SURPLUS, self.unit)

    @cached_property
    def public(self) -> dict[str, Transitions]:
        return dict(public_rows(self.environment)) if self.synthesizer.needs_public else {}

    @cached_property
    def pretrained(self) -> State | None:
        phase = getattr(self.synthesizer, "pretraining", None)
        return through_npz(phase.run(self.public, rng_for("conformance", "pretrain"), runtime=Runtime())) if phase else None

    @cached_property
    def recorded(self) -> Fit:
        """The fit that most checks start from."""
        return self.fit(self.data)

    @cached_property
    def reseeded(self) -> Fit:
        """The same under another seed of the Ledger."""
        return self.fit(self.data, ledger_seed=1)

    def fit(self, data: Transitions, *, epsilon: float = EPSILON, ledger_seed: int = 0, inclusion: Inclusion | None = None) -> Fit:
        """Fit under a recording ledger, or under none if the method promised to need none."""
        units = data.units(self.unit)
        return self._fit(data, Recorder(self._budget(epsilon), units, rng_for(str(ledger_seed), "ledger"), inclusion))

    def replay(self, data: Transitions, tape: Tape) -> Fit:
        """Fit `data`, but answer with `tape`."""
        return self._fit(data, ReplayLedger(self._budget(EPSILON), tape, ACCOUNTANT))

    def sample(self, sampler: Sampler, n: int, seed: int = 0) -> Transitions:
        return sampler.sample(n, rng_for(str(seed), "sample"), runtime=Runtime())

    @property
    def _longest_unit(self) -> int:
        return 1 if self.unit is Unit.TRANSITION else self.schema.max_trajectory_length

    def _budget(self, epsilon: float) -> Budget | None:
        if self.synthesizer.guarantee is not Guarantee.DP:
            return None
        return Budget(epsilon, default_delta(self.schema.nominal_units(self.unit)), self.unit)

    def _fit(self, data: Transitions, ledger: Recorder | ReplayLedger) -> Fit:
        if self.synthesizer.guarantee is Guarantee.DATA_FREE:
            data = Transitions.empty(data.schema)
        progress: list[tuple[int, int]] = []
        runtime = Runtime(progress=lambda done, total: progress.append((done, total)))
        with captured_log() as log:
            sampler = self.synthesizer.fit(
                data, ledger, rng_for("conformance", "fit"), public=self.public, pretrained=self.pretrained, runtime=runtime
            )
        return Fit(sampler, ledger, progress, log)


def check_synthesizer(synthesizer: Synthesizer, environment: Environment) -> Iterator[Finding]:
    """All checks, once for each privacy unit that a DP method offers; if it cannot fit or sample at all, only that."""
    small = getattr(synthesizer, "audit_size", None)
    subject: Synthesizer = small() if small else synthesizer
    private = subject.guarantee is Guarantee.DP
    units = sorted(subject.units, key=lambda unit: unit.value) if private else [Unit.TRANSITION]
    for unit in units:
        case = Case(subject, environment, unit)
        suffix = f" ({unit.value})" if len(units) > 1 else ""
        yield from in_order([fits, holds_plain_arrays, samples], _RELEASE + (_PRIVATE if private else ()), case, suffix)


# --- it works ---------------------------------------------------------------------------------------------------------------------------------------


def fits(case: Case) -> None:
    """Fits without a question outside its plan; only a DP method makes one."""
    before = signature(case.data)
    ledger = case.recorded.ledger
    assert isinstance(ledger, Recorder)
    charges = ledger.charges
    require(signature(case.data) == before, "fit changed the rows it was lent")
    require(
        not uncharged(ledger), f"{', '.join(uncharged(ledger))}: the Ledger gave an answer that was not charged for; ask through ledger.plan alone"
    )
    if case.synthesizer.guarantee is Guarantee.DP:
        require(bool(charges), "it promises DP but declared no plan; ask through ledger.plan")


def holds_plain_arrays(case: Case) -> None:
    """The state is plain numpy arrays, which .npz holds without pickle."""
    for name, array in case.recorded.sampler.state().items():
        require(isinstance(array, np.ndarray) and array.dtype != object, f"state {name!r} is {_kind(array)}; hold plain numpy arrays only")


def samples(case: Case) -> None:
    """Samples exactly n rows of the sensitive schema: finite, inside the bounds and on the levels, trajectories whole."""
    for n in (1, 7, 1000):
        rows = case.sample(case.recorded.sampler, n)
        require(isinstance(rows, Transitions), f"sample returned {type(rows).__name__}, not Transitions")
        require(len(rows) == n, f"sample returned {len(rows)} rows where {n} were asked for")
        require(rows.schema == case.schema, "the rows carry another schema than the sensitive one")
        require(not faults(rows), f"of {n} sampled rows: {'; '.join(faults(rows))}")


# --- the release ------------------------------------------------------------------------------------------------------------------------------------


def repeats_itself(case: Case) -> None:
    """The same seeds give the same model and the same rows."""
    sampler = case.recorded.sampler
    changed = differing_arrays(case.fit(case.data).sampler.state(), sampler.state())
    require(not changed, f"two fits with equal seeds differ in the state's {', '.join(changed)}")
    same = signature(case.sample(sampler, 100)) == signature(case.sample(sampler, 100))
    require(same, "two samples with equal seeds differ; draw from the generator that sample is given, and from no other")


def another_seed_differs(case: Case) -> None:
    """Another seed gives other rows, and another seed of the Ledger another model."""
    sampler = case.recorded.sampler
    different = signature(case.sample(sampler, 100, seed=1)) != signature(case.sample(sampler, 100))
    require(different, "sample ignores its generator: two seeds gave the same rows")
    if case.synthesizer.guarantee is Guarantee.DP:
        other = case.reseeded.sampler
        require(bool(differing_arrays(other.state(), sampler.state())), "two seeds of the Ledger gave the same model: the noise went nowhere")


def restores(case: Case) -> None:
    """The stored state alone, as .npz without pickle, samples the same rows and holds the same state."""
    sampler = case.recorded.sampler
    before = through_npz(sampler.state())
    restored = case.synthesizer.restore(case.schema, before)
    require(
        signature(case.sample(restored, 300)) == signature(case.sample(sampler, 300)), "the restored sampler draws other rows than the fitted one"
    )
    for name, holder in (("restored", restored), ("fitted", sampler)):
        changed = differing_arrays(holder.state(), before)
        require(not changed, f"the {name} sampler's state differs in {', '.join(changed)} from what was stored")


def scores_losses(case: Case) -> None:
    """`loss`, where offered, is a finite array (rows, features) that its generator repeats; a row's features depend on no other row."""
    sampler: Any = case.recorded.sampler
    if not hasattr(sampler, "loss"):
        return

    def loss(rows: range) -> NDArray[Any]:
        return np.asarray(sampler.loss(case.data, np.array(rows), rng_for("conformance", "loss"), runtime=Runtime()))

    once, twice, some = loss(range(20)), loss(range(20)), loss(range(5, 12))
    require(once.ndim == 2 and len(once) == 20 and once.shape[1] > 0, f"loss of 20 rows has the shape {once.shape}")
    require(bool(np.isfinite(once).all()), "loss is not finite")
    require(np.array_equal(once, twice), "two losses with equal seeds differ")
    require(np.allclose(some, once[5:12], rtol=1e-3), "the loss of a row depends on which others are asked for")


# --- privacy ----------------------------------------------------------------------------------------------------------------------------------------


def spends_within_budget(case: Case) -> None:
    """Spends more than nothing and no more than the budget."""
    spent = case.recorded.ledger.spent()
    require(0 < spent <= EPSILON, f"spent epsilon {spent:g} of a budget of {EPSILON:g}")


def noise(case: Case) -> None:
    """Adds the noise that was charged for: Gaussian, of the declared standard deviation, uncorrelated between answers and between fits."""
    first, second = case.recorded.ledger, case.reseeded.ledger
    assert isinstance(first, Recorder)
    assert isinstance(second, Recorder)
    again = standard_noise(second)
    for name, added in standard_noise(first).items():
        require_standard_normals(name, np.concatenate([added, again[name]]))


def replay(case: Case) -> None:
    """A fit on unrelated rows that is told the recorded answers builds the same model: data reaches it through the Ledger alone.

    It is told of half the units of each batch: how many they are is private too. It is tried twice: on unrelated rows, more than are declared, where
    a question that is said to saturate may move as far as many units can move it; and on the same rows less the last unit.
    """
    first = case.recorded
    assert isinstance(first.ledger, Recorder)
    halved = [(name, answer[::2] if name.endswith(".include") else answer) for name, answer in first.ledger.tape]
    last = case.data.units(case.unit) - 1
    _tells_nothing(first, case.replay(case.unrelated, halved))
    _tells_nothing(first, case.replay(first_units(case.data, last, case.unit), without_unit(halved, last)))


def _tells_nothing(first: Fit, second: Fit) -> None:
    """Two fits that were told the same answers are the same, whatever their rows."""
    changed = differing_arrays(second.sampler.state(), first.sampler.state())
    require(not changed, f"the state's {', '.join(changed)} depends on rows past the Ledger; keep answers and constants of the schema alone")
    require(second.ledger.charges == first.ledger.charges, "the plan depends on the rows; plan with schema.nominal_rows, never with len(data)")
    for charge, one, other in pairs(first.ledger, second.ledger):
        if charge.saturation is not None:
            _require_within(charge.saturation * charge.sensitivity, "many units", charge, one, other)
    require(second.progress == first.progress, "the progress that it reports depends on the rows; count steps alone")
    require(second.log == first.log, "what it logs or prints depends on the rows; leave it out")


def nominal_size(case: Case) -> None:
    """Fits one unit less and one more than the nominal N under the same plan: the public N stands in for the private one."""
    units = case.data.units(case.unit)
    fewer = first_units(case.data, units - 1, case.unit)
    more = concatenate([case.data, extreme_unit(case.schema, case.unit, top=True)])
    for name, data in (("N - 1", fewer), ("N + 1", more)):
        require(case.fit(data).ledger.charges == case.recorded.ledger.charges, f"the plan for {name} units is not the plan for N units")


def sensitivity(case: Case) -> None:
    """No question moves by more than its declared sensitivity when an extreme unit is removed: in a corner of the box, or leaping through it."""
    units = case.data.units(case.unit)
    corners = [extreme_unit(case.schema, case.unit, top) for top in (False, True)]
    for unit in (*corners, leaping_unit(case.schema, case.unit)):
        extreme = concatenate([case.data, unit])
        first = case.fit(extreme, inclusion=lambda included: np.union1d(included, [units]))
        assert isinstance(first.ledger, Recorder)
        second = case.replay(case.data, without_unit(first.ledger.tape, units))
        for charge, one, other in pairs(first.ledger, second.ledger):
            _require_within(charge.sensitivity, "one unit", charge, one, other)


def position(case: Case) -> None:
    """A unit amid the others moves no question further than declared, and no DP-SGD sum where no batch has it, though it shifts their indices.

    Secrets stay as they are when it is removed: what is drawn for a unit may depend on what it holds and on its place in the batch, but not on its
    place among the rows.
    """
    for data, unit in ((case.data, extreme_unit(case.schema, case.unit, top=True)), (case.unrelated, leaping_unit(case.schema, case.unit))):
        units = data.units(case.unit)
        place = units // 2
        before, behind = first_units(data, place, case.unit), units_behind(data, place, case.unit)
        amid = concatenate([before, unit, behind])
        first = case.fit(amid, inclusion=_with_and_without(units, place))
        assert isinstance(first.ledger, Recorder)
        second = case.replay(concatenate([before, behind]), without_unit(first.ledger.tape, place))
        _require_blind(first.ledger, second.ledger)
        for charge, one, other in pairs(first.ledger, second.ledger):
            _require_within(charge.sensitivity, "one unit", charge, one, other)


def inclusion(case: Case) -> None:
    """A DP-SGD sum depends on the units that the Ledger included and on no other; empty batches are released too."""
    if not any(charge.mechanism == "dp-sgd" for charge in case.recorded.ledger.charges):
        return
    case.fit(case.data, inclusion=lambda included: included[:0])
    first = case.fit(case.data, inclusion=lambda included: np.zeros(1, np.int64))
    assert isinstance(first.ledger, Recorder)
    other = concatenate([first_units(case.data, 1, case.unit), case.unrelated])
    _require_blind(first.ledger, case.replay(other, first.ledger.tape).ledger)


def _with_and_without(present: int, absent: int) -> Inclusion:
    """Poisson batches made to hold one unit and not to hold another."""
    return lambda included: np.union1d(included[included != absent], [present])


def _require_within(declared: float, who: str, charge: Charge, one: NDArray[Any], other: NDArray[Any]) -> None:
    moved = distance(charge, one, other)
    less = f"{charge.name}: {who} moved the question by {moved:.4g}, but no more than {declared:.4g} is declared; clip it or declare more"
    require(moved <= declared * ROUNDING, less)


def _require_blind(first: Recorder | ReplayLedger, second: Recorder | ReplayLedger) -> None:
    """To fits that differ in units outside the batches: DP-SGD sums are equal, up to float32's rounding."""
    for charge, one, other in pairs(first, second):
        same = charge.mechanism != "dp-sgd" or np.allclose(one, other, rtol=1e-4, atol=1e-6)
        require(same, f"{charge.name}: the sum changed with units that were not included; use the indices of include() and no generator")


def no_limit(case: Case) -> None:
    """Fits at epsilon = infinity, its non-private ceiling, and samples inside the schema."""
    rows = case.sample(case.fit(case.data, epsilon=math.inf).sampler, 100)
    require(len(rows) == 100 and not faults(rows), f"of 100 sampled rows: {'; '.join(faults(rows)) or len(rows)}")


def no_row_in_state(case: Case) -> None:
    """The state holds no sensitive row: raw, or scaled to [0, 1] or [-1, 1]."""
    low, high = np.array([(column.low, column.high) for column in case.schema.columns]).T
    unit_box = (case.data.table() - low) / np.where(high > low, high - low, 1)
    for name, rows in (("raw", case.data.table()), ("scaled to [0, 1]", unit_box), ("scaled to [-1, 1]", 2 * unit_box - 1)):
        for key, array in case.recorded.sampler.state().items():
            found = rows_inside(array, rows[:, : len(case.schema.columns) - 1 - len(case.schema.observations)])
            require(not found, f"the state's {key} holds {found} sensitive rows (s, a, r), {name}")


_RELEASE = (repeats_itself, another_seed_differs, restores, scores_losses)
_PRIVATE = (spends_within_budget, noise, replay, nominal_size, sensitivity, position, inclusion, no_limit, no_row_in_state)


def _kind(array: object) -> str:
    return f"an array of {array.dtype}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"


def through_npz(state: State) -> State:
    """The state as it comes back from the store: .npz, which refuses what would need pickle."""
    buffer = io.BytesIO()
    np.savez(buffer, **state)  # type: ignore[arg-type]  # numpy types the keywords by its own options
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as stored:
        return dict(stored)
