"""What a check reports, and how checks are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.core.registry import told


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: its name, whether it passed, and one sentence (the promise, or how it was broken)."""

    check: str
    ok: bool
    detail: str


class Violation(Exception):
    """A broken promise; the message is the sentence of the finding."""


def require(kept: bool, otherwise: str) -> None:
    """Raise `Violation(otherwise)` unless the promise is kept."""
    if not kept:
        raise Violation(otherwise)


def findings(checks: Sequence[Callable[[Any], None]], subject: Any, suffix: str = "") -> Iterator[Finding]:
    """Run each check on the subject. A check is named after its function; an exception of the plugin is a finding, not a crash."""
    for check in checks:
        name = check.__name__.replace("_", "-") + suffix
        promise = (check.__doc__ or "").splitlines()[0]
        try:
            check(subject)
        except Violation as violation:
            yield Finding(name, False, str(violation))
        except (Exception, SystemExit) as error:  # whatever a plugin raises is what the check is there to report; to end the process too
            yield Finding(name, False, f"it raised {told(error)}")
        else:
            yield Finding(name, True, promise)


def in_order(gates: Sequence[Callable[[Any], None]], checks: Sequence[Callable[[Any], None]], subject: Any, suffix: str = "") -> Iterator[Finding]:
    """The gates one by one, up to the first that fails; then, if none did, the checks that make sense only behind them."""
    for gate in gates:
        finding = next(findings([gate], subject, suffix))
        yield finding
        if not finding.ok:
            return
    yield from findings(checks, subject, suffix)
