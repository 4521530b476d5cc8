"""Trees over columns: chosen, put in order, and sampled from.

A *junction tree* is a set of cliques whose tables agree, such that the distribution they define has no loop; the edges of a spanning tree are the
simplest one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from bench.core.data import Index
from synthesizers._parts.discretize import Codes
from synthesizers._parts.marginals import Clique, Table, fuse


def spanning_tree(pairs: list[Clique], pick: Callable[[NDArray[np.bool_]], int]) -> list[Clique]:
    """Kruskal: `pick` names, time and again, one of the pairs that still join two parts of the forest."""
    ends = np.array(pairs)
    part = np.arange(ends.max() + 1)
    tree: list[Clique] = []
    while (allowed := part[ends[:, 0]] != part[ends[:, 1]]).any():
        tree.append(pairs[pick(allowed)])
        i, j = tree[-1]
        part[part == part[j]] = part[i]
    return tree


def draw_codes(tables: Mapping[Clique, Table], sizes: Sequence[int], n: int, rng: np.random.Generator) -> Codes:
    """Codes (d, n) from the tables of a junction tree that covers all columns."""
    codes: Codes = np.zeros((len(sizes), n), np.min_scalar_type(max(sizes) - 1))
    for known, new, clique in _running_intersection(tables):
        table = tables[clique].transpose([clique.index(i) for i in (*known, *new)])
        shape = table.shape[len(known) :]
        drawn = _draw_given(fuse(codes, sizes, known), table.reshape(-1, prod(shape)), rng)
        for i, column in zip(new, np.unravel_index(drawn, shape), strict=True):
            codes[i] = column
    return codes


def _running_intersection(cliques: Iterable[Clique]) -> Iterator[tuple[Clique, Clique, Clique]]:
    """The cliques in an order in which each meets all before it inside one of them: (columns known by then, new columns, clique).

    Prim's algorithm for the heaviest tree on the sizes of the intersections finds it (Bernstein and Goodman 1981).
    """
    placed: set[int] = set()
    waiting = sorted(cliques)
    joint = dict.fromkeys(waiting, 0)
    while waiting:
        clique = max(waiting, key=lambda candidate: joint[candidate])
        waiting.remove(clique)
        yield tuple(i for i in clique if i in placed), tuple(i for i in clique if i not in placed), clique
        placed.update(clique)
        for other in waiting:
            joint[other] = max(joint[other], len(set(other) & set(clique)))


def _draw_given(groups: Index, weights: Table, rng: np.random.Generator) -> Index:
    """For each row an outcome given its group, by `weights` (groups, outcomes); a group without weight takes those of all.

    Systematic sampling: within a group, in random order, the count of each outcome strays by less than one from its mean.
    """
    order = rng.permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    rows = np.bincount(groups, minlength=len(weights))
    rank = np.arange(len(groups)) - np.repeat(np.cumsum(rows) - rows, rows)
    height = (rank + np.repeat(rng.random(len(rows)), rows)) / np.repeat(rows, rows)
    likely = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, weights.sum(axis=0) + 1e-12)
    ladder = np.cumsum(likely, axis=1)
    ladder = ladder / ladder[:, -1:] + np.arange(len(ladder))[:, None]
    drawn = np.empty(len(groups), np.int64)
    drawn[order] = np.searchsorted(ladder.ravel(), groups[order] + height, side="right") - groups[order] * ladder.shape[1]
    return np.minimum(drawn, ladder.shape[1] - 1)
