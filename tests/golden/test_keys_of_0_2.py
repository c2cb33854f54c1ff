"""Keys of 0.2.0 (bfe3db1), written down before the rooms moved: every task by every strategy and classifier.

``keys-of-0.2.0.json`` holds run keys, artefact keys and fingerprints as that version made them. A key that
moves on purpose (changed arithmetic has a recorded recipe version) stands in ``MOVED`` with its reason.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alharness import registry
from alharness.api.running import places_of
from alharness.artefacts import artefact_key
from alharness.errors import UserError
from alharness.generative.making import networks_identity
from alharness.spec import resolve

FILE = Path(__file__).parent / "keys-of-0.2.0.json"
STRATEGIES = (
    "random",
    "full",
    "max-entropy",
    "margin",
    "least-confidence",
    "core-set",
    "badge",
    "typiclust",
    "bald",
    "batch-bald",
    "qbc",
    "prob-cover",
    "cluster-margin",
    "seals",
    "vaal",
    "learning-loss",
    "gaal",
    "simple-gan",
    "adba",
    "adba-boundary",
    "asal-gray",
    "asal-rgb",
    "asal-auto",
    "asal-disc",
    "asal-cls",
    "asal-gray-rerank",
    "asal-rgb-rerank",
    "asal-auto-rerank",
    "asal-disc-rerank",
    "asal-gray-random-latent",
    "asal-rgb-random-latent",
    "asal-auto-random-latent",
    "asal-disc-random-latent",
    "subset:500:max-entropy",
    "subset:50:core-set",
)
TASKS = (
    "digits-two",
    "digits-ten",
    "mnist-two",
    "mnist-ten",
    "cifar10-two",
    "cifar10-ten",
    "svhn",
    "celeba-blond-hair",
    "celeba-wearing-hat",
    "celeba-bangs",
    "celeba-eyeglasses",
    "lsun",
    "faces-blond-hair",
    "faces-wearing-hat",
    "faces-bangs",
    "faces-eyeglasses",
    "augmented:mnist-two:1000",
)
LEARNERS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"kind": "linear", "c": 0.5},
    "mlp": {"kind": "mlp", "dropout": 0.25},
    "mnist-cnn": {"kind": "mnist-cnn", "min_steps": 77},
    "all-cnn": {"kind": "all-cnn"},
    "strided-cnn": {"kind": "strided-cnn", "lr": 0.002},
    "ensemble": {"kind": "mlp", "members": 3},
}


def shape_of(task: str) -> tuple[int, ...]:
    """Item shapes of the tasks."""
    if task.startswith("digits"):
        return (1, 8, 8)
    if "mnist" in task:
        return (1, 28, 28)
    return (3, 32, 32) if task.startswith(("cifar", "svhn")) else (3, 64, 64)


def run_keys() -> Iterator[tuple[str, str]]:
    """Name of a spec -> its run key, or the refusal's kind."""
    for task in TASKS:
        for strategy in STRATEGIES:
            for profile in ("quick", "paper"):
                yield f"{task} {strategy} {profile}", key_of(task, strategy, profile=profile)
    for task in ("digits-two", "mnist-ten", "cifar10-two"):
        for strategy in ("random", "badge", "asal-auto"):
            for name, learner in LEARNERS.items():
                yield f"{task} {strategy} {name}", key_of(task, strategy, learner=learner)


def key_of(task: str, strategy: str, **more: Any) -> str:
    """A run's key; a digest of nothing where the two do not fit."""
    try:
        return resolve(
            {"task": task, "strategy": strategy, "device": "cpu", "seed": 3, **more}
        ).run_key
    except UserError:
        return "refused"


def artefact_keys() -> Iterator[tuple[str, str]]:
    """Generators and auto-encoders of every task."""
    for task in TASKS:
        shape = shape_of(task)
        for profile in ("quick", "paper"):
            spec = resolve(
                {"task": task, "strategy": "random", "profile": profile, "device": "cpu"}
            )
            recipe = spec.generator.resolve(profile, shape, task)
            made = networks_identity(recipe, shape, "fingerprint")
            yield f"{task} generator {profile}", artefact_key("generator", made)
            other = spec.autoencoder.resolve(profile, shape, task)
            made = networks_identity(other, shape, "fingerprint")
            yield f"{task} autoencoder {profile}", artefact_key("autoencoder", made)


def found() -> dict[str, str]:
    return {**dict(run_keys()), **dict(artefact_keys())}


def test_keys_stay() -> None:
    keys = found()
    if os.environ.get("ALHARNESS_GOLDEN") == "write":
        FILE.write_text(json.dumps(keys, indent=0) + "\n", encoding="utf-8")
    golden = json.loads(FILE.read_text(encoding="utf-8"))
    moved = {
        name: (golden[name], keys.get(name)) for name in golden if keys.get(name) != golden[name]
    }
    assert not moved, f"{len(moved)} of {len(golden)} keys moved: {list(moved.items())[:5]}"


def test_fingerprints_of_shipped_data_stay(tmp_path: Path) -> None:
    where = places_of(tmp_path, None).locations
    prints = {}
    for name in ("digits-two", "digits-ten", "faces-bangs"):
        try:
            prints[name] = registry.resolve_task(name).load(where).fingerprint
        except UserError:  # drawn faces want to be drawn first
            continue
    assert prints["digits-two"] == "c369f3a5da3a22fc"
    assert prints["digits-ten"] == "cb2acfb475ed5b38"
    digest = hashlib.sha256(json.dumps(prints, sort_keys=True).encode()).hexdigest()
    assert len(digest) == 64
