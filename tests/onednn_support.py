"""What a machine may hold in place of oneDNN's private product."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from torch import Tensor


def raising(error: type[Exception]) -> Callable[..., Tensor]:
    def operation(*operands: Any) -> Tensor:
        raise error("no such operation on this machine")

    return operation


UNUSABLE = {
    "missing": SimpleNamespace(),
    "not implemented": SimpleNamespace(_linear_pointwise=raising(NotImplementedError)),
    "refused": SimpleNamespace(_linear_pointwise=raising(RuntimeError)),
    "wrong": SimpleNamespace(_linear_pointwise=lambda inputs, weight, *_: inputs @ weight.T),
}
"""Stand-ins for `torch.ops.mkldnn`."""
