"""A frozen backbone: features of all items, computed once, on which a linear head is trained.

J. Zhang et al., "LabelBench: A Comprehensive Framework for Benchmarking Adaptive Label-Efficient Learning",
2023: with pretrained features a cycle takes milliseconds. The problem moves from images to rows of
features, for the classifier and for the strategy alike; pictures and annotators keep the images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from alharness import seeds
from alharness.artefacts import Artefact, Supply, write_tensors
from alharness.errors import UserError
from alharness.learners.kinds import Kind, NetworkKind, kind_of
from alharness.learners.network import NetworkLearner
from alharness.learners.networks import HeadedNetwork
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
    source = found.identity()
    if not settings.weights and not source:
        raise UserError(
            f"learner.freeze needs pretrained weights: '{settings.kind}' starts at random. Set "
            "learner.weights to a file, or leave learner.freeze out."
        )
    learner = NetworkLearner(pool.item_shape, n_classes, pool.device, settings, kind=found)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(0, "frozen"))  # only the head, which is thrown away
        learner.network = learner.build().eval().requires_grad_(False)

    def build(folder: Path, report: Progress) -> Mapping[str, Any]:
        rows = {
            "pool": _features(learner, pool, report),
            "test": _features(learner, test, report),
        }
        write_tensors(folder / FILE, rows)
        return {"n_features": rows["pool"].shape[1], "items": len(pool) + len(test)}

    def load(artefact: Artefact) -> tuple[Pool, Pool]:
        rows = artefact.tensors(FILE)
        return ArrayPool(rows["pool"], pool.device), ArrayPool(rows["test"], pool.device)

    identity = {
        "pool": pool.fingerprint,
        "test": test.fingerprint,
        "kind": settings.kind,
        "width": settings.width,
        "source": source,
        "weights": _backbone_digest(learner.network),
    }
    return supply.obtain(
        KIND, identity, build, load, details=lambda _, artefact: dict(artefact.details)
    )


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
    parts = []
    for indices, block in items.blocks():
        parts.append(learner.features(block).float().cpu())
        progress("features of the frozen network", int(indices[-1]) + 1, len(items))
    return torch.cat(parts)
