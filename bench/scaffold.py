"""`bench new`: the one-file example under the author's own name."""

from importlib import resources
from pathlib import Path

from bench.core import registry
from bench.core.errors import InputError


def new_plugin(kind: str, name: str, folder: Path) -> Path:
    """Write the example of a plugin kind to `folder`, named `name`.

    Raises:
        InputError: a name that is taken or no plain word, or a file that is there already.
    """
    file = folder / f"{name.replace('-', '_')}.py"
    if not file.stem.isidentifier():
        raise InputError(f"NAME: {name!r} cannot name a plugin; use letters, digits and dashes, a letter first")
    if name in registry.names(f"{kind}s"):
        raise InputError(f"NAME: {name!r} is registered already; choose another name")
    if file.exists():
        raise InputError(f"NAME: {file} exists already; choose another name or --folder")
    text = resources.files("bench").joinpath("example.py").read_text()
    title = "".join(part.capitalize() for part in name.split("-"))
    for ours, theirs in (("MySynthesizer", title), ("MySampler", f"{title}Sampler"), ("my-synthesizer", name), ("My synthesizer", title)):
        text = text.replace(ours, theirs)
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file
