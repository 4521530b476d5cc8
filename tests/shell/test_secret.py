"""A secret makes the noise of a release one that nobody else can compute, and leaves no trace of itself."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from shell_support import TINY, Log, bench, files_in, nodes_of, record_of, write_preset

from bench.core import privacy
from bench.core.data import Transitions
from bench.core.errors import InputError
from bench.core.privacy import Gaussian
from bench.core.protocols import Runtime
from bench.run import secret, stages
from bench.run.execute import execute, execute_here
from bench.run.plan import Plan, make_plan, pending
from bench.run.secret import SHORTEST, Secret, _digest
from bench.run.spec import Node, Seeds
from bench.run.stages import _ledger, _schema, sources
from bench.run.store import Store

LONE = replace(TINY, synth=("independent", "uniform"), agents=(), attacks=(), seeds=Seeds(synthesizer=1))
SECRET, OTHER = Secret(bytes(range(32, 64))), Secret(bytes(range(96, 128)))


def fit_of(plan: Plan) -> Node:
    return nodes_of(plan, "fit", synthesizers="independent")[0]


def run(folder: Path, secret: Secret | None, jobs: int = 0) -> tuple[Node, Store]:
    """The private fit of a sweep that was run, in this process or by workers."""
    plan, store = make_plan(LONE, secret), Store(folder)
    store.create()
    execute(pending(plan, store), store, Log(), jobs, []) if jobs else execute_here(pending(plan, store), store, Log())
    return fit_of(plan), store


def model(folder: Path, secret: Secret | None, jobs: int = 0) -> bytes:
    node, store = run(folder, secret, jobs)
    assert record_of(store, node).ok, record_of(store, node).reason
    return b"".join(values.tobytes() for values in store.arrays(node.key).values())


def test_noise_repeats_itself_under_one_secret_in_every_process_and_under_no_other(tmp_path: Path) -> None:
    ours = model(tmp_path / "here", SECRET)
    assert ours == model(tmp_path / "workers", SECRET, jobs=2)
    assert len({ours, model(tmp_path / "other", OTHER), model(tmp_path / "none", None)}) == 3


def test_noise_does_not_follow_from_the_key_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who knows every setting and the fingerprint, and so the key, still lacks the noise."""
    ours = model(tmp_path / "ours", SECRET)
    monkeypatch.setattr(Secret, "fingerprint", SECRET.fingerprint)
    assert fit_of(make_plan(LONE, OTHER)).key == fit_of(make_plan(LONE, SECRET)).key
    assert model(tmp_path / "guessed", OTHER) != ours


def noise(node: Node, store: Store, runtime: Runtime, exact: float = 0.0) -> NDArray[np.float64]:
    """Of one question of the fit that is asked twice."""
    ledger = _ledger(node, Transitions.empty(_schema(node)), store, runtime)
    answers = ledger.plan(question=Gaussian(l2=1.0, weight=1.0, count=2)).question
    return np.array([answers(np.full(8, exact)) - exact for _ in range(2)]) / answers.scale


@pytest.mark.parametrize(
    "change", ["a row less", "another timeout", "method", "bench", "library", "device", "kept calibration", "what nobody thought of"]
)
def test_no_two_questions_bear_the_same_noise(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key may stay where rows change, if an environment does not tell the content of its file, and where code does."""
    node, store = run(tmp_path, SECRET)
    runtime = Runtime()
    first, again = (noise(node, store, runtime) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first[0], first[1]).any(), "one question asked twice in one fit"
    if change in ("a row less", "another timeout"):
        record, rows = store.get(node.inputs["data"]), store.arrays(node.inputs["data"])
        assert record is not None
        if change == "another timeout":
            rows["timeouts"][0] ^= True
        store.put(record, rows if change == "another timeout" else {name: values[1:] for name, values in rows.items()})
    elif change == "method":
        monkeypatch.setattr(stages, "sources", lambda node: dict.fromkeys(sources(node), "mended"))
    elif change == "bench":
        monkeypatch.setattr(secret, "_digest", lambda path: "mended" if path.suffix == ".py" else _digest(path))
    elif change == "library":
        monkeypatch.setattr(importlib.metadata, "distributions", lambda: [])
    elif change == "kept calibration":
        factor = privacy.noise_factor
        monkeypatch.setattr(privacy, "noise_factor", lambda *asked: factor(*asked) * (1 + 1e-9))
    elif change == "device":
        runtime = Runtime("cuda")
    secret._installation.cache_clear()
    second = noise(node, store, runtime, exact=1e-9 if change == "what nobody thought of" else 0.0)
    secret._installation.cache_clear()
    assert not np.isclose(first, second).any()


def test_only_keys_of_private_fits_and_of_what_rests_on_them_change() -> None:
    plain, ours, other = make_plan(LONE), make_plan(LONE, SECRET), make_plan(LONE, OTHER)
    assert len({fit_of(plan).key for plan in (plain, ours, other)}) == 3
    moved = [node for key, node in ours.nodes.items() if key not in plain.nodes]
    assert {node.stage for node in moved} == {"fit", "sample", "fidelity"}
    assert {node.plugins["synthesizers"] for node in moved if "synthesizers" in node.plugins} == {"independent"}


def test_a_secret_leaves_no_trace_but_its_fingerprint(tmp_path: Path) -> None:
    file, results = tmp_path / "secret", tmp_path / "runs"
    file.write_bytes(SECRET.content)
    ran = bench("run", "--preset", write_preset(LONE, tmp_path), "--results", results, "--secret", file, "--jobs", 2)
    assert ran.code == 0, ran.err
    fit = fit_of(make_plan(LONE, SECRET))
    assert record_of(Store(results), fit).parameters["secret"] == SECRET.fingerprint
    traces = (SECRET.content, SECRET.content.hex().encode(), json.dumps(SECRET.content.decode("latin1")).strip('"').encode())
    written = [path.read_bytes() for path in files_in(results)]
    assert not any(trace in text for trace in traces for text in [*written, ran.out.encode(), repr(fit).encode()])
    shown = bench("show", fit.key, "--results", results).out
    assert "bench run --preset FILE.toml --secret FILE" in shown


def test_a_sweep_with_a_secret_and_one_without_are_two(tmp_path: Path) -> None:
    """In one store each keeps its own table, whose pages are verified against its own records."""
    (tmp_path / "secret").write_bytes(SECRET.content)
    command = ("run", "--preset", write_preset(LONE, tmp_path), "--results", tmp_path / "runs", "--jobs", 1)
    pages = []
    for options in ((), ("--secret", tmp_path / "secret")):
        assert bench(*command, *options).code == 0
        pages.append(bench("table", "--results", tmp_path / "runs", "--format", "markdown").out)
    store = Store(tmp_path / "runs")
    fits = [{leaf["fit"] for leaf in sweep["leaves"] if leaf["synth"] == "independent"} for sweep in store.sweeps()]
    assert sorted(map(sorted, fits)) == sorted([[fit_of(make_plan(LONE)).key], [fit_of(make_plan(LONE, SECRET)).key]])
    assert {sweep.get("secret") for sweep in store.sweeps()} == {None, SECRET.fingerprint}
    for page in pages:
        (tmp_path / "page.md").write_text(page)
        verified = bench("verify", tmp_path / "page.md", "--results", tmp_path / "runs")
        assert verified.code == 0, verified.out


@pytest.mark.parametrize("size", [0, SHORTEST - 1])
def test_a_secret_that_can_be_guessed_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "secret").write_bytes(b"x" * size)
    with pytest.raises(InputError, match=f"--secret: .*secret holds {size} bytes, which can be guessed; make one with: head -c 32"):
        Secret.read(tmp_path / "secret")
    (tmp_path / "zeros").write_bytes(bytes(64))
    with pytest.raises(InputError, match=r"--secret: .*zeros repeats 1 values, which can be guessed"):
        Secret.read(tmp_path / "zeros")
    with pytest.raises(InputError, match=r"--secret: cannot read .*nowhere \(No such file.*; make one with: head -c 32"):
        Secret.read(tmp_path / "nowhere")
