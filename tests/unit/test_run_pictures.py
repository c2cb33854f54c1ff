"""What stands in the pictures of a run: images, entropies and labels of the very items, from its log."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alharness.engine import pictures
from alharness.engine.pictures import N_COLUMNS, N_CYCLES
from alharness.pool import ArrayPool
from alharness.records import INITIAL, QueryLog

#: Item i is an image of the value i alone.
POOL = ArrayPool(
    np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None, None], (60, 1, 4, 4)).copy()
)
DATA: Any = SimpleNamespace(class_names=("zero", "one"))


def image(value: int) -> np.ndarray:
    return np.full((1, 4, 4), value, np.uint8)


def log_of(n_cycles: int, rows: Any) -> QueryLog:
    log = QueryLog()
    log.add(
        INITIAL, {"asked": np.arange(3), "indices": np.arange(3), "targets": np.zeros(3, np.int64)}
    )
    for cycle in range(n_cycles):
        log.add(cycle, rows(cycle))
    return log


def test_a_match_stands_below_its_synthetic_image_with_its_own_label() -> None:
    """The second of four items was rejected: those behind it keep their labels."""
    rows = {
        "asked": np.array([9, 7, 5, 3]),
        "entropy": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
        "indices": np.array([9, 5, 3]),
        "targets": np.array([0, 1, 0]),
        "array.synthetic": np.stack([image(200 + i) for i in range(4)]),
        "array.synthetic_entropy": np.array([0.61, 0.62, 0.63, 0.64]),
    }
    above, below = pictures._match_rows(log_of(1, lambda cycle: rows), POOL, DATA)
    assert (above.title, below.title) == ("cycle 0\nsynthetic", "match")
    assert [int(shown[0, 0, 0]) for shown in above.images] == [200, 201, 202, 203]
    assert [int(shown[0, 0, 0]) for shown in below.images] == [9, 7, 5, 3]
    assert list(above.captions) == ["H 0.61", "H 0.62", "H 0.63", "H 0.64"]
    assert list(below.captions) == [
        "H 0.10  zero",
        "H 0.20  no label",
        "H 0.30  one",
        "H 0.40  zero",
    ]


@pytest.mark.parametrize(
    ("n_cycles", "shown"),
    [(1, [0]), (6, [0, 1, 2, 3, 4, 5]), (11, [0, 2, 4, 6, 8, 10]), (7, [0, 1, 2, 4, 5, 6])],
)
def test_the_first_and_the_last_cycle_are_shown(n_cycles: int, shown: list[int]) -> None:
    log = log_of(n_cycles, lambda cycle: {"array.lines": np.zeros((1, 2, 1, 4, 4), np.uint8)})
    assert pictures._shown(log, "array.lines") == shown
    assert len(shown) <= N_CYCLES


def test_synthetic_items_have_the_labels_that_came_back() -> None:
    n = N_COLUMNS + 2
    items = np.stack([image(0).astype(np.float32) + i / 255 for i in range(n)])
    targets = np.arange(n) % 2
    (row,) = pictures._synthetic_rows(
        log_of(1, lambda cycle: {"items": items, "item_targets": targets}), DATA
    )
    assert [int(shown[0, 0, 0]) for shown in row.images] == list(range(N_COLUMNS))
    assert list(row.captions) == ["zero", "one"] * (N_COLUMNS // 2)


@pytest.mark.parametrize(
    ("item_targets", "captions"),
    [
        ([0, 0, 1, 1, 1, 1], ["zero", "zero", "one"]),  # both lines of three points
        ([1, 1, 1], ["1", "2", "3"]),  # one of two was rejected: nobody knows which
        (None, ["1", "2", "3"]),
    ],
)
def test_a_line_has_the_labels_of_its_points_where_all_were_labelled(
    item_targets: list[int] | None, captions: list[str]
) -> None:
    lines = np.stack([np.stack([image(10 * q + p) for p in range(3)]) for q in (1, 2)])
    rows: dict[str, Any] = {"asked": np.array([4, 5]), "array.lines": lines}
    if item_targets is not None:
        rows["item_targets"] = np.array(item_targets)
    first, second = pictures._line_rows(log_of(2, lambda cycle: rows), DATA)
    assert (first.title, second.title) == ("cycle 0", "cycle 1")
    assert [int(shown[0, 0, 0]) for shown in first.images] == [10, 11, 12]
    assert list(first.captions) == captions
