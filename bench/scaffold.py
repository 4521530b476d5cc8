"""`bench new`: the one-file example of a plugin kind under the author's own name."""

import ast
import keyword
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from bench.core import registry
from bench.core.errors import InputError

EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "synthesizer": {"MySynthesizer": "{title}", "MySampler": "{title}Sampler", "my-synthesizer": "{name}", "My synthesizer": "{title}"},
    "environment": {"MyTrajectories": "{title}", "my-trajectories": "{name}", "my_trajectories": "{stem}", "My trajectories": "{title}"},
}
"""What an example is called, and what the author's file is called instead."""


def new_plugin(kind: str, name: str, folder: Path) -> Path:
    """Write the example of a plugin kind to `folder`, named `name`.

    Raises:
        InputError: a name that is taken or no plain word, or a file that is there already or cannot be written.
    """
    stem, title = name.replace("-", "_"), "".join(part.capitalize() for part in name.split("-"))
    file = folder / f"{stem}.py"
    if not stem.isidentifier() or keyword.iskeyword(title) or name == registry.ALL:
        raise InputError(
            f"NAME: {name!r} cannot name a plugin; use letters, digits and dashes, a letter first, and no word of Python or of the command line"
        )
    if name in registry.names(f"{kind}s"):
        raise InputError(f"NAME: {name!r} is registered already; choose another name")
    if file.exists():
        raise InputError(f"NAME: {file} exists already; choose another name or --folder")
    text = resources.files("bench").joinpath("examples", f"{kind}.py").read_text()
    if title in _imported(text):
        raise InputError(f"NAME: a class for {name!r} would hide {title}, which the file imports; choose another name")
    called = {ours: theirs.format(title=title, name=name, stem=stem) for ours, theirs in EXAMPLES[kind].items()}
    text = re.sub("|".join(called), lambda found: called[found[0]], text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    except OSError as error:
        raise InputError(f"--folder: cannot write {file} ({error.strerror}); give a folder that can be written") from error
    return file


def _imported(source: str) -> set[str]:
    """The names that a source text imports from modules."""
    return {alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) for alias in node.names}
