"""Trees over columns: chosen, put in order, and sampled from.

A *junction tree* is a set of cliques whose tables agree, such that the distribution they define has no loop; the edges of a spanning tree are the
simplest one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from synthesizers._parts.discretize import Codes, allot
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
        outcomes = prod(table.shape[len(known) :])
        drawn = allot(fuse(codes, sizes, known), table.ravel(), np.arange(0, table.size, outcomes), rng)
        for i, column in zip((*known, *new), np.unravel_index(drawn, table.shape), strict=True):
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
