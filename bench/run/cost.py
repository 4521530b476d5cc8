"""What a plan will cost: seconds of one core, from what the store has timed, and bytes of disk."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from bench.core import registry
from bench.core.protocols import Guarantee
from bench.run.spec import Node
from bench.run.store import Store

Signature = tuple[str, tuple[tuple[str, str], ...], str]
"""Stage, plugins and sizes of nodes that take about as long."""
_FIRST_GUESS = {"dataset": 5.0, "pretrain": 180.0, "fit": 10.0, "sample": 2.0, "fidelity": 1.0, "attack": 5.0, "audit": 60.0, "references": 1.0}
"""Seconds of a stage that no record has timed yet."""
_FINE_TUNING = 120.0
"""Of one that starts from a pre-trained model."""
_GUESSED_LIMIT = 30.0
"""The time limit, in minutes, that these are for: where a preset allows less, its stages are smaller."""
_GUESSED_STEP = 0.0025
"""Of an agent's gradient step."""


def cost(nodes: Sequence[Node], store: Store) -> dict[str, float]:
    """Seconds of one core for each key: the median of what the store timed for nodes as much alike as there are, or a first guess."""
    timings = _timings(store)
    return {node.key: _estimate(node, timings) for node in nodes}


def _estimate(node: Node, timings: Mapping[Signature, float]) -> float:
    timed = [timings[alike] for alike in _signatures(node) if alike in timings]
    return timed[0] if timed else _first_guess(node)


def _first_guess(node: Node) -> float:
    if node.stage == "train":
        return float(_GUESSED_STEP * node.parameters["schedule"]["steps"])
    return (_FINE_TUNING if "pretrained" in node.inputs else _FIRST_GUESS[node.stage]) * node.minutes / _GUESSED_LIMIT


def disk(nodes: Sequence[Node]) -> int:
    """Bytes of the rows that the nodes will store; models are small beside them, but for those that are the rows."""
    return sum(_blob_bytes(node) for node in nodes)


def _timings(store: Store) -> dict[Signature, float]:
    seconds: dict[Signature, list[float]] = {}
    for record in store.records():
        if record.ok:
            node = Node(record.stage, 0, record.parameters, record.inputs, record.plugins)
            for alike in _signatures(node):
                seconds.setdefault(alike, []).append(record.provenance["seconds"])
    return {signature: statistics.median(values) for signature, values in seconds.items()}


def _signatures(node: Node) -> list[Signature]:
    """What a node's run time depends on, seeds and budgets apart: all of it, then all but the environment."""
    sizes = {key: value for key, value in node.parameters.items() if key in ("rows", "released", "evaluated", "schedule", "view", "goals")}
    asked, plugins = registry.canonical_json(sizes), tuple(sorted(node.plugins.items()))
    elsewhere = tuple(plugin for plugin in plugins if plugin[0] != "environments")
    return [(node.stage, own, asked) for own in (plugins, elsewhere)]


def _blob_bytes(node: Node) -> int:
    plugins = {group: registry.resolve(group, name).instance for group, name in node.plugins.items()}
    size = {"dataset": "view", "sample": "released", "fit": "rows"}.get(node.stage)
    if size is None or (node.stage == "fit" and plugins["synthesizers"].guarantee is not Guarantee.NONE):
        return 0
    rows = node.parameters[size]
    return 4 * len(plugins["environments"].schema.columns) * int(rows["rows"] if node.stage == "dataset" else rows)
