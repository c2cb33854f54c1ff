"""A task's data out of its data set's cache: which splits, which classes, which attribute."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alharness.tasks.base import TaskData
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.dataset import check_targets


@dataclass(frozen=True)
class Selection:
    """Which items of a cache make a task, and what their classes are.

    Attributes:
        pool: split (or splits that follow each other) that the pool comes from.
        test: split that the test set is.
        pool_limit: only the first so many items of the pool's split.
        classes: labels to keep, in the order of the task's classes; all by default.
        attribute: for caches with attributes, the one that is the target.
        class_names: names of the task's classes.
    """

    pool: Sequence[str]
    test: str
    class_names: tuple[str, ...]
    pool_limit: int | None = None
    classes: tuple[int, ...] | None = None
    attribute: str | None = None


def select(cache: ImageCache, selection: Selection) -> TaskData:
    """A task's data out of its data set's cache.

    All classes of whole splits stay memory-mapped views; a choice of classes is copied into memory.

    Raises:
        UserError: a class without images, or a label outside the classes.
    """
    labels = cache.labels
    if selection.attribute is not None:
        labels = labels[:, cache.label_names.index(selection.attribute)]
    labels = labels.astype(np.int64)
    start = cache.split(selection.pool[0]).start
    stop = cache.split(selection.pool[-1]).stop
    if selection.pool_limit is not None:
        stop = min(stop, start + selection.pool_limit)
    pool_images, pool_targets = _part(cache, labels, slice(start, stop), selection)
    test_images, test_targets = _part(cache, labels, cache.split(selection.test), selection)
    cure = f"Convert the complete data set: 'alharness data prepare {cache.path.name} --rebuild'."
    where = f"the pool of {cache.path.name}"
    check_targets(pool_targets, selection.class_names, where, cure)
    notes = dict(cache.meta["notes"])
    if cache.partial:
        notes["partial"] = f"{len(cache.images):,} images: not the complete data set"
    pool_facts = (cache.digest, start, stop, selection.classes)
    task_facts = (*pool_facts, selection.test, selection.attribute)
    return TaskData(
        pool_images=pool_images,
        pool_targets=pool_targets,
        test_images=test_images,
        test_targets=test_targets,
        class_names=selection.class_names,
        fingerprint=_short(repr(task_facts)),
        pool_fingerprint=_short(repr(pool_facts)),
        pixel_max=int(cache.meta["pixel_max"]),
        synthetic=bool(notes.get("synthetic")),
        notes=notes,
    )


def _part(
    cache: ImageCache, labels: NDArray[np.int64], part: slice, selection: Selection
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images and targets of one split."""
    images, targets = cache.images[part], labels[part]
    if selection.classes is None:
        return images, targets
    keep = np.isin(targets, selection.classes)
    order = np.full(max(int(targets.max(initial=0)), *selection.classes) + 1, -1)
    order[list(selection.classes)] = range(len(selection.classes))
    return np.ascontiguousarray(images[keep]), order[targets[keep]].astype(np.int64)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
