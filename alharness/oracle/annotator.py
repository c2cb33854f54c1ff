"""The network that stands in for a human annotator of synthetic images (decisions 3).

Trained once on all labelled training data of a task, which no strategy may see; its own test accuracy
is part of the artefact and of the run's ledger, because a GAAL curve can be no better than its labels.

Shape letters: B images, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from alharness import seeds
from alharness.artefacts import Artefact, Maker, Supply, write_tensors
from alharness.lazily import numpy as np
from alharness.learners.kinds import build_classifier
from alharness.learners.training import adam, descend_through, epochs_of
from alharness.pool import Pool
from alharness.progress import Progress
from alharness.tasks.base import TaskData

if TYPE_CHECKING:
    from numpy.typing import NDArray

KIND = "annotator"
WEIGHTS = "annotator.safetensors"
BATCH_SIZE = 64
LR = 1e-3
#: Fewest optimiser steps, for small tasks.
MIN_STEPS = 300
#: Images that the annotator looks at at once.
BLOCK = 512


class NetworkAnnotator:
    """A trained network in evaluation mode.

    Attributes:
        test_accuracy: on the task's test set: what its labels are worth.
        artefact_key: its name in the store.
    """

    def __init__(
        self, network: nn.Module, device: torch.device, test_accuracy: float, artefact_key: str
    ) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.device = device
        self.test_accuracy = test_accuracy
        self.artefact_key = artefact_key

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """Class probabilities, float32 ``[B, C]`` on the CPU, of images ``[B, ...]`` in [0, 1]."""
        parts = [
            functional.softmax(self.network(part.to(self.device)), dim=1).cpu()
            for part in images.split(BLOCK)
        ]
        return torch.cat(parts)


def obtain_annotator(
    data: TaskData, pool: Pool, test: Pool, supply: Supply, *, kind: str, epochs: int
) -> NetworkAnnotator:
    """The task's annotator: loaded, or trained on the whole pool with its targets.

    Args:
        kind: a network of ``learners.networks``, or ``auto``: by the size of the images.
        epochs: passes over the pool.

    Raises:
        UserError: a network that does not exist or does not fit, or a damaged artefact.
    """
    if kind == "auto":
        kind = network_for(pool.item_shape)
    return supply.obtain(AnnotatorMaker(data, pool, test, kind, epochs))


@dataclass(frozen=True)
class AnnotatorMaker(Maker[NetworkAnnotator]):
    """A task's annotator: a network, trained on all of the pool and tested on the task's test set."""

    kind = KIND

    data: TaskData
    pool: Pool
    test: Pool
    network: str
    epochs: int

    @property
    def width(self) -> int:
        return {"all-cnn": 96, "strided-cnn": 32}.get(self.network, 128)

    def identity(self) -> dict[str, Any]:
        recipe = {
            "kind": self.network,
            "width": self.width,
            "epochs": self.epochs,
            "batch_size": BATCH_SIZE,
            "lr": LR,
            "min_steps": MIN_STEPS,
        }
        return {"task_fingerprint": self.data.fingerprint, "recipe": recipe}

    def fresh(self) -> nn.Module:
        """The network with initial weights from torch's random state."""
        return build_classifier(self.network, self.pool.item_shape, self.data.n_classes, self.width)

    def build(self, folder: Path, progress: Progress) -> dict[str, Any]:
        device = self.pool.device
        # Built in the middle of a run, whose random numbers must not move by it.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seeds.derive(0, "annotator"))  # initial weights and dropout
            network = self.fresh().to(device)
            train(network, self.pool, self.data.pool_targets, self.epochs, progress)
        write_tensors(folder / WEIGHTS, network.state_dict())
        right = accuracy(network, self.test, self.data.test_targets)
        return {"test_accuracy": right, "n_images": self.pool.n}

    def load(self, artefact: Artefact) -> NetworkAnnotator:
        with torch.random.fork_rng(devices=[]):  # the initial weights are thrown away
            network = self.fresh()
        network.load_state_dict(artefact.tensors(WEIGHTS))
        test_accuracy = float(artefact.details["test_accuracy"])
        return NetworkAnnotator(network, self.pool.device, test_accuracy, artefact.key)

    def details(self, loaded: NetworkAnnotator, artefact: Artefact) -> Mapping[str, Any]:
        return {"kind": self.network, "test_accuracy": loaded.test_accuracy}


def network_for(item_shape: tuple[int, ...]) -> str:
    """The annotator's network by the size of the images.

    Not the paper's classifier for 32x32 (``all-cnn``, made for hundreds of epochs): after five epochs
    it is right in 69 % of cifar10-two's test images (nine minutes on a CPU core), ``strided-cnn``
    in 95 % (half a minute).
    """
    size = max(item_shape[1:]) if len(item_shape) == 3 else 0
    if size < 16:
        return "mlp"
    return "mnist-cnn" if size <= 28 else "strided-cnn"


def train(
    network: nn.Module,
    pool: Pool,
    targets: NDArray[np.int64] | torch.Tensor,
    epochs: int,
    progress: Progress,
) -> None:
    """Cross-entropy by Adam with a step size that falls to zero; leaves evaluation mode.

    Unlike a learner's fit, batches are gathered from the pool: this training set is all of it.
    """
    of_item = torch.as_tensor(targets, dtype=torch.int64)
    n = pool.n
    batch_size = min(BATCH_SIZE, n)
    per_epoch = math.ceil(n / batch_size)
    steps = max(MIN_STEPS, epochs * per_epoch)
    optimiser = adam(network.parameters(), LR, pool.device)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    batches = epochs_of(n, batch_size, seeds.torch_rng(0, "annotator", "order"))

    def drawn(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        batch = next(batches)
        return pool.gather(batch), of_item[batch].to(pool.device)

    def loss_of(items: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(network(items), answers)

    network.train()
    for step, loss in descend_through(optimiser, drawn, loss_of, steps, falling):
        if step % 20 == 0 or step == steps - 1:
            progress("train annotator", step + 1, steps, {"loss": float(loss)})
    network.eval()


def accuracy(network: nn.Module, pool: Pool, targets: NDArray[np.int64] | torch.Tensor) -> float:
    """Share of a pool's items that the network classifies as ``targets`` say."""
    of_item = torch.as_tensor(targets, dtype=torch.int64)
    hits = 0
    with torch.no_grad():
        for indices, images in pool.blocks():
            hits += int((network(images).argmax(dim=1).cpu() == of_item[indices]).sum())
    return hits / pool.n
