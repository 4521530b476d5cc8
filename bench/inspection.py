"""What can be asked without running anything: which plugins there are, what stands behind a number, whether an installation is sound."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import inspect
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.markup import escape

from bench import conformance
from bench.core import registry
from bench.core.errors import InputError
from bench.core.registry import Plugin
from bench.core.roles import shortcoming
from bench.run.consistency import fit_behind
from bench.run.plan import anchor_keys
from bench.run.spec import OVER_GOALS, SCORERS, load_sweep
from bench.run.store import Record, Store
from bench.tables.validation import Validity, by_utility, conclusion, shipped_validities

PACKAGES = ("bench", "synthesizers", "metrics", "agents")


def list_plugins(console: Console) -> None:
    """One line for each plugin; one that does not load says why."""
    for group in registry.GROUPS:
        rows = [_line(group, name) for name in registry.names(group)]
        if rows:
            console.print(f"[bold]{group}[/]")
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)] if rows else []
        for name, facts, summary in rows:
            line = f"  {name:<{widths[0]}}  {facts:<{widths[1]}}  {summary}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print("[bold]validation of utilities[/]: do scores fall as real rows are corrupted? (`bench validate`)", soft_wrap=True)
    for line in _validated():
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _validated() -> Iterator[str]:
    """The conclusions that come with the package: a heading for each agent, a line for each environment."""
    found = by_utility(shipped_validities())
    width = max(len(env) for env, _, _ in found)
    for agent, preset in dict.fromkeys((agent, preset) for _, agent, preset in found):
        yield f"  {agent} · {preset}"
        for (env, *utility), own in found.items():
            if utility == [agent, preset]:
                runs = min(validity.runs for validity in own)
                yield f"    {env:<{width}}  {conclusion(own)}; runs a level: {runs}; rank correlations {', '.join(map(_correlation, own))}"


def _correlation(validity: Validity) -> str:
    correlation = "not run" if validity.correlation is None else f"{validity.correlation:.2f}"
    return f"{validity.kind} {correlation}" + ("" if validity.visible is None else f" (seen from {validity.visible:g})")


def _line(group: str, name: str) -> tuple[str, str, str]:
    try:
        plugin = registry.resolve(group, name)
    except InputError as error:
        return name, "broken", str(error)
    found = shortcoming(group, plugin.instance)
    return (name, "broken", found) if found else (name, _facts(plugin), _summary(plugin))


def _facts(plugin: Plugin) -> str:
    instance = plugin.instance
    if plugin.group == "synthesizers":
        return f"{instance.guarantee.value}, {' or '.join(sorted(unit.value for unit in instance.units))}"
    if plugin.group == "environments":
        long_name = [instance.dataset_id] if hasattr(instance, "dataset_id") else []
        return ", ".join([*long_name, instance.source, f"{instance.schema.nominal_rows:,} rows", f"horizon {instance.horizon}"])
    if plugin.group == "attacks":
        return f"needs {instance.needs}"
    if plugin.group == "metrics":
        scores = (f"{name} {'↑' if better == 'higher' else '↓'}" for name, better in instance.better.items())
        return f"{instance.unit.value}: {', '.join(scores)}"
    return ""


def _summary(plugin: Plugin) -> str:
    kind = type(plugin.instance)
    own = None if (kind.__doc__ or "").startswith(f"{kind.__name__}(") else inspect.getdoc(kind)  # a dataclass without a docstring has its signature
    first_line = (own or inspect.getdoc(inspect.getmodule(kind)) or "").partition("\n")[0]
    configured = [f"{field.name}={getattr(plugin.instance, field.name)}" for field in dataclasses.fields(plugin.instance) if _is_set(plugin, field)]
    return f"{first_line} ({', '.join(configured)})" if configured else first_line


def _is_set(plugin: Plugin, field: dataclasses.Field[Any]) -> bool:
    """True for a field whose registered value is not the class's own default."""
    return getattr(plugin.instance, field.name) != field.default and field.default_factory is dataclasses.MISSING


def show(store: Store, prefix: str, console: Console) -> None:
    """One record in full, and the sweep that makes it again."""
    record = store.find(prefix)
    for title, value in _facets(record, store):
        console.print(f"[bold]{title}[/]")
        console.print_json(json.dumps(value)) if isinstance(value, dict) else console.print(escape(value), soft_wrap=True)
    for leaf in _leaves_on(store, record):
        fit = store.get(leaf["fit"])
        files = (" --secret FILE" if fit and "secret" in fit.parameters else "") + (" --plugin FILE" if _from_outside(leaf) else "")
        console.print(f"[bold]reproduce with[/] bench run --preset FILE.toml{files}, where FILE.toml holds", soft_wrap=True)
        console.print(_reproduction(leaf), markup=False, highlight=False, soft_wrap=True)
        return
    beside = any(record.key in _beside_scores(manifest) for manifest in store.sweeps())
    where = "Tables show it beside the scores" if beside else "No score of this store is this record or rests on it"
    console.print(f"{where}; the command that made it makes it again.", soft_wrap=True)


def _facets(record: Record, store: Store) -> Iterator[tuple[str, Any]]:
    yield "record", f"{record.key} ({record.stage}, {record.status})"
    if record.reason:
        yield "reason", record.reason
    charged = record if "budget" in record.parameters else store.get(fit_behind(record, store) or "")
    if charged and charged.ok and charged.parameters["budget"]:
        budget = charged.parameters["budget"]
        allowed = f"{float(budget['epsilon']):g} at delta {budget['delta']:g} for a {budget['unit']}"
        yield "epsilon", f"{charged.epsilon:.5g}, recomputed from the charges below; allowed was {allowed}"
        if charged is not record:
            yield "fit", {"key": charged.key, **charged.result}
    yield "result", record.result
    yield "parameters", record.parameters
    yield "inputs", record.inputs
    yield "provenance", record.provenance


def _leaves_on(store: Store, record: Record) -> Iterator[dict[str, Any]]:
    """Scores of any sweep that are this record, or that rest on this fit or sample, with the sweep that asked for them."""
    for manifest in store.sweeps():
        for leaf in manifest["leaves"]:
            score = store.get(leaf["key"]) if record.stage == "sample" else None
            if record.key in (leaf["key"], leaf["fit"], *(score.inputs.values() if score else ())):
                yield {**leaf, "sweep": manifest["sweep"]}


def _beside_scores(manifest: dict[str, Any]) -> set[str]:
    """What a table shows that is no score: audits, ceilings, reference policies."""
    return {leaf["key"] for leaf in manifest.get("audits", ())} | set(anchor_keys(manifest["environments"]))


def _from_outside(leaf: dict[str, Any]) -> bool:
    """True if it names a plugin that this installation does not have: one of a file."""
    named = {"environments": leaf["env"], "synthesizers": leaf["synth"], SCORERS[leaf["kind"]]: leaf["plugin"]}
    return any(label.partition("[")[0] not in registry.names(group) for group, label in named.items())


def _reproduction(leaf: dict[str, Any]) -> str:
    """A sweep of this one cell; earlier seeds come along, since seeds are counted."""
    scorer = f"{OVER_GOALS}{leaf['plugin']}" if leaf["kind"] == "goals" else leaf["plugin"]
    scorers = {group: [scorer] if group == SCORERS[leaf["kind"]] else [] for group in SCORERS.values()}
    seeds = {layer: seed + 1 for layer, seed in leaf["seeds"].items()}
    epsilon = [] if leaf["epsilon"] is None else [float(leaf["epsilon"])]
    names = {"env": [leaf["env"]], "synth": [leaf["synth"]], "rows": [leaf["rows"]], "unit": leaf["unit"], "seeds": seeds, **scorers}
    kept = ("preset", "delta", "accountant", "released", "evaluated", "dataset_seed", "minutes", "schedule")
    values = {key: leaf["sweep"][key] for key in kept if leaf["sweep"][key] is not None}
    return load_sweep(None, {**values, **names, **({"epsilon": epsilon} if epsilon else {})}).to_toml()


def check(name: str, environment: str, console: Console) -> bool:
    """Print the findings of the conformance suite; True if all passed."""
    groups = [group for group in registry.GROUPS if name.partition("[")[0] in registry.names(group)]
    if not groups:
        everything = [known for group in registry.GROUPS for known in registry.names(group)]
        raise InputError(f"NAME: {name!r} is no plugin and no --plugin file registers it; {registry.did_you_mean(name, everything)}")
    sound = True
    for group in groups:
        plugin = registry.resolve(group, name)
        for finding in conformance.check(plugin, registry.resolve("environments", environment).instance):
            mark = "[green]ok  [/]" if finding.ok else "[red]FAIL[/]"
            console.print(f"{mark} {finding.check}: {escape(finding.detail)}", soft_wrap=True, highlight=False)
            sound &= finding.ok
    return sound


def doctor(results: Path, console: Console) -> bool:
    """Print the state of the installation; True if nothing is wrong."""
    complaints = [*_shadowed(), *_broken_plugins(), *_unwritable(results)]
    console.print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores", highlight=False)
    for name in ("orl-bench", "numpy", "torch", "dp-accounting", "h5py", "pooch", "tyro", "rich", "mujoco"):
        console.print(f"{name} {_version(name)}", highlight=False)
    for complaint in complaints:
        console.print(f"[red]wrong[/] {escape(complaint)}", soft_wrap=True, highlight=False)
    if not complaints:
        console.print("[green]Nothing is wrong.[/]")
    return not complaints


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "is not installed"


def _shadowed() -> Iterator[str]:
    """Our four packages lie side by side; one found elsewhere belongs to somebody else."""
    home = Path(__file__).parent.parent
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).parent.parent if spec and spec.origin else None
        if found != home:
            yield f"package {name!r} should be in {home} but Python finds it in {found}; remove what shadows it"


def _broken_plugins() -> Iterator[str]:
    for group in registry.GROUPS:
        for name in registry.names(group):
            try:
                registry.resolve(group, name)
            except InputError as error:
                yield str(error)


def _unwritable(results: Path) -> Iterator[str]:
    """Why no records can be kept there. A folder that is yet to come is not made for the question: a passing one is, where it would be."""
    home = next(folder for folder in (results.absolute(), *results.absolute().parents) if os.path.exists(folder))
    try:
        if home == results.absolute():
            Store(results).create()
        else:
            with TemporaryDirectory(dir=home):
                pass
    except InputError as error:
        yield str(error)
    except OSError as error:
        yield f"--results: cannot make {results} in {home} ({error.strerror}); give another folder"
