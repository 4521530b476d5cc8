"""The privacy card of a release: what protects the rows beside it, recomputed, and what does not.

A card is made of the charges of the fit, its declared settings and what is public about the environment. Nothing in it depends on a sensitive row:
two fits on different rows under equal settings have the same card. It names no key and no seed, since noise follows from them, and no field of the
environment, since those may tell a path or the digest of a sensitive file.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.core import registry
from bench.core.accounting import Charge
from bench.core.data import Unit
from bench.core.groups import NO_PROTECTION, group_epsilon
from bench.core.protocols import Environment, Guarantee
from bench.core.registry import jsonable
from bench.run.store import Record

REPEATABLE = (
    "The noise of this fit follows from settings and data, since runs of a benchmark must be repeatable. Who knows or can guess these, or the "
    "key of the record, can subtract the noise. For rows about people run again with --secret FILE. This card names neither a key nor a seed."
)
SECRET = (
    "The noise of this fit follows from settings, data and the secret that `bench run --secret` was given. Who holds the secret can subtract the "
    "noise: keep it and the store, which has the sensitive rows, to yourself, or destroy both. This card names neither a key nor a seed."
)
NO_NOISE = "No sensitive row went into this release, and so no noise protects one. What is public is for you to say."
TUNED_ON = ("maze2d-umaze", "maze2d-large")
"""Where the defaults of the suite's methods were chosen (tests/perf/tune_on_public.py)."""
AS_IT_SAYS = "as the method says, which is from outside the suite; `bench check` tries it"


@dataclass(frozen=True)
class Caveat:
    """Something that epsilon might be thought to cover; `outside` if it leaves something unprotected."""

    item: str
    outside: bool
    why: str


@dataclass(frozen=True)
class Card:
    """What is known about a release.

    Attributes:
        guarantee: `DP`, or `data-free` for a method that is handed no sensitive row.
        epsilon_claimed: the budget; `epsilon_recomputed` is what `events` cost at `delta`, by `accountant`. Both 0 if data-free.
        neighbours: the datasets that epsilon cannot tell apart.
        epsilon_of_a_trajectory: where the unit is a transition, what the events cost a whole trajectory of at most `max_trajectory_length` rows;
            infinite above 50.
        events: every mechanism that saw sensitive rows, with its noise: from these anyone can recompute epsilon.
        rows_fitted: the nominal number, a public constant.
        public_data: environments whose rows the method was free to use.
        secret: whether a secret was mixed into the noise, without which who knows the settings can subtract it.
    """

    method: str
    method_version: int
    hyper_parameters: dict[str, Any]
    guarantee: str
    epsilon_claimed: float
    epsilon_recomputed: float
    delta: float | None
    unit: str | None
    neighbours: str
    epsilon_of_a_trajectory: float | None
    max_trajectory_length: int
    accountant: str | None
    events: tuple[Charge, ...]
    environment: str
    environment_version: int
    source: str
    rows_fitted: int
    rows_released: int
    public_data: tuple[str, ...]
    secret: bool
    not_covered: tuple[Caveat, ...]
    warning: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; an infinite epsilon is a string."""
        plain: dict[str, Any] = jsonable(dataclasses.asdict(self))
        return plain

    def to_markdown(self) -> str:
        """The same for people."""
        return "\n".join(_markdown(self)) + "\n"


def privacy_card(fit: Record, released: int, environment: Environment) -> Card:
    """The card of `released` rows drawn from a fit that has a finite epsilon."""
    method, place, budget = fit.parameters["synthesizer"], fit.parameters["environment"], fit.parameters["budget"]
    charges, accountant = fit.charges, fit.result["accountant"]
    public = tuple(role.removeprefix("public/") for role in fit.inputs if role.startswith("public/"))
    longest, rows = environment.schema.max_trajectory_length, fit.parameters["rows"]
    by_row = budget is not None and budget["unit"] == Unit.TRANSITION.value
    return Card(
        method=method["plugin"],
        method_version=method["version"],
        hyper_parameters=method["fields"],
        guarantee=(Guarantee.DATA_FREE if budget is None else Guarantee.DP).value,
        epsilon_claimed=0.0 if budget is None else float(budget["epsilon"]),
        epsilon_recomputed=fit.epsilon,
        delta=budget and budget["delta"],
        unit=budget and budget["unit"],
        neighbours="any two: no sensitive row was seen" if budget is None else f"add or remove one {budget['unit']}",
        epsilon_of_a_trajectory=group_epsilon(charges, budget["delta"], accountant, longest) if by_row else None,
        max_trajectory_length=longest,
        accountant=accountant and f"{accountant} of dp-accounting {importlib.metadata.version('dp-accounting')}",
        events=charges,
        environment=place["plugin"],
        environment_version=place["version"],
        source=environment.source,
        rows_fitted=rows,
        rows_released=released,
        public_data=public,
        secret="secret" in fit.parameters,
        not_covered=tuple(_caveats(fit, environment, public)),
        warning=NO_NOISE if not charges else SECRET if "secret" in fit.parameters else REPEATABLE,
    )


def _caveats(fit: Record, environment: Environment, public: tuple[str, ...]) -> Iterator[Caveat]:
    """What a fit may have taken from sensitive rows, then what no fit can answer for."""
    outsider = not _of_the_suite(fit, "synthesizers")
    yield _bounds(fit, outsider)
    yield Caveat("bin edges", outsider, AS_IT_SAYS if outsider else "they follow from the declared bounds, or from answers that are among the events")
    yield Caveat("choice of checkpoint", outsider, AS_IT_SAYS if outsider else "a fit sees no score, and releases the state that it ends in")
    yield _choice_of_fields(fit, outsider)
    yield Caveat(
        "choice of this release", True, "if scores on the sensitive rows chose this method, budget or run among several, that was not charged"
    )
    if fit.charges:
        yield from _caveats_of_rows(fit, environment)
        yield Caveat("number of rows", True, f"{fit.parameters['rows']:,} are declared and taken to be public, as is the number of trajectories")
    yield Caveat(
        "public pre-training data", bool(public), f"{', '.join(public)}: epsilon says nothing about whose rows these are" if public else "none"
    )
    if public and "data" in fit.inputs:
        yield _shared_rows(fit)


def _shared_rows(fit: Record) -> Caveat:
    if "secret" in fit.parameters:
        return Caveat("rows that are public too", False, "left out of the fit one by one; no refusal tells whether there were any")
    known = "a fit without a secret stops if a public row is a sensitive one; that this one did not tells everyone that there was none"
    return Caveat("rows that are public too", True, known)


def _bounds(fit: Record, outsider: bool) -> Caveat:
    item, place = "bounds and normalizer", fit.parameters["environment"]["plugin"]
    if outsider:
        return Caveat(item, True, AS_IT_SAYS)
    if not _of_the_suite(fit, "environments"):
        return Caveat(item, True, f"those that {place} declares, an environment from outside the suite: if rows were looked at, that was not charged")
    return Caveat(item, False, "declared, or among the events; what lies outside the bounds moves no answer by more than its sensitivity")


def _of_the_suite(fit: Record, group: str) -> bool:
    """Whether the plugin of this fit is one that the suite ships, and so one that its tests hold to its promise."""
    identity = fit.parameters[group.removesuffix("s")]
    return "digest" not in identity and registry.ships(group, identity["plugin"])


def _choice_of_fields(fit: Record, outsider: bool) -> Caveat:
    label, defaults = fit.plugins["synthesizers"], f"the method's defaults, which are published or were chosen on {' and '.join(TUNED_ON)}"
    item, uncharged = "choice of hyper-parameters", "if scores on the sensitive rows chose them, that choice was not charged"
    if not fit.parameters["synthesizer"]["fields"]:
        return Caveat(item, False, "it has none")
    if "[" in label:
        return Caveat(item, True, f"set for this run ({label}): {uncharged}")
    if outsider:
        return Caveat(item, True, f"those of a method from outside the suite: {uncharged}")
    if fit.parameters["environment"]["plugin"] in TUNED_ON:
        return Caveat(item, True, f"{defaults}, of which this is one: that choice was not charged")
    return Caveat(item, False, defaults)


def _caveats_of_rows(fit: Record, environment: Environment) -> Iterator[Caveat]:
    """What remains open between the owner's rows and the rows that epsilon speaks of."""
    rows, by_row = fit.parameters["rows"], fit.parameters["budget"]["unit"] == Unit.TRANSITION.value
    yield Caveat(
        "which rows were fitted",
        True,
        f"epsilon speaks of the train part, split and cut at {rows:,} rows; it does not hide which these are"
        + ("; one row more or less in a file can move its whole episode into that part or out of it" if by_row else ""),
    )
    if by_row:
        yield Caveat("states that rows share", True, "one row's s' is the next one's s: a row that is taken away leaves its states in its neighbours")
    elif getattr(environment, "stream", False):
        yield Caveat("states that trajectories share", True, "they are pieces of one stream: the last s' of one that is taken away begins the next")
    else:
        declared = "none: each begins anew" + ("" if _of_the_suite(fit, "environments") else ", as the environment says")
        yield Caveat("states that trajectories share", not _of_the_suite(fit, "environments"), declared)
    if not by_row:
        several = "epsilon speaks of one of them: who has more in the file is protected as a group is, at a multiple of it"
        yield Caveat("several trajectories of one person", True, several)
    yield Caveat("other releases of the same rows", True, "their epsilons add to this one, whatever method, budget or seed they have")
    made = "its generator is not cryptographic, and it is added in floating point, where the gaps between numbers may give an exact answer away"
    yield Caveat("the noise itself", True, made)


# --- for people -------------------------------------------------------------------------------------------------------


def _markdown(card: Card) -> Iterator[str]:
    yield f"# Privacy card: {card.rows_released:,} rows of {card.method} for {card.environment}"
    yield f"\n{_promise(card)}\n"
    for term, text in _facts(card):
        yield f"- **{term}** {text}"
    if card.events:
        yield "\n## Events: all that touched the sensitive rows\n"
        yield from _events(card.events)
    yield "\n## What epsilon does not cover\n"
    yield from _table(("", "left open", "why"), [(caveat.item, "yes" if caveat.outside else "no", caveat.why) for caveat in card.not_covered])
    yield f"\n## Before you release\n\n{card.warning}"


def _promise(card: Card) -> str:
    if card.guarantee == Guarantee.DATA_FREE.value:
        return "The method was handed no sensitive row: epsilon is 0."
    secret = "Against whoever does not hold its secret, this release has"
    repeatable = "Repeatable, for public data only: who knows the settings can subtract the noise. Were its noise unknown, this release would have"
    return (
        f"{secret if card.secret else repeatable} differential privacy with epsilon = {card.epsilon_claimed:g} "
        f"(recomputed from the events: {card.epsilon_recomputed:.5g}) and delta = {card.delta:g}, for datasets that differ by one "
        f"{card.unit} (add or remove)."
    )


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    if card.epsilon_of_a_trajectory is not None:
        whole = card.epsilon_of_a_trajectory
        epsilon = f"{whole:.4g}" if math.isfinite(whole) else f"> {NO_PROTECTION:g}: no protection"
        yield "epsilon of a whole trajectory", f"of at most {card.max_trajectory_length} rows: {epsilon}"
    if card.accountant:
        yield "accountant", card.accountant
    fields = ", ".join(f"{name}={value}" for name, value in card.hyper_parameters.items())
    yield "method", f"{card.method}, version {card.method_version}{f': {fields}' if fields else ''}"
    touched = card.guarantee != Guarantee.DATA_FREE.value
    source = f"; source of the sensitive rows: {card.source}" if touched else ""
    yield "environment", f"{card.environment}, version {card.environment_version}{source}"
    yield "rows", f"{f'{card.rows_fitted:,}' if touched else 'none'} fitted{' (nominal)' if touched else ''}, {card.rows_released:,} released"
    yield "file", "a row with a timeout holds the next state of the row before it and nothing else; D4RL's `qlearning_dataset` reads and drops it"
    yield "public data", ", ".join(card.public_data) or "none"


def _events(events: tuple[Charge, ...]) -> Iterator[str]:
    header = ("name", "mechanism", "sensitivity", "count", "noise multiplier", "epsilon of a pick", "sampling rate")
    numbers = [(event.sensitivity, event.count, event.noise_multiplier, event.pick_epsilon, event.rate) for event in events]
    shown = [tuple("" if number is None else f"{number:.6g}" for number in row) for row in numbers]
    yield from _table(header, [(event.name, event.mechanism, *row) for event, row in zip(events, shown, strict=True)])


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield from (f"| {' | '.join(row)} |" for row in (header, (":---",) * len(header), *rows))
