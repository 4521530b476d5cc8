"""What the README shows is what the project has."""

import io
import re
import shlex
import sys
from contextlib import redirect_stdout
from functools import cache
from importlib import resources
from pathlib import Path
from unittest.mock import patch

import pytest

from bench.cli import main
from bench.core import registry
from bench.run.spec import load_sweep

README = Path(__file__).parent.parent / "README.md"
COMMANDS = re.findall(r"^    (bench \w+.*?)(?:  +#.*)?$", README.read_text(), re.MULTILINE)


@cache
def options_of(command: str) -> set[str]:
    """What `bench COMMAND --help` names."""
    out = io.StringIO()
    with redirect_stdout(out), patch.object(sys, "argv", ["bench", command, "--help"]), pytest.raises(SystemExit):
        main()
    return set(re.findall(r"--[a-z-]+", out.getvalue()))


def test_the_one_file_example_is_the_one_that_bench_new_writes() -> None:
    assert resources.files("bench").joinpath("examples", "synthesizer.py").read_text() in README.read_text()


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_has_the_options_that_it_is_shown_with(line: str) -> None:
    _, command, *words = shlex.split(line)
    assert {word for word in words if word.startswith("--")} <= options_of(command)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("bench run") and "--plugin" not in line])
def test_every_name_in_a_sweep_is_registered(line: str) -> None:
    words = shlex.split(line)
    for option, group in (("--env", "environments"), ("--synth", "synthesizers"), ("--agents", "agents"), ("--attacks", "attacks")):
        names = registry.split_names(words[words.index(option) + 1 : words.index(option) + 2]) if option in words else ()
        assert [registry.resolve(group, name).name for name in names if name != "all"] == [name.partition("[")[0] for name in names if name != "all"]


def test_the_preset_of_a_release_asks_for_one_fit_and_no_score(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "release.toml").write_text(text)
    sweep = load_sweep(str(tmp_path / "release.toml"), {})
    assert sweep.seeds.synthesizer * len(sweep.synth) * len(sweep.epsilon) * len(sweep.env) == 1
    assert (sweep.agents, sweep.metrics, sweep.attacks) == ((), (), ())
