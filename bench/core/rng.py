"""Seeds: one named, reproducible random stream for each purpose."""

import hashlib

import numpy as np


def rng_for(key: str, stage: str) -> np.random.Generator:
    """Return the generator that belongs to `stage` of the thing named `key`.

    Streams with different keys or stages are independent; the same pair gives the same stream on every machine and in every process.
    """
    digest = hashlib.sha256(f"{key}/{stage}".encode()).digest()
    return np.random.default_rng(np.random.SeedSequence(np.frombuffer(digest, dtype=np.uint32).tolist()))
