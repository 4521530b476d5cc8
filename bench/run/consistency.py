"""Whether the records of a store agree with themselves: what a hand that changed one of them may have overlooked.

    record -> is its key that of its parameters and inputs, and do its charges cost what it says it spent?
    sweep  -> does each row claim what its fits, scores and audits were made with (method, budget, environment, rows, seeds, agent), and do its scores
              rest on these fits, which are here and did not fail?

Keys hold what a record was made with, so that is what the labels of a row are compared with. A label is read by the plugins of today: of one that is
not installed, or has another version, the name alone is compared. A result that was changed and nothing else agrees with itself: only computing it
again tells (`bench show`, then `bench merge`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from bench.core import registry
from bench.core.accounting import AGREEMENT, accountant_for
from bench.core.errors import InputError
from bench.core.protocols import Guarantee
from bench.core.registry import Plugin
from bench.run.spec import SCORERS, Node
from bench.run.stages import STAGES
from bench.run.store import Record, Store


def contradictions(store: Store) -> Iterator[str]:
    """One sentence for each record that cannot be read or contradicts itself, and each claim of a row that contradicts a record.

    Raises:
        InputError: a sweep that cannot be read.
    """
    _installed.cache_clear()  # a plugin file may have come since
    unreadable = set()
    for path in store.files("records"):
        try:
            record = store.get(path.stem)
        except InputError as error:
            unreadable.add(path.stem)
            yield str(error)
        else:
            yield from _readable(_of_record(record, path.stem) if record else iter(()))
    kept = store.remembering(without=unreadable)
    for sweep in store.sweeps():
        yield from _of_sweep(sweep, kept)


def _readable(sentences: Iterator[str]) -> Iterator[str]:
    """The sentences, up to where a hand has put what none can be made of; then one that says so."""
    try:
        yield from sentences
    except InputError as error:
        yield str(error)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        yield f"a record or a row cannot be read ({type(error).__name__}: {error}); run the same sweep again with --fresh"


def _of_sweep(sweep: Mapping[str, Any], store: Store) -> Iterator[str]:
    """What its rows say of each fit and audit, once, what each of its scores is and rests on, and what it says of its environments."""
    leaves = (*sweep["leaves"], *sweep.get("audits", ()))
    for leaf in {(leaf["fit"], leaf["synth"], leaf["epsilon"], leaf["delta"], leaf["unit"]): leaf for leaf in leaves}.values():
        yield from _readable(_of_fit(leaf, store))
    lost: dict[str, str] = {}
    for leaf in leaves:
        score = store.get(leaf["key"])
        if score is not None and score.key != leaf["fit"]:
            yield from _readable(_of_score(leaf, score, store, lost))
    for fit, synth in lost.items():
        yield f"fit {fit}: {synth} has scores of it, but the records that tell what it was charged are missing; merge a store that has them"
    for block in sweep["environments"]:
        plugin, claimed = _installed("environments", block["env"]), block.get("max_trajectory_length")
        if plugin and claimed not in (None, plugin.instance.schema.max_trajectory_length):
            yield f"{block['env']}: its trajectories have {plugin.instance.schema.max_trajectory_length} rows at most, but the sweep says {claimed}"


def _of_fit(leaf: Mapping[str, Any], store: Store) -> Iterator[str]:
    """Whether a fit or an audit is of the method and the budget that a row claims."""
    record = store.get(leaf["fit"])
    if record is not None and (_method(record), _budget(record.parameters["budget"])) != (leaf["synth"].partition("[")[0], _budget(leaf)):
        made = f"{_method(record)} under {_told(record.parameters['budget'])}"
        yield f"{record.stage} {record.key}: made by {made}, but {leaf['synth']} claims {_told(leaf)}"


def _of_score(leaf: Mapping[str, Any], score: Record, store: Store, lost: dict[str, str]) -> Iterator[str]:
    """What its row says otherwise than the keys of its records; a fit that is not here goes into `lost`."""
    named = f"{leaf['kind']} {leaf['key']}"
    behind = fit_behind(score, store)
    fit = None if behind is None else store.get(behind)
    if fit is None:
        lost[leaf["fit"]] = leaf["synth"]
        return
    if behind != leaf["fit"]:
        yield f"{named}: rests on fit {behind}, but {leaf['synth']} claims it for fit {leaf['fit']}"
        return
    if score.ok and not fit.ok:
        yield f"{named}: rests on fit {fit.key}, which failed"
    scorers = SCORERS[leaf["kind"]]
    for group, label, record in (("environments", leaf["env"], fit), ("synthesizers", leaf["synth"], fit), (scorers, leaf["plugin"], score)):
        if not _is_called(group, label, record.parameters[group.removesuffix("s")]):
            yield f"{named}: made with {record.plugins[group]}, but claimed for {label}"
    made = {**_made_with(score, fit, store), "guarantee": getattr(_guarantee(fit), "value", leaf["guarantee"])}
    claimed = {**leaf, **leaf["seeds"]}
    for what, value in made.items():
        if claimed[what] != value:
            yield f"{named}: made with {what} {value}, but claimed with {claimed[what]}"


def _made_with(score: Record, fit: Record, store: Store) -> dict[str, Any]:
    """What a row claims beside its plugins, as far as keys hold it: those of older records do not hold all seeds."""
    kind = ("goals" if "goals" in score.parameters else "utility") if score.stage == "train" else score.stage
    made = {"kind": kind, "rows": fit.parameters["rows"], "synthesizer": fit.parameters["seed"]}
    sample = store.get(score.inputs.get("sample") or score.inputs.get("target", ""))
    if sample is not None and sample.stage == "sample":
        made["sampling"] = sample.parameters["seed"]
    if sample is not None and score.stage != "attack":  # to an attacker `real` releases all rows that were fitted
        made["released"] = sample.parameters["released"]
    if score.stage == "train" and "seeds" in score.parameters:
        made["agent"] = score.parameters["seeds"]["agent"]
    return made


def _is_called(group: str, label: str, identity: Mapping[str, Any]) -> bool:
    """Whether a label stands for the plugin that a key holds."""
    if identity["plugin"] != label.partition("[")[0]:
        return False
    plugin = _installed(group, label)
    if plugin is None or plugin.instance.version != identity["version"]:
        return True
    fields = registry.jsonable(plugin.instance)
    return all(fields[name] == value for name, value in identity["fields"].items() if name in fields)


@cache
def _installed(group: str, label: str) -> Plugin | None:
    try:
        return registry.resolve(group, label)
    except InputError:
        return None


def _guarantee(fit: Record) -> Guarantee | None:
    """That of the variant by which a fit was made, whose fields may decide it; None if nobody can say."""
    plugin = _installed("synthesizers", fit.plugins["synthesizers"]) if _calls_its_method(fit) else None
    return None if plugin is None else Guarantee(plugin.instance.guarantee)


def _calls_its_method(fit: Record) -> bool:
    """Whether its label, which no key holds, stands for the method that its key holds."""
    return _is_called("synthesizers", fit.plugins["synthesizers"], fit.parameters["synthesizer"])


def _method(record: Record) -> str:
    name: str = record.parameters["synthesizer"]["plugin"]
    return name


def fit_behind(record: Record, store: Store) -> str | None:
    """The key of the fit whose rows or model a record is, or scores, as far as the store can tell."""
    if record.stage == "fit":
        return record.key
    if record.stage == "sample":
        return record.inputs.get("fit")
    source = store.get(record.inputs.get("sample") or record.inputs.get("target", ""))
    return None if source is None else fit_behind(source, store)


def _of_record(record: Record, name: str) -> Iterator[str]:
    yield from (f"{record.stage} {name}: {what}" for what in _within(record, name))


def _within(record: Record, name: str) -> Iterator[str]:
    """What one part of a record says against another."""
    # No record holds the version of its stage: its key may be that of any up to today's.
    versions = range(1, max(stage.version for stage in STAGES.values()) + 1)
    if name not in {Node(record.stage, version, record.parameters, record.inputs, {}).key for version in versions}:
        yield "its name is not the key of its parameters and inputs"
    if not record.ok or record.stage not in ("fit", "audit"):
        return
    if not _calls_its_method(record):
        yield f"it calls its method {record.plugins['synthesizers']}, which is not the one of its key"
    if record.parameters["budget"] is None:
        free = {Guarantee.DATA_FREE: 0.0, Guarantee.NONE: math.inf}
        guarantee = _guarantee(record)
        if guarantee in free and record.epsilon_told != free[guarantee]:
            yield f"it says that it spent epsilon {record.epsilon_told:g}, but {_method(record)} has the guarantee {guarantee.value}"
    elif record.result["accountant"] != (asked := accountant_for(record.charges, record.parameters["budget"]["accountant"])) and record.charges:
        yield f"it says that its accountant was {record.result['accountant']}, but {asked} judges its charges"
    elif not math.isclose(record.epsilon, record.epsilon_told, rel_tol=AGREEMENT):
        yield f"it says that it spent epsilon {record.epsilon_told:.4g}, but its charges cost {record.epsilon:.4g}"
    elif not record.charges:
        yield f"it had {_told(record.parameters['budget'])} and spent nothing of it"
    elif record.epsilon > float(record.parameters["budget"]["epsilon"]) * (1 + AGREEMENT):
        yield f"it had {_told(record.parameters['budget'])} and spent epsilon {record.epsilon:.4g}"


def _budget(values: Mapping[str, Any] | None) -> tuple[float, float, str] | None:
    """Epsilon, delta and unit of a record's budget or of a row's claim; None without a budget."""
    if values is None or values["epsilon"] is None:
        return None
    return float(values["epsilon"]), values["delta"], values["unit"]


def _told(values: Mapping[str, Any] | None) -> str:
    budget = _budget(values)
    return "no budget" if budget is None else f"epsilon {budget[0]:g} at delta {budget[1]:g} for a {budget[2]}"
