"""Golden keys: what names a result must not change unnoticed, or every store would be computed again.

A change is right where results change (raise the `version` of the plugin or stage); then write the file anew and let the diff be reviewed:

    python tests/shell/test_keys.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.run.plan import make_plan
from bench.run.spec import load_sweep

GOLDEN = Path(__file__).with_name("golden_keys.json")

CHOICES: dict[str, Any] = {
    "synth": ("real", "public-data", "uniform", "independent", "independent[cells=10]"),
    "metrics": ("one-way", "pairwise-tv", "correlation", "dynamics"),
    "attacks": ("nearest-record", "nearest-difference"),
    "seeds": {"synthesizer": 1},
}
"""Named one by one: a new method adds rows to a table and changes no key."""

TRAJECTORIES: dict[str, Any] = {
    "unit": "trajectory",
    "synth": ("real",),
    "metrics": ("trajectory-marginals", "autocorrelation", "continuity", "window-auc"),
    "agents": (),
    "attacks": (),
}
"""The scores of trajectory-level blocks alone; what else is in them has the keys of the others."""

PLANS = {
    "smoke": {**CHOICES, "agents": ("bc",)},
    "laptop": {**CHOICES, "env": ("maze2d-medium",), "agents": ("bc", "iql"), "epsilon": (1.0, 10.0)},
    "paper": {**CHOICES, **TRAJECTORIES, "env": ("maze2d-medium",)},
}


def golden_keys() -> dict[str, dict[str, str]]:
    """The key of every score, which holds the keys of all that it rests on, by the labels that a table prints."""
    found: dict[str, dict[str, str]] = {}
    for preset, changes in PLANS.items():
        leaves = make_plan(load_sweep(preset, changes)).leaves
        found[preset] = {f"{leaf.env} · {leaf.synth} · {leaf.epsilon} · {leaf.plugin}": leaf.key for leaf in leaves}
        assert len(found[preset]) == len(leaves)
    return found


def test_keys_are_those_that_were_committed() -> None:
    assert golden_keys() == json.loads(GOLDEN.read_text()), "see the head of this file"


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden_keys(), indent=1, ensure_ascii=False) + "\n")
