"""A sheet of images says what its captions mean."""

from __future__ import annotations

import numpy as np

from alharness.engine.pictures import MATCHES_LEGEND
from alharness.pictures.sheets import Row, contact_sheet


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
