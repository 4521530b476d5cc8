"""What later methods bring needs no change here: a stub of each kind goes the whole way, from rows to a line of the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from shell_support import TINY, nodes_of, run_here
from stubs import STUBS

from bench import Estimate, Target, Transitions, View, register
from bench.run.spec import Seeds
from bench.tables.build import build_table
from bench.tables.render import render


@dataclass(frozen=True)
class LossGap:
    """White-box, with a shadow model that has not seen the first rows: how much lower the target's loss is on them."""

    version = 1
    needs = "sampler"
    better: Any = None

    def views(self, target: View) -> Mapping[str, View]:
        return {"without": replace(target, drop=tuple(range(50)))}

    def attack(self, target: Target, shadows: Mapping[str, Target], members: Transitions, *rest: Any, runtime: Any) -> dict[str, Estimate]:
        *_, rng = rest
        seed, shadow = int(rng.integers(2**31)), shadows["without"]
        assert shadow.rows
        assert np.array_equal(shadow.rows.table(), members.table()[50:]), "a shadow comes with the rows that it was fitted on"
        samplers: list[Any] = [target.sampler, shadow.sampler]
        losses = [s.loss(members, np.arange(50), np.random.default_rng(seed), runtime=runtime).mean(1) for s in samplers]
        share = float(np.mean(losses[0] < losses[1]))
        return {"lower_loss": Estimate(share, max(share - 0.1, 0.0), min(share + 0.1, 1.0))}


def test_a_stub_of_each_kind_goes_from_rows_to_the_table(tmp_path: Path) -> None:
    for name, stub in STUBS.items():
        register("synthesizers", f"{name}-stub")(stub)
    register("attacks", "loss-gap")(LossGap({"lower_loss": "higher"}))
    whole = replace(TINY, synth=tuple(f"{name}-stub" for name in STUBS), accountant="rdp", seeds=Seeds(synthesizer=1))
    white = replace(whole, preset="white-box", synth=("loss-stub",), agents=(), metrics=(), attacks=("loss-gap",))
    for sweep in (whole, white):
        plan, store, log = run_here(sweep, tmp_path)
        assert not {record.reason for record in log.records.values() if not record.ok}
        table = build_table(plan.manifest("now"), store)
        lines = [(group, row) for group in table.groups for row in group.body if row.guarantee == "DP"]
        assert {(row.synth, group.unit) for group, row in lines} == {(cell.synthesizer, cell.unit.value) for cell in plan.cells}
        for group, row in lines:
            assert row.epsilon_spent is not None
            assert 0 < row.epsilon_spent <= row.epsilon
            assert (row.epsilon_trajectory is None) == (group.unit == "trajectory")
            scores = [cell for column, cell in zip(group.columns, row.cells, strict=True) if column.kind not in ("gain", "evidence")]
            assert all(cell and cell.summary for cell in scores)
            assert row.synth in render(table, "csv")
    assert len(nodes_of(plan, "fit")) == 2, "the target and its shadow"


def test_a_white_box_attack_does_not_apply_to_a_model_without_a_loss_and_fails_nothing(tmp_path: Path) -> None:
    register("synthesizers", "loss-stub")(STUBS["loss"])
    attacks = ("model-loss", "rmia")
    sweep = replace(TINY, synth=("uniform", "loss-stub"), agents=(), metrics=(), attacks=attacks, accountant="rdp", seeds=Seeds(synthesizer=1))
    plan, store, log = run_here(sweep, tmp_path)
    assert all(record.ok for record in log.records.values())
    (group,) = build_table(plan.manifest("now"), store).groups
    own = [i for i, column in enumerate(group.columns) if column.kind == "attack"]
    assert {group.columns[i].scorer for i in own} == set(attacks)
    cells = {row.synth: [row.cells[i] for i in own] for row in group.body}
    assert all(cell and cell.summary for cell in cells["loss-stub"])
    assert all(cell and not cell.summary and not cell.failed and not cell.reasons for cell in cells["uniform"])
