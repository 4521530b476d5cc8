"""What follows for a method from the phases it has: a public one, a private one, or both."""

from __future__ import annotations

from typing import ClassVar, Protocol

from bench.core.data import Unit
from bench.core.protocols import Guarantee, Pretraining


class Phases(Protocol):
    """A method that may learn from public rows first (`pretraining`) and then, unless `fine_tune` is false, from sensitive ones."""

    unit: ClassVar[Unit]
    """That the second phase protects."""

    @property
    def fine_tune(self) -> bool: ...

    @property
    def pretraining(self) -> Pretraining | None: ...

    @property
    def guarantee(self) -> Guarantee:
        """Without fine-tuning no sensitive row is seen."""
        return Guarantee.DP if self.fine_tune else Guarantee.DATA_FREE

    @property
    def units(self) -> frozenset[Unit]:
        return frozenset({self.unit}) if self.fine_tune else frozenset(Unit)

    @property
    def needs_public(self) -> bool:
        return self.pretraining is not None
