"""A frozen backbone: features of all items, computed once, on which a linear head is trained.

J. Zhang et al., "LabelBench: A Comprehensive Framework for Benchmarking Adaptive Label-Efficient Learning",
2023: with pretrained features a cycle takes milliseconds. The problem moves from images to rows of
features, for the classifier and for the strategy alike; pictures and annotators keep the images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alharness import seeds
from alharness.artefacts import Artefact, Maker, Supply, write_tensors
from alharness.errors import UserError
from alharness.learners.headed import HeadedNetwork
from alharness.learners.kinds import Kind, NetworkKind, kind_of
from alharness.learners.network import NetworkLearner
from alharness.learners.settings import LearnerSettings
from alharness.pool import ArrayPool, Pool
from alharness.progress import Progress

KIND = "embeddings"
FILE = "embeddings.safetensors"


def embed(
    settings: LearnerSettings,
    pool: Pool,
    test: Pool,
    n_classes: int,
    supply: Supply,
    kind: Kind | None = None,
) -> tuple[Pool, Pool]:
    """Pool and test set as rows of the frozen network's features, float32 ``[N, D]``.

    An artefact of the items and the network's weights, shared by all strategies, seeds and tasks that
    have both in common; its cost is in the ledger.

    Args:
        settings: with ``freeze``.
        pool, test: items as the network sees them.
        n_classes: of the task; the features do not depend on it.
        supply: where the features are kept, and who is told.
        kind: the network that the settings name, where it was found already.

    Raises:
        UserError: a network without pretrained weights, or one that does not fit the items.
    """
    found = kind or kind_of(settings)
    assert isinstance(found, NetworkKind)  # no other kind takes learner.freeze
    if not settings.weights and not found.identity():
        raise UserError(
            f"learner.freeze needs pretrained weights: '{settings.kind}' starts at random. Set "
            "learner.weights to a file, or leave learner.freeze out."
        )
    learner = NetworkLearner(pool.item_shape, n_classes, pool.device, settings, kind=found)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(0, "frozen"))  # only the head, which is thrown away
        learner.network = learner.build().eval().requires_grad_(False)

    return supply.obtain(EmbeddingsMaker(learner, pool, test))


@dataclass(frozen=True)
class EmbeddingsMaker(Maker[tuple[Pool, Pool]]):
    """Features of the items of a pool and a test set under a network that is not trained."""

    kind = KIND

    learner: NetworkLearner
    pool: Pool
    test: Pool

    def identity(self) -> dict[str, Any]:
        settings = self.learner.settings
        return {
            "pool": self.pool.fingerprint,
            "test": self.test.fingerprint,
            "kind": settings.kind,
            "width": settings.width,
            "source": self.learner.kind.identity(),
            "weights": _backbone_digest(self.learner.network),
        }

    def build(self, folder: Path, progress: Progress) -> dict[str, Any]:
        rows = {
            "pool": _features(self.learner, self.pool, progress),
            "test": _features(self.learner, self.test, progress),
        }
        write_tensors(folder / FILE, rows)
        return {"n_features": rows["pool"].shape[1], "items": len(self.pool) + len(self.test)}

    def load(self, artefact: Artefact) -> tuple[Pool, Pool]:
        rows, device = artefact.tensors(FILE), self.pool.device
        return ArrayPool(rows["pool"], device), ArrayPool(rows["test"], device, may_be_empty=True)


def _backbone_digest(network: HeadedNetwork) -> str:
    """SHA-256 (16 hex digits) of all weights but the last layer's, whatever file they came from."""
    head = next(name for name, part in network.named_modules() if part is network.last_layer)
    sha = hashlib.sha256()
    for name, values in sorted(network.state_dict().items()):
        if not name.startswith(f"{head}."):
            sha.update(name.encode())
            sha.update(values.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


def _features(learner: NetworkLearner, items: Pool, progress: Progress) -> torch.Tensor:
    """Features of all items, float32 ``[N, D]`` on the CPU."""
    if len(items) == 0:  # the place of a test set that there is not
        return torch.empty(0, *learner.features(torch.zeros(1, *items.item_shape)).shape[1:])
    parts = []
    for indices, block in items.blocks():
        parts.append(learner.features(block).float().cpu())
        progress("features of the frozen network", int(indices[-1]) + 1, len(items))
    return torch.cat(parts)
