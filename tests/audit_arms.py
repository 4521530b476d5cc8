"""Broken arms: real methods, each with one defect of those that published implementations had, and their undamaged twins to audit beside them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from bench import AuditSubject, Budget, Ledger, Runtime, Sampler, State, Synthesizer, Transitions, View
from bench.core.accounting import Accountant, Charge
from bench.core.data import concatenate
from bench.core.privacy import Plan, Request
from bench.core.registry import resolve
from synthesizers import pate_gan
from synthesizers._parts.teachers import Shards

DELTA = 1e-5


@dataclass(frozen=True)
class Arm:
    """A method behind a defect; whatever the defect does not touch is the method's own."""

    method: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def audit_size(self) -> Arm:
        return replace(self, method=small(self.method))

    @abstractmethod
    def spoil(self, data: Transitions, ledger: Ledger) -> tuple[Transitions, Any]:
        """The rows and the ledger that the method is handed instead."""

    def fit(
        self,
        data: Transitions,
        ledger: Ledger,
        rng: np.random.Generator,
        *,
        public: Mapping[str, Transitions],
        pretrained: State | None,
        runtime: Runtime,
    ) -> Sampler:
        fitted: Sampler = self.method.fit(*self.spoil(data, ledger), rng, public=public, pretrained=pretrained, runtime=runtime)
        return fitted


@dataclass(frozen=True)
class OtherNoise(Arm):
    """Adds `factor` times the noise that was charged for: 0 is none at all."""

    factor: float = 0.0

    def spoil(self, data: Transitions, ledger: Ledger) -> tuple[Transitions, Any]:
        return data, _Requoted(ledger, lambda charge: self.factor * (charge.noise_multiplier or 0.0))


@dataclass(frozen=True)
class EpsilonIgnored(Arm):
    """Adds the same noise whatever epsilon is asked for, as the published launcher of PrivORL-j does."""

    multiplier: float = 1.0

    def spoil(self, data: Transitions, ledger: Ledger) -> tuple[Transitions, Any]:
        return data, _Requoted(ledger, lambda charge: self.multiplier)


@dataclass(frozen=True)
class DuplicatedUnits(Arm):
    """Learns from each unit several times, as the published PrivORL-j does to fill its epochs."""

    copies: int = 10

    def spoil(self, data: Transitions, ledger: Ledger) -> tuple[Transitions, Any]:
        return concatenate([data] * self.copies), ledger


@dataclass(frozen=True)
class _Requoted:
    """A ledger that charges what was planned and answers with another noise multiplier."""

    ledger: Ledger
    multiplier: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ledger, name)

    def plan(self, **requests: Request) -> Plan:
        self.ledger.plan(**requests)
        return Plan(self.ledger, tuple(self._quoted(charge) for charge in self.ledger.charges))

    def _quoted(self, charge: Charge) -> Charge:
        return replace(charge, noise_multiplier=self.multiplier(charge))


@dataclass(frozen=True)
class FedRealRows(pate_gan.PateGAN):
    """The student of PATE-GAN is shown real rows beside the generated ones, and told that they are real."""

    def play(self, start: State, shards: Shards, ask: pate_gan.Ask, rounds: int, rng: np.random.Generator, runtime: Runtime) -> State:
        real = torch.from_numpy(shards.rows[:8])

        class Fed(pate_gan._Players):
            def student_learns(self, rows: torch.Tensor, shares: torch.Tensor) -> None:
                super().student_learns(torch.cat([rows, real]), torch.cat([shares, torch.ones(len(real))]))

        with patch.object(pate_gan, "_Players", Fed):
            return super().play(start, shards, ask, rounds, rng, runtime)


def small(method: Any) -> Any:
    """A method at its audit size."""
    return method.audit_size() if hasattr(method, "audit_size") else method


def subject(method: Synthesizer, epsilon: float, rows: int, key: str = "arms", accountant: Accountant = "pld") -> AuditSubject:
    """The method at its audit size on `toy`, as the audit stage would lend it; `rdp` calibrates DP-SGD in milliseconds."""
    toy, audited = resolve("environments", "toy").instance, small(method)
    public = {name: resolve("environments", name).instance.dataset(2_000, 0, "train") for name in toy.siblings} if method.needs_public else {}
    phase = getattr(audited, "pretraining", None)
    pretrained = phase.run(public, np.random.default_rng(0), runtime=Runtime()) if phase else None
    budget = Budget(epsilon, DELTA, min(audited.units, key=lambda unit: unit.value))
    return AuditSubject(audited, toy, budget, accountant, View("toy", "train", rows), public, pretrained, key)
