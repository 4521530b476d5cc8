"""A sweep names the audits of its rows before they are run: `bench audit` fills in what the leaderboard leaves open."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import make_dataclass, replace
from pathlib import Path

import pytest
from shell_support import QUICK, Result, bench, csv_of, write_preset

from bench import register
from bench.core.data import Unit
from bench.core.errors import InputError
from bench.run.spec import Seeds, Sweep, load_sweep
from bench.run.store import Store
from bench.tables.auditing import make_audit_plan, planned_audits

SEVERAL = replace(QUICK, synth=("real", "uniform", "independent", "privorl-n[steps=5]"), epsilon=(1.0, 10.0, math.inf), rows=(400, 900))


@pytest.mark.parametrize(
    "sweep",
    [
        pytest.param(SEVERAL, id="toy"),
        pytest.param(load_sweep("laptop", {"env": ("maze2d-medium",), "synth": ("all",), "seeds": {"synthesizer": 6}}), id="laptop"),
        pytest.param(replace(SEVERAL, delta=1e-6, accountant="rdp", unit=Unit.TRANSITION, dataset_seed=3), id="own-delta"),
    ],
)
def test_the_keys_are_those_that_an_audit_of_one_row_makes(sweep: Sweep) -> None:
    listed = {(leaf.synth, leaf.rows, leaf.unit, leaf.epsilon, leaf.plugin): leaf.key for leaf in planned_audits(sweep)}
    made = {}
    for synth, rows, _, epsilon, _ in listed:
        alone = replace(sweep, synth=(synth,), rows=(rows,), epsilon=(epsilon,), seeds=Seeds(1), agents=(), metrics=(), attacks=())
        made |= {(leaf.synth, leaf.rows, leaf.unit, leaf.epsilon, leaf.plugin): leaf.key for leaf in make_audit_plan(alone, ("all",)).leaves}
    assert listed == made
    assert listed
    assert all(math.isfinite(epsilon) for _, _, _, epsilon, _ in listed)


@pytest.mark.parametrize(
    "sweep", [replace(SEVERAL, synth=("real", "uniform")), replace(SEVERAL, epsilon=(math.inf,)), replace(SEVERAL, unit=Unit.TRAJECTORY)]
)
def test_what_claims_nothing_finite_has_no_audits(sweep: Sweep) -> None:
    assert planned_audits(sweep) == []


def test_an_audit_that_cannot_be_planned_with_stops_no_run() -> None:
    register("audits", "unfinished")(make_dataclass("Unfinished", [], namespace={"version": 1}))
    assert {leaf.plugin for leaf in planned_audits(SEVERAL)} == {"many-run", "one-run"}
    with pytest.raises(InputError, match="unfinished"):
        make_audit_plan(replace(SEVERAL, epsilon=(1.0,)), ("all",))


@pytest.mark.parametrize(("env", "audited"), [(("maze2d-umaze",), "maze2d-umaze"), ((), "toy")])
def test_an_audit_is_of_the_presets_environments(env: tuple[str, ...], audited: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Sweep] = []
    monkeypatch.setattr("bench.cli.make_audit_plan", lambda sweep, audits: seen.append(sweep) or make_audit_plan(sweep, audits))
    preset = tmp_path / "own.toml"
    preset.write_text(f"env = {json.dumps(env)}\nsynth = ['independent']\n" if env else "synth = ['independent']\n")
    assert bench("audit", "--preset", preset, "--dry-run", "--results", tmp_path / "runs").code == 0
    assert [sweep.env for sweep in seen] == [(audited,)]


def test_a_variant_without_an_audit_size_runs_and_is_not_audited(tmp_path: Path) -> None:
    """Windows of six rows fit tokens of three; the four rows of its audits do not."""
    variant = "privorl-j[horizon=6,patch=3]"
    sweep = replace(SEVERAL, synth=("independent", variant), epsilon=(1.0,))
    assert {leaf.synth for leaf in planned_audits(sweep)} == {"independent"}
    with pytest.raises(InputError, match=re.escape(f"{variant} has no variant that audits could fit (horizon: 4 rows")):
        make_audit_plan(sweep, ("all",))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A sweep of one private row, and then one of its audits by itself."""
    folder = tmp_path_factory.mktemp("swept")
    sweep = replace(QUICK, synth=("uniform", "independent"))
    ran = bench("run", "--preset", write_preset(sweep, folder), "--results", folder / "runs", "--jobs", 1)
    assert ran.code == 0, ran.err
    return folder, ran


def test_run_names_audits_and_runs_none(swept: tuple[Path, Result]) -> None:
    folder, ran = swept
    store = Store(folder / "runs")
    assert [(audit["synth"], audit["plugin"]) for audit in store.newest_sweep()["audits"]] == [
        ("independent", "many-run"),
        ("independent", "one-run"),
    ]
    assert not any(record.stage == "audit" for record in store.records())
    assert "audited ≥" in ran.out


def test_once_audited_the_row_shows_it(swept: tuple[Path, Result]) -> None:
    folder, _ = swept
    audited = bench(
        "audit", "--preset", folder / "quick.toml", "--synth", "independent", "--audits", "one-run", "--results", folder / "runs", "--jobs", 1
    )
    assert audited.code == 0, audited.err
    line = next(line.split() for line in audited.out.splitlines() if " one-run " in line)
    bound, ceiling = line[line.index("one-run") + 4 :][:2]
    (shown,) = (each for each in csv.DictReader(io.StringIO(csv_of(folder / "runs"))) if each["metric"] == "audited")
    assert (shown["synth"], f"{float(shown['mean']):.2f}", f"{float(shown['ceiling']):.2f}") == ("independent", bound, ceiling)
