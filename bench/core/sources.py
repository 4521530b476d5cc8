"""What a plugin is made of: its own file, and the modules of its own package that it reaches by imports.

Read from the sources, which are never run. Imports count wherever they stand in a file; what lies beside a plugin and is not imported does not count,
and neither does another distribution. `bench` counts as one: stages have versions of their own, so an environment stands on its family alone.
Comments and docstrings do not count either: to explain a method better makes no number of it another.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import tokenize
from collections.abc import Iterator
from functools import cache
from io import StringIO
from itertools import takewhile
from pathlib import Path

_FRAMEWORK = Path(__file__).resolve().parents[1]


def source_digest(plugin: type) -> str:
    """sha256 over the statements in the source files of a plugin."""
    return _digest(_file_of(plugin))


def _file_of(plugin: type) -> Path:
    return Path(inspect.getsourcefile(plugin) or "").resolve()


@cache
def _digest(file: Path) -> str:
    return hashlib.sha256(b"\0".join(_statements(path) for path in _closure(file))).hexdigest()[:16]


@cache
def _statements(file: Path) -> bytes:
    """The lines of a file without comments, strings that stand alone, and what is blank then."""
    with tokenize.open(file) as source:
        text = source.read()
    lines = [line.encode() for line in text.split("\n")]
    for first, start, last, end in sorted([*_comments(text), *_lone_strings(text)], reverse=True):
        lines[first : last + 1] = [lines[first][:start] + lines[last][end:], *[b""] * (last - first)]
    return b"\n".join(line for line in map(bytes.rstrip, lines) if line)


def _comments(text: str) -> Iterator[tuple[int, int, int, int]]:
    """Where each begins and ends: line and byte, both from 0."""
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            start = len(token.line[: token.start[1]].encode())
            yield token.start[0] - 1, start, token.start[0] - 1, start + len(token.string.encode())


def _lone_strings(text: str) -> Iterator[tuple[int, int, int, int]]:
    """Docstrings, of attributes too: statements that are a text and nothing else."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            yield node.lineno - 1, node.col_offset, node.end_lineno - 1, node.end_col_offset


def _closure(file: Path) -> list[Path]:
    packages = list(takewhile(lambda folder: (folder / "__init__.py").is_file(), file.parents))
    root = file.parents[len(packages)]
    home = next((folder for folder in reversed(packages) if folder != _FRAMEWORK), None)
    found: set[Path] = set()
    waiting = [file] if file.is_file() else []
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            imported = _imports(path, root)
            waiting += [p for p in imported if (p.is_relative_to(home) if home else p.parent in (file.parent, file.parent / "_parts"))]
    return sorted(found)


@cache
def _imports(file: Path, root: Path) -> frozenset[Path]:
    """The source files that a file imports from below `root`, the folder in which absolute imports begin."""
    places = (place for node in ast.walk(ast.parse(file.read_bytes())) for place in _places(node, file, root))
    return frozenset(path for path in map(_module_file, places) if path)


def _places(node: ast.AST, file: Path, root: Path) -> Iterator[Path]:
    """Where a module that this statement imports would lie, without a suffix."""
    if isinstance(node, ast.Import):
        yield from (root.joinpath(*alias.name.split(".")) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = (file.parents[node.level - 1] if node.level else root).joinpath(*(node.module or "").split("."))
        yield from (base / alias.name if _module_file(base / alias.name) else base for alias in node.names)


def _module_file(place: Path) -> Path | None:
    candidates = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((path for path in candidates if path.is_file()), None)
