"""`bench export`: D4RL's readers find exactly the released rows, the card says what protects them, and nothing else goes out."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import Finished
from numpy.typing import NDArray
from shell_support import TINY, bench, files_in, nodes_of, record_of, run_here

from bench.core.data import ROW_ARRAYS, Transitions
from bench.core.protocols import Environment
from bench.envs.d4rl import load_d4rl
from bench.release.export import d4rl_arrays, export
from bench.run.plan import Plan, make_plan
from bench.run.spec import Node, Seeds
from bench.run.store import Store

Arrays = dict[str, NDArray]
LONE = replace(TINY, synth=("independent",), agents=(), metrics=("one-way",), attacks=(), seeds=Seeds(synthesizer=1))


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Store:
    """A copy of the finished store, to spoil."""
    return Store(Path(shutil.copytree(finished.results, tmp_path / "copied")))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(TINY)


def node(plan: Plan, stage: str, synth: str = "independent") -> Node:
    """The first node of a stage that belongs to a synthesizer."""
    samples = [found.key for found in nodes_of(plan, "sample", synthesizers=synth)]
    return next(found for found in plan.nodes.values() if found.stage == stage and (found.key in samples or {*found.inputs.values()} & {*samples}))


def read(path: Path) -> Arrays:
    with h5py.File(path) as file:
        return {name: values[()] for name, values in file.items()}


def by_d4rls_rule(arrays: Arrays) -> Arrays:
    """spec/environments.md, section 7.1: rows with timeouts=1 are dropped, and row i is paired with row i + 1."""
    kept = [i for i in range(len(arrays["rewards"]) - 1) if not arrays["timeouts"][i]]
    found = {name: arrays[name][kept] for name in ("observations", "actions", "rewards", "terminals")}
    return {**found, "next_observations": arrays["observations"][np.array(kept, int) + 1]}


def same_rows(found: Arrays, rows: Transitions | Arrays) -> bool:
    wanted = rows if isinstance(rows, dict) else {name: getattr(rows, name) for name in ROW_ARRAYS}
    return all(found[name].dtype == wanted[name].dtype and np.array_equal(found[name], wanted[name]) for name in ROW_ARRAYS if name != "timeouts")


# --- D4RL's layout ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["rows", "trajectories", "broken trajectories", "terminals"])
def released(request: pytest.FixtureRequest, toy: Environment) -> Transitions:
    """What methods release: rows that stand alone, whole trajectories, trajectories whose s' is not the next s, and ends of both kinds."""
    data = toy.dataset(300, 0, "train")
    if request.param == "rows":
        return data.rows(np.random.default_rng(0).permutation(300))
    if request.param == "broken trajectories":
        data.next_observations[::7] += 0.01
    if request.param == "terminals":
        data.terminals[::11] = True
        data.timeouts[::13] = True
    return data


def test_a_reader_by_d4rls_rule_finds_exactly_the_released_rows(released: Transitions) -> None:
    assert same_rows(by_d4rls_rule(d4rl_arrays(released)), released)


def test_our_own_reader_finds_them_too(released: Transitions, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.hdf5", "w") as file:
        for name, values in d4rl_arrays(released).items():
            file[name] = values
    found = load_d4rl(tmp_path / "file.hdf5", replace(released.schema, terminal=replace(released.schema.terminal, high=1.0, levels=(0.0, 1.0))))
    ended = released.terminals
    assert np.array_equal(found.next_observations[~ended], released.next_observations[~ended]), "its s' of a terminal row is s"
    assert same_rows({**vars(found), "next_observations": released.next_observations}, released)


def test_rows_that_go_on_share_their_states_as_in_d4rls_files(toy: Environment) -> None:
    data = toy.dataset(300, 0, "train")
    arrays = d4rl_arrays(data)
    trajectories = len(data.require_trajectories()) - 1
    assert len(arrays["rewards"]) == 300 + trajectories
    assert arrays["timeouts"].sum() == trajectories
    assert not arrays["actions"][arrays["timeouts"]].any()


@pytest.mark.parametrize("end", ["offset", "timeout", "terminal"])
def test_an_end_stays_an_end_even_where_the_next_row_goes_on_from_there(end: str, toy: Environment) -> None:
    """As in maze2d, where one goal segment begins where the last one ended."""
    data = toy.dataset(300, 0, "train").joined(np.array([0]))
    assert np.flatnonzero(d4rl_arrays(data)["timeouts"]).tolist() == [len(data)]
    (data.terminals if end == "terminal" else data.timeouts)[4] = end != "offset"
    cut = replace(data, trajectories=np.array([0, 5, len(data)])) if end == "offset" else data
    assert np.flatnonzero(d4rl_arrays(cut)["timeouts"]).tolist() == [5, len(data) + 1]


def test_both_forms_hold_the_same_arrays_and_equal_records_give_equal_bytes(finished: Finished, plan: Plan, tmp_path: Path) -> None:
    store, key = Store(finished.results), node(plan, "sample").key
    for folder in (tmp_path / "one", tmp_path / "other"):
        folder.mkdir()
        for ending in ("hdf5", "npz"):
            export(store, key, folder / f"rows.{ending}")
    one, other = ([path.read_bytes() for path in files_in(tmp_path / name)] for name in ("one", "other"))
    assert len(one) == 4
    assert one == other
    arrays = read(tmp_path / "one" / "rows.hdf5")
    with np.load(tmp_path / "one" / "rows.npz") as file:
        assert arrays.keys() == {*file}
        assert all(np.array_equal(arrays[name], file[name]) for name in arrays)
    assert same_rows(by_d4rls_rule(arrays), store.arrays(key))


def d4rl_or_skip() -> ModuleType:
    """D4RL 1.1 itself, kept from looking for a MuJoCo of 2021, which its data readers do not need."""
    os.environ["D4RL_SUPPRESS_IMPORT_ERROR"] = "1"
    sys.modules["mujoco_py"] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip("d4rl", reason="the extra d4rl is not installed", exc_type=ImportError)
    finally:
        del sys.modules["mujoco_py"], os.environ["D4RL_SUPPRESS_IMPORT_ERROR"]


def test_d4rls_own_reader_finds_exactly_the_released_rows(finished: Finished, plan: Plan, tmp_path: Path) -> None:
    reader: Any = d4rl_or_skip()
    store, key = Store(finished.results), node(plan, "sample").key
    export(store, key, tmp_path / "rows.hdf5")
    assert same_rows(reader.qlearning_dataset(None, dataset=read(tmp_path / "rows.hdf5")), store.arrays(key))


# --- what goes out ----------------------------------------------------------------------------------------------------


def test_the_cards_of_two_fits_on_different_rows_are_the_same(tmp_path: Path) -> None:
    files = []
    for seed in (0, 1):
        plan, store, _ = run_here(replace(LONE, dataset_seed=seed), tmp_path / f"{seed}")
        export(store, node(plan, "sample").key, tmp_path / f"out{seed}.npz")
        files.append({path.suffix: path.read_bytes() for path in tmp_path.glob(f"out{seed}*")})
    assert files[0][".npz"] != files[1][".npz"]
    assert (files[0][".json"], files[0][".md"]) == (files[1][".json"], files[1][".md"])


def test_nothing_is_read_but_the_sample_and_the_record_of_its_fit(finished: Finished, plan: Plan, tmp_path: Path) -> None:
    whole, bare, sample = Store(finished.results), Store(tmp_path / "bare"), node(plan, "sample")
    for name in (f"records/{sample.key}.json", f"records/{sample.inputs['fit']}.json", f"blobs/{sample.key}.npz"):
        bare.adopt(whole.root / name)
    assert export(bare, sample.key, tmp_path / "out.npz") == export(whole, sample.key, tmp_path / "out.npz")


def test_no_key_seed_score_or_path_is_in_what_goes_out(finished: Finished, plan: Plan, tmp_path: Path) -> None:
    export(Store(finished.results), node(plan, "sample").key, tmp_path / "out.hdf5")
    text = "".join(path.read_text() for path in (tmp_path / "out.privacy.json", tmp_path / "out.privacy.md"))
    assert not any(key in text for key in plan.nodes)
    assert str(finished.results) not in text
    assert '"seed"' not in text
    assert set(read(tmp_path / "out.hdf5")) == {*ROW_ARRAYS} - {"next_observations"}


def test_digest_and_path_of_a_sensitive_file_stay_inside(copied: Store, plan: Plan, tmp_path: Path) -> None:
    fit = record_of(copied, plan.nodes[node(plan, "sample").inputs["fit"]])
    place = {**fit.parameters["environment"], "content": "5ec2e7", "fields": {"path": "clinic.hdf5"}}
    copied.put(replace(fit, parameters={**fit.parameters, "environment": place}))
    export(copied, node(plan, "sample").key, tmp_path / "out.npz")
    text = (tmp_path / "out.privacy.json").read_text() + (tmp_path / "out.privacy.md").read_text()
    assert "5ec2e7" not in text
    assert "clinic" not in text


# --- which rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["sample", "fit", "train", "fidelity", "attack"])
def test_a_score_or_a_fit_leads_to_its_sample(stage: str, finished: Finished, plan: Plan, tmp_path: Path) -> None:
    sample = node(plan, "sample")
    key = sample.inputs["fit"] if stage == "fit" else node(plan, stage).key
    result = bench("export", key[:12], "--to", tmp_path / "out.npz", "--results", finished.results)
    assert (result.code, result.err) == (0, "")
    assert f"Wrote {tmp_path / 'out.npz'}: 200 rows of independent." in result.out
    assert "can subtract the noise" in result.out
    with np.load(tmp_path / "out.npz") as file:
        assert same_rows(by_d4rls_rule(dict(file)), Store(finished.results).arrays(sample.key))


def refused(words: str, store: Store, key: str, to: Path) -> None:
    """One sentence, exit code 2, and nothing written."""
    before = files_in(to.parent) if to.parent.is_dir() else []
    result = bench("export", key, "--to", to, "--results", store.root)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert result.err.count("\n") == 1
    assert (files_in(to.parent) if to.parent.is_dir() else []) == before


def test_rows_that_nothing_protects_are_refused(finished: Finished, plan: Plan, tmp_path: Path) -> None:
    refused("holds rows of real without a finite epsilon", Store(finished.results), node(plan, "sample", "real").key, tmp_path / "out.npz")
    endless, store, _ = run_here(replace(LONE, epsilon=(math.inf,)), tmp_path / "endless")
    refused("holds rows of independent without a finite epsilon", store, node(endless, "sample").key, tmp_path / "out.npz")


def test_a_fit_that_cost_more_than_it_claims_is_refused(copied: Store, plan: Plan, tmp_path: Path) -> None:
    sample = node(plan, "sample")
    fit = record_of(copied, plan.nodes[sample.inputs["fit"]])
    louder = [{**charge, "noise_multiplier": 0.9 * charge["noise_multiplier"]} for charge in fit.result["charges"]]
    copied.put(replace(fit, result={**fit.result, "charges": louder}))
    refused("more than the 10 that it claims", copied, sample.key, tmp_path / "out.npz")


@pytest.mark.parametrize("group", ["synthesizers", "environments"])
def test_a_fit_of_other_sources_than_todays_is_refused(group: str, copied: Store, plan: Plan, tmp_path: Path) -> None:
    """Their mistakes may be mended since, and the card would deny them."""
    sample = node(plan, "sample")
    fit = record_of(copied, plan.nodes[sample.inputs["fit"]])
    sources = {**fit.provenance["sources"], group: "before it was mended"}
    copied.put(replace(fit, provenance={**fit.provenance, "sources": sources}))
    refused("export it with the version that made it", copied, sample.key, tmp_path / "out.npz")


def test_what_leads_to_no_sample_or_to_several_is_refused(copied: Store, plan: Plan, tmp_path: Path) -> None:
    sample, out = node(plan, "sample"), tmp_path / "out.npz"
    refused("of stage dataset and rests on no synthetic rows", copied, nodes_of(plan, "dataset")[0].key, out)
    refused("of stage references", copied, nodes_of(plan, "references")[0].key, out)
    record = record_of(copied, sample)
    copied.put(replace(record, key="another", parameters={**record.parameters, "released": 7}))
    refused("2 samples were drawn from fit", copied, sample.inputs["fit"], out)
    refused(f"give the key of one: {sample.key} of 200 rows, another of 7 rows", copied, sample.inputs["fit"], out)
    copied.put(replace(record, status="failed", reason="it raised"))
    refused("failed (it raised)", copied, sample.key, out)
    (copied.root / "records" / f"{sample.inputs['fit']}.json").unlink()
    refused("the record of the fit behind sample another is not in", copied, "another", out)


def test_rows_that_were_dropped_say_how_to_have_them_again(copied: Store, plan: Plan, tmp_path: Path) -> None:
    sample = node(plan, "sample")
    copied.blob_path(sample.key).unlink()
    refused("--keep scores drops them); run the same sweep again with --fresh", copied, sample.key, tmp_path / "out.npz")


def test_files_are_not_overwritten_by_others(finished: Finished, plan: Plan, tmp_path: Path) -> None:
    store, sample, other = Store(finished.results), node(plan, "sample"), node(plan, "sample", "uniform")
    export(store, sample.key, tmp_path / "out.npz")
    before = [path.read_bytes() for path in files_in(tmp_path)]
    refused("out.privacy.json is there already and is another one", store, other.key, tmp_path / "out.npz")
    export(store, sample.key, tmp_path / "out.npz")
    assert [path.read_bytes() for path in files_in(tmp_path)] == before


def test_a_file_that_cannot_be_is_refused(finished: Finished, plan: Plan, tmp_path: Path) -> None:
    store, key = Store(finished.results), node(plan, "sample").key
    refused("out.csv ends in neither .hdf5 nor .npz", store, key, tmp_path / "out.csv")
    refused("cannot write", store, key, tmp_path / "nowhere" / "out.npz")
    refused("no record in", store, "zzzz", tmp_path / "out.npz")


def test_rows_never_lie_there_without_their_card(finished: Finished, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, move = [], os.replace

    def fail_third(source: Path, target: Path) -> None:
        written.append(target.name)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        move(source, target)

    monkeypatch.setattr("bench.release.export.os.replace", fail_third)
    result = bench("export", node(plan, "sample").key, "--to", tmp_path / "out.npz", "--results", finished.results)
    assert result.code == 2
    assert written[2] == "out.npz"
    assert [path.name for path in files_in(tmp_path)] == ["out.privacy.json", "out.privacy.md"]


def test_the_card_is_json_beside_its_markdown(finished: Finished, plan: Plan, tmp_path: Path) -> None:
    card = export(Store(finished.results), node(plan, "sample", "uniform").key, tmp_path / "out.npz")
    assert json.loads((tmp_path / "out.privacy.json").read_text()) == json.load(io.StringIO(json.dumps(card.to_json())))
    assert (tmp_path / "out.privacy.md").read_text() == card.to_markdown()
