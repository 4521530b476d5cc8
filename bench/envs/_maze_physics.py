"""One MuJoCo step of D4RL's point maze in closed form, for N balls at once.

A ball of radius r on two slide joints is driven by motors between unit boxes. MuJoCo's step (Euler integrator, damping implicit, frictionless soft
contacts; https://mujoco.readthedocs.io/en/stable/computation and /modeling.html#solver-parameters) then has so little in it that it can be written
down: a linear update, and at most three contact forces from a linear complementarity problem that is solved exactly. Parameters: D4RL
d4rl/pointmaze/maze_model.py. Arrays are axis first, (2, N) float64; q positions, v velocities, a actions.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Walls = NDArray[np.bool_]

h = 0.01  # time step, s
r = 0.1  # ball radius, m
m = 4 / 3 * np.pi * r**3 * 1000  # mass of the ball at MuJoCo's density 1000, kg
DAMPING = 1.0  # of each joint
GEAR = 100.0  # motor force at action 1, N
V_MAX = 5.0  # D4RL clips the velocity before the step, m/s
SHIFT = 0.7  # grid position p = q + 1.2 (the ball's body) - 0.5 (half a box): cell (i, j) covers p in [i, i + 1) x [j, j + 1)

TOP_SPEED = V_MAX + h * (GEAR - V_MAX) / (m + h * DAMPING)
"""The fastest velocity component away from walls: full throttle from V_MAX, 5.226 m/s. Hard pushes into a corner can bounce back faster."""

# MuJoCo's default contact: solref (.02, 1), solimp (.9, .95, .001, .5, 2).
K = 1 / (0.95**2 * 0.02**2)  # stiffness
B = 2 / (0.95 * 0.02)  # damping
WIDTH = 0.001  # penetration over which the impedance rises from .9 to .95

ACTIVE_SETS = np.array(list(product([False, True], repeat=3)))
"""(8, 3): each way for three contacts to push or not."""


def advance(walls: Walls, q: Array, v: Array, a: Array, margin: float) -> tuple[Array, Array]:
    """The positions and velocities (2, N) after one step of h = 10 ms under actions a.

    `margin` is the distance in metres from which a wall is felt. Balls must stand clear of the walls (`clearance`), else the result means nothing.
    """
    v = np.clip(v, -V_MAX, V_MAX)
    F = GEAR * np.clip(a, -1, 1) - DAMPING * v
    touching = _touching(walls, q, r + margin)
    if touching.size:
        F[:, touching] += _contact_force(walls, q[:, touching], v[:, touching], F[:, touching], margin)
    v = v + h / (m + h * DAMPING) * F  # damping is implicit in the mass
    return q + h * v, v


def least_clearance(margin: float) -> float:
    """The closest that a ball's centre comes to a wall, m: from just out of reach, one step at top speed on both axes towards a corner."""
    return r + margin - h * float(np.hypot(TOP_SPEED, TOP_SPEED))


def clearance(walls: Walls, q: Array) -> Array:
    """Distances (N,) from positions (2, N) to the nearest wall; 0 inside a wall, outside the maze, or where q is not finite."""
    i, j = np.floor(q + SHIFT)
    free = (i >= 0) & (i < walls.shape[0]) & (j >= 0) & (j < walls.shape[1])  # False for NaN too
    free[free] = ~walls[i[free].astype(np.int64), j[free].astype(np.int64)]
    distance = np.zeros(q.shape[1])
    distance[free] = _gaps(walls, q[:, free]).min(0)
    return distance


def _boundary(q: Array) -> tuple[Array, Array, Array]:
    """Cell, side s (+1 or -1) of the nearer cell boundary, and distance d to it, per axis."""
    p = q + SHIFT
    cell = np.floor(p)
    u = p - cell
    return cell, np.where(u > 0.5, 1.0, -1.0), 0.5 - np.abs(u - 0.5)


def _gaps(walls: Walls, q: Array) -> Array:
    """Distances (3, N) to the walls that a ball can touch: an x face, a y face and the corner between; inf where none stands."""
    cell, s, d = _boundary(q)
    (i, j), (di, dj) = cell.astype(np.int64), s.astype(np.int64)
    wall = np.stack([walls[i + di, j], walls[i, j + dj], walls[i + di, j + dj]])
    return np.where(wall, [*d, np.hypot(*d)], np.inf)


def _touching(walls: Walls, q: Array, reach: float) -> NDArray[np.int64]:
    """The balls (k,) with a wall within `reach`; the wall map is asked only about balls near a cell boundary."""
    (near,) = np.nonzero(_boundary(q)[2].min(0) < reach)
    return near[_gaps(walls, q[:, near]).min(0) < reach]


def _normals(q: Array) -> Array:
    """The normals (3, 2, N) of the walls of `_gaps`, pointing at the ball."""
    _, s, d = _boundary(q)
    n = np.zeros((3, *q.shape))
    n[0, 0], n[1, 1], n[2] = -s[0], -s[1], -s * d / np.maximum(np.hypot(*d), 1e-9)
    return n


def _contact_force(walls: Walls, q: Array, v: Array, F: Array, margin: float) -> Array:
    """The walls' force (2, N) on balls with smooth force F, each of which touches one to three walls."""
    distance, n = _gaps(walls, q), _normals(q)
    touching = distance < r + margin
    pos = np.where(touching, distance - r - margin, 0.0)
    z = np.minimum(-pos / WIDTH, 1.0)
    imp = 0.9 + 0.05 * np.where(z < 0.5, 2 * z**2, 1 - 2 * (1 - z) ** 2)
    R = (1 - imp) / imp / m
    aref = -B * (n * v).sum(1) - K * imp * pos
    b = (n * F).sum(1) / m - aref  # by how much the smooth acceleration along n exceeds the reference; walls only push, so b < 0 asks for force
    f = np.where(touching, np.maximum(0.0, -b / (1 / m + R)), 0.0)
    (coupled,) = np.nonzero(touching[2] & (touching[0] | touching[1]))  # the two faces are at right angles and do not feel each other
    if coupled.size:
        f[:, coupled] = _solve_exactly(touching[:, coupled], n[..., coupled], R[:, coupled], b[:, coupled])
    return np.einsum("cdn,cn->dn", n, f)


def _solve_exactly(touching: NDArray[np.bool_], n: Array, R: Array, b: Array) -> Array:
    """Forces f >= 0 (3, N) with w = (A + diag R) f + b >= 0 and f . w = 0, by trying every active set.

    The matrix is positive definite, so exactly one active set has neither a pulling force nor a negative slack; rounding is met by taking the set
    that violates this least. A wall that does not touch gets b = R = 1 and no normal: it would have to pull, so no set that holds it is taken.
    Sweeps (MuJoCo's PGS) would converge slowly here: a face and its neighbouring corner have nearly parallel normals.
    """
    n = np.where(touching[:, None], n, 0.0)
    R, b = np.where(touching, R, 1.0).T, np.where(touching, b, 1.0).T
    Q = np.einsum("cdn,edn->nce", n, n) / m + R[..., None] * np.eye(3)
    both = ACTIVE_SETS[:, None, :, None] & ACTIVE_SETS[:, None, None, :]
    f = np.linalg.solve(np.where(both, Q, np.eye(3)), np.where(ACTIVE_SETS[:, None], -b, 0.0)[..., None])[..., 0]  # (8, N, 3)
    w = np.einsum("nce,sne->snc", Q, f) + b
    violation = np.where(ACTIVE_SETS[:, None], -f, -m * w).max(-1)
    return f[violation.argmin(0), np.arange(len(b))].T
