"""Every command does what its help says."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Finished
from shell_support import BARE, PLUGINS, QUICK, TINY, bench, csv_of, files_in, nodes_of, refused, start, write_preset

from bench.core import registry
from bench.options import Options
from bench.run.execute import execute
from bench.run.plan import make_plan
from bench.run.spec import Node, Seeds, load_sweep
from bench.run.store import Record, Store

CSV_HEADER = (
    "env,source,preset,rows,synth,unit,guarantee,epsilon,delta,epsilon_spent,epsilon_trajectory,accountant,"
    "metric,agent,mean,low,high,interval,n,failed,stale,better,ceiling,sources,verdict"
)


def times_in(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in files_in(folder) if "sweeps" not in path.parts}


# --- run, plan, table ---


def test_run_announces_its_cost_prints_the_table_and_says_how_to_print_it_again(finished: Finished) -> None:
    out = finished.output.out
    assert re.match(r"3 rows of 6 cells, \d+ stages \(0 done\): about [\d.]+ minutes on 2 processes, \d+ MiB of disk\n", out)
    assert bench("table", "--results", finished.results).out in out
    again = re.search(r"Print this table again: bench (.+)\n", out)
    assert again
    assert shlex.split(again[1]) == ["table", "--results", str(finished.results)]
    assert "Not of the suite" not in out
    assert finished.output.err == ""


def test_there_is_a_process_for_each_core_that_may_be_used(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster these are fewer than the machine has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7}, raising=False)
    assert "minutes on 3 processes" in bench("plan", "--preset", finished.preset, "--results", finished.results).out


def test_running_a_finished_sweep_again_runs_nothing(finished: Finished, copied: Path) -> None:
    before = times_in(copied)
    result = bench("run", "--preset", finished.preset, "--results", copied)
    nodes = len(make_plan(TINY).nodes)
    assert f"{nodes} stages ({nodes} done)" in result.out
    assert times_in(copied) == before
    assert csv_of(copied) == finished.csv


def test_run_prints_its_own_table_though_another_run_started_a_sweep_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute_beside_another(nodes: Sequence[Node], store: Store, *rest: Any) -> None:
        execute(nodes, store, *rest)
        store.put_sweep("newer", {"leaves": []})

    monkeypatch.setattr("bench.cli.execute", execute_beside_another)
    result = bench("run", "--preset", write_preset(BARE, tmp_path), "--results", tmp_path / "runs", "--jobs", 1)
    assert (result.code, result.err) == (0, "")
    assert "uniform" in result.out.partition("real vs real")[2]


@pytest.mark.parametrize("command", [("run", "--dry-run"), ("plan",)])
def test_a_plan_is_shown_and_nothing_is_written(command: tuple[str, ...], finished: Finished, tmp_path: Path) -> None:
    result = bench(*command, "--preset", finished.preset, "--results", tmp_path / "runs")
    assert result.code == 0
    assert result.out.startswith("3 rows of 6 cells")
    assert not (tmp_path / "runs").exists()


def test_options_stand_above_the_preset(finished: Finished) -> None:
    options = ("--synth", "uniform,independent", "independent[cells=8]", "--epsilon", "1,10", "inf", "--rows", "0.1k", "400", "--seeds", 3)
    result = bench("plan", "--preset", finished.preset, *options)
    assert result.out.startswith("14 rows of 42 cells"), "(1 + 2 x 3 epsilons) x 2 sizes, 3 seeds"


def test_metrics_and_attacks_stand_above_the_preset_too(finished: Finished, tmp_path: Path) -> None:
    scorers = ("--metrics", "correlation", "--attacks", "domias[together=10],nearest-record", "--agents", "bc", "--agent-seeds", 2)
    ran = bench("run", "--preset", finished.preset, "--results", tmp_path, "--synth", "uniform", "--seeds", 1, "--jobs", 1, *scorers)
    assert ran.code == 0, ran.err
    leaves = Store(tmp_path).newest_sweep()["leaves"]
    assert Counter(leaf["plugin"] for leaf in leaves) == {"bc": 2, "correlation": 1, "domias[together=10]": 1, "nearest-record": 1}


def test_a_sweep_without_scores_is_run_for_its_rows_and_tells_how_to_export_them(tmp_path: Path) -> None:
    preset, results = write_preset(replace(BARE, synth=("independent",), metrics=()), tmp_path), tmp_path / "runs"
    ran = bench("run", "--preset", preset, "--results", results, "--jobs", 1)
    assert ran.code == 0, ran.err
    (told,) = re.findall(r"independent on toy: bench (export .*)\n", ran.out)
    assert not [record for record in Store(results).records() if record.stage in ("fidelity", "attack", "train")]
    exported = bench(*told.replace("FILE", str(tmp_path / "rows")).split())
    assert exported.code == 0, exported.err
    assert (tmp_path / "rows.privacy.md").is_file()
    assert told in bench("run", "--preset", preset, "--results", results, "--jobs", 1).out, "the same command again tells it again"
    refused(["asked for no score"], "table", "--results", results)


def test_fresh_computes_everything_again(finished: Finished, tmp_path: Path) -> None:
    command = ("run", "--preset", write_preset(BARE, tmp_path), "--results", tmp_path / "runs", "--jobs", 1)
    assert bench(*command).code == 0
    before, csv = times_in(tmp_path / "runs"), csv_of(tmp_path / "runs")
    assert bench(*command, "--fresh").code == 0
    after = times_in(tmp_path / "runs")
    assert after.keys() == before.keys()
    assert all(after[path] > before[path] for path in before)
    assert csv_of(tmp_path / "runs") == csv


def test_keep_scores_deletes_the_samples_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    command = ("run", "--preset", write_preset(BARE, tmp_path), "--results", tmp_path / "runs", "--jobs", 1, "--keep", "scores")
    first = bench(*command)
    store, plan = Store(tmp_path / "runs"), make_plan(BARE)
    assert not any(store.blob_path(node.key).exists() for node in nodes_of(plan, "sample"))
    assert all(store.blob_path(node.key).exists() for node in nodes_of(plan, "fit"))
    before = times_in(tmp_path / "runs")
    assert bench(*command).out.splitlines()[1:] == [line for line in first.out.splitlines()[1:] if not line.startswith("done ")]
    assert times_in(tmp_path / "runs") == before


def test_the_csv_is_tidy_and_every_other_format_is_written(finished: Finished) -> None:
    header, *lines = finished.csv.splitlines()
    assert header == CSV_HEADER
    assert all(line.count(",") == header.count(",") for line in lines)
    assert "groups" in json.loads(bench("table", "--results", finished.results, "--format", "json").out)
    for form, mark in (("markdown", "| "), ("latex", r"\begin{tabular}"), ("html", "<table>"), ("text", "toy")):
        result = bench("table", "--results", finished.results, "--format", form)
        assert result.code == 0
        assert mark in result.out
        assert all(name in result.out for name in TINY.synth)


def test_a_changed_source_is_reported_and_marked(finished: Finished, copied: Path) -> None:
    assert ",true," not in csv_of(copied)
    (fit, *_) = nodes_of(make_plan(TINY), "fit", synthesizers="uniform")
    path = copied / "records" / f"{fit.key}.json"
    record = json.loads(path.read_text())
    record["provenance"]["sources"]["synthesizers"] = "another digest"
    path.write_text(json.dumps(record))
    stale = [line for line in csv_of(copied).splitlines() if ",true," in line]
    assert stale
    assert all(",uniform," in line for line in stale)
    assert "records stale" in bench("plan", "--preset", finished.preset, "--results", copied).out


@pytest.mark.parametrize("anchor", ["one-way", "references"])
def test_a_changed_source_of_ceilings_and_reference_policies_is_marked(finished: Finished, copied: Path, anchor: str) -> None:
    (block,) = make_plan(TINY).environments
    key = block["references"] if anchor == "references" else block["ceilings"][anchor]
    assert "†" not in bench("table", "--results", copied).out
    path = copied / "records" / f"{key}.json"
    record = json.loads(path.read_text())
    record["provenance"]["sources"] |= {"environments": "another digest"}
    path.write_text(json.dumps(record))
    assert "†" in bench("table", "--results", copied).out
    assert "\n1 record stale, since a source changed:" in bench("plan", "--preset", finished.preset, "--results", copied).out


def test_a_table_needs_no_plugin_that_has_gone_but_marks_its_rows(tmp_path: Path) -> None:
    preset = write_preset(replace(BARE, synth=("faulty", "uniform")), tmp_path)
    plugin = PLUGINS / "faulty.py"
    first = bench("run", "--preset", preset, "--results", tmp_path / "runs", "--plugin", plugin, "--jobs", 1)
    assert f"bench table --results {tmp_path / 'runs'} --plugin {plugin}\n" in first.out
    assert ",true," not in csv_of(tmp_path / "runs", "--plugin", plugin)
    registry._declared.clear()
    stale = {line.split(",")[4]: ",true," in line for line in csv_of(tmp_path / "runs").splitlines() if ",one_way," in line}
    assert stale["faulty"]
    assert not stale["uniform"]


def test_an_infinite_budget_is_a_budget(tmp_path: Path) -> None:
    preset = write_preset(replace(BARE, synth=("independent",), epsilon=(10.0, math.inf)), tmp_path)
    assert tomllib.loads(preset.read_text())["epsilon"] == [10.0, math.inf]
    result = bench("run", "--preset", preset, "--results", tmp_path / "runs", "--jobs", 1)
    assert result.code == 0
    rows = [line.split(",") for line in csv_of(tmp_path / "runs").splitlines()[1:]]
    assert {row[7] for row in rows if row[4] == "independent"} == {"10", "inf"}


# --- list, show, check, new, doctor ---


def test_list_has_a_line_for_every_plugin() -> None:
    result = bench("list")
    assert result.code == 0
    lines = {line.split()[0] for line in result.out.splitlines() if line.split()}
    assert lines >= {name for group in registry.GROUPS for name in registry.names(group)}
    assert "broken" not in result.out


def test_show_prints_a_toml_that_reproduces_the_key(finished: Finished, tmp_path: Path) -> None:
    plan = make_plan(TINY)
    for leaf in plan.leaves:
        for key in (leaf.key, leaf.fit):
            result = bench("show", key[:12], "--results", finished.results)
            assert result.code == 0
            assert key in result.out
            text = result.out.partition("where FILE.toml holds\n")[2]
            path = tmp_path / "shown.toml"
            path.write_text(text)
            assert key in make_plan(load_sweep(str(path), {})).nodes
            assert len(make_plan(load_sweep(str(path), {})).nodes) < len(plan.nodes)


def test_show_tells_result_parameters_and_provenance(finished: Finished) -> None:
    (train, *_) = nodes_of(make_plan(TINY), "train")
    out = bench("show", train.key, "--results", finished.results).out
    for word in ("score", "curve", "learning_rate", "provenance", "numpy", "seconds", "peak_bytes", "sources"):
        assert word in out


def test_the_command_that_is_told_names_every_plugin_file_behind_one_option() -> None:
    """Of a repeated option the last file alone was loaded."""
    assert Options(plugin=(Path("one.py"), Path("an other.py"))).again == " --plugin one.py 'an other.py'"


def test_who_reads_no_further_gets_no_traceback(finished: Finished) -> None:
    """As in `bench table | head -1`."""
    with start("table", "--results", finished.results) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.wait(timeout=60), process.stderr.read()) == (141, "")


def test_show_tells_what_stands_beside_scores_from_what_no_table_shows(finished: Finished, tmp_path: Path) -> None:
    store = Store(Path(shutil.copytree(finished.results, tmp_path / "copied")))
    manifest = store.newest_sweep()
    beside = [manifest["environments"][0]["references"], *manifest["environments"][0]["ceilings"].values()]
    parameters = {"of": "another command"}
    store.put(Record(alone := Node("audit", 1, parameters, {}, {}).key, "audit", "failed", "as it happens", parameters, {}, {}, {}, False))
    for key, told in (*((key, "Tables show it beside the scores;") for key in beside), (alone, "No score of this store is this record")):
        assert told in bench("show", key, "--results", store.root).out


def test_show_tells_what_a_score_or_its_rows_cost(finished: Finished) -> None:
    plan = make_plan(TINY)
    leaf = next(leaf for leaf in plan.leaves if leaf.synth == "independent" and leaf.kind == "utility")
    sample = plan.nodes[leaf.key].inputs["sample"]
    for key in (leaf.key, sample, leaf.fit):
        out = bench("show", key, "--results", finished.results).out
        assert re.search(r"^9\.99\d*, recomputed from the charges below; allowed was 10 at delta", out, re.MULTILINE)
        assert "noise_multiplier" in out
        assert leaf.fit in out
    (free, *_) = (leaf for leaf in plan.leaves if leaf.synth == "uniform")
    assert "charges below" not in bench("show", free.key, "--results", finished.results).out


def test_what_a_file_made_is_told_apart_from_what_it_was_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its file nobody can say whether the source is still the same, and the legend says so; with it all is as it was."""
    preset = write_preset(replace(TINY, synth=("uniform", "faulty"), metrics=(), attacks=()), tmp_path)
    results, plugin = tmp_path / "runs", ("--plugin", PLUGINS / "faulty.py")
    assert bench("run", "--preset", preset, "--results", results, "--jobs", 1, *plugin).code == 0
    for command in (("table",), ("plan", "--separate", "uniform", "faulty")):
        monkeypatch.setattr(registry, "_declared", {})
        unmarked = bench(*command, "--results", results, *plugin).out
        assert "faulty" in unmarked
        assert "†" not in unmarked
    monkeypatch.setattr(registry, "_declared", {})
    marked = " ".join(bench("table", "--results", results).out.split())
    assert "† rests on" in marked
    assert "not given here (--plugin FILE)" in marked
    key = next(leaf["key"] for leaf in Store(results).newest_sweep()["leaves"] if leaf["synth"] == "faulty")
    assert "bench run --preset FILE.toml --plugin FILE, where" in bench("show", key, "--results", results).out


def test_show_tells_why_something_failed_brackets_and_all(tmp_path: Path) -> None:
    preset = write_preset(replace(BARE, synth=("faulty[fault=outside]",)), tmp_path)
    ran = bench("run", "--preset", preset, "--results", tmp_path / "runs", "--plugin", PLUGINS / "faulty.py", "--jobs", 1)
    assert ran.code == 1, "a script must learn of it"
    reason = "column 'x' of the release leaves its declared bounds [-1.0, 1.0]"
    assert f"failed sample · faulty[fault=outside]: ValueError: {reason}\n" in ran.out
    assert "failed faulty[fault=outside] at epsilon 10 on toy, 400 rows, unit transition; scores without a result: 1\n" in ran.out
    assert "\ndone " not in ran.out
    assert "0/1" in ran.out
    (sample,) = nodes_of(make_plan(load_sweep(str(preset), {})), "sample")
    assert reason in bench("show", sample.key, "--results", tmp_path / "runs").out


def test_check_is_0_for_a_sound_plugin_and_1_for_another() -> None:
    sound = bench("check", "uniform")
    assert (sound.code, sound.err) == (0, "")
    assert "FAIL" not in sound.out
    broken = bench("check", "faulty[fault=no-plan]", "--plugin", PLUGINS / "faulty.py")
    assert (broken.code, broken.err) == (1, "")
    assert "FAIL" in broken.out


def test_what_new_writes_passes_check_unchanged_and_has_a_row(tmp_path: Path) -> None:
    written = bench("new", "synthesizer", "noise-cloud", "--folder", tmp_path)
    assert written.code == 0
    file = tmp_path / "noise_cloud.py"
    assert f"bench check noise-cloud --plugin {file}" in written.out
    assert "NoiseCloud: every column drawn from its own noisy histogram." in bench("list", "--plugin", file).out, "where a class says nothing"
    checked = bench("check", "noise-cloud", "--plugin", file)
    assert checked.code == 0, checked.out
    preset = write_preset(replace(QUICK, attacks=(), seeds=Seeds(1)), tmp_path)
    ran = bench("run", "--preset", preset, "--plugin", file, "--synth", "real,noise-cloud", "--results", tmp_path / "runs", "--jobs", 1)
    assert ran.code == 0, ran.err
    rows = {line.split(",")[4]: line for line in csv_of(tmp_path / "runs", "--plugin", file).splitlines() if ",one_way," in line}
    assert {"real", "noise-cloud"} <= set(rows)
    assert "Not of the suite: noise-cloud. No run checks a method" in ran.out
    mean = CSV_HEADER.split(",").index("mean")
    assert all(float(rows[name].split(",")[mean]) > 0 for name in ("real", "noise-cloud"))


def test_an_agent_that_no_environment_can_score_is_told(tmp_path: Path) -> None:
    preset = write_preset(replace(BARE, agents=("goals/bc", "bc"), metrics=("one-way",)), tmp_path)
    told = bench("run", "--preset", preset, "--dry-run", "--results", tmp_path / "runs").out
    assert "Not scored: goals/bc, since no environment of this sweep has a goal set." in told
    assert told.count("Not scored") == 1


def test_a_name_that_an_example_bears_is_replaced_once(tmp_path: Path) -> None:
    bench("new", "synthesizer", "my-sampler", "--folder", tmp_path)
    text = (tmp_path / "my_sampler.py").read_text()
    assert re.findall(r"class (\w+)", text) == ["MySampler", "MySamplerSampler"]


def test_check_does_not_mind_a_warning_that_every_fit_gives(tmp_path: Path) -> None:
    """Python shows a warning once for each line that gives it, so it would be missing from all fits but the first."""
    bench("new", "synthesizer", "noise-cloud", "--folder", tmp_path)
    file = tmp_path / "noise_cloud.py"
    fit = "        schema, table = data.schema, data.table()\n"
    file.write_text("import warnings\n" + file.read_text().replace(fit, f"{fit}        warnings.warn('bins are few')\n"))
    process = start("check", "noise-cloud", "--plugin", file)  # in a process of its own, since pytest keeps warnings to itself
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out


def test_doctor_finds_nothing_wrong(finished: Finished) -> None:
    result = bench("doctor", "--results", finished.results)
    assert result.code == 0, result.out
    assert "Nothing is wrong." in result.out


def test_doctor_says_when_results_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = bench("doctor", "--results", tmp_path / "file")
    assert result.code == 1
    assert "cannot write" in result.out


def test_doctor_says_when_results_cannot_be_made_and_makes_nothing_itself(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = bench("doctor", "--results", tmp_path / "file" / "deep" / "runs")
    assert result.code == 1
    assert f"cannot make {tmp_path / 'file' / 'deep' / 'runs'} in {tmp_path / 'file'}" in " ".join(result.out.split())
    assert bench("doctor", "--results", tmp_path / "deep" / "runs").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
