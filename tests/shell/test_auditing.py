"""`bench audit`: its cells, its table, and that it goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from shell_support import PLUGINS, bench

from bench.core import registry
from bench.run.execute import fail
from bench.run.plan import pending
from bench.run.spec import Sweep, load_sweep
from bench.run.store import Store
from bench.tables.auditing import audit_table, make_audit_plan, verdict

QUICK = ("--audits", "one-run[rows=100,canaries=20]", "many-run[rows=100,runs=3]")


def sweep(*synth: str) -> Sweep:
    return load_sweep("smoke", {"synth": synth, "epsilon": (1.0,), "seeds": {"synthesizer": 1}})


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store in which the floor was audited, and what was printed."""
    results = tmp_path_factory.mktemp("audited") / "runs"
    printed = bench("audit", "--synth", "independent", "--epsilon", 1, "--results", results, "--jobs", 1, *QUICK)
    assert printed.code == 0, printed.err
    return results, printed.out


def test_a_line_tells_claim_recomputation_bound_ceiling_and_verdict(audited: tuple[Path, str]) -> None:
    (line,) = (line.split() for line in audited[1].splitlines() if "one-run[" in line)
    assert (line[0], line[2]) == ("independent", "100")
    claimed, recomputed, bound, ceiling, any_noise = map(float, line[3:8])
    assert claimed == 1
    assert 0.99 < recomputed <= 1
    assert 0 <= any_noise <= bound < ceiling
    assert " ".join(line[9:]) in ("not refuted", "blind")


def test_running_it_again_runs_nothing_and_prints_the_same(audited: tuple[Path, str]) -> None:
    results, printed = audited
    before = {path: path.stat().st_mtime_ns for path in (results / "records").iterdir()}
    again = bench("audit", "--synth", "independent", "--epsilon", 1, "--results", results, "--jobs", 1, *QUICK)
    assert again.out[again.out.index("toy ·") :] == printed[printed.index("toy ·") :]
    assert before == {path: path.stat().st_mtime_ns for path in (results / "records").iterdir()}


def test_the_audited_variant_is_in_the_key_and_in_the_table(tmp_path: Path) -> None:
    plan = make_audit_plan(sweep("privorl-n[clip_norm=2]"), ("many-run",))
    (node,) = (node for node in plan.nodes.values() if node.stage == "audit")
    fields = node.parameters["synthesizer"]["fields"]
    assert (fields["clip_norm"], fields["steps"], fields["batch"]) == (2.0, 5, 100)
    label = node.plugins["synthesizers"]
    assert registry.resolve("synthesizers", label).instance == registry.resolve("synthesizers", "privorl-n[clip_norm=2]").instance.audit_size()
    assert f"was audited as {label}\n" in audit_table(plan, Store(tmp_path))


def test_an_audit_without_a_result_ends_in_exit_code_1_after_the_table(tmp_path: Path) -> None:
    faulty = ("--synth", "faulty[fault=raises]", "--plugin", PLUGINS / "faulty.py")
    printed = bench("audit", *faulty, "--results", tmp_path / "runs", "--jobs", 1, *QUICK)
    assert printed.code == 1
    assert printed.out.count("this fit always raises") >= 2
    assert "claimed" in printed.out


def test_pretraining_and_siblings_come_first() -> None:
    plan = make_audit_plan(sweep("privorl-n"), ("all",))
    assert [node.stage for node in plan.nodes.values()] == ["dataset", "dataset", "pretrain", "audit", "audit"]


def test_only_what_claims_an_epsilon_is_audited() -> None:
    plan = make_audit_plan(sweep("real", "uniform", "independent"), ("many-run",))
    assert {leaf.synth for leaf in plan.leaves} == {"independent"}
    refused = bench("audit", "--synth", "uniform", "real")
    assert refused.code == 2
    assert "none of uniform, real has a budget" in refused.err


def test_an_infinite_budget_is_refused() -> None:
    refused = bench("audit", "--synth", "independent", "--epsilon", "inf")
    assert refused.code == 2
    assert "claims nothing" in refused.err


def test_a_failed_audit_prints_its_reason_and_is_tried_again(tmp_path: Path) -> None:
    plan, store = make_audit_plan(sweep("independent"), ("many-run",)), Store(tmp_path)
    store.create()
    assert "not run yet" in audit_table(plan, store)
    (node,) = pending(plan, store)
    fail(node, store, "ValueError: no luck", 1.0)
    assert "— (ValueError: no luck)" in audit_table(plan, store)
    assert pending(plan, store) == [node]


@pytest.mark.parametrize(
    ("p_value", "least_p", "audits", "said"),
    [
        *((5e-4, 1e-12, 1, "refuted"), (5e-4, 1e-12, 2, "not refuted"), (0.5, 1e-12, 1, "not refuted"), (1e-3, 1e-12, 1, "not refuted")),
        *((0.5, 0.03, 1, "blind"), (0.5, 5e-4, 1, "not refuted"), (0.5, 5e-4, 2, "blind"), (5e-4, 5e-4, 2, "blind")),
    ],
)
def test_refuted_and_blind_are_said_at_a_confidence_that_the_audits_share(p_value: float, least_p: float, audits: int, said: str) -> None:
    assert verdict({"epsilon": 3.0, "ceiling": 4.0, "p_value": p_value, "least_p": least_p}, audits) == said


def test_seeds_of_one_method_are_audits_of_their_own() -> None:
    plan = make_audit_plan(load_sweep("smoke", {"synth": ("independent",), "seeds": {"synthesizer": 3}}), ("many-run",))
    assert len({leaf.key for leaf in plan.leaves}) == 3
