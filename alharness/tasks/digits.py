"""scikit-learn's digits: 1,797 real handwritten digits of 8x8 pixels, shipped with scikit-learn.

Small enough for tests and first steps: nothing is fetched, a run takes seconds.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from alharness import seeds
from alharness.lazily import numpy as np
from alharness.pool import digest
from alharness.progress import Progress, silent
from alharness.tasks.base import DataLocations, TaskData, TaskPlugin
from alharness.tasks.settings import DefaultRows, row

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Where ``alharness list`` shows it.
FAMILY = "At hand (nothing to fetch)"

#: The split is a fact of the task, not of a run: it never follows the run's seed.
SPLIT_SEED = 20200302
#: Pool and test: two thirds and one third of each class.
TEST_FRACTION = 1 / 3


class _Digits(DefaultRows, TaskPlugin):
    """What the two tasks share."""

    source = (
        "scikit-learn's load_digits (UCI optical recognition of handwritten digits): no download"
    )
    classes: ClassVar[tuple[int, ...]]

    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        rows = _rows()
        images = rows[:, :-1].reshape(-1, 1, 8, 8)  # values 0 .. 16
        labels = rows[:, -1].astype(np.int64)
        pool_parts, test_parts = [], []
        for number, label in enumerate(self.classes):
            members = np.flatnonzero(labels == label)
            shuffled = seeds.rng(SPLIT_SEED, "digits", label).permutation(members)
            n_test = round(len(members) * TEST_FRACTION)
            test_parts.append(np.stack([shuffled[:n_test], np.full(n_test, number)]))
            n_pool = len(members) - n_test
            pool_parts.append(np.stack([shuffled[n_test:], np.full(n_pool, number)]))
        # In the data set's own order: a pool must not be sorted by class.
        pool = _by_position(np.concatenate(pool_parts, axis=1))
        test = _by_position(np.concatenate(test_parts, axis=1))
        return TaskData(
            pool_images=images[pool[0]],
            pool_targets=pool[1],
            test_images=images[test[0]],
            test_targets=test[1],
            class_names=tuple(str(label) for label in self.classes),
            fingerprint=digest(images[pool[0]], pool[1], images[test[0]], test[1]),
            pool_fingerprint=digest(images[pool[0]]),
            pixel_max=16,
            notes={"source": "scikit-learn load_digits", "split": "fixed, stratified, 2/3 to 1/3"},
        )


def _rows() -> NDArray[np.uint8]:
    """64 values of an image and its class in each row, ``[1797, 65]``, out of scikit-learn's own file.

    Read without importing scikit-learn, whose import takes as long as such a run.
    """
    found = importlib.util.find_spec("sklearn")
    if found is not None and found.origin is not None:
        file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, delimiter=",", dtype=np.uint8)
    from sklearn.datasets import load_digits  # a version that keeps them elsewhere

    data, targets = load_digits(return_X_y=True)
    return np.column_stack([data, targets]).astype(np.uint8)


def _by_position(pairs: np.ndarray) -> np.ndarray:
    return pairs[:, np.argsort(pairs[0])]


class DigitsTwo(_Digits):
    """Handwritten 5 against 7 at 8x8 pixels, shipped with scikit-learn: a run in seconds."""

    classes = (5, 7)
    problem = (1, 8, 8), 2
    # Not in the paper: its MNIST-two protocol, scaled to a pool of 240.
    paper = quick = row(100, 10, 20, kind="linear")


class DigitsTen(_Digits):
    """All ten handwritten digits at 8x8 pixels, shipped with scikit-learn: a run in seconds."""

    classes = tuple(range(10))
    problem = (1, 8, 8), 10
    # Not in the paper: its MNIST-ten protocol, scaled to a pool of 1,198.
    paper = quick = row(300, 20, 40, kind="mlp", width=64, lr=3e-3, min_steps=300, epochs=20)
