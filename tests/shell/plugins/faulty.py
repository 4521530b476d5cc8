"""A synthesizer with a fault of your choice; with `FAULTY_HEALED` in the environment it has none."""

import os
import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bench import Column, Gaussian, Guarantee, Transitions, Unit, register

Fault = Literal[
    *("none", "raises", "hangs", "dies", "mumbles", "no-plan", "two-plans", "asks-twice", "objects"),
    *("nan", "infinite", "outside", "widened", "too-few", "too-many"),
]


@register("synthesizers", "faulty")
@dataclass(frozen=True)
class Faulty:
    fault: Fault = "none"

    version = 1
    guarantee = Guarantee.DP
    units = frozenset({Unit.TRANSITION})
    needs_public = False

    def fit(self, data, ledger, rng, *, public, pretrained, runtime):
        fault = healed(self.fault)
        if fault == "raises":
            raise RuntimeError("this fit always raises")
        if fault == "hangs":
            time.sleep(3600)
        if fault == "dies":
            os._exit(7)
        if fault == "mumbles":
            runtime.progress("half", "whole")
        if fault != "no-plan":
            plan = ledger.plan(count=Gaussian(l2=1.0, weight=1.0))
            plan.count(len(data))
        if fault == "two-plans":
            ledger.plan(again=Gaussian(l2=1.0, weight=1.0))
        if fault == "asks-twice":
            plan.count(len(data))
        return FaultySampler(data.schema, fault)

    def restore(self, schema, state):
        return FaultySampler(schema, healed(str(state["fault"])))


def healed(fault):
    return "none" if os.environ.get("FAULTY_HEALED") else fault


@dataclass(frozen=True)
class FaultySampler:
    schema: object
    fault: str

    def state(self):
        return {"fault": np.array(self.fault), **({"object": np.array([None])} if self.fault == "objects" else {})}

    def sample(self, n, rng, *, runtime):
        n += {"too-few": -1, "too-many": 1}.get(self.fault, 0)
        table = np.array([column.low for column in self.schema.columns], np.float32) * np.ones((n, 1), np.float32)
        value = {"nan": np.nan, "infinite": np.inf, "outside": 1.5, "widened": 1.5}.get(self.fault)
        if value is not None:
            table[n // 2, 0] = value
        schema = self.schema
        if self.fault == "widened":
            schema = replace(schema, observations=tuple(Column(column.name, -2.0, 2.0) for column in schema.observations))
        return Transitions.from_table(schema, table)
