"""What several figures are made on: runs on digits, which need no data, and real MNIST where it lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from acceptance.report import NotMeasuredError, Place
from alharness.api.running import places_of
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.learner import Learner, LearnerSettings
from alharness.pool import ArrayPool
from alharness.records import RunFolder
from alharness.spec import RunSpec, bind, resolve


def run(wanted: RunSpec, root: Path, **options: Any) -> RunFolder:
    """A run below ``root``, with data where the environment says."""
    return execute(wanted, places_of(root, None), **options)


def digits(place: Place, strategy: str, device: str, **settings: Any) -> RunSpec:
    """Two queries on scikit-learn's digits."""
    few = {"steps": 20} if not place.dry else {"steps": 3, "width": 8, "batch_size": 8}
    return resolve(
        {
            "task": "digits-two",
            "strategy": strategy,
            "device": device,
            "seed": 1,
            "initial_size": 30,
            "query_size": 5,
            "budget": 40,
            "generator": few,
            "autoencoder": few,
            **settings,
        }
    )


def cnn(place: Place) -> dict[str, Any]:
    """Settings of a small convolutional classifier."""
    steps = place.size(200, 8)
    return {"kind": "strided-cnn", "width": place.size(32, 4), "min_steps": steps, "epochs": 1}


def course(folder: RunFolder) -> list[Any]:
    """All of a run that has to be equal to the bit."""
    return [
        (record.n_labelled, record.query.digest if record.query else None, record.test.model_dump())
        for record in folder.records()
    ]


def mnist(place: Place) -> str:
    """The task of the paper's figures, or digits for a dry run.

    Raises:
        NotMeasuredError: there is no MNIST.
    """
    if place.dry:
        return "digits-two"
    try:
        opened = bind({"task": "mnist-two", "strategy": "random", "device": "cuda"})
        from alharness.engine.opening import open_task

        open_task(opened, places_of(place.scratch, None))
    except UserError as error:
        where = os.environ.get("ALHARNESS_DATA", "ALHARNESS_DATA")
        raise NotMeasuredError(f"no real MNIST under {where}: {error}") from error
    return "mnist-two"


def noise(n: int, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """uint8 images ``[n, *shape]``, made on the device in parts."""
    items = torch.empty((n, *shape), dtype=torch.uint8, device=device)
    step = max(1, (1 << 28) // items[0].numel())
    for start in range(0, n, step):
        items[start : start + step].random_(0, 256)
    return items


def noise_pool(n: int, shape: tuple[int, ...], device: torch.device) -> ArrayPool:
    """A pool of noise on the device."""
    return ArrayPool(noise(n, shape, device), device, fingerprint="noise")


def fitted(pool: ArrayPool, settings: LearnerSettings, n_labelled: int) -> Learner:
    """A classifier trained on the pool's first items with alternating labels."""
    targets = torch.arange(n_labelled) % 2
    labelled = LabelledSet(torch.arange(n_labelled), targets, n_asked=n_labelled)
    learner = learner_factory(settings)(pool.item_shape, 2, pool.device)
    learner.fit(labelled, pool, seed=0)
    return learner
