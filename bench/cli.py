"""The command line: one short function for each command.

Bad input ends in one sentence on stderr and exit code 2; what has no result in the end, in exit code 1. Running the same command again continues it.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape

from bench import inspection, scaffold
from bench.core import registry
from bench.core.errors import InputError
from bench.messages import announce, report_stale, tell_outsiders, tell_samples
from bench.options import DEFAULT_RESULTS, Options, OptionsArgument, Plugins, Results, refuse_slips
from bench.release.export import export
from bench.run.consistency import contradictions
from bench.run.cost import cost
from bench.run.execute import execute
from bench.run.merging import merge, render_merge
from bench.run.plan import Plan, make_plan, pending
from bench.run.progress import Display
from bench.run.secret import Secret
from bench.run.spec import Sweep, preset_values, sweep_name
from bench.run.store import Store
from bench.tables.auditing import audit_table, make_audit_plan, planned_audits
from bench.tables.catalogue import LEADERBOARD, PAPERS, make_table
from bench.tables.comparison import comparison
from bench.tables.leaderboard import Table
from bench.tables.render import render
from bench.tables.separation import separation
from bench.tables.validation import render_validities, validation_sweep, validities
from bench.tables.verification import verify as check_file

app = tyro.extras.SubcommandApp()

# Positional arguments, under the names that messages use.
Key = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="KEY")]
Row = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROW")]
Rows = Annotated[tuple[str, ...], tyro.conf.arg(metavar="ROW ROW", help_behavior_hint="(optional)")]
Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
File = Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[FILE]", help_behavior_hint="(optional)")]
SecretFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: none, noise that repeats)")]
Format = Literal["text", "markdown", "latex", "html", "csv", "json"]
Folders = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DIR ...", help_behavior_hint="(required)")]


@app.command
def run(options: OptionsArgument, dry_run: bool = False, secret: SecretFile = None) -> None:
    """Fit, sample, score: run a sweep, or continue it; exit code 1 if a score has no result.

    Args:
        dry_run: print what would be done and stop.
        secret: for releases, a file of at least 32 random bytes that the noise is derived from. It is not stored: continue with the same one.
    """
    plan = _run(options, options.sweep(), dry_run, None if secret is None else Secret.read(secret))
    if plan and plan.leaves:
        _print(_own_table(plan, Store(options.results)), "text")
        Console().print(f"\nRecords are in {options.results}. Print this table again: [bold]bench table{escape(options.again)}[/]", soft_wrap=True)
        tell_outsiders(plan)
    elif plan:
        tell_samples(plan, Store(options.results), options.again)
    _exit_on_failures(plan, Store(options.results))


def _run(options: Options, sweep: Sweep, dry_run: bool = False, secret: Secret | None = None) -> Plan | None:
    """Run what is missing of a sweep, and keep it as the newest; None if it was only to be told."""
    plan, store = make_plan(sweep, secret), Store(options.results)
    if options.keep == "scores" and not plan.leaves:
        raise InputError("--keep: scores would delete the rows, and this sweep asks for no score; drop --keep, or ask for metrics")
    manifest = {**plan.manifest(datetime.now(UTC).isoformat(timespec="seconds")), "audits": planned_audits(sweep)}
    if not _complete(options, plan, store, dry_run, manifest):
        return None
    if options.keep == "scores":
        _drop_samples(plan, store)
    return plan


def _complete(options: Options, plan: Plan, store: Store, dry_run: bool, manifest: dict[str, Any] | None = None) -> bool:
    """Run what is missing of a plan; False if it was only to be told. The manifest, if any, is stored before the first stage starts."""
    console = Console()
    todo = list(plan.nodes.values()) if options.fresh else pending(plan, store)
    seconds, jobs = cost(todo, store), options.workers
    announce(console, plan, todo, seconds, jobs)
    report_stale(console, plan, store)
    if dry_run:
        return False
    store.create()
    if manifest is not None:
        store.put_sweep(sweep_name(manifest), manifest)
    with Display(plan, todo, seconds, console) as display:
        execute(todo, store, display, jobs, [str(file) for file in options.plugin])
    return True


def _exit_on_failures(plan: Plan | None, store: Store) -> None:
    """Which stages failed, and why, was said as it happened; whoever calls from a script learns it from the exit code."""
    if plan and pending(plan, store):
        raise SystemExit(1)


@app.command
def validate(options: OptionsArgument, dry_run: bool = False, save: Path | None = None) -> None:
    """Tell whether agents' scores fall as real rows are corrupted in known steps: only such a score can rank synthesizers.

    Takes the options of run but for synthesizers, metrics, attacks and budgets: rows are real ones and their corrupted copies.

    Args:
        dry_run: print what would be done and stop.
        save: also write what was found to this JSON file; that of the presets' utilities comes with the package, and `bench list` shows it.
    """
    options.refuse("synth", "metrics", "attacks", "epsilon", "delta", "unit", "accountant")
    plan, store = _run(options, validation_sweep(options.sweep()), dry_run), Store(options.results)
    if plan:
        found = validities(_own_table(plan, store))
        Console().print(render_validities(found), markup=False, highlight=False, soft_wrap=True)
        if save is not None:
            store.put_json(save, found)
    _exit_on_failures(plan, store)


@app.command
def audit(options: OptionsArgument, audits: tuple[str, ...] = ("all",), dry_run: bool = False) -> None:
    """Try to refute the epsilon of differentially private methods: empirical lower bounds from fits of a small copy of each.

    Takes the options of run but for scores and their agents. Each method is audited once unless --seeds says otherwise, on the environments of --env
    or of the preset, or on toy where neither names one. Running it again continues it.

    Args:
        audits: names, or all.
        dry_run: print what would be done and stop.
    """
    options.refuse("agents", "metrics", "attacks", "agent_seeds", "keep")
    named = options.env or preset_values(options.preset).get("env")
    options = replace(options, env=options.env if named else ("toy",), seeds=options.seeds or "1")
    plan, store = make_audit_plan(options.sweep(), registry.split_names(audits)), Store(options.results)
    if _complete(options, plan, store, dry_run):
        sys.stdout.write(audit_table(plan, store) + "\n")
        _exit_on_failures(plan, store)


@app.command
def plan(options: OptionsArgument, separate: Rows = ()) -> None:
    """Show the cells of a sweep, how much of it is done, and what the rest will cost.

    Args:
        separate: instead, two rows of the newest sweep, such as privsyn "pgm at 10": how many seeds tell them apart, and what those cost.
    """
    if not separate:
        run(options, dry_run=True)
        return
    if len(separate) != 2:
        raise InputError(f"--separate: {', '.join(separate)} are not two rows; name two of the newest sweep, such as privsyn 'pgm at 10'")
    options.refuse(*(field.name for field in fields(Options) if field.name not in ("results", "plugin")))
    registry.load_files(options.plugin)
    store = Store(options.results)
    leaderboard = make_table(LEADERBOARD, store.newest_sweep(), store)
    Console().print(separation(leaderboard, (separate[0], separate[1]), store), markup=False, highlight=False, soft_wrap=True)


@app.command
def table(
    format: Format = "text",
    results: Results = DEFAULT_RESULTS,
    plugin: Plugins = (),
    variance: bool = False,
    aggregate: bool = False,
    retest: bool = False,
    paper: str = "",
) -> None:
    """Print the leaderboard of the newest sweep.

    Args:
        format: text for a terminal; the others for papers, spreadsheets and programs.
        variance: instead, how much of each agent's spread comes from synthesizer, sampling and agent seeds.
        aggregate: instead, each agent's interquartile mean over all environments, and how probably the first row is better.
        retest: instead, the headline score from each half of the synthesizer seeds, and how far the two rankings agree.
        paper: instead, a table of the paper beside the published numbers: I, III, XII, ablation, sweep or resources.
    """
    asked = {"variance": variance, "aggregate": aggregate, "retest": retest, paper: bool(paper)}
    names = [name for name, wanted in asked.items() if wanted]
    if len(names) > 1:
        raise InputError("--variance, --aggregate, --retest, --paper: these are tables of their own; ask for one of them")
    if paper and paper not in PAPERS:
        raise InputError(f"--paper: {paper!r} is unknown; choose from {', '.join(PAPERS)}")
    registry.load_files(plugin)
    store = Store(results)
    _print(make_table(names[0] if names else LEADERBOARD, store.newest_sweep(), store), format)


@app.command
def verify(file: File = None, results: Results = DEFAULT_RESULTS, plugin: Plugins = ()) -> None:
    """Check that the records agree with each other, and the tables of a LaTeX or Markdown file with them; exit code 1 if anything differs.

    Args:
        file: whatever `bench table --format latex` or markdown wrote, or a document that it was pasted into with its comments.
    """
    registry.load_files(plugin)
    store = Store(results)
    store.newest_sweep()  # a folder without records has nothing to contradict
    tables, differences = check_file(file, store) if file else (0, [])
    found = [*contradictions(store), *map(str, differences)]
    for sentence in found:
        sys.stdout.write(f"{sentence}\n")
    if found:
        raise SystemExit(1)
    sys.stdout.write(f"The records in {results} agree with their keys, charges and claims.\n")
    if file:
        sys.stdout.write(f"Every number in the tables of {file} is that of its records; tables: {tables}.\n")


@app.command
def compare(first: Row, second: Row, results: Results = DEFAULT_RESULTS, plugin: Plugins = ()) -> None:
    """Compare two rows of the newest sweep on their common seeds: each difference with its interval, and how probably the first is better.

    Args:
        first: a row as the table names it, such as privsyn, or "pgm at 10" if pgm was run at several epsilons.
        second: another one.
    """
    registry.load_files(plugin)
    store = Store(results)
    sys.stdout.write(comparison(make_table(LEADERBOARD, store.newest_sweep(), store), (first, second)) + "\n")


@app.command(name="merge")
def merge_stores(dirs: Folders, results: Results = DEFAULT_RESULTS) -> None:
    """Join the stores of several machines into one; exit code 1 if a key has two answers. Running it again continues it.

    Args:
        dirs: folders that `bench run --results` has filled.
    """
    store = Store(results)
    merged = merge([Store(folder) for folder in dirs], store)
    Console().print(render_merge(merged, store), markup=False, highlight=False, soft_wrap=True)
    if merged.differences:
        raise SystemExit(1)


@app.command(name="export")
def export_rows(key: Key, to: Path, results: Results = DEFAULT_RESULTS, plugin: Plugins = ()) -> None:
    """Write a synthetic dataset in D4RL's layout, with a privacy card beside it.

    Args:
        key: the key of a sample, of a score of it, or of a fit that has one sample; or its first digits.
        to: a file that ends in .hdf5 or .npz.
    """
    registry.load_files(plugin)
    card = export(Store(results), key, to)
    Console().print(
        f"Wrote {to}: {card.rows_released:,} rows of {card.method}. Read what protects them, and what does not, in {to.with_suffix('.privacy.md')}.\n"
        f"{card.warning}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@app.command
def report(out: Path | None = None, figures: Path | None = None, results: Results = DEFAULT_RESULTS, plugin: Plugins = ()) -> None:
    """Write a report on the newest sweep: leaderboard, pictures, cost, and what stands behind every number.

    Args:
        out: an HTML file that needs nothing else; report.html if no figures are asked for either.
        figures: a folder for the same pictures as PNG and PDF, each with its caption as a text.
    """
    from bench.report import write_report  # here, since the other commands need not wait for matplotlib

    registry.load_files(plugin)
    page = Path("report.html") if out is None and figures is None else out
    for path in write_report(Store(results), page, figures):
        Console().print(str(path), markup=False, highlight=False, soft_wrap=True)


@app.command(name="list")
def list_plugins(plugin: Plugins = ()) -> None:
    """List every environment, synthesizer, agent, metric, attack and audit."""
    registry.load_files(plugin)
    inspection.list_plugins(Console())


@app.command
def show(key: Key, results: Results = DEFAULT_RESULTS) -> None:
    """Show everything about one number and the TOML that reproduces it.

    Args:
        key: the key of a record, or its first digits.
    """
    inspection.show(Store(results), key, Console())


@app.command
def check(name: Name, env: str = "toy", plugin: Plugins = ()) -> None:
    """Hold a plugin against the contract of its kind; exit code 1 if it breaks it.

    Args:
        name: a registered plugin, with fields in brackets if you like.
        env: the environment whose data the checks use.
    """
    registry.load_files(plugin)
    if not inspection.check(name, env, Console()):
        raise SystemExit(1)


@app.command
def new(kind: tyro.conf.Positional[Literal["synthesizer", "environment"]], name: Name, folder: Path = Path()) -> None:
    """Write a plugin file to start from.

    Args:
        kind: a synthesizer, which passes `bench check` unchanged, or an environment that reads a file of trajectories of your own.
        name: the plugin's name; the file is named after it.
        folder: where to write it.
    """
    file = scaffold.new_plugin(kind, name, folder)
    Console().print(f"Wrote {file}. Next: [bold]bench check {name} --plugin {file}[/]", soft_wrap=True)


@app.command
def doctor(results: Results = DEFAULT_RESULTS) -> None:
    """Tell what this installation has, and what would keep it from working; exit code 1 if something does."""
    if not inspection.doctor(results, Console()):
        raise SystemExit(1)


def main() -> None:
    """What `bench.__main__` runs."""
    try:
        refuse_slips(sys.argv[1:])
        try:
            app.cli(
                prog="bench",
                description="Benchmark differentially private synthesizers of offline-RL datasets.",
                config=(tyro.conf.FlagCreatePairsOff,),
            )
        finally:
            sys.stdout.flush()
    except BrokenPipeError as error:  # as of `bench table | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from error
    except InputError as error:
        sentence = " ".join(str(error).split())
        Console(stderr=True).print(f"[red]bench:[/] {escape(sentence)}", soft_wrap=True, highlight=False)
        raise SystemExit(2) from error


def _own_table(plan: Plan, store: Store) -> Table:
    """The leaderboard of a sweep that was run; the newest of the store may be another one, which somebody started meanwhile."""
    manifest = store.sweep(sweep_name(plan.manifest("")))
    assert manifest is not None
    return make_table(LEADERBOARD, manifest, store)


def _print(table: Table, form: Format) -> None:
    sys.stdout.write(render(table, form).rstrip("\n") + "\n")


def _drop_samples(plan: Plan, store: Store) -> None:
    for node in plan.nodes.values():
        if node.stage == "sample":
            store.blob_path(node.key).unlink(missing_ok=True)
