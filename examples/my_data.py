"""A data set of one's own: uint8 images and their classes, as a task.

    alharness run --strategy margin --dataset ./examples/my_data.py:Shapes

Folders of images need no code at all: ``--dataset folder:PATH`` (see ``alharness show folder``).
"""

from __future__ import annotations

import numpy as np

from alharness import seeds
from alharness.learners.learner import LearnerSettings
from alharness.pool import digest
from alharness.progress import Progress, silent
from alharness.tasks.base import DataLocations, Profile, TaskData, TaskDefaults, TaskPlugin

SIDE = 12


def draw(n: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """Noisy discs and rings: uint8 ``[n, 1, 12, 12]`` and classes int64 ``[n]``.

    Put the loading of your own arrays here. Whatever is random follows from a seed of the task, never
    from the run's: the data are the same for every run.
    """
    rng = seeds.rng(0, "shapes", purpose)
    targets = rng.integers(2, size=n)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    centre = rng.uniform(4.5, SIDE - 5.5, size=(2, n, 1, 1))
    distance = np.hypot(rows - centre[0], columns - centre[1])
    hole = np.where(targets == 1, 2.0, 0.0)[:, None, None]
    shown = (distance <= 4) & (distance >= hole)
    images = np.clip(120 * shown + rng.normal(60, 60, size=shown.shape), 0, 255)
    return images[:, None].astype(np.uint8), targets.astype(np.int64)


class Shapes(TaskPlugin):
    """Discs against rings, drawn: 400 to choose from, 200 to test on."""

    source = "drawn by this file: no download"

    def defaults(self, profile: Profile) -> TaskDefaults:
        learner = LearnerSettings(kind="mlp", width=32, lr=3e-3, min_steps=100, epochs=20)
        return TaskDefaults(budget=60, query_size=10, initial_size=20, learner=learner)

    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        pool, pool_targets = draw(400, "pool")
        test, test_targets = draw(200, "test")
        return TaskData(
            pool_images=pool,
            pool_targets=pool_targets,  # the runner hands them to the oracle and to nobody else
            test_images=test,
            test_targets=test_targets,
            class_names=("disc", "ring"),
            fingerprint=digest(pool, pool_targets, test, test_targets),
            pool_fingerprint=digest(pool),
            synthetic=True,
        )
