"""A sheet of images says what its captions mean."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from alharness.engine.pictures import MATCHES_LEGEND
from alharness.oracle.answers import Choices
from alharness.oracle.sheet import Sheet
from alharness.pictures.sheets import Row, contact_sheet


@pytest.mark.parametrize(
    ("kind", "shape", "told"),
    [
        ("lines", (2, 3, 1, 8, 8), [("line 1", 3, ["1", "2", "3"]), ("line 2", 3, ["1", "2", "3"])]),
        ("items", (12, 1, 8, 8), [("1 ...", 10, [str(i) for i in range(1, 11)]),
                                  ("11 ...", 2, [str(i) for i in range(11, 21)])]),
        ("items", (3, 5), []),  # rows of a table have no pictures
    ],
)  # fmt: skip
def test_pictures_have_the_numbers_by_which_they_are_answered(
    kind: str, shape: tuple[int, ...], told: list[tuple[str, int, list[str]]]
) -> None:
    question: Any = SimpleNamespace(kind=kind)
    rows = Sheet(Path("nowhere"), question, Choices(["a", "b"]))._pictures(torch.zeros(shape))
    assert [(row.title, len(row.images), list(row.captions)) for row in rows] == told


def test_a_legend_is_written_below_the_rows_and_cut_nowhere() -> None:
    rows = [Row("match", [np.zeros((1, 8, 8), np.uint8)] * 2, ["H 0.42  5", "H 0.60  7"])]
    bare, told = contact_sheet(rows), contact_sheet(rows, MATCHES_LEGEND)
    assert told.width == bare.width
    assert told.height >= bare.height + 3 * 16  # two tiles are narrow: several lines
    assert np.array_equal(np.asarray(told)[: bare.height - 8], np.asarray(bare)[:-8])
    below = np.asarray(told.convert("L"))[bare.height - 6 :]
    assert (below < 128).any()
    assert (below[:, -2:] > 128).all()  # no letter runs over the edge
    assert "H: entropy" in MATCHES_LEGEND
