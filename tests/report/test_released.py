"""What is drawn of rows: the very numbers of the metrics, and the walls where they stand."""

from __future__ import annotations

import numpy as np
import pytest

from bench.core.registry import resolve
from bench.report.released import drawn_columns, floor_plan, pairwise_errors, shares, table_of


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


def test_only_what_has_walls_has_a_floor_plan() -> None:
    assert floor_plan("toy") is None
