"""The closed-form maze step against MuJoCo itself, restarted from our own recorded state at every step."""

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np
import pytest

from bench.envs import _maze_physics as physics
from bench.envs._maze_control import WaypointController
from bench.envs._maze_layout import LAYOUTS, Maze, maze

STREAMS, STEPS = 60, 360  # 21,600 recorded steps a maze
PUSH_STEPS = 40
TOLERANCE = 1e-12
D4RL_MARGIN = 0.002
MARGINS = {"d4rl": D4RL_MARGIN, "mujoco >= 3.5": 0.004, "widest": 0.05}


class Steps(NamedTuple):
    """Recorded states and actions, each (2, N)."""

    q: np.ndarray
    v: np.ndarray
    a: np.ndarray


def mujoco_model(walls: np.ndarray, margin: float) -> mujoco.MjModel:
    """D4RL's point maze (maze_model.py) with a solver that runs to the end. MuJoCo >= 3.5 adds the margins of two geoms, so each gets half."""
    boxes = "".join(f'<geom type="box" size=".5 .5 .2" pos="{i + 1} {j + 1} 0"/>' for i, j in np.argwhere(walls))
    return mujoco.MjModel.from_xml_string(f"""
    <mujoco>
      <compiler inertiafromgeom="true" angle="radian"/>
      <option timestep=".01" gravity="0 0 0" integrator="Euler" iterations="100" tolerance="0" ls_tolerance="1e-14"/>
      <default>
        <joint damping="1" limited="false"/>
        <geom friction=".5 .1 .1" density="1000" margin="{margin / 2}" condim="1" contype="2" conaffinity="1"/>
      </default>
      <worldbody>
        <body pos="1.2 1.2 0">
          <geom type="sphere" size=".1" contype="1"/>
          <joint name="x" type="slide" axis="1 0 0"/>
          <joint name="y" type="slide" axis="0 1 0"/>
        </body>
        {boxes}
      </worldbody>
      <actuator>
        <motor joint="x" gear="100" ctrllimited="true" ctrlrange="-1 1"/>
        <motor joint="y" gear="100" ctrllimited="true" ctrlrange="-1 1"/>
      </actuator>
    </mujoco>""")


def in_mujoco(model: mujoco.MjModel, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    """The states (4, N) after one MuJoCo step from each recorded state, and the number of contacts (N,). D4RL clips the velocity before the step."""
    data = mujoco.MjData(model)
    reached, contacts = np.empty((steps.q.shape[1], 4)), np.empty(steps.q.shape[1], int)
    for row, (q, v, a) in enumerate(zip(steps.q.T, np.clip(steps.v, -5, 5).T, steps.a.T, strict=True)):
        mujoco.mj_resetData(model, data)
        data.qpos, data.qvel, data.ctrl = q, v, a
        mujoco.mj_step(model, data)
        reached[row, :2], reached[row, 2:], contacts[row] = data.qpos, data.qvel, data.ncon
    return reached.T, contacts


def record(grid: Maze, margin: float, rng: np.random.Generator) -> Steps:
    """A third of the balls each: random actions; D4RL's controller; hard pushes in directions drawn anew, into faces, edges and corners."""
    third = STREAMS // 3
    q = grid.centre(rng.choice(grid.free, STREAMS)) + rng.uniform(-0.1, 0.1, (2, STREAMS))
    v = rng.normal(0, 0.1, q.shape)
    controller = WaypointController(grid, q[:, third : 2 * third], rng.choice(grid.free, third), rng)
    recorded = []
    for step in range(STEPS):
        if step % PUSH_STEPS == 0:
            angle = rng.uniform(0, 2 * np.pi, third)
        wander = rng.uniform(-1, 1, (2, third))
        drive, solved = controller.act(q[:, third : 2 * third], v[:, third : 2 * third])
        push = 1.4 * np.array([np.cos(angle), np.sin(angle)]) + rng.normal(0, 0.3, (2, third))
        a = np.concatenate([wander, drive + rng.normal(0, 0.5, drive.shape), push], 1)
        recorded.append((q, v, a))
        q, v = physics.advance(grid.walls, q, v, a, margin)
        (done,) = np.nonzero(solved)
        controller.aim(done, q[:, third + done], rng.choice(grid.free, done.size))
    return Steps(*(np.concatenate(arrays, 1) for arrays in zip(*recorded, strict=True)))


@pytest.mark.parametrize("margin", MARGINS.values(), ids=MARGINS.keys())
@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_step_equals_mujocos(layout: str, margin: float) -> None:
    grid = maze(layout)
    steps = record(grid, margin, np.random.default_rng(0))
    ours = np.concatenate(physics.advance(grid.walls, *steps, margin))
    theirs, contacts = in_mujoco(mujoco_model(grid.walls, margin), steps)
    assert len(contacts) >= 20_000
    assert (contacts == 1).sum() > 500, "the recording hardly touches the walls"
    assert (contacts > 1).sum() > 50, "the recording hardly meets two walls at once"
    error = np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))
    assert error.max() <= TOLERANCE


def test_corners_and_edges_equal_mujocos() -> None:
    """Balls set down all around the joint of two boxes, the end of a wall and an inner corner, at every depth and speed that can occur there."""
    grid, margin = maze("umaze"), D4RL_MARGIN
    rng = np.random.default_rng(1)
    q = rng.uniform(0.3, 3.3, (2, 120_000))
    q = q[:, np.abs(physics.clearance(grid.walls, q) - 0.08) < 0.03]
    steps = Steps(q, rng.uniform(-5.2, 5.2, q.shape), rng.uniform(-1.5, 1.5, q.shape))
    theirs, contacts = in_mujoco(mujoco_model(grid.walls, margin), steps)
    assert (contacts > 1).sum() > 500
    error = np.abs(np.concatenate(physics.advance(grid.walls, *steps, margin)) - theirs) / np.maximum(1.0, np.abs(theirs))
    assert error.max() <= TOLERANCE


@pytest.mark.parametrize("margin", [0.0, D4RL_MARGIN, 0.05])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_ball_sinks_deeper_than_the_least_clearance(layout: str, margin: float) -> None:
    """The rule by which `Maze2d.step` tells states that cannot be, under full throttle into faces, edges and corners."""
    grid = maze(layout)
    rng = np.random.default_rng(2)
    q = grid.centre(rng.choice(grid.free, 1000))
    v = np.zeros_like(q)
    deepest = np.inf
    for step in range(400):
        if step % 50 == 0:
            a = rng.choice([-1.0, -0.5, 0.0, 0.5, 1.0], q.shape)
        q, v = physics.advance(grid.walls, q, v, a, margin)
        deepest = min(deepest, physics.clearance(grid.walls, q).min())
    assert physics.least_clearance(margin) <= deepest < physics.r


def test_clearance_is_the_distance_to_the_nearest_wall() -> None:
    """Against brute force over all boxes; 0 inside walls, outside the maze and where the position is not finite."""
    grid = maze("medium")
    q = np.random.default_rng(3).uniform(-2, 9, (2, 20_000))
    centres = np.argwhere(grid.walls).T[:, :, None] - 0.2
    outside = np.maximum(np.abs(q[:, None, :] - centres) - 0.5, 0)
    distance = np.hypot(*outside).min(0)
    within = ((q > -0.7) & (q < 7.3)).all(0)
    expected = np.where(within, distance, 0)
    near = (expected < 0.4) & within
    np.testing.assert_allclose(physics.clearance(grid.walls, q)[near], expected[near], atol=1e-12)
    assert (physics.clearance(grid.walls, q)[~within] == 0).all()
    assert (physics.clearance(grid.walls, np.array([[np.nan, np.inf, 1.0], [1.0, 1.0, -np.inf]])) == 0).all()
