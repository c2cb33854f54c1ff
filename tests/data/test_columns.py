"""A table's columns as numbers, against plain arithmetic: scaled on the pool, constant, vectors."""

from __future__ import annotations

import numpy as np
import pandas
import pytest

from alharness.errors import UserError
from alharness.tasks import columns

POOL = np.array([True, True, False, True, True, False])


def scaled(values: list[float]) -> tuple[list[float], str]:
    column = pandas.Series(values, name="x")
    found = columns.encoded(column, POOL, "t.csv", as_category=False)
    return found.values[:, 0].tolist(), found.said


def test_a_number_is_scaled_by_mean_and_deviation_of_the_pool_alone() -> None:
    values = [1.0, 2.0, 70.0, 4.0, 9.0, -5.0]
    pool = [1.0, 2.0, 4.0, 9.0]
    mean = sum(pool) / 4
    deviation = (sum((value - mean) ** 2 for value in pool) / 4) ** 0.5
    found, said = scaled(values)
    assert found == pytest.approx([(value - mean) / deviation for value in values])
    assert said == "number"


@pytest.mark.parametrize("size", [1.0, 1e9, 1e-12, -3e5])
def test_what_differs_by_rounding_alone_is_constant_and_what_differs_by_more_is_not(
    size: float,
) -> None:
    """Dividing by a deviation that is rounding would make noise of it: 8 units of the last place."""
    unit = abs(size) * np.finfo(np.float64).eps
    found, said = scaled([size, size + 4 * unit, 7.0 * size, size, size, size])
    assert (found, said) == ([0.0] * 6, "constant")
    found, said = scaled([size, size + 64 * unit, size, size, size, size])
    assert said == "number"
    assert found[1] > 1


def test_one_value_in_the_pool_says_nothing_of_the_test_set() -> None:
    assert scaled([3.0, 3.0, 8.0, 3.0, 3.0, -1.0]) == ([0.0] * 6, "constant")


def test_each_place_of_a_vector_is_scaled_as_a_column_is() -> None:
    rows = np.array([[1.0, 5.0, 2.0], [2.0, 5.0, 2.5], [9.0, 6.0, 0.0], [4.0, 5.0, 1.0], [9.0, 5.0, 7.0],
                     [0.0, 7.0, 3.0]])  # fmt: skip
    column = pandas.Series(list(rows), name="v")
    found = columns.encoded(column, POOL, "t.parquet", as_category=False)
    single = [scaled(rows[:, place].tolist())[0] for place in range(3)]
    assert found.values.T.tolist() == [pytest.approx(values) for values in single]
    assert single[1] == [0.0] * 6
    assert found.said == "vector of 3"


@pytest.mark.parametrize("at", range(3))
def test_an_infinite_number_and_a_gap_of_a_vector_are_named_by_their_row(at: int) -> None:
    pool = np.ones(3, bool)
    values = np.array([1.0, 2.0, 3.0])
    values[at] = np.inf
    with pytest.raises(UserError, match=f"infinite in row {at + 1}"):
        columns.encoded(pandas.Series(values, name="x"), pool, "t.csv", as_category=False)
    rows = np.ones((3, 2))
    rows[at, 1] = np.nan
    with pytest.raises(UserError, match=f"a gap in row {at + 1}"):
        columns.encoded(pandas.Series(list(rows), name="v"), pool, "t.csv", as_category=False)
