"""The secret of a release: bytes that nobody else has, mixed into the noise of its fits.

Runs repeat themselves, so without a secret the noise of a fit follows from its key, and that from settings and data: who knows all rows but one
computes it and subtracts it. With a secret the noise follows from key, secret and rows, and repeats itself for whoever holds them all; from the rows,
since two fits of different rows under one key would otherwise bear the same noise, and show the difference without it. A secret travels to worker
processes through their pipes alone. What the store keeps is its fingerprint, which tells two secrets apart and, of random bytes, nothing else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.data import Transitions
from bench.core.errors import InputError

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

    def stream(self, key: str, data: Transitions) -> str:
        """The name of a random stream that only who holds the secret, and these rows, can find."""
        rows = hashlib.sha256(data.table().tobytes() + (b"" if data.trajectories is None else data.trajectories.tobytes()))
        return f"{key}/{self.content.hex()}/{rows.hexdigest()}"
