"""One round of PATE's teachers, trained side by side and one after another. Prints, asserts nothing.

    python -m tests.perf.perf_teachers [--rounds 15] [--teachers 4000]

The loop is what one would write: a PyTorch module and a fused Adam for each teacher. Both take the same rows through the same losses, on one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import tyro
from torch import Tensor, nn
from torch.nn.functional import softplus

from synthesizers._parts.teachers import Teachers
from synthesizers.pate_gan import PateGAN
from tests.perf.side_by_side import interleaved, print_load, print_ratio, print_times, restart_as_worker

COLUMNS = 11
"""Varying columns of a maze."""


def side_by_side(method: PateGAN, own: Tensor, generated: Tensor) -> Callable[[], None]:
    columns = own.shape[2]
    teachers = Teachers(Teachers.random(method.teachers, columns, method.teacher_width, torch.Generator()), columns, method.teacher_width, 1e-3)
    return partial(teachers.learn, own, generated)


def one_after_another(method: PateGAN, own: Tensor, generated: Tensor) -> Callable[[], None]:
    width = method.teacher_width

    def teacher() -> nn.Sequential:
        layers = (nn.Linear(own.shape[2], width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))
        return nn.Sequential(*layers)

    teachers = [teacher() for _ in range(method.teachers)]
    optimizers = [torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.9), fused=True) for network in teachers]

    def learn() -> None:
        for network, optimizer, rows in zip(teachers, optimizers, own, strict=True):
            optimizer.zero_grad()
            (softplus(-network(rows)).mean() + softplus(network(generated)).mean()).backward()
            optimizer.step()

    return learn


def main(rounds: int = 15, teachers: int = PateGAN.teachers) -> None:
    print_load("start")
    method = PateGAN(teachers=teachers)
    own = torch.randn(teachers, method.teacher_batch, COLUMNS)
    calls = {name: make(method, own, own[0]) for name, make in {"side by side": side_by_side, "one after another": one_after_another}.items()}
    print(f"{teachers} teachers of {method.teacher_width} units, {method.teacher_batch} rows of {COLUMNS} values, {rounds} rounds")
    times = interleaved(calls, rounds)
    print_times(times, "ms", 1e3)
    print_ratio(times, "one after another", "side by side")
    print_load("end")


if __name__ == "__main__":
    restart_as_worker()
    torch.set_num_threads(1)
    tyro.cli(main)
