"""A fit, its shadow models and the parts of its environment, as the stages hand them to an attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bench.core.data import Transitions, View
from bench.core.privacy import Budget, Ledger, default_delta
from bench.core.protocols import Attack, Environment, Estimate, Guarantee, Runtime, Synthesizer, Target
from bench.core.rng import rng_for


@dataclass(frozen=True, eq=False)
class Attacked:
    """A method on `rows` rows of an environment; without a limit on epsilon unless one is given. Fits are kept."""

    method: Synthesizer
    environment: Environment
    rows: int
    epsilon: float = np.inf

    @cached_property
    def parts(self) -> Mapping[str, Transitions]:
        """As many rows of each, under a schema whose nominal number they have."""
        schema = self.environment.schema.with_rows(self.rows)
        return {part: replace(self.environment.dataset(self.rows, 0, part), schema=schema) for part in ("train", "holdout", "reference")}

    @cached_property
    def kept(self) -> dict[View, Target]:
        return {}

    def run(self, attack: Attack, seed: int = 0) -> dict[str, Estimate]:
        own = View("environment", "train", self.rows)
        shadows = {name: self.fitted(view) for name, view in attack.views(own).items()}
        return attack.attack(replace(self.fitted(own), rows=None), shadows, *self.parts.values(), np.random.default_rng(seed), runtime=Runtime())

    def fitted(self, view: View) -> Target:
        if view not in self.kept:
            data = view.apply(self.parts[view.part])
            self.kept[view] = Target(None, self._fit(data, rng_for(repr(view), "fit")), data)
        return self.kept[view]

    def _fit(self, data: Transitions, rng: np.random.Generator) -> Any:
        if self.method.guarantee is Guarantee.DATA_FREE:
            data = Transitions.empty(data.schema)
        (unit,) = self.method.units if self.method.guarantee is Guarantee.DP else (None,)
        budget = Budget(self.epsilon, default_delta(data.schema.nominal_units(unit)), unit) if unit else None
        ledger = Ledger(budget, data.units(unit) if unit else 0, rng)
        phase = getattr(self.method, "pretraining", None)
        public = {"self": self.environment.dataset(self.rows, 9, "train")} if phase else {}
        pretrained = phase.run(public, rng, runtime=Runtime()) if phase else None
        return self.method.fit(data, ledger, rng, public=public, pretrained=pretrained, runtime=Runtime())
