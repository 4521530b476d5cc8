"""Plugins by name: entry points of installed distributions, the `register` decorator, and files given with `--plugin`.

Built-ins enter through the same entry-point groups as everybody else. A name may carry fields in brackets, `pgm[mode=aim]`; the canonical
name keeps only the fields that differ from what is registered, and is what tables print. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import math
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from bench.core.errors import InputError, values_of
from bench.core.sources import source_digest

GROUPS = ("environments", "synthesizers", "metrics", "attacks", "audits", "agents")
OURS = "orl-bench"
"""The distribution that ships the suite."""

ALL = "all"
"""What stands for every registered plugin of a group, so that none can have it as its name."""

_declared: dict[tuple[str, str], tuple[Any, str]] = {}
"""(group, name) -> (class or instance, owner), from the decorator and from plugin files."""
_SURVEYED = 30
"""More names than these are not told in an error."""
_FILE_MODULE = "bench_plugin_"
"""How the module names of plugin files begin."""


@dataclass(frozen=True)
class Plugin:
    """One configured plugin.

    Attributes:
        name: registered name, without brackets.
        label: canonical name with the fields that differ from the registered ones.
        digest: `source_digest`, provenance of every record it makes.
        external: True for a `--plugin` file, whose digest is part of every key.
    """

    group: str
    name: str
    label: str
    instance: Any
    owner: str
    digest: str
    external: bool

    @property
    def identity(self) -> dict[str, Any]:
        """What enters a key: name, version, every field, and the content of the files that an environment reads.

        Raises:
            InputError: such a file is missing, or is not the one that was asked for; or a field is no plain JSON.
        """
        try:
            content = {"content": self.instance.content()} if hasattr(self.instance, "content") else {}
        except (ValueError, OSError) as error:
            raise InputError(f"{self.label}: {error}") from error
        return {**self.declared, **content}

    @property
    def declared(self) -> dict[str, Any]:
        """The identity less the content of files.

        Raises:
            InputError: a field is no plain JSON.
        """
        return {"plugin": self.name, "version": self.instance.version, "fields": self._plain(self.instance), **self._source}

    @property
    def pretraining(self) -> dict[str, Any] | None:
        """The identity of a synthesizer's public phase, if it has one: the variants that share it share its node."""
        phase = getattr(self.instance, "pretraining", None)
        if phase is None:
            return None
        kind = f"{type(phase).__module__}.{type(phase).__qualname__}"
        return {"phase": kind, "version": phase.version, "fields": self._plain(phase), **self._source}

    def _plain(self, holder: Any) -> Any:
        """The fields of a dataclass as what a key is made of."""
        try:
            fields = jsonable(holder)
            json.dumps(fields)
        except TypeError as error:
            raise InputError(f"{self.label}: a field cannot be in a key ({error}); use numbers, text and tuples of them") from error
        return fields

    @property
    def _source(self) -> dict[str, str]:
        return {"digest": self.digest} if self.external else {}


def register(group: str, name: str) -> Callable[[Any], Any]:
    """Class decorator: make a plugin known under `name` for this process."""

    def keep(plugin: Any) -> Any:
        file = inspect.getsourcefile(plugin if isinstance(plugin, type) else type(plugin)) or "this process"
        _declare(group, name, plugin, file)
        return plugin

    return keep


def load_file(path: str | Path) -> None:
    """Import a plugin file; its `register` decorators name what it offers.

    Raises:
        InputError: no such file, or a file that does not import.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"--plugin: there is no file {path}; give the path of a Python file")
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]  # files of one name in two folders are two modules
    spec = importlib.util.spec_from_file_location(f"{_FILE_MODULE}{path.stem}_{place}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"--plugin: {path} is not a Python file; its name should end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a script that ends itself is no plugin file
        raise InputError(f"--plugin: {path} does not import ({told(error)}); mend the file") from error


def load_files(paths: Iterable[str | Path]) -> None:
    """Import plugin files in their order."""
    for path in paths:
        load_file(path)


def told(error: BaseException) -> str:
    """What a plugin raised, as one phrase: the type, the message, and the line of the plugin file where it arose, if it did."""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [f" ({Path(frame.f_code.co_filename).name}, line {line})" for frame, line in frames if _is_of_a_file(frame.f_globals)]
    return f"{type(error).__name__}: {error}{lines[-1] if lines else ''}"


def _is_of_a_file(variables: dict[str, Any]) -> bool:
    return str(variables.get("__name__")).startswith(_FILE_MODULE)


def names(group: str) -> list[str]:
    """All names of a group, in the order of registration: entry points first."""
    return list(dict.fromkeys([*_entry_points(group), *(name for kind, name in _declared if kind == group)]))


def ships(group: str, name: str) -> bool:
    """Whether the plugin of this name is this distribution's own."""
    return name in _entry_points(group) and _entry_points(group)[name].owner == OURS


def resolve(group: str, text: str) -> Plugin:
    """The plugin that `text` (a name, perhaps with bracketed fields) stands for.

    Raises:
        InputError: unknown name or field, a value of the wrong type or one that the plugin refuses, or a plugin that does not import.
    """
    match = re.fullmatch(r"([^\[\]]+)(?:\[(.*)\])?", text.strip())
    if not match:
        raise InputError(f"{group}: {text!r} is no plugin name; write name or name[field=value,field=value]")
    name, fields = match[1], match[2] or ""
    if name not in names(group):
        raise InputError(f"{group}: {name!r} is unknown and no --plugin file registers it; {did_you_mean(name, names(group))}")
    found, owner, external = _find(group, name)
    base = _configured(found, f"{group}: {name!r} of {owner}")
    changes = {key: _parsed(base, name, key, value) for key, value in _split_fields(fields, text)}
    try:
        instance = dataclasses.replace(base, **changes)
    except ValueError as error:
        raise InputError(f"{text}: {error}") from error
    return Plugin(group, name, _label(name, base, instance), instance, owner, source_digest(type(instance)), external)


def at_audit_size(plugin: Plugin) -> Plugin:
    """The variant of a synthesizer that audits fit, under the name that says what is smaller; the method itself if it declares no `audit_size`.

    Raises:
        InputError: the method as it was asked for has no smaller variant.
    """
    if not hasattr(plugin.instance, "audit_size"):
        return plugin
    base = resolve(plugin.group, plugin.name).instance
    try:
        instance = plugin.instance.audit_size()
    except ValueError as error:
        raise InputError(f"synthesizers: {plugin.label} has no variant that audits could fit ({error}); ask for other fields") from error
    return dataclasses.replace(plugin, label=_label(plugin.name, base, instance), instance=instance)


def jsonable(value: Any) -> Any:
    """Plain JSON for a field value; dataclasses become their fields, infinity a string."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list | frozenset):
        return [jsonable(item) for item in (sorted(value) if isinstance(value, frozenset) else value)]
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces."""
    return json.dumps(jsonable(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class _Owned:
    """An entry point and the distribution that it belongs to, whose name takes long to read."""

    point: importlib.metadata.EntryPoint
    owner: str


@cache
def _entry_points(group: str) -> dict[str, _Owned]:
    found: dict[str, _Owned] = {}
    for point in importlib.metadata.entry_points(group=f"bench.{group}"):
        this = _Owned(point, point.dist.name if point.dist else "an unnamed distribution")
        other = found.setdefault(point.name, this)
        if (other.point.value, other.owner) != (point.value, this.owner):
            owners = f"{other.owner} ({other.point.value}) and {this.owner} ({point.value})"
            raise InputError(f"{group}: the name {point.name!r} belongs to both {owners}; uninstall one of them")
    ours = {name: each for name, each in found.items() if each.owner == OURS}
    return ours | found


def _declare(group: str, name: str, plugin: Any, owner: str) -> None:
    if group not in GROUPS:
        raise InputError(f"register: {group!r} is no plugin group; {did_you_mean(group, GROUPS)}")
    if not name or name == ALL or set(name) & set("[], \t\n"):
        raise InputError(f"register: {name!r} in {owner} cannot name a plugin; leave out spaces, commas and brackets, and {ALL!r}")
    if name in _entry_points(group):
        raise InputError(f"{group}: the name {name!r} in {owner} belongs to {_entry_points(group)[name].owner} already; choose another name")
    before = _declared.get((group, name))
    if before and before[1] != owner:
        raise InputError(f"{group}: the name {name!r} belongs to both {before[1]} and {owner}; rename one of them")
    _declared[group, name] = (plugin, owner)


def _find(group: str, name: str) -> tuple[Any, str, bool]:
    if (group, name) in _declared:
        return (*_declared[group, name], True)
    found = _entry_points(group)[name]
    point = found.point
    try:
        return point.load(), found.owner, False
    except (ImportError, AttributeError) as error:
        spec = importlib.util.find_spec(point.module.partition(".")[0])
        where = spec.origin if spec else "nowhere"
        expected = point.dist.locate_file(point.module.replace(".", "/") + ".py") if point.dist else point.module
        raise InputError(
            f"{group}: {name!r} of {found.owner} should be in {expected} but the package is found at {where} ({error}); "
            "remove the distribution that shadows it, or install its missing dependency"
        ) from error
    except Exception as error:  # whatever somebody else's module raises as it is imported
        raise InputError(f"{group}: {name!r} of {found.owner} does not load ({told(error)}); mend that distribution, or uninstall it") from error


def _configured(found: Any, what: str) -> Any:
    """The registered instance, or a class's instance with its default fields."""
    kind = found if isinstance(found, type) else type(found)
    if not dataclasses.is_dataclass(kind):
        raise InputError(f"{what} is a {kind.__name__}, no dataclass; decorate the class with @dataclass(frozen=True)")
    try:
        return found() if isinstance(found, type) else found
    except TypeError as error:
        raise InputError(f"{what} has a field without a default ({error}); give it one, or register a configured instance") from error
    except ValueError as error:
        raise InputError(f"{what} refuses its own defaults ({error}); mend them, or register a configured instance") from error


def _split_fields(fields: str, text: str) -> list[tuple[str, str]]:
    pairs = [part.partition("=") for part in _split_outside_brackets(fields)]
    if any(not equals for _, equals, _ in pairs):
        raise InputError(f"{text!r}: fields are written field=value, separated by commas")
    keys = [key.strip() for key, _, _ in pairs]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise InputError(f"{text!r}: {twice[0]} is given twice; write each field once")
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def split_names(texts: Sequence[str]) -> tuple[str, ...]:
    """Names separated by commas or spaces; commas and spaces inside brackets belong to the name."""
    return tuple(name for text in texts for name in _split_outside_brackets(text, ", \t\n"))


def _split_outside_brackets(text: str, separators: str = ",") -> list[str]:
    pieces, depth = [""], 0
    for character in text:
        depth += (character in "[(") - (character in "])")
        if depth == 0 and character in separators:
            pieces.append("")
        else:
            pieces[-1] += character
    return [piece for piece in pieces if piece.strip()]


def _parsed(base: Any, name: str, key: str, text: str) -> Any:
    """The field's value, of the field's declared type."""
    hints = typing.get_type_hints(type(base))
    fields = [field.name for field in dataclasses.fields(base) if field.init]
    if key not in fields:
        raise InputError(f"{name}: there is no field {key!r}; {did_you_mean(key, fields)}")
    kind = hints[key]
    try:
        return _convert(kind, text)
    except TypeError as error:
        raise InputError(
            f"{name}: {key} cannot be written in brackets, since it is {error}; register that variant under a name of its own"
        ) from error
    except (ValueError, KeyError) as error:
        raise InputError(f"{name}: {key}={text} is not {values_of(kind)}; the registered value is {getattr(base, key)!r}") from error


def _convert(kind: Any, text: str) -> Any:
    if kind is bool:
        return {"true": True, "false": False}[text.lower()]
    if kind in (int, float, str):
        return kind(text)
    if typing.get_origin(kind) is typing.Literal:
        return {str(choice): choice for choice in typing.get_args(kind)}[text]
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return kind(text)
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return tuple(_convert(item, piece.strip()) for piece in text.strip("()").split(",") if piece.strip())
    raise TypeError(f"of type {getattr(kind, '__name__', kind)}")


def _label(name: str, base: Any, instance: Any) -> str:
    changed = [
        f"{field.name}={_written(getattr(instance, field.name))}"
        for field in dataclasses.fields(instance)
        if getattr(instance, field.name) != getattr(base, field.name)
    ]
    return f"{name}[{','.join(changed)}]" if changed else name


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"({','.join(_written(item) for item in value)})"
    return str(value.value if isinstance(value, Enum) else value)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The remedy of an unknown name: what is close to it, or what there is."""
    if not known:
        return "there are none"
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"choose from {', '.join(known)}" if len(known) <= _SURVEYED else "`bench list` shows what there is"
