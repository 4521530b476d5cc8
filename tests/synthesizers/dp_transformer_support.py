"""Tiny variants of DP-Transformer on the toy environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from bench.conformance.synthesizers import Case
from bench.core.data import Unit
from bench.core.registry import resolve
from synthesizers.dp_transformer import DPTransformer

TOY = resolve("environments", "toy").instance
SMALL: Mapping[str, Any] = {"horizon": 6, "width": 16, "blocks": 1, "bins": 16, "pretraining_steps": 10, "pretraining_batch": 32}
TINY = DPTransformer(**SMALL, trained="ends", steps=3, batch=30, clip_norm=0.05, physical_batch=7)
"""Fits in a moment; what it learns does not matter. Every gradient is longer than its clip norm."""
VARIANTS = {
    "ends": TINY,
    "adapters": replace(TINY, trained="adapters"),
    "all weights": replace(TINY, trained="all"),
    "sensitive rows alone": replace(TINY, pretraining_steps=0),
}


@cache
def case_of(method: DPTransformer) -> Case:
    return Case(method, TOY, Unit.TRAJECTORY)
