"""Bad input costs one sentence and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Finished
from shell_support import BARE, TINY, bench, csv_of, files_in, nodes_of, refused, start, write_preset

from bench.run.plan import make_plan, pending
from bench.run.store import Store

SMOKE = ("run", "--preset", "smoke")
BAD_INPUT = {
    "unknown synthesizer": ((*SMOKE, "--synth", "independant"), ["synthesizers", "'independant'", "did you mean independent?"]),
    "unknown environment": (("run", "--env", "maze2d-mediun"), ["environments", "'maze2d-mediun'", "did you mean", "maze2d-medium"]),
    "unknown agent": ((*SMOKE, "--agents", "ipl"), ["agents", "'ipl'", "iql"]),
    "unknown preset": (("run", "--preset", "smok"), ["--preset", "'smok'", "smoke, laptop, paper"]),
    "preset is a folder": (("run", "--preset", "."), ["--preset", "'.'", "TOML file"]),
    "no environment": (("run",), ["env", "--env NAME", "bench list"]),
    "unknown field": ((*SMOKE, "--synth", "independent[cell=3]"), ["independent", "'cell'", "did you mean cells?"]),
    "field of another type": ((*SMOKE, "--synth", "independent[cells=many]"), ["cells=many is not a whole number"]),
    "field with a value that is not offered": ((*SMOKE, "--synth", "real[corruption=foo]"), ["real[corruption=foo]", "'foo' is none of independent"]),
    "field without a value": ((*SMOKE, "--synth", "independent[cells]"), ["'independent[cells]'", "field=value"]),
    "open bracket": ((*SMOKE, "--synth", "independent[cells=3"), ["'independent[cells=3'", "name[field=value,field=value]"]),
    "epsilon 0": ((*SMOKE, "--epsilon", 0), ["epsilon", "0", "above 0"]),
    "epsilon negative": ((*SMOKE, "--epsilon=-1"), ["epsilon", "-1", "above 0"]),
    "epsilon a word": ((*SMOKE, "--epsilon", "abc"), ["--epsilon", "'abc'", "not a number", "write for instance"]),
    "epsilon nan among others": ((*SMOKE, "--epsilon", "1", "nan"), ["epsilon", "nan", "above 0"]),
    "delta too large": ((*SMOKE, "--delta", 0.5), ["delta", "0.5", "N = 2000", "1e-05 works"]),
    "delta 0": ((*SMOKE, "--delta", 0), ["delta", "0", "above 0"]),
    "delta negative": ((*SMOKE, "--delta=-1e-5"), ["delta", "-1e-05", "above 0"]),
    "rows negative": ((*SMOKE, "--rows=-5"), ["rows", "-5", "negative"]),
    "rows a fraction": ((*SMOKE, "--rows", "0.5"), ["--rows", "0.5", "whole number"]),
    "rows infinite": ((*SMOKE, "--rows", "inf"), ["--rows", "inf", "whole number"]),
    "rows a word": ((*SMOKE, "--rows", "10q"), ["--rows", "'10q'", "100k"]),
    "rows with two suffixes": ((*SMOKE, "--dry-run", "--rows", "10kk"), ["--rows", "'10kk'", "not a number"]),
    "seeds 0": ((*SMOKE, "--seeds", 0), ["seeds.synthesizer", "0", "above 0"]),
    "seeds no number": ((*SMOKE, "--seeds", "abc"), ["--seeds", "'abc'", "write for instance"]),
    "seeds several": ((*SMOKE, "--seeds", "1,2"), ["--seeds", "1, 2", "give one"]),
    "agent seeds several": ((*SMOKE, "--agent-seeds", "1,2"), ["--agent-seeds", "1, 2", "give one"]),
    "unit unknown": ((*SMOKE, "--unit", "row"), ["--unit", "'row'", "transition, trajectory"]),
    "accountant unknown": ((*SMOKE, "--accountant", "gdp"), ["--accountant", "'gdp'", "pld, rdp"]),
    "jobs a fraction": ((*SMOKE, "--jobs", "2.5"), ["--jobs", "2.5", "whole number"]),
    "jobs negative": ((*SMOKE, "--jobs=-1"), ["--jobs", "-1", "0 for one per core"]),
    "unit that nobody protects": ((*SMOKE, "--synth", "independent", "--unit", "trajectory"), ["unit", "independent", "trajectory", "drop --unit"]),
    "plugin file missing": ((*SMOKE, "--plugin", "no_such.py"), ["--plugin", "no_such.py", "there is no file"]),
    "an option given twice": (("run", "--env", "toy", "--dry-run", "--env", "toy-east"), ["--env: it is given 2 times", "give it once, with all"]),
    "an empty value": (("run", "--epsilon", "", "--dry-run"), ["--epsilon: its value is empty", "leave the option out"]),
    "validate what is not its own": (("validate", "--env", "toy", "--synth", "pgm", "--metrics", "all"), ["--synth, --metrics", "leave it out"]),
    "validate under a budget": (("validate", "--env", "toy", "--epsilon", "1"), ["--epsilon: this command has no use", "leave it out"]),
    "audit scores": (("audit", "--synth", "pgm", "--agent-seeds", "2"), ["--agent-seeds: this command has no use", "leave it out"]),
    "separate rows of a sweep to come": (
        ("plan", "--separate", "pgm", "privsyn", "--env", "toy"),
        ["--env: this command has no", "leave it out"],
    ),
    "show an unknown key": (("show", "zzzz"), ["KEY", "'zzzz'", "bench table"]),
    "show a pattern": (("show", "**"), ["KEY", "'**'"]),
    "check a name of a file that is not named": (("check", "mine"), ["NAME", "'mine'", "no --plugin file registers it"]),
    "new in a folder that cannot be": (("new", "synthesizer", "mine", "--folder", "/dev/null/here"), ["--folder", "mine.py", "can be written"]),
    "check an unknown name": (("check", "independant"), ["NAME", "'independant'", "did you mean independent?"]),
    "check with an unknown environment": (("check", "uniform", "--env", "toi"), ["environments", "'toi'", "did you mean toy"]),
    "new under a taken name": (("new", "synthesizer", "uniform"), ["NAME", "'uniform'", "choose another name"]),
    "new under an impossible name": (("new", "synthesizer", "3 blind mice"), ["NAME", "'3 blind mice'", "letters"]),
    "new under a word of Python": (("new", "synthesizer", "true"), ["NAME", "'true'", "no word of Python"]),
    "new under the name of all": (("new", "synthesizer", "all"), ["NAME", "'all'"]),
    "audit without audits": (("audit", "--audits", ","), ["--audits", "no audit is named", "bench list"]),
    "new under a name with a folder": (("new", "synthesizer", "../mine"), ["NAME", "'../mine'", "letters"]),
    "new under the name of an import": (("new", "synthesizer", "gaussian"), ["NAME", "'gaussian'", "hide Gaussian", "another name"]),
    "secret that is a device": ((*SMOKE, "--secret", "/dev/null"), ["--secret", "/dev/null", "is a device", "make one with"]),
    "table of an empty folder": (("table", "--results", "nowhere"), ["--results", "nowhere", "bench run"]),
}


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory of its own, where the default results and plugin files would be."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_sentence_and_leaves_nothing_behind(case: str, tmp_path: Path) -> None:
    arguments, fragments = BAD_INPUT[case]
    refused(fragments, *arguments)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("def fit(:", ["mine.py", "SyntaxError", "mend the file"]),
        ("import no_such_package", ["ModuleNotFoundError", "no_such_package", "mend the file"]),
        ("raise ValueError('two\\nlines [bold]')", ["ValueError: two lines [bold]", "mend the file"]),
        ("from bench import register\n@register('synthesizers', 'real')\nclass Mine: ...", ["'real'", "orl-bench", "choose another name"]),
        ("from bench import register\n@register('synths', 'mine')\nclass Mine: ...", ["'synths'", "synthesizers"]),
    ],
)
@pytest.mark.parametrize("command", [SMOKE, ("list",), ("table",), ("check", "uniform")])
def test_a_plugin_file_that_does_not_load_is_named(command: tuple[str, ...], text: str, fragments: list[str], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    refused(fragments, *command, "--plugin", file)


HEAD = "from dataclasses import dataclass\nfrom bench import *\n@register('{}', 'mine')\n@dataclass(frozen=True)\nclass Mine:\n"
SYNTHESIZER = {"version": "1", "guarantee": "Guarantee.DP", "units": "{Unit.TRANSITION}", "needs_public": "False", "fit": "1", "restore": "1"}


@pytest.mark.parametrize(
    ("group", "attributes", "words"),
    [
        ("synthesizers", dict(list(SYNTHESIZER.items())[:-1]), "it lacks restore of bench.Synthesizer"),
        ("synthesizers", SYNTHESIZER | {"guarantee": "'DP'"}, "guarantee is 'DP'; write for instance Guarantee.DP"),
        ("synthesizers", SYNTHESIZER | {"units": "Unit.TRANSITION"}, "; name the privacy units that it can protect, for instance frozenset({"),
        ("synthesizers", SYNTHESIZER | {"version": "'1'"}, "version is '1'; give a whole number from 1 on"),
        ("environments", {"version": "1"}, "it lacks dataset, horizon, reference_policies"),
        ("agents", {"train": "1"}, "it lacks version of bench.Agent; add what is missing"),
        ("metrics", {"version": "1", "score": "1", "better": "1"}, "it lacks unit of bench.Metric"),
        ("attacks", {"version": "1", "attack": "1", "better": "1", "needs": "1"}, "it lacks views of bench.Attack"),
    ],
)
def test_a_plugin_that_is_not_complete_is_told_what_it_lacks(group: str, attributes: dict[str, str], words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(HEAD.format(group) + "".join(f"    {name} = {value}\n" for name, value in attributes.items()))
    option = {"synthesizers": "--synth", "environments": "--env"}.get(group, f"--{group}")
    refused([f"{group}: mine of {file} cannot be planned with: ", words], *SMOKE, option, "mine", "--plugin", file)
    listed = bench("list", "--plugin", file)
    assert listed.code == 0
    assert words in next(line for line in listed.out.splitlines() if line.split()[:2] == ["mine", "broken"])


def test_to_delete_the_rows_of_a_sweep_for_rows_is_refused(tmp_path: Path) -> None:
    preset = write_preset(replace(BARE, metrics=()), tmp_path)
    refused(["--keep", "scores", "asks for no score"], "run", "--preset", preset, "--results", tmp_path / "runs", "--keep", "scores")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("below", ["", "runs"])
def test_results_where_a_file_is_in_the_way_are_refused(below: str, finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    results = tmp_path / "file" / below
    refused(["--results", "holds no sweep"], "table", "--results", results)
    result = bench("run", "--preset", finished.preset, "--results", results)
    assert result.code == 2
    assert re.fullmatch(r"bench: --results: cannot write it in \S+: .+; free space or give another folder\n", result.err)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("kind", ["records", "sweeps"])
def test_a_corrupt_file_is_named_and_deleting_it_helps(kind: str, finished: Finished, copied: Path) -> None:
    if kind == "records":
        corrupt = copied / "records" / f"{nodes_of(make_plan(TINY), 'fit', synthesizers='independent')[0].key}.json"
        commands = [("run", "--preset", finished.preset), ("table",), ("show", corrupt.stem)]
    else:
        (corrupt,) = (copied / "sweeps").glob("*.json")
        commands = [("table",), ("show", nodes_of(make_plan(TINY), "fit")[0].key)]
    kept = {path: path.read_bytes() for path in files_in(copied) if path != corrupt}
    corrupt.write_text('{"cut sho')
    for command in commands:
        result = bench(*command, "--results", copied)
        assert result.code == 2
        assert result.err.count("\n") == 1
        assert str(corrupt) in result.err
        assert "restore this file from a copy, or delete it and run its sweep again" in result.err
    assert {path: path.read_bytes() for path in kept} == kept
    corrupt.unlink()
    assert bench("run", "--preset", finished.preset, "--results", copied, "--jobs", 1).code == 0
    assert csv_of(copied) == finished.csv
    assert not pending(make_plan(TINY), Store(copied))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*SMOKE, "--epsilom", "1"), "--epsilom"),
        (("table", "--format", "xml"), "xml"),
        (("bake",), "bake"),
        (("show",), "key"),
    ],
)
def test_what_the_parser_refuses_exits_with_2_and_names_it(arguments: tuple[str, ...], words: str) -> None:
    result = bench(*arguments)
    assert result.code == 2
    assert words.lower() in (result.err + result.out).lower()


def test_the_script_itself_ends_with_one_line_and_no_traceback() -> None:
    process = start(*SMOKE, "--synth", "independant")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == "bench: synthesizers: 'independant' is unknown and no --plugin file registers it; did you mean independent?\n"
