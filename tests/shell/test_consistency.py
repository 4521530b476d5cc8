"""`bench verify` without a page: whoever changes one thing in a record contradicts something else in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Finished
from shell_support import TINY, bench, csv_of, nodes_of, write_preset

from bench.run.plan import make_plan
from bench.run.spec import Node, Seeds
from bench.run.stages import STAGES
from bench.run.store import Record, Store

Json = dict[str, Any]


@pytest.fixture
def fit() -> str:
    return nodes_of(make_plan(TINY), "fit", synthesizers="independent")[0].key


def change(file: Path, hand: Callable[[Json], object]) -> None:
    content = json.loads(file.read_text())
    hand(content)
    file.write_text(json.dumps(content))


def verified(copied: Path, hand: Callable[[Json], object]) -> str:
    """What `bench verify` says where a hand has changed the sweep."""
    (sweep,) = Store(copied).files("sweeps")
    change(sweep, hand)
    result = bench("verify", "--results", copied)
    assert result.code == 1
    return result.out


def less_noise(record: Json) -> None:
    for charge in record["result"]["charges"]:
        charge["noise_multiplier"] /= 2


HANDS: dict[str, tuple[Callable[[Json], object], str]] = {
    "epsilon": (lambda record: record["result"].update(epsilon_spent=1.0), "it says that it spent epsilon 1, but its charges cost 10"),
    "noise": (less_noise, "it says that it spent epsilon 10, but its charges cost"),
    "charges": (lambda record: record["result"]["charges"].clear(), "it says that it spent epsilon 10, but its charges cost 0"),
    "budget": (lambda record: record["parameters"]["budget"].update(epsilon=1.0), "its name is not the key of its parameters and inputs"),
    "inputs": (lambda record: record["inputs"].update(data="0" * 20), "its name is not the key of its parameters and inputs"),
    "seed": (lambda record: record["parameters"].update(seed=9), "its name is not the key of its parameters and inputs"),
    "accountant": (lambda record: record["result"].update(accountant="rdp"), "it says that its accountant was rdp, but pld judges its charges"),
    "label": (
        lambda record: record["plugins"].update(synthesizers="independent[cells=7]"),
        "it calls its method independent[cells=7], which is not the one of its key",
    ),
    "nothing": (
        lambda record: record["result"].update(charges=[], epsilon_spent=0.0),
        "it had epsilon 10 at delta 0.0001 for a transition and spent nothing",
    ),
}


def test_what_was_run_agrees_with_itself(finished: Finished) -> None:
    result = bench("verify", "--results", finished.results)
    assert (result.code, result.out) == (0, f"The records in {finished.results} agree with their keys, charges and claims.\n")


@pytest.mark.parametrize("name", HANDS)
def test_a_changed_record_contradicts_itself(name: str, copied: Path, fit: str) -> None:
    hand, sentence = HANDS[name]
    change(copied / "records" / f"{fit}.json", hand)
    result = bench("verify", "--results", copied)
    assert result.code == 1
    assert f"fit {fit}: {sentence}" in result.out


@pytest.mark.parametrize(("field", "sentence"), [("charges", "has no charges that can be read"), ("epsilon_spent", "has no epsilon_spent")])
def test_a_fit_that_tells_no_cost_is_named(field: str, sentence: str, copied: Path, fit: str) -> None:
    change(copied / "records" / f"{fit}.json", lambda record: record["result"].pop(field))
    result = bench("verify", "--results", copied)
    assert result.code == 1
    assert sentence in result.out


def test_a_cost_that_is_no_number_is_named(copied: Path, fit: str) -> None:
    change(copied / "records" / f"{fit}.json", lambda record: record["result"].update(epsilon_spent="ten"))
    for command, code in (("verify", 1), ("table", 2)):
        result = bench(command, "--results", copied)
        assert result.code == code
        assert f"record {fit} says that it spent epsilon 'ten'" in result.out + result.err


def test_a_fit_that_spent_more_than_it_had_is_named(copied: Path, fit: str) -> None:
    """Its charges and what it says agree, and the table calls it overspent."""

    def spend(record: Json) -> None:
        less_noise(record)
        record["result"]["epsilon_spent"] = 25.3

    change(copied / "records" / f"{fit}.json", spend)
    spent = Store(copied).find(fit).epsilon
    change(copied / "records" / f"{fit}.json", lambda record: record["result"].update(epsilon_spent=spent))
    result = bench("verify", "--results", copied)
    assert result.code == 1
    assert f"fit {fit}: it had epsilon 10 at delta 0.0001 for a transition and spent epsilon {spent:.4g}\n" in result.out


TWO_FACED = """
from dataclasses import dataclass
from bench.core.protocols import Guarantee
from bench.core.registry import register
from synthesizers.uniform import Uniform

@register("synthesizers", "two-faced")
@dataclass(frozen=True)
class TwoFaced(Uniform):
    private: bool = True

    @property
    def guarantee(self):
        return Guarantee.DP if self.private else Guarantee.DATA_FREE
"""


def test_a_variant_has_the_guarantee_of_its_fields(tmp_path: Path) -> None:
    """It was held to that of the name without brackets."""
    (plugin := tmp_path / "two_faced.py").write_text(TWO_FACED)
    preset = write_preset(replace(TINY, synth=("two-faced[private=false]",), agents=(), attacks=(), seeds=Seeds(synthesizer=1)), tmp_path)
    store = ("--results", tmp_path / "runs", "--plugin", plugin)
    assert bench("run", "--preset", preset, *store, "--jobs", 1).code == 0
    assert (result := bench("verify", *store)).code == 0, result.out
    claim = of_method("two-faced[private=false]", guarantee="DP")
    (sweep,) = Store(tmp_path / "runs").files("sweeps")
    change(sweep, claim)
    assert "made with guarantee data-free, but claimed with DP" in bench("verify", *store).out


def test_real_rows_that_say_they_cost_nothing_are_named(copied: Path) -> None:
    """Their record is all that would let them be exported as free of sensitive rows."""
    real = nodes_of(make_plan(TINY), "fit", synthesizers="real")[0].key
    change(copied / "records" / f"{real}.json", lambda record: record["result"].update(epsilon_spent=0.0))
    assert f"fit {real}: it says that it spent epsilon 0, but real has the guarantee none" in bench("verify", "--results", copied).out
    sample = nodes_of(make_plan(TINY), "sample", synthesizers="real")[0].key
    exported = bench("export", sample, "--to", copied / "rows.hdf5", "--results", copied)
    assert exported.code == 2
    assert "without a finite epsilon" in exported.err


def test_scores_of_a_fit_that_failed_are_named_and_no_table_ranks_them(copied: Path, fit: str) -> None:
    """Otherwise a fit that cost too much would only have to be called a failure."""
    change(copied / "records" / f"{fit}.json", lambda record: record.update(status="failed", reason="called so"))
    assert re.search(rf"utility \w+: rests on fit {fit}, which failed", bench("verify", "--results", copied).out)
    scores = [line for line in csv_of(copied).splitlines() if ",independent," in line]
    mean = csv_of(copied).partition("\n")[0].split(",").index("mean")
    assert scores
    assert not any(line.split(",")[mean] for line in scores)


def of_method(name: str, **changes: object) -> Callable[[Json], None]:
    """A hand that changes all scores of a method in a sweep."""

    def hand(sweep: Json) -> None:
        for leaf in sweep["leaves"]:
            if leaf["synth"] == name:
                leaf.update(changes)

    return hand


def other_agent(sweep: Json) -> None:
    for leaf in sweep["leaves"]:
        leaf["plugin"] = {"bc": "iql"}.get(leaf["plugin"], leaf["plugin"])


def published_as_headline(sweep: Json) -> None:
    """The score on the own task under the name of the score that ranks."""
    for leaf in sweep["leaves"]:
        leaf["kind"] = {"utility": "goals"}.get(leaf["kind"], leaf["kind"])


def shorter(sweep: Json) -> None:
    """A shorter longest trajectory makes epsilon of a whole one smaller."""
    sweep["environments"][0]["max_trajectory_length"] = 1


def same_fit_twice(sweep: Json) -> None:
    """Two seeds without any spread."""
    first, second = [leaf for leaf in sweep["leaves"] if leaf["synth"] == "independent" and leaf["kind"] == "utility"][:2]
    second.update(key=first["key"], fit=first["fit"])


CLAIMS: dict[str, tuple[Callable[[Json], object], str]] = {
    "guarantee": (of_method("independent", guarantee="data-free"), "made with guarantee DP, but claimed with data-free"),
    "variant": (of_method("independent", synth="independent[cells=7]"), "made with independent, but claimed for independent[cells=7]"),
    "rows": (of_method("independent", rows=1_000_000), "made with rows 400, but claimed with 1000000"),
    "released": (of_method("independent", released=9), "made with released 200, but claimed with 9"),
    "environment": (of_method("independent", env="toy-east"), "made with toy, but claimed for toy-east"),
    "agent": (other_agent, "made with bc, but claimed for iql"),
    "goals": (published_as_headline, "made with kind utility, but claimed with goals"),
    "seed": (same_fit_twice, "made with synthesizer 0, but claimed with 1"),
    "horizon": (shorter, "toy: its trajectories have 20 rows at most, but the sweep says 1"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_row_that_claims_what_its_records_do_not_say_is_named(name: str, copied: Path) -> None:
    hand, sentence = CLAIMS[name]
    assert sentence in verified(copied, hand)


@pytest.mark.parametrize("content", ["[]", "{}", '{"leaves": ["one"]}', '{"leaves": [{}], "environments": [], "sweep": {}}', '{"leaves": 3}'])
def test_a_sweep_that_is_none_gets_one_sentence(content: str, copied: Path) -> None:
    (sweep,) = Store(copied).files("sweeps")
    sweep.write_text(content)
    for command in (("verify",), ("table",)):
        result = bench(*command, "--results", copied)
        assert result.code == 2
        assert result.err.startswith(f"bench: sweep {sweep} ")
        assert "restore this file from a copy, or delete it and run its sweep again" in result.err


def test_scores_on_an_environment_that_the_sweep_does_not_know_get_one_sentence(copied: Path) -> None:
    (sweep,) = Store(copied).files("sweeps")
    change(sweep, of_method("independent", env="elsewhere"))
    result = bench("table", "--results", copied)
    assert result.code == 2
    assert "scores on elsewhere and says nothing of that environment" in result.err


def test_a_row_that_claims_another_budget_than_its_fits_had_is_named(copied: Path, fit: str) -> None:
    def claim_less(sweep: Json) -> None:
        for leaf in sweep["leaves"]:
            if leaf["fit"] == fit:
                leaf["epsilon"] = 1.0

    assert f"fit {fit}: made by independent under epsilon 10 at delta" in verified(copied, claim_less)
    assert "but independent claims epsilon 1 at delta" in verified(copied, claim_less)


def test_a_row_in_which_one_score_alone_claims_another_budget_is_named(copied: Path, fit: str) -> None:
    """The table would show that score in a row of its own, at a smaller epsilon."""

    def claim_less(sweep: Json) -> None:
        next(leaf for leaf in sweep["leaves"] if leaf["fit"] == fit)["epsilon"] = 1.0

    assert f"fit {fit}: made by independent under epsilon 10" in verified(copied, claim_less)


def test_a_row_under_the_name_of_another_method_is_named(copied: Path, fit: str) -> None:
    def rename(sweep: Json) -> None:
        for leaf in sweep["leaves"]:
            leaf["synth"] = leaf["synth"].replace("independent", "pgm")

    assert f"fit {fit}: made by independent under epsilon 10" in verified(copied, rename)


def test_a_score_of_another_row_s_rows_is_named(copied: Path) -> None:
    def borrow(sweep: Json) -> None:
        scores = {leaf["synth"]: leaf for leaf in sweep["leaves"] if leaf["kind"] == "utility"}
        scores["independent"]["key"] = scores["real"]["key"]

    assert re.search(r"utility \w+: rests on fit \w+, but independent claims it for fit \w+", verified(copied, borrow))


@pytest.mark.parametrize("stage", ["fit", "sample"])
def test_a_score_whose_charges_are_missing_is_named(copied: Path, fit: str, stage: str) -> None:
    """Who deletes the record of a fit that cost too much has a row without charges, and nothing that contradicts it."""
    (gone,) = (node.key for node in nodes_of(make_plan(TINY), stage, synthesizers="independent") if fit in (node.key, node.inputs.get("fit")))
    (copied / "records" / f"{gone}.json").unlink()
    result = bench("verify", "--results", copied)
    assert result.code == 1
    assert result.out.splitlines() == [
        f"fit {fit}: independent has scores of it, but the records that tell what it was charged are missing; merge a store that has them"
    ]


def test_an_audit_of_another_budget_is_named(copied: Path) -> None:
    """An audit at epsilon 1 finds less than one of the row at 10 would, and would speak for it."""
    store = Store(copied)
    leaf = store.newest_sweep()["audits"][0]
    parameters = {"synthesizer": {"plugin": leaf["synth"]}, "budget": {name: leaf[name] for name in ("delta", "unit")} | {"epsilon": 1.0}}
    key = Node("audit", STAGES["audit"].version, parameters, {}, {}).key
    store.put(Record(key, "audit", "ok", None, parameters, {}, {}, {}, False))
    said = verified(copied, lambda sweep: sweep["audits"][0].update(key=key, fit=key))
    assert f"audit {key}: made by {leaf['synth']} under epsilon 1 at delta" in said


def test_the_table_believes_the_charges_where_they_cost_more_than_the_record_says(copied: Path, fit: str) -> None:
    change(copied / "records" / f"{fit}.json", less_noise)
    (verdict,) = {line.rpartition(",")[2] for line in csv_of(copied).splitlines() if ",independent," in line}
    assert verdict == "overspent"


@pytest.mark.parametrize("changes", [{"noise": 1.0}, {"mechanism": "laplace"}, {"noise_multiplier": "large"}])
def test_charges_that_cannot_be_read_are_named(changes: Json, copied: Path, fit: str) -> None:
    change(copied / "records" / f"{fit}.json", lambda record: record["result"]["charges"][0].update(changes))
    sentence = f"record {fit} has no charges that can be read"
    for command in (("table",), ("show", fit)):
        result = bench(*command, "--results", copied)
        assert result.code == 2
        assert result.err.startswith(f"bench: {sentence}")
    verified = bench("verify", "--results", copied)
    assert verified.code == 1
    assert verified.out.startswith(sentence)


def test_what_cannot_be_read_hides_no_other_contradiction(copied: Path, fit: str) -> None:
    """Whoever breaks one record does not silence what is said of another."""
    records = sorted((copied / "records").glob("*.json"))
    change(copied / "records" / f"{fit}.json", HANDS["epsilon"][0])
    broken = [path for path in (records[0], records[-1]) if path.stem != fit]
    for path in broken:
        path.write_text("{")
    result = bench("verify", "--results", copied)
    assert result.code == 1
    for path in broken:
        assert f"record {path} is corrupt" in result.out
    assert f"fit {fit}: {HANDS['epsilon'][1]}" in result.out


@pytest.mark.parametrize(("kind", "field"), [("fit", "epsilon_spent"), ("fit", "accountant"), ("utility", "score"), ("fidelity", "scores")])
def test_a_field_that_was_taken_out_is_named_with_its_file(kind: str, field: str, copied: Path, fit: str) -> None:
    key = fit if kind == "fit" else next(leaf.key for leaf in make_plan(TINY).leaves if (leaf.kind, leaf.fit) == (kind, fit))
    change(path := copied / "records" / f"{key}.json", lambda record: record["result"].pop(field))
    result = bench("table", "--results", copied)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"bench: record {path} has no {field}; restore this file from a copy, or delete it and run its sweep again")


@pytest.mark.parametrize("kind", ["utility", "fidelity", "attack"])
def test_a_score_that_is_no_number_gets_one_sentence(kind: str, copied: Path, fit: str) -> None:
    key = next(leaf.key for leaf in make_plan(TINY).leaves if (leaf.kind, leaf.fit) == (kind, fit))
    change(
        copied / "records" / f"{key}.json",
        lambda record: record["result"].update(score="abc", scores=dict.fromkeys(record["result"].get("scores", ()), "abc")),
    )
    result = bench("table", "--results", copied)
    assert (result.code, result.out) == (2, "")
    assert re.match(f"bench: record {key} has no [a-z_0-9]+ that is a number; run the same sweep again with --fresh\n", result.err)


def test_show_recomputes_epsilon(copied: Path, fit: str) -> None:
    assert "9.9" in (before := bench("show", fit, "--results", copied).out.partition("recomputed from the charges below")[0])
    change(copied / "records" / f"{fit}.json", less_noise)
    assert bench("show", fit, "--results", copied).out.partition("recomputed from the charges below")[0] != before
