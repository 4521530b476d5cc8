"""A plan shares whatever can be shared, asks nothing that is done, and refuses what cannot be private."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import pytest
from shell_support import BARE, TINY, Log, nodes_of, record_of, run_here
from stubs import STUBS, PublicMoments, PublicStub

from bench import View, register
from bench.core.data import Unit
from bench.core.errors import InputError
from bench.envs.toy import Toy
from bench.run.cost import cost, disk
from bench.run.execute import execute_here
from bench.run.plan import Plan, make_plan, pending
from bench.run.secret import Secret
from bench.run.spec import Node, Seeds, Sweep, load_sweep
from bench.run.store import Record, Store


@dataclass(frozen=True)
class ShadowAttack:
    """Asks for one further fit, without the first rows. Planning does not run it."""

    needs: str = "samples"

    version = 1
    better: Any = None
    attack = None

    def views(self, target: View) -> Mapping[str, View]:
        return {"without": replace(target, drop=(0, 1, 2))}


@dataclass(frozen=True)
class Epochs(PublicMoments):
    """A public phase with a hyper-parameter."""

    epochs: int


@dataclass(frozen=True)
class FineTuned(PublicStub):
    """One field for each phase; without epochs there is no public one."""

    epochs: int = 2
    steps: int = 3

    @property
    def needs_public(self) -> bool:
        return self.epochs > 0

    @property
    def pretraining(self) -> Epochs | None:
        return Epochs(self.epochs) if self.epochs else None


def register_stubs(*names: str) -> None:
    for name in names:
        register("synthesizers", f"{name}-stub")(STUBS[name])


def views_of(plan: Plan) -> list[str]:
    return [node.parameters["view"]["part"] for node in nodes_of(plan, "dataset")]


def test_every_input_is_planned_and_comes_before_whoever_reads_it() -> None:
    register_stubs("public", "trajectory")
    plan = make_plan(replace(TINY, env=("toy", "toy-east"), synth=("all",), rows=(400, 0), epsilon=(1.0, 10.0)))
    before: set[str] = set()
    for key, node in plan.nodes.items():
        assert key == node.key
        assert before >= set(node.inputs.values())
        before.add(key)
    assert {leaf.key for leaf in plan.leaves} <= before


def test_rows_follow_each_other_and_each_begins_with_its_fits() -> None:
    plan = make_plan(replace(TINY, synth=("independent", "pgm"), epsilon=(1.0, 10.0), seeds=Seeds(synthesizer=3)))
    own = [node for node in plan.nodes.values() if node.stage in ("fit", "sample", "fidelity", "train")][len(TINY.metrics) :]
    rows = [own[start : start + len(own) // 4] for start in range(0, len(own), len(own) // 4)]
    for row, (name, epsilon) in zip(rows, product(("independent", "pgm"), (1.0, 10.0)), strict=True):
        fits = [node for node in row if node.stage == "fit"]
        assert row[: len(fits)] == fits
        assert [node.parameters["seed"] for node in fits] == [0, 1, 2]
        assert {(node.plugins["synthesizers"], node.parameters["budget"]["epsilon"]) for node in fits} == {(name, epsilon)}


def test_cells_share_datasets_fits_and_samples() -> None:
    plan = make_plan(replace(TINY, agents=("bc", "iql"), metrics=("one-way", "correlation")))
    assert Counter(views_of(plan)) == {"train": 1, "holdout": 1, "reference": 2}, "one for metrics, and one as large as what was fitted for attacks"
    cells = len(TINY.synth) * TINY.seeds.synthesizer
    assert len(plan.cells) == cells
    assert len(nodes_of(plan, "fit")) == cells
    released = Counter(node.parameters["released"] for node in nodes_of(plan, "sample"))
    assert released == {TINY.released: cells, TINY.rows[0]: 2}, "one sample per cell, and the whole of `real` for its attack"
    assert len(nodes_of(plan, "train")) == 2 * cells
    assert len(nodes_of(plan, "fidelity")) == 2 * (cells + 1), "each metric once more between two real parts"


def test_a_sweep_that_names_a_thing_twice_computes_and_counts_it_once() -> None:
    once = make_plan(replace(TINY, rows=(2_000,)))
    twice = make_plan(replace(TINY, env=("toy", "toy"), synth=(*TINY.synth, "real"), rows=(0, 2_000), epsilon=(10.0, 10.0)))
    assert twice.nodes == once.nodes
    assert twice.leaves == once.leaves
    assert twice.environments == once.environments


def test_only_methods_with_a_budget_have_a_row_for_each_epsilon() -> None:
    plan = make_plan(replace(TINY, epsilon=(1.0, 10.0)))
    budgets = {(cell.synthesizer, cell.epsilon) for cell in plan.cells}
    assert budgets == {("real", None), ("uniform", None), ("independent", 1.0), ("independent", 10.0)}
    assert all((cell.delta is None) == (cell.epsilon is None) for cell in plan.cells)


def test_a_row_belongs_to_the_block_of_the_unit_that_it_protects() -> None:
    register_stubs("trajectory")
    sweep = replace(TINY, synth=(*TINY.synth, "trajectory-stub"))
    blocks = {(cell.synthesizer, cell.unit) for cell in make_plan(sweep).cells}
    both = {(name, unit) for name in ("real", "uniform") for unit in Unit}
    assert blocks == both | {("independent", Unit.TRANSITION), ("trajectory-stub", Unit.TRAJECTORY)}


def test_metrics_of_trajectories_are_scored_in_blocks_of_that_unit_and_have_a_ceiling_there_alone() -> None:
    register_stubs("trajectory")
    sweep = replace(TINY, metrics=("one-way", "continuity"))
    without, both = make_plan(sweep), make_plan(replace(sweep, synth=(*TINY.synth, "trajectory-stub")))
    assert without.environments[0]["ceilings"].keys() == {"one-way"}
    assert not nodes_of(without, "fidelity", metrics="continuity")
    assert both.environments[0]["ceilings"].keys() == {"one-way", "continuity"}
    scored = {(leaf.unit, leaf.plugin) for leaf in both.leaves if leaf.kind == "fidelity"}
    assert scored == {("transition", "one-way"), ("trajectory", "one-way"), ("trajectory", "continuity")}
    assert without.nodes.keys() <= both.nodes.keys(), "rows are scored as they were"


def test_unit_keeps_one_block_alone() -> None:
    register_stubs("trajectory")
    sweep = replace(TINY, synth=(*TINY.synth, "trajectory-stub"), unit=Unit.TRAJECTORY)
    assert {cell.synthesizer for cell in make_plan(sweep).cells} == {"real", "uniform", "trajectory-stub"}
    assert {cell.unit for cell in make_plan(sweep).cells} == {Unit.TRAJECTORY}


def test_a_sweep_without_a_row_is_refused() -> None:
    with pytest.raises(InputError, match="unit: none of the methods independent protects trajectory; drop --unit"):
        make_plan(replace(TINY, synth=("independent",), unit=Unit.TRAJECTORY))


def test_the_default_delta_goes_with_the_unit_and_the_rows() -> None:
    register_stubs("trajectory")
    plan = make_plan(replace(TINY, synth=("independent", "trajectory-stub"), rows=(400, 2_000)))
    deltas = {(cell.rows, cell.unit): cell.delta for cell in plan.cells}
    units = {(400, Unit.TRANSITION): 400, (2_000, Unit.TRANSITION): 2_000, (400, Unit.TRAJECTORY): 20, (2_000, Unit.TRAJECTORY): 100}
    assert deltas == {key: pytest.approx(10.0 ** -len(str(10 * n - 1))) for key, n in units.items()}
    assert all(delta is not None and delta <= 1 / (10 * units[key]) for key, delta in deltas.items())


@pytest.mark.parametrize("delta", [1 / 400, 0.5])
def test_a_delta_of_a_whole_record_is_refused_and_the_named_one_works(delta: float) -> None:
    with pytest.raises(InputError, match="delta") as error:
        make_plan(replace(TINY, delta=delta))
    named = re.search(r"N = 400 units; (\S+) works", str(error.value))
    assert named
    cells = make_plan(replace(TINY, delta=float(named[1]))).cells
    assert {cell.delta for cell in cells} == {None, float(named[1])}


def test_the_number_of_rows_is_an_axis_and_0_is_the_nominal_number() -> None:
    plan = make_plan(replace(TINY, rows=(100, 400, 0)))
    assert {cell.rows for cell in plan.cells} == {100, 400, 2_000}
    assert [block["rows"] for block in plan.environments] == [100, 400, 2_000]
    for rows in (100, 400, 2_000):
        alone = make_plan(replace(TINY, rows=(rows,)))
        assert alone.nodes.keys() <= plan.nodes.keys()


def test_a_number_of_rows_that_two_mean_for_one_environment_alone_is_refused() -> None:
    """Tables set environments side by side by the place of a number."""
    with pytest.raises(InputError, match="rows: 0 stands for a number that is named too, for toy alone"):
        make_plan(replace(TINY, env=("maze2d-umaze", "toy"), rows=(2_000, 0)))
    assert len(make_plan(replace(TINY, env=("maze2d-umaze", "maze2d-medium"), rows=(1_000_000, 0))).environments) == 2


def test_metrics_see_no_more_rows_than_are_released_and_the_ceiling_as_many() -> None:
    for released, evaluated in ((100, 400), (400, 100)):
        plan = make_plan(replace(TINY, metrics=("one-way",), released=released, evaluated=evaluated))
        assert {node.parameters["evaluated"] for node in nodes_of(plan, "fidelity")} == {100}


@pytest.mark.parametrize("needs", ["samples", "sampler"])
def test_what_an_attack_asks_for_is_fitted_by_the_same_method_under_the_same_budget(needs: str) -> None:
    register("attacks", "shadow")(ShadowAttack(needs, {"auc": "lower"}))
    plan = make_plan(replace(TINY, synth=("independent",), attacks=("shadow",), agents=(), metrics=()))
    attacks = nodes_of(plan, "attack")
    assert len(attacks) == TINY.seeds.synthesizer
    for attack in attacks:
        target, shadow = (plan.nodes[attack.inputs[role]] for role in ("target", "shadow/without"))
        assert target.stage == shadow.stage == {"samples": "sample", "sampler": "fit"}[needs]
        if needs == "samples":
            assert target.parameters == shadow.parameters
            target, shadow = (plan.nodes[node.inputs["fit"]] for node in (target, shadow))
        assert target.parameters == shadow.parameters
        data, dropped = (plan.nodes[node.inputs["data"]].parameters["view"] for node in (target, shadow))
        assert {**data, "drop": [0, 1, 2]} == dropped
        assert plan.nodes[attack.inputs["data"]].parameters["view"] == data


def test_pretraining_is_one_node_a_seed_for_every_budget_and_size_and_sees_no_private_row() -> None:
    register_stubs("public")
    sweep = replace(BARE, synth=("public-stub",), epsilon=(1.0, 10.0), rows=(200, 400), seeds=Seeds(synthesizer=3))
    plan = make_plan(sweep)
    pretraining = {node.key: node.parameters["seed"] for node in nodes_of(plan, "pretrain")}
    assert sorted(pretraining.values()) == [0, 1, 2]
    fits = nodes_of(plan, "fit")
    assert len(fits) == len(Unit) * len(sweep.epsilon) * len(sweep.rows) * sweep.seeds.synthesizer
    assert all(pretraining[fit.inputs["pretrained"]] == fit.parameters["seed"] for fit in fits)
    private = {fit.inputs["data"] for fit in fits}
    assert len(private) == len(sweep.rows)
    for key in pretraining:
        assert set(plan.nodes[key].inputs) == {"public/toy-east", "public/toy-north"}
        assert not private & set(plan.nodes[key].inputs.values())


def test_another_draw_of_the_rows_is_another_draw_of_the_public_ones_too() -> None:
    """Else what the choice of public rows adds to a score would be in no spread over dataset seeds."""
    register_stubs("public")
    views = [node.parameters["view"] for node in nodes_of(make_plan(replace(TINY, synth=("public-stub",), dataset_seed=3)), "dataset")]
    assert len(views) > 3
    assert {view["dataset_seed"] for view in views} == {3}


def pretrain_nodes(*synth: str) -> dict[str, Node | None]:
    """The pre-training of each variant, by its label."""
    register("synthesizers", "fine-tuned")(FineTuned)
    plan = make_plan(replace(BARE, synth=synth))
    fits = {node.plugins["synthesizers"]: node for node in nodes_of(plan, "fit")}
    used = {label: plan.nodes[node.inputs["pretrained"]] if "pretrained" in node.inputs else None for label, node in fits.items()}
    assert {node.key for node in used.values() if node} == {node.key for node in nodes_of(plan, "pretrain")}
    return used


def test_variants_that_agree_on_the_public_phase_share_its_node() -> None:
    nodes = pretrain_nodes("fine-tuned", "fine-tuned[steps=4]", "fine-tuned[epochs=5]", "fine-tuned[epochs=5,steps=4]")
    assert len(nodes) == 4
    assert nodes["fine-tuned"] == nodes["fine-tuned[steps=4]"]
    assert nodes["fine-tuned[epochs=5]"] == nodes["fine-tuned[epochs=5,steps=4]"]
    assert nodes["fine-tuned"] != nodes["fine-tuned[epochs=5]"]


def test_a_variant_without_public_phase_reads_nothing_public() -> None:
    (without,) = pretrain_nodes("fine-tuned[epochs=0]").values()
    assert without is None
    assert all(set(fit.inputs) == {"data"} for fit in nodes_of(make_plan(replace(BARE, synth=("fine-tuned[epochs=0]",))), "fit"))


def test_the_public_phase_of_any_variant_sees_no_private_row() -> None:
    for node in pretrain_nodes("fine-tuned", "fine-tuned[epochs=5]").values():
        assert node
        assert node.inputs.keys() == {"public/toy-east", "public/toy-north"}


def test_fields_in_brackets_are_a_row_of_their_own_and_registered_values_are_not() -> None:
    plan = make_plan(replace(BARE, synth=("independent", "independent[cells=7]", "independent[cells=7]")))
    labels = {cell.synthesizer for cell in plan.cells}
    assert labels == {"independent", "independent[cells=7]"}
    default = next(node.parameters["synthesizer"]["fields"]["cells"] for node in nodes_of(plan, "fit", synthesizers="independent"))
    assert len(make_plan(replace(BARE, synth=("independent", f"independent[cells={default}]"))).cells) == 1


def remaining(sweep: Sweep, store: Store) -> Counter[str]:
    return Counter(node.stage for node in pending(make_plan(sweep), store))


def test_pending_asks_for_missing_scores_and_for_what_they_need(tmp_path: Path) -> None:
    sweep = replace(TINY, synth=("uniform",), seeds=Seeds(synthesizer=1))
    store = Store(tmp_path)
    assert pending(make_plan(sweep), store) == list(make_plan(sweep).nodes.values())
    plan, store, _ = run_here(sweep, tmp_path)
    assert pending(plan, store) == []
    (sample,), (train,) = nodes_of(plan, "sample"), nodes_of(plan, "train")
    store.blob_path(sample.key).unlink()
    assert remaining(sweep, store) == {}, "scores without their samples are still scores"
    (fit,) = nodes_of(plan, "fit")
    store.blob_path(fit.key).unlink()
    assert remaining(sweep, store) == {"fit": 1}, "the released model is a result of its own"
    run_here(sweep, tmp_path)
    (store.root / "records" / f"{train.key}.json").unlink()
    assert remaining(sweep, store) == {"sample": 1, "train": 1}
    more = replace(sweep, agents=("bc[width=8]",))
    assert remaining(more, store) == {"sample": 1, "train": 1}
    run_here(more, tmp_path)
    assert remaining(more, store) == {}


def test_a_fit_whose_kept_calibration_is_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sweep = replace(BARE, synth=("independent",), epsilon=(1.0,))
    run_here(sweep, tmp_path / "honest")
    for kept in (tmp_path / "cache").rglob("*.json"):
        answer = json.loads(kept.read_text())
        kept.write_text(json.dumps(answer | {"factor": answer["factor"] / 2}))
    plan, store, _ = run_here(sweep, tmp_path / "poisoned")
    (fit,) = nodes_of(plan, "fit")
    assert re.search(r"the ledger records epsilon 2\.\d+ under a budget of", record_of(store, fit).reason or "")


def test_the_estimate_follows_what_the_store_has_timed(tmp_path: Path) -> None:
    plan, store, _ = run_here(BARE, tmp_path)
    guesses = cost(list(plan.nodes.values()), Store(tmp_path / "empty"))
    timed = cost(list(plan.nodes.values()), store)
    assert sum(timed.values()) < sum(guesses.values())
    quick = next(iter(plan.nodes))
    record = record_of(store, plan.nodes[quick])
    store.put(replace(record, provenance=record.provenance | {"seconds": 0.0}))
    assert cost([plan.nodes[quick]], store) == {quick: 0.0}, "a stage that takes no time is timed too"
    again = make_plan(replace(BARE, seeds=Seeds(synthesizer=2)))
    assert cost(list(again.nodes.values()), store).keys() == again.nodes.keys()
    assert sum(cost(list(again.nodes.values()), store).values()) < 5, "a new seed costs what the first one did"


@pytest.mark.parametrize("size", ["rows", "released", "evaluated", "schedule", "view", "goals"])
def test_what_was_timed_at_one_size_says_nothing_of_another(size: str, tmp_path: Path) -> None:
    """A sweep of small releases, run first to try it out, would else promise an afternoon for a week."""
    store, plugins = Store(tmp_path), {"metrics": "one-way"}
    store.put(Record("aa11", "fidelity", "ok", None, {size: 1}, {}, plugins, {}, False, {"seconds": 77.0}))
    same, other = (Node("fidelity", 1, {size: value}, {}, plugins) for value in (1, 2))
    estimate = cost([same, other], store)
    assert estimate[same.key] == 77.0 != estimate[other.key]


def test_what_was_timed_in_one_environment_stands_for_another_until_that_is_timed_too(tmp_path: Path) -> None:
    store, umaze, large = Store(tmp_path), *({"agents": "iql", "environments": f"maze2d-{maze}"} for maze in ("umaze", "large"))
    node = Node("train", 1, {"schedule": {"steps": 10}}, {}, large)
    for key, plugins, seconds in (("aa11", umaze, 77.0), ("bb22", large, 99.0)):
        store.put(Record(key, "train", "ok", None, node.parameters, {}, plugins, {}, False, {"seconds": seconds}))
        assert cost([node], store) == {node.key: seconds}
    assert cost([replace(node, plugins={**large, "agents": "td3-bc"})], store) != cost([node], store)


def test_how_soon_a_stage_failed_says_nothing_of_the_time_that_it_takes(tmp_path: Path) -> None:
    """What an input took with it failed after no time at all."""
    store, plugins = Store(tmp_path), {"metrics": "one-way"}
    for key, status, seconds in (("aa11", "ok", 60.0), ("bb22", "failed", 0.0), ("cc33", "failed", 0.0)):
        store.put(Record(key, "fidelity", status, None, {"rows": 1}, {}, plugins, {}, False, {"seconds": seconds}))
    node = Node("fidelity", 1, {"rows": 1}, {}, plugins)
    assert cost([node], store) == {node.key: 60.0}


def test_what_nothing_has_timed_is_guessed_by_the_time_limit_of_its_preset(tmp_path: Path) -> None:
    """`smoke` takes about a minute on two cores and says so, not what stages of the size of `laptop` would take."""
    plan = make_plan(load_sweep("smoke", {}))
    seconds = sum(cost(list(plan.nodes.values()), Store(tmp_path)).values())
    assert 60 < seconds < 240


def test_the_disk_estimate_is_within_a_third_of_the_rows_that_are_stored(tmp_path: Path) -> None:
    """Most of them stand in the fits of `real`, which keep all that they were handed."""
    plan, store, _ = run_here(replace(BARE, synth=("real", "uniform"), released=50, seeds=Seeds(synthesizer=5)), tmp_path)
    rows = [node for stage in ("dataset", "fit", "sample") for node in nodes_of(plan, stage)]
    stored = sum(array.nbytes for node in rows for array in store.arrays(node.key).values())
    assert disk(list(plan.nodes.values())) == pytest.approx(stored, rel=1 / 3)


@pytest.mark.parametrize("secret", [None, Secret(bytes(range(32)))])
def test_nothing_of_a_sensitive_file_is_in_the_keys_of_rows_that_are_free_of_it(secret: Secret | None, tmp_path: Path) -> None:
    """Keys name random streams: who holds two candidates for the file saw which of them a release of epsilon 0 was made beside."""

    @dataclass(frozen=True)
    class Clinic(Toy):
        patients: ClassVar[str] = "first"

        def content(self) -> str:
            return self.patients

    register("environments", "clinic")(Clinic)
    sweep = replace(BARE, env=("clinic",), synth=("uniform", "public-data", "independent", "real"), metrics=())
    first = make_plan(sweep, secret)
    Clinic.patients = "second"
    second = make_plan(sweep, secret)
    for name in sweep.synth:
        free = name in ("uniform", "public-data")
        for stage in ("fit", "sample"):
            ours, theirs = ([node.key for node in nodes_of(plan, stage, synthesizers=name)] for plan in (first, second))
            assert ours
            assert (ours == theirs) == free, (name, stage)
    store = Store(tmp_path)
    store.create()
    execute_here([node for node in pending(first, store) if node.plugins.get("synthesizers") != "independent"], store, log := Log())
    assert all(record.ok for record in log.records.values()), [record.reason for record in log.records.values()]
