"""The four mazes of D4RL and the shortest paths through them.

Layouts are facts of D4RL (Fu et al. 2020, arXiv:2004.07219; d4rl/pointmaze/maze_model.py, Apache-2.0). Positions q are MuJoCo joint positions:
x counts rows of the layout and y counts columns, and the free cell (i, j) has its nominal position at q = (i, j). The wall box of a cell is centred
at (i, j) - 0.2, so cell (i, j) covers q in [i - 0.7, i + 0.3) x [j - 0.7, j + 0.3).

D4RL plans by value iteration (q_iteration.py); breadth-first search finds paths of the same, shortest, length, and only ties may differ.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LAYOUTS = {
    "open": "#######/#.....#/#..G..#/#.....#/#######",
    "umaze": "#####/#G..#/###.#/#...#/#####",
    "medium": "########/#..##..#/#..#...#/##...###/#..#...#/#.#..#.#/#...#.G#/########",
    "large": "############/#....#.....#/#.##.#.#.#.#/#......#...#/#.####.###.#/#..#.#.....#/##.#.#.#.###/#..#...#.G.#/############",
}
"""'#' wall, '.' free, 'G' the goal of the evaluation; rows separated by '/'."""

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Neighbours in the order in which the planner breaks ties."""


@dataclass(frozen=True, eq=False)
class Maze:
    """A wall map with its shortest paths. Cells are numbered row by row: cell (i, j) is `i * columns + j`."""

    walls: NDArray[np.bool_]
    """(rows, columns), True where a wall stands."""
    free: NDArray[np.int64]
    """(K,) numbers of the free cells, the goal included."""
    goal: int
    """Number of the evaluation goal's cell."""
    next_cell: NDArray[np.int64]
    """(cells, cells): the cell after `cell` on a shortest path to `target` is `next_cell[target, cell]`; the target follows itself."""

    def centre(self, cell: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """Nominal positions (2, N) of cells (N,)."""
        return np.array(np.divmod(cell, self.walls.shape[1]), np.float64)

    def cell(self, q: NDArray[np.float64]) -> NDArray[np.int64]:
        """The free cell (N,) of each position (2, N): the nearest integer pair, or the nearest free cell where that is a wall."""
        i, j = np.rint(q).astype(np.int64)
        cell = i * self.walls.shape[1] + j
        (in_wall,) = np.nonzero(self.walls[i, j])
        if in_wall.size:
            distance = np.square(q[:, in_wall, None] - self.centre(self.free)[:, None, :]).sum(0)
            cell[in_wall] = self.free[distance.argmin(1)]
        return cell


@lru_cache
def maze(layout: str) -> Maze:
    """The maze named `layout`, planned for every target.

    Raises:
        ValueError: no layout has that name.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout: {layout!r} is none of {', '.join(LAYOUTS)}")
    grid = np.array([list(row) for row in LAYOUTS[layout].split("/")])
    walls = grid == "#"
    return Maze(walls, np.flatnonzero(~walls), int(np.flatnonzero(grid == "G")[0]), _shortest_paths(walls))


def _shortest_paths(walls: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The table `Maze.next_cell`; walls and unreachable cells follow themselves."""
    rows, columns = walls.shape
    steps = [i * columns + j for i, j in MOVES]
    next_cell = np.tile(np.arange(rows * columns), (rows * columns, 1))
    for target in np.flatnonzero(~walls):
        distance = _distances(walls, int(target))
        for cell in np.flatnonzero(distance > 0):
            next_cell[target, cell] = next(cell + step for step in steps if distance[cell + step] == distance[cell] - 1)
    return next_cell


def _distances(walls: NDArray[np.bool_], target: int) -> NDArray[np.int64]:
    """Breadth-first distances (cells,) to `target` through free cells; -1 for walls and unreachable cells."""
    columns = walls.shape[1]
    distance = np.full(walls.size, -1)
    distance[target] = 0
    queue = deque([target])
    while queue:
        cell = queue.popleft()
        for neighbour in (cell + i * columns + j for i, j in MOVES):
            if distance[neighbour] < 0 and not walls.flat[neighbour]:
                distance[neighbour] = distance[cell] + 1
                queue.append(neighbour)
    return distance
