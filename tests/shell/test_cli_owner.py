"""An owner's way, from a file of trajectories to a release: `bench new environment`, `check`, `run --secret`, `export`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from shell_support import BARE, bench, start, write_preset

from bench.core import registry
from bench.core.data import PARTS


def test_what_new_writes_for_a_file_takes_it_to_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bench("new", "environment", "night-turbine").code == 0
    command = ("check", "night-turbine", "--plugin", "night_turbine.py")
    assert "there is no file night_turbine.hdf5; correct path=" in bench(*command).out
    write_turbine(Path("night_turbine.hdf5"), trajectories=400)
    checked = bench(*command)
    assert checked.code == 0, checked.out
    quick = replace(BARE, env=("toy",), synth=("independent",), metrics=(), rows=(0,))
    run = ("run", "--preset", write_preset(quick, tmp_path), "--env", "night-turbine", "--plugin", "night_turbine.py", "--jobs", 1)
    Path("turbine.secret").write_bytes(bytes(range(32)))
    unprotected = "Made without --secret: who knows the settings and all rows but one can subtract the noise"
    assert unprotected in bench(*run, "--results", "tried").out
    assert "bench export" not in bench(*run, "--results", "tried", "--synth", "real").out, "what may not go out"
    ran = bench(*run, "--secret", "turbine.secret")
    assert unprotected not in ran.out
    assert "independent on night-turbine: bench export" in ran.out, ran.err
    (key,) = re.findall(r"bench export (\w+)", ran.out)
    assert bench("export", key, "--to", "synthetic.hdf5", "--plugin", "night_turbine.py").code == 0
    assert "Against whoever does not hold its secret" in Path("synthetic.privacy.md").read_text()
    text = Path("night_turbine.py").read_text()
    Path("night_turbine.py").write_text(text.replace("max_trajectory_length=96", "max_trajectory_length=5"))
    late = start("export", key, "--to", "late.hdf5", "--plugin", "night_turbine.py").communicate(timeout=60)[1]
    assert f"{key} was not made with night-turbine as" in late, "the card would tell epsilon of trajectories of at most 5 rows"


def test_a_file_with_few_rows_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bench("new", "environment", "turbine")
    write_turbine(Path("turbine.hdf5"), trajectories=30)
    text = Path("turbine.py").read_text().replace("15_000", "500").replace("nominal_trajectories=200", "nominal_trajectories=25")
    Path("turbine.py").write_text(text)
    assert bench("check", "turbine", "--plugin", "turbine.py").code == 0
    Path("turbine.py").write_text(text.replace("part(self.schema, rows,", "part(self.schema, (rows + 1) // 2,"))
    assert "FAIL gives-the-rows-asked-for: dataset returned 4 rows where 7 were asked for" in bench("check", "turbine", "--plugin", "turbine.py").out


def merged(file: h5py.File) -> None:
    """Nothing says where a trajectory ends."""
    file["timeouts"][...] = False


def in_other_units(file: h5py.File) -> None:
    file["observations"][:, 0] *= 18


def rounded(file: h5py.File) -> None:
    """Sensors are, so that two people have rows in common."""
    for name, decimals in (("observations", -1), ("actions", 0), ("rewards", 0)):
        file[name][...] = np.round(file[name][...], decimals)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (merged, "FAIL holds-what-it-declares: the train part holds 96 rows where 15,000 are declared"),
        (in_other_units, "FAIL holds-what-it-declares: every temperature is at its declared bound 400.0"),
        (rounded, ""),
    ],
)
def test_check_tells_the_owner_what_does_not_fit_the_declarations(change: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bench("new", "environment", "turbine")
    write_turbine(Path("turbine.hdf5"), trajectories=400)
    with h5py.File("turbine.hdf5", "a") as file:
        change(file)
    checked = bench("check", "turbine", "--plugin", "turbine.py")
    assert checked.code == bool(told), checked.out
    assert told in checked.out


def test_a_trajectory_more_moves_no_other_one_between_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bench("new", "environment", "turbine")
    registry.load_file("turbine.py")
    turbine = registry.resolve("environments", "turbine").instance
    parts = []
    for count in (60, 61):
        write_turbine(Path("turbine.hdf5"), trajectories=count)
        parts.append([set(map(bytes, turbine.dataset(15_000, 0, part).table())) for part in PARTS])
    assert sum(bool(before ^ after) for before, after in zip(*parts, strict=True)) == 1
    assert all(before <= after for before, after in zip(*parts, strict=True))


def write_turbine(path: Path, trajectories: int) -> None:
    """Trajectories of 20 rows in the columns of the example; the first ones are the same whatever their number."""
    rng, rows = np.random.default_rng(0), 20 * trajectories
    table = rng.uniform(0, 1, (rows, 4)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["observations"] = table[:, :2] * [300, 20] + [50, 0]
        file["actions"], file["rewards"], file["terminals"] = 10 * table[:, 2:3], -table[:, 3], np.zeros(rows, bool)
        file["timeouts"] = np.arange(rows) % 20 == 19
