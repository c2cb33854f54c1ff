"""One view of the embedded digits before a network with dropout, for our strategies and published ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from sklearn.datasets import load_digits

from alharness.availability import Availability
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.learner import Learner, LearnerSettings
from alharness.pool import ArrayPool
from alharness.strategy import CycleView

N = 300


@cache
def _scene(n_labelled: int) -> tuple[ArrayPool, LabelledSet, Learner]:
    values, classes = load_digits(return_X_y=True)
    images = (values[:N] * 15).astype("uint8").reshape(N, 1, 8, 8)
    pool = ArrayPool(images, device="cpu")
    indices = torch.arange(n_labelled)
    labelled = LabelledSet(indices, torch.from_numpy(classes[:n_labelled]))
    settings = LearnerSettings(kind="mlp", dropout=0.3, min_steps=60)
    learner = learner_factory(settings)(pool.item_shape, 10, pool.device)
    learner.fit(labelled, pool, seed=0)
    return pool, labelled, learner


@pytest.fixture
def view() -> Callable[[int], CycleView]:
    """The view of a cycle with so many labels, fresh."""

    def make(n_labelled: int = 40, cycle: int = 0) -> CycleView:
        pool, labelled, learner = _scene(n_labelled)
        return CycleView(
            pool=pool,
            labelled=labelled,
            learner=learner,
            n_classes=10,
            cycle=cycle,
            seed=0,
            available=Availability(pool.n, labelled.indices),
        )

    return make
