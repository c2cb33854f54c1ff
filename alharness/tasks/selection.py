"""A task's data out of its data set's cache: which splits, which classes, which attribute."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alharness.lazily import numpy as np
from alharness.progress import Progress, silent
from alharness.tasks.base import DataLocations, TaskData, TaskPlugin
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.dataset import check_targets
from alharness.tasks.settings import DefaultRows
from alharness.tasks.soundness import shared_note

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class CachePart:
    """Which items of a cache make a task, and what their classes are.

    Attributes:
        pool: split (or splits that follow each other) that the pool comes from.
        test: split that the test set is.
        pool_limit: only the first so many items of the pool's split.
        classes: labels to keep, in the order of the task's classes; all by default.
        attribute: for caches with attributes, the one that is the target.
        class_names: names of the task's classes.
        blanks: whether items of the pool may have no class, and classes no item.
    """

    pool: Sequence[str]
    test: str
    class_names: tuple[str, ...]
    pool_limit: int | None = None
    classes: tuple[int, ...] | None = None
    attribute: str | None = None
    blanks: bool = False

    def pool_slice(self, cache: ImageCache) -> slice:
        """The pool's items before classes are chosen, as positions in the cache."""
        start = cache.split(self.pool[0]).start
        stop = cache.split(self.pool[-1]).stop
        return slice(start, stop if self.pool_limit is None else min(stop, start + self.pool_limit))

    def fingerprints(self, cache: ImageCache) -> tuple[str, str]:
        """Of the task's data, and of the pool's images: from the cache's digest, nothing is read."""
        pool = self.pool_slice(cache)
        pool_facts = (cache.digest, pool.start, pool.stop, self.classes)
        return _short(repr((*pool_facts, self.test, self.attribute))), _short(repr(pool_facts))


class CachedTask(DefaultRows, TaskPlugin):
    """A task whose images come from a cache: it says which cache, and what of it."""

    def open_cache(self, locations: DataLocations, progress: Progress = silent) -> ImageCache:
        """The cache, converted first where it is not there or not of the present originals.

        Raises:
            UserError: originals missing or bad.
        """
        assert self.dataset is not None, "a task without a data set says how its cache is opened"
        return self.dataset.prepare(locations, progress)

    @abstractmethod
    def selection(self, cache: ImageCache) -> CachePart:
        """What of the cache this task is."""

    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        cache = self.open_cache(locations, progress)
        return select(cache, self.selection(cache))

    def fingerprint(self, locations: DataLocations, progress: Progress = silent) -> str:
        cache = self.open_cache(locations, progress)
        return self.selection(cache).fingerprints(cache)[0]


def select(cache: ImageCache, selection: CachePart) -> TaskData:
    """A task's data out of its data set's cache.

    All classes of whole splits stay memory-mapped views; a choice of classes is copied into memory.

    Raises:
        UserError: a class without images, or a label outside the classes.
    """
    labels = cache.labels
    if selection.attribute is not None:
        labels = labels[:, cache.label_names.index(selection.attribute)]
    labels = labels.astype(np.int64)
    pool, pool_targets = _part(labels, selection.pool_slice(cache), selection)
    test, test_targets = _part(labels, cache.split(selection.test), selection)
    cure = f"Convert the complete data set: 'alharness data prepare {cache.path.name} --rebuild'."
    if not selection.blanks:
        check_targets(pool_targets, selection.class_names, f"the pool of {cache.path.name}", cure)
    notes = dict(cache.meta["notes"])
    if cache.partial:
        what = notes.get("partial", "not the complete data set")
        notes["partial"] = f"{len(cache.images):,} images: {what}"
    # By sorting: NumPy 2.0's table of small ranges overflows on unsigned numbers as large as digests.
    n_shared = int(np.isin(cache.contents[test], cache.contents[pool], kind="sort").sum())
    notes |= shared_note(n_shared, len(test_targets), "images")
    fingerprint, pool_fingerprint = selection.fingerprints(cache)
    return TaskData(
        pool_images=_images(cache, pool),
        pool_targets=pool_targets,
        test_images=_images(cache, test),
        test_targets=test_targets,
        class_names=selection.class_names,
        fingerprint=fingerprint,
        pool_fingerprint=pool_fingerprint,
        pixel_max=int(cache.meta["pixel_max"]),
        synthetic=bool(notes.get("synthetic")),
        notes=notes,
        n_shared=n_shared,
    )


def _part(
    labels: NDArray[np.int64], part: slice, selection: CachePart
) -> tuple[slice | NDArray[np.int64], NDArray[np.int64]]:
    """Positions in the cache and targets of one split."""
    targets = labels[part]
    if selection.classes is None:
        return part, targets
    keep = np.flatnonzero(np.isin(targets, selection.classes))
    # The data set's numbers of classes -> the task's, in the order in which it names them.
    order = np.full(max(int(targets.max(initial=0)), *selection.classes) + 1, -1)
    order[list(selection.classes)] = range(len(selection.classes))
    return keep + part.start, order[targets[keep]].astype(np.int64)


def _images(cache: ImageCache, part: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
    images = cache.images[part]
    return images if isinstance(part, slice) else np.ascontiguousarray(images)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
