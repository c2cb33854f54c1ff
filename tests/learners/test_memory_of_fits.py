"""A fit keeps nothing of its steps, however many there are."""

from __future__ import annotations

import gc
from itertools import count
from typing import Any

import psutil
import pytest
import torch

from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.learner import LearnerSettings
from alharness.learners.network import NetworkLearner
from alharness.pool import ArrayPool


def fit(steps: int, n: int, shape: tuple[int, ...], **recipe: Any) -> None:
    settings = LearnerSettings(min_steps=steps, epochs=1, batch_size=50, **recipe)
    pool = ArrayPool(torch.zeros(n, *shape, dtype=torch.uint8))
    learner = learner_factory(settings)(shape, 2, torch.device("cpu"))
    labelled = LabelledSet(torch.arange(n), torch.arange(n) % 2, n_asked=n)
    assert learner.fit(labelled, pool, seed=0).steps == steps


def test_no_tensor_of_a_step_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = []
    steps = count()

    def counting(function: Any) -> Any:
        def loss(*given: Any) -> Any:
            if next(steps) in (4, 29):  # there are a million objects to be looked at
                things = gc.get_objects()
                alive.append(sum(issubclass(type(thing), torch.Tensor) for thing in things))
            return function(*given)

        return loss

    monkeypatch.setattr(NetworkLearner, "loss", counting(NetworkLearner.loss))
    gc.collect()  # what others left behind is not to go in the middle
    fit(30, 60, (1, 8, 8), kind="mlp", width=4)
    early, late = alive
    assert late <= early


@pytest.mark.slow
def test_memory_does_not_grow_with_the_steps_of_a_fit() -> None:
    process = psutil.Process()
    found = []
    for steps in (200, 2000):
        fit(steps, 1000, (1, 28, 28), kind="mnist-cnn")
        found.append(process.memory_info().rss)
    print(f"{(found[1] - found[0]) / 1e6:.0f} MB more after 1,800 more steps")
    assert found[1] - found[0] < 60e6  # 100 MB where a tensor was kept from each step
