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

from bench.core.accounting import Charge
from bench.core.data import Unit
from bench.core.groups import NO_PROTECTION, group_epsilon
from bench.core.protocols import Environment, Guarantee
from bench.core.registry import jsonable
from bench.run.store import Record

REPEATABLE = (
    "The noise of this fit follows from the key of its record, and that from settings and data, since runs of a benchmark must be repeatable. "
    "Who knows or can guess the key can subtract the noise. Do not release rows about people from a store whose keys, or the way to them, are known. "
    "This card names neither a key nor a seed."
)


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
    not_covered: tuple[Caveat, ...]
    warning: str = REPEATABLE

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
        not_covered=tuple(_caveats(fit, rows, public)),
    )


def _caveats(fit: Record, rows: int, public: tuple[str, ...]) -> Iterator[Caveat]:
    """From the record: the settings that are not the method's own, and the public rows that it saw."""
    label, built_in = fit.plugins["synthesizers"], "digest" not in fit.parameters["synthesizer"]
    yield Caveat("bounds and normalizer", False, "the environment declares them, whatever the rows are; what lies outside is clipped")
    yield Caveat("bin edges", False, "they follow from the declared bounds, or from answers that are among the events")
    yield Caveat(
        "public pre-training data", bool(public), f"{', '.join(public)}: epsilon says nothing about whose rows these are" if public else "none"
    )
    if built_in and "[" not in label:
        yield Caveat("choice of hyper-parameters", False, "the method's own; the suite chose them on public data")
    else:
        whose = f"set for this run ({label})" if "[" in label else "those of a method from outside the suite"
        yield Caveat("choice of hyper-parameters", True, f"{whose}: if scores on the sensitive rows chose them, that choice was not charged")
    yield Caveat("choice of checkpoint", False, "a fit sees no score, and releases the state that it ends in")
    yield Caveat(
        "choice of this release", True, "if scores on the sensitive rows chose this method, budget or run among several, that was not charged"
    )
    yield Caveat("other releases of the same rows", bool(fit.charges), "their epsilons add to this one, whatever method, budget or seed they have")
    yield Caveat("number of rows", True, f"{rows:,} are declared and taken to be public, as is the number of trajectories")
    if public and "data" in fit.inputs:
        yield Caveat("refusal of shared rows", True, "the fit would have stopped if a public row were a sensitive one; that it did not is known")
    made = "numpy's generator makes it, which is none of cryptography, in floating point, whose gaps an exact answer may betray"
    yield Caveat("the noise itself", bool(fit.charges), made)


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
    return (
        f"Differential privacy with epsilon = {card.epsilon_claimed:g} (recomputed from the events: {card.epsilon_recomputed:.5g}) and delta = "
        f"{card.delta:g}, for datasets that differ by one {card.unit} (add or remove)."
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
    yield "environment", f"{card.environment}, version {card.environment_version}; source of the sensitive rows: {card.source}"
    yield "rows", f"{card.rows_fitted:,} fitted (nominal), {card.rows_released:,} released"
    yield "public data", ", ".join(card.public_data) or "none"


def _events(events: tuple[Charge, ...]) -> Iterator[str]:
    header = ("name", "mechanism", "sensitivity", "count", "noise multiplier", "epsilon of a pick", "sampling rate")
    numbers = [(event.sensitivity, event.count, event.noise_multiplier, event.pick_epsilon, event.rate) for event in events]
    shown = [tuple("" if number is None else f"{number:.6g}" for number in row) for row in numbers]
    yield from _table(header, [(event.name, event.mechanism, *row) for event, row in zip(events, shown, strict=True)])


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield from (f"| {' | '.join(row)} |" for row in (header, (":---",) * len(header), *rows))
