"""The secret of a release: bytes that nobody else has, mixed into the noise of its fits.

Runs repeat themselves, so without a secret the noise of a fit follows from its key, and that from settings and data: who knows all rows but one
computes it and subtracts it. With a secret the noise follows from secret, key, all that is read, all that is known to compute, the charges and every
question with its exact answer, and repeats itself for whoever holds them all. A key names none of these wholly, and two fits that ask of other rows,
ask otherwise or scale the noise otherwise, but bear the same one, show by their difference what it hid: so what may change an answer changes the
noise, and makes of a second fit a second release; and what nobody thought of (a helper beside a plugin, another processor) does where it changes one.
A secret travels to worker processes through their pipes alone. What the store keeps is its fingerprint, which tells two secrets apart and, of random
bytes, nothing else.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from bench.core.accounting import Accountant
from bench.core.errors import InputError
from bench.core.privacy import Budget, Ledger, Plan, Request, on_the_host
from bench.core.rng import rng_for

SHORTEST = 32
"""Bytes, so that random ones cannot be guessed from their fingerprint."""
FEWEST_VALUES = 16
"""Different ones among them: of 32 random bytes 30 differ, and fewer than 16 once in 10^16 files."""


@dataclass(frozen=True)
class Secret:
    """Random bytes that are never shown."""

    content: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Secret:
        """The bytes of a file.

        Raises:
            InputError: it cannot be read, is shorter than 32 bytes, or is a device, which holds other bytes the next time.
        """
        remedy = f"make one with: head -c {SHORTEST} /dev/urandom > secret"
        if path.is_char_device():
            raise InputError(f"--secret: {path} is a device, which never gives the same bytes again; {remedy}")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"--secret: cannot read {path} ({error.strerror}); {remedy}") from error
        if len(content) < SHORTEST:
            raise InputError(f"--secret: {path} holds {len(content)} bytes, which can be guessed; {remedy}")
        if len(set(content)) < FEWEST_VALUES:
            raise InputError(f"--secret: {path} repeats {len(set(content))} values, which can be guessed; {remedy}")
        return cls(content)

    @property
    def fingerprint(self) -> str:
        """Part of the key of every fit whose noise follows from this secret."""
        return hashlib.sha256(b"orl-bench" + self.content).hexdigest()

    def stream(self, key: str, read: Collection[Path], sources: Mapping[str, str], device: str) -> str:
        """The name of a random stream that only who holds the secret, and all of the fit, can find.

        Args:
            key: of the fit.
            read: every file that it reads: sensitive and public rows, what was learned from the public ones.
            sources: the digests of its plugins.
            device: where it computes: another one rounds otherwise.
        """
        contents = (_digest(path) for path in read)
        return "/".join([key, self.content.hex(), *contents, *(sources[group] for group in sorted(sources)), device, _installation()])


class ReleaseLedger(Ledger):
    """A ledger whose noise follows from a secret stream, its charges, and all that it was asked so far with the exact answers."""

    def __init__(self, budget: Budget | None, units: int, stream: str, accountant: Accountant) -> None:
        super().__init__(budget, units, rng_for(stream, "ledger"), accountant)
        self._stream = stream

    def plan(self, **requests: Request) -> Plan:
        plan = super().plan(**requests)
        self._follow(repr(self.charges).encode())
        return plan

    def asked(self, name: str, exact: Any) -> Any:
        self._follow(name.encode() + on_the_host(exact).tobytes())
        return exact

    def _follow(self, told: bytes) -> None:
        """From here on the noise is another one for whoever was told anything else."""
        self._stream = hashlib.sha256(self._stream.encode() + told).hexdigest()
        self._rng = rng_for(self._stream, "ledger")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _installation() -> str:
    """What else decides an answer to its last bit: the bench itself, every library, and the machine."""
    own = sorted(Path(__file__).parents[1].rglob("*.py"))
    libraries = sorted(f"{found.name}=={found.version}" for found in importlib.metadata.distributions())
    parts = [*map(_digest, own), *libraries, platform.python_version(), *platform.uname()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
