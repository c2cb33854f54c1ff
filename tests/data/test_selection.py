"""What of a cache a task is: splits that begin anywhere, classes in any order, against plain loops."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alharness.errors import UserError
from alharness.tasks.selection import CachePart, select

#: Splits of the miniature; none that a task below uses begins at the cache's first image.
SPLITS = {
    "skipped": (0, 7),
    "train": (7, 40),
    "extra": (40, 60),
    "valid": (60, 63),
    "test": (63, 90),
}
N, N_CLASSES = 90, 5


@pytest.fixture
def cache() -> Any:
    """Images that say their own position, labels of five classes, three attributes."""
    rng = np.random.default_rng(0)
    positions = np.arange(N, dtype=np.uint8)
    return SimpleNamespace(
        split=lambda name: slice(*SPLITS[name]),
        images=np.broadcast_to(positions[:, None, None, None], (N, 1, 2, 2)),
        labels=rng.integers(N_CLASSES, size=N).astype(np.uint8),
        label_names=("a", "b", "c", "d", "e"),
        contents=np.arange(N, dtype=np.uint64),
        digest="digest",
        path=Path("mini"),
        partial=False,
        meta={"notes": {}, "pixel_max": 255},
    )


def wanted(cache: Any, part: range, classes: tuple[int, ...] | None) -> tuple[list[int], list[int]]:
    """Positions and targets, one image after another."""
    kept = [i for i in part if classes is None or int(cache.labels[i]) in classes]
    labels = [int(cache.labels[i]) for i in kept]
    return kept, labels if classes is None else [classes.index(label) for label in labels]


@pytest.mark.parametrize("classes", [None, (1, 3), (3, 1), (4, 0, 2)])
@pytest.mark.parametrize("limit", [None, 20, 40])
@pytest.mark.parametrize("pool", [["train"], ["train", "extra"], ["extra"]])
def test_images_and_targets_are_those_of_their_places(
    cache: Any, pool: list[str], limit: int | None, classes: tuple[int, ...] | None
) -> None:
    names = cache.label_names if classes is None else tuple(cache.label_names[c] for c in classes)
    part = CachePart(pool=pool, test="test", class_names=names, pool_limit=limit, classes=classes)
    data = select(cache, part)
    first, last = SPLITS[pool[0]][0], SPLITS[pool[-1]][1]
    whole = range(first, last if limit is None else min(last, first + limit))
    for images, targets, of in (
        (data.pool_images, data.pool_targets, whole),
        (data.test_images, data.test_targets, range(*SPLITS["test"])),
    ):
        positions, classes_there = wanted(cache, of, classes)
        assert images[:, 0, 0, 0].tolist() == positions
        assert targets.tolist() == classes_there
    assert data.class_names == names
    assert data.notes == {}


@pytest.mark.parametrize("attribute", ["hat", "hair", "glasses"])
def test_the_target_is_the_attributes_own_column(cache: Any, attribute: str) -> None:
    cache.label_names = ("hat", "hair", "glasses")
    cache.labels = np.random.default_rng(1).integers(2, size=(N, 3)).astype(np.uint8)
    part = CachePart(["train"], "test", ("without", "with"), attribute=attribute)
    column = cache.labels[:, cache.label_names.index(attribute)]
    data = select(cache, part)
    assert data.pool_targets.tolist() == column[7:40].tolist()
    assert data.test_targets.tolist() == column[63:90].tolist()


def test_images_of_the_test_set_that_are_in_the_pool_are_counted_there(cache: Any) -> None:
    """Each test image once, however often it is in the pool; not those of other splits or classes."""
    cache.contents[63] = cache.contents[64] = cache.contents[10]  # two of the test set
    cache.contents[11] = cache.contents[12] = cache.contents[
        65
    ]  # twice in the pool: one of the test set
    cache.contents[66] = cache.contents[3]  # in a split that nobody uses
    cache.contents[50] = cache.contents[67]  # in extra
    part = CachePart(["train"], "test", cache.label_names)
    data = select(cache, part)
    assert data.n_shared == 3
    assert data.notes["duplicates"] == "3 of 27 test images are in the pool too"
    both = select(cache, CachePart(["train", "extra"], "test", cache.label_names))
    assert both.n_shared == 4


def test_other_parts_are_other_data_and_equal_pools_one_pool(cache: Any) -> None:
    parts = {
        "all": CachePart(["train"], "test", cache.label_names),
        "two": CachePart(["train"], "test", ("b", "d"), classes=(1, 3)),
        "fewer": CachePart(["train"], "test", cache.label_names, pool_limit=20),
        "more": CachePart(["train", "extra"], "test", cache.label_names),
        "valid": CachePart(["train"], "valid", cache.label_names),
    }
    found = {name: part.fingerprints(cache) for name, part in parts.items()}
    assert len({whole for whole, _ in found.values()}) == len(parts)
    assert found["valid"][1] == found["all"][1]  # the same images are asked about
    assert len({pool for name, (_, pool) in found.items() if name != "valid"}) == len(parts) - 1


def test_a_class_that_the_pool_has_not_is_said(cache: Any) -> None:
    cache.labels = np.where(cache.labels == 3, 1, cache.labels)
    with pytest.raises(UserError, match="Class 'd' has no image in the pool of mini"):
        select(cache, CachePart(["train"], "test", ("b", "d"), classes=(1, 3)))
