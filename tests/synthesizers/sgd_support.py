"""What a fit by DP-SGD leaves behind: its answers and its charge."""

from __future__ import annotations

from bench.conformance.probes import Recorder
from bench.conformance.synthesizers import Fit
from bench.core.accounting import Charge
from bench.core.privacy import Tape


def tape_of(fit: Fit) -> Tape:
    assert isinstance(fit.ledger, Recorder)
    return fit.ledger.tape


def gradients_of(fit: Fit) -> Charge:
    """The charge of DP-SGD."""
    return next(charge for charge in fit.ledger.charges if charge.name == "gradients")
