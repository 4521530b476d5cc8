"""The error a user can mend, and what its sentence calls a type."""

from __future__ import annotations

import typing
from enum import Enum
from typing import Any


class InputError(ValueError):
    """Bad input: one sentence that names the argument, its value and the remedy. The command line prints it and exits with code 2."""


def values_of(hint: Any) -> str:
    """What a sentence calls the values of a declared type: the choices, where there are some."""
    options = typing.get_args(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(str(member.value) for member in hint)}"
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, options))}"
    if type(None) in options:
        return values_of(next(option for option in options if option is not type(None)))
    if typing.get_origin(hint) is tuple:
        return f"a list, each {values_of(options[0])}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint, "a table")
