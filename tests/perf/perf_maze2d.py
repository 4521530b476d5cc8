"""Rates of the closed-form maze beside MuJoCo's own step: `python -m tests.perf.perf_maze2d`. Prints, asserts nothing.

MuJoCo steps the same model with D4RL's solver settings, one state at a time, without controller, noise or recording. CPU seconds of one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import mujoco
import numpy as np

from bench.envs._maze_layout import maze
from bench.envs.maze2d import MEDIUM
from tests.envs.test_maze2d_physics import mujoco_model

ROWS = 1_000_000
MUJOCO_STEPS = 100_000


def rate(name: str, steps: int, work: Callable[[], object]) -> float:
    """Print and return how many steps a CPU second the `work` of `steps` steps does."""
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    print(f"{name:<58}{steps:>10,} steps {seconds:>7.2f} CPU-s {steps / seconds / 1e3:>9,.0f} k/s")
    return steps / seconds


def mujoco_loop(steps: int) -> None:
    """Random actions in medium from the goal cell, velocity clipped as D4RL does."""
    model = mujoco_model(maze("medium").walls, MEDIUM.contact_margin)
    model.opt.iterations, model.opt.tolerance, model.opt.ls_tolerance = 20, 1e-8, 0.01
    data = mujoco.MjData(model)
    data.qpos = 6, 6
    for action in np.random.default_rng(0).uniform(-1, 1, (steps, 2)):
        data.ctrl = action
        np.clip(data.qvel, -5, 5, out=data.qvel)
        mujoco.mj_step(model, data)


def main() -> None:
    data = MEDIUM.dataset(ROWS, 0, "train")
    policies = MEDIUM.reference_policies
    theirs = rate("mujoco mj_step, Python loop, one state", MUJOCO_STEPS, lambda: mujoco_loop(MUJOCO_STEPS))
    rates = [rate("dataset: controller, noise, recording, 250 streams", ROWS, lambda: MEDIUM.dataset(ROWS, 1, "train"))]
    rates.append(rate("step: replay of recorded rows", ROWS, lambda: MEDIUM.step(data.observations, data.actions)))
    for name, policy in policies.items():
        run = lambda policy=policy: MEDIUM.rollout([policy], 100, np.random.default_rng(0))  # noqa: E731
        rates.append(rate(f"rollout, 100 episodes: {name}", 100 * MEDIUM.horizon, run))
    print("times mujoco's rate: " + ", ".join(f"{ours / theirs:.1f}" for ours in rates))


if __name__ == "__main__":
    main()
