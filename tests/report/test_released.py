"""What is drawn of rows: the very numbers of the metrics, and the walls where they stand."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hand_made import HandMade

from bench.core.registry import resolve
from bench.report.evidence import Evidence, Section
from bench.report.pictures_of_rows import _trajectories
from bench.report.released import HELD_OUT, Releases, drawn_columns, floor_plan, pairwise_errors, read_releases, shares, table_of
from bench.run.store import Record, Store


def rows(environment: str, part: str, count: int = 3_000):
    return resolve("environments", environment).instance.dataset(count, 0, part)


@pytest.mark.parametrize("environment", ["toy", "maze2d-umaze"])
def test_the_errors_of_pairs_average_to_the_metric(environment: str) -> None:
    real, other = rows(environment, "holdout"), rows(environment, "train")
    errors = pairwise_errors(table_of(other), table_of(real), drawn_columns(real.schema))
    metric = resolve("metrics", "pairwise-tv").instance
    score = metric.score(other, real, resolve("environments", environment).instance, np.random.default_rng(0))["pairwise_tv"]
    assert np.nanmean(errors) == pytest.approx(score, abs=1e-3)
    assert np.isnan(np.diag(errors)).all()
    np.testing.assert_array_equal(errors, errors.T)


def test_shares_of_a_column_are_all_of_it_whatever_leaves_its_bounds() -> None:
    column = drawn_columns(rows("toy", "train", 10).schema)[0]
    values = np.array([column.low - 1, column.low, 0.0, column.high, column.high + 1])
    assert shares(values, column).sum() == pytest.approx(1)
    assert shares(values, column)[0] == pytest.approx(0.4)
    assert shares(values, column)[-1] == pytest.approx(0.4)


@pytest.mark.parametrize("layout", ["umaze", "medium", "large"])
def test_the_floor_plan_is_free_where_the_data_is(layout: str) -> None:
    plan = floor_plan(f"maze2d-{layout}")
    assert plan is not None
    x, y = rows(f"maze2d-{layout}", "train").observations[:, :2].T.astype(float)
    height, width = plan.free.shape
    i = np.rint((y - plan.y.low) / (plan.y.high - plan.y.low) * (height - 1)).astype(int)
    j = np.rint((x - plan.x.low) / (plan.x.high - plan.x.low) * (width - 1)).astype(int)
    assert plan.free[i, j].mean() > 0.995  # the grid rounds to a point beside a wall now and then
    assert 0.3 < plan.free.mean() < 0.9


@pytest.mark.parametrize("layout", ["umaze", "medium", "large"])
def test_the_floor_plan_has_an_outer_wall(layout: str) -> None:
    plan = floor_plan(f"maze2d-{layout}")
    assert plan is not None
    assert not plan.free[[0, -1]].any()
    assert not plan.free[:, [0, -1]].any()


def test_every_picture_that_is_drawn_from_real_rows_says_that_it_is_no_release(monkeypatch: pytest.MonkeyPatch) -> None:
    data = rows("maze2d-umaze", "holdout", 300)
    releases = Releases(data.schema, {HELD_OUT: data, "first": data}, (), (), ())
    pictures_of_rows = import_module("bench.report.pictures_of_rows")  # the package has a function of this name
    monkeypatch.setattr(pictures_of_rows, "read_releases", lambda section, most: releases)
    monkeypatch.setattr(pictures_of_rows, "tsne", lambda points: points[:, :2])
    section: Any = SimpleNamespace(group=SimpleNamespace(env="maze2d-umaze"))
    drawn = pictures_of_rows.pictures_of_rows(section)
    assert [picture.name for picture in drawn] == ["marginals", "pairs", "embedding", "positions", "trajectories"]
    assert all(picture.caption.endswith("it is no release.") for picture in drawn)


def test_only_what_has_walls_has_a_floor_plan() -> None:
    assert floor_plan("toy") is None


def test_trajectories_are_those_of_methods_that_release_some() -> None:
    """Which methods stand further down is said of the other pictures: whether those release trajectories is not known here."""
    data, plan = rows("maze2d-umaze", "holdout", 1_500), floor_plan("maze2d-umaze")
    assert plan is not None
    releases = Releases(data.schema, {HELD_OUT: data, "first": data, "second": data.rows(np.arange(100))}, (), (), ("third",))
    (picture,) = _trajectories(releases, plan)
    assert [panel.title for panel in picture.panels] == [HELD_OUT, "first"]
    assert "each method that is drawn here and releases them" in picture.caption
    assert "third" not in picture.caption


@pytest.fixture
def released(tmp_path: Path) -> Section:
    """Four methods on the toy, best first, with their rows."""
    made = HandMade(Store(tmp_path / "store"), heading={"env": "toy"})
    own = {name: array for name, array in vars(rows("toy", "holdout", 50)).items() if name not in ("schema", "trajectories")}
    for i, synth in enumerate(("first", "second", "third", "fourth")):
        made.row(synth, 1.0, one_way=[0.9 - i / 10])
        record = made.store.get(made.leaves[-1]["key"])
        assert record is not None
        made.store.put(replace(record, inputs={"holdout": "held-out", "sample": f"{synth}-rows"}))
        made.store.put(Record(f"{synth}-rows", "sample", "ok", None, {}, {}, {}, {}, True, {"sources": {}}), own)
    made.store.put(Record("held-out", "dataset", "ok", None, {}, {}, {}, {}, True, {"sources": {}}), own)
    made.store.put_sweep("sweep", made.manifest())
    return Evidence.read(made.store).sections[0]


def test_rows_that_are_not_drawn_are_named(released: Section) -> None:
    found = read_releases(released, 2)
    assert isinstance(found, Releases)
    assert list(found.rows) == [HELD_OUT, "first, ε = 1", "second, ε = 1"]
    assert found.left_out == ("third, ε = 1", "fourth, ε = 1")
    assert found.gone == ()


def test_what_is_gone_makes_room_for_the_next(released: Section) -> None:
    released.store.blob_path("first-rows").unlink()
    found = read_releases(released, 2)
    assert isinstance(found, Releases)
    assert list(found.rows) == [HELD_OUT, "second, ε = 1", "third, ε = 1"]
    assert found.left_out == ("fourth, ε = 1",)
    assert found.gone == ("first, ε = 1 (no longer in the store)",)


def test_of_a_large_release_the_first_whole_trajectories_are_read(released: Section, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fit into the limit, which bounds the memory of a report."""
    monkeypatch.setattr("bench.report.released.MOST_ROWS", 25)
    record = released.store.get("first-rows")
    assert record is not None
    released.store.put(record, {**released.store.arrays("first-rows"), "trajectories": np.array([0, 10, 20, 30, 50])})
    found = read_releases(released, 1)
    assert isinstance(found, Releases)
    assert found.rows["first, ε = 1"].require_trajectories().tolist() == [0, 10, 20]
