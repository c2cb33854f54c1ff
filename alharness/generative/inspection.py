"""A close look at a generator, with labels: for people who decide whether to trust it.

Labels of the pool and test images of the task are used here and only here; nothing of it flows into
a run. An inspection is an artefact of its own, so that a comparison finds those that were made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alharness import acquisition, numerics, seeds
from alharness.artefacts import Artefact, ArtefactStore, Maker, Supply
from alharness.artefacts.keys import identity as told_apart
from alharness.generative.autoencoder import Autoencoder
from alharness.generative.generator import Generator
from alharness.generative.quality import (
    SAMPLES,
    attainable_entropy,
    compare_features,
    label_agreement,
)
from alharness.generative.training import CURVE_FILE
from alharness.labelled import LabelledSet
from alharness.learners.learner import Learner
from alharness.learners.network import NetworkLearner
from alharness.learners.settings import LearnerSettings
from alharness.matching import (
    ExactIndex,
    FeatureExtractor,
    classifier,
    encoder,
    pixels,
    reduce_pool,
)
from alharness.pictures.grids import interpolate, save_curve, save_grid
from alharness.pool import Pool, scan
from alharness.progress import Progress
from alharness.tasks.base import TaskData

KIND = "inspection"
FIGURES = "figures.json"

#: Latents of the search, and of the agreement of labels.
N_SEARCHED = 200


def reference_settings(item_shape: tuple[int, ...]) -> LearnerSettings:
    """The classifier that generators of a task are measured with: small, trained on the whole pool.

    Not the run's classifier: that one may be linear, whose features are the pixels.
    """
    side = max(item_shape[1:])
    if side <= 8:
        return LearnerSettings(kind="mlp", width=128, epochs=100, min_steps=1_000, batch_size=64)
    if side <= 28:
        return LearnerSettings(kind="mnist-cnn", width=128, epochs=3, min_steps=500, batch_size=64)
    return LearnerSettings(kind="strided-cnn", width=32, epochs=5, min_steps=500, batch_size=64)


@dataclass(frozen=True)
class Subject:
    """What is inspected, and with what.

    Attributes:
        artefact: the generator's.
        pool, test: the task's images on the device.
        reference: recipe of the classifier.
    """

    artefact: Artefact
    generator: Generator
    autoencoder: Autoencoder
    data: TaskData
    pool: Pool
    test: Pool
    reference: LearnerSettings
    seed: int = 0


def obtain_inspection(subject: Subject, supply: Supply) -> Artefact:
    """The inspection of a generator: figures in ``details["figures"]``, pictures as files."""
    return supply.obtain(InspectionMaker(subject))


@dataclass(frozen=True)
class InspectionMaker(Maker[Artefact]):
    """Figures and pictures of one generator; nothing is made of them but what their readers read."""

    kind = KIND

    subject: Subject

    def identity(self) -> dict[str, Any]:
        return {
            "generator": self.subject.artefact.key,
            "autoencoder": self.subject.autoencoder.artefact_key,
            "reference": told_apart(self.subject.reference),
            "seed": self.subject.seed,
        }

    def build(self, folder: Path, progress: Progress) -> dict[str, Any]:
        figures = _inspect(self.subject, folder, progress)
        (folder / FIGURES).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        of = self.subject.artefact
        return {"task": of.details["task"], "generator": of.key, "figures": figures}

    def load(self, artefact: Artefact) -> Artefact:
        return artefact


def newest_inspections(artefacts: ArtefactStore) -> dict[str, Mapping[str, float]]:
    """Figures of each generator's newest inspection, by the generator's key."""
    return {
        str(found.details["generator"]): found.details["figures"]
        for found in artefacts.finished(KIND)  # in the order of making
    }


@numerics.exact()
def _inspect(subject: Subject, folder: Path, progress: Progress) -> dict[str, float]:
    generator = subject.generator
    progress("train the reference classifier", 0, 1)
    learner = _train_reference(subject)
    accuracy = _accuracy(learner, subject)
    progress("train the reference classifier", 1, 1, {"accuracy": accuracy})
    figures = {"reference_accuracy": accuracy}

    # Equally many of each: the Fréchet distance of small samples is biased by their number.
    n = min(SAMPLES, subject.pool.n // 2, subject.test.n)
    order = torch.randperm(subject.pool.n, generator=seeds.torch_rng(subject.seed, "inspect"))
    training = subject.pool.gather(order[:n])
    held_out = subject.test.gather(torch.arange(n))
    synthetic = generator.sample(n, seed=subject.seed)
    spaces = {"auto": encoder(subject.autoencoder), "cls": classifier(learner)}
    for number, (name, extractor) in enumerate(spaces.items()):
        progress("compare images", number, len(spaces))
        found = compare_features(
            *(_features(extractor, images) for images in (training, held_out, synthetic))
        )
        figures |= {f"{figure}_{name}": value for figure, value in found.items()}
    progress("compare images", len(spaces), len(spaces))

    rng = seeds.torch_rng(subject.seed, "inspect", "latents")
    z = torch.randn(N_SEARCHED, generator.latent_dim, generator=rng).to(subject.pool.device)
    progress("search latents", 0, 1)
    entropies, searched = attainable_entropy(generator.decode, learner.logits, z)
    progress("search latents", 1, 1)
    with torch.no_grad():
        before = generator.decode(z)
    figures |= entropies
    figures |= _agreement(subject, learner, held_out[:N_SEARCHED], before, searched)

    save_grid(folder / "samples.png", before[:64])
    save_grid(folder / "searched.png", searched[:64])
    save_grid(folder / "interpolation.png", interpolate(generator.decode, z[:16], 8), columns=8)
    curve = json.loads((subject.artefact.path / CURVE_FILE).read_text(encoding="utf-8"))
    save_curve(folder / "curve.png", curve["columns"], curve["rows"])
    return {name: round(value, 6) for name, value in figures.items()}


def _train_reference(subject: Subject) -> Learner:
    data, pool = subject.data, subject.pool
    learner = NetworkLearner(pool.item_shape, data.n_classes, pool.device, subject.reference)
    labelled = LabelledSet(torch.arange(pool.n), torch.as_tensor(data.pool_targets))
    learner.fit(labelled, pool, seed=seeds.derive(subject.seed, "reference"))
    return learner


def _accuracy(learner: Learner, subject: Subject) -> float:
    targets = torch.as_tensor(subject.data.test_targets)
    right = 0
    for indices, log_p_NC in scan(subject.test, learner.log_probs):
        right += int((log_p_NC.argmax(dim=1).cpu() == targets[indices]).sum())
    return right / subject.test.n


def _features(extractor: FeatureExtractor, images: torch.Tensor) -> torch.Tensor:
    return torch.cat([extractor(part) for part in images.split(256)])


def _agreement(
    subject: Subject,
    learner: Learner,
    held_out: torch.Tensor,
    before: torch.Tensor,
    searched: torch.Tensor,
) -> dict[str, float]:
    """Do matches have the class, and the uncertainty, of what they are matched with?

    Matching is that of asal-gray (pixels, PCA to 50). The agreement of real held-out images with
    their nearest pool images is what a perfect generator could reach.
    """
    pool, targets = subject.pool, torch.as_tensor(subject.data.pool_targets)
    reduced = reduce_pool(pool, pixels())
    index = ExactIndex(reduced.features)
    nothing_taken = torch.empty(0, dtype=torch.int64)

    def nearest(images: torch.Tensor) -> torch.Tensor:
        streams = index.neighbours(reduced.space(images), nothing_taken)
        return torch.tensor([next(stream)[0] for stream in streams])

    def label(images: torch.Tensor) -> torch.Tensor:
        return learner.log_probs(images).argmax(dim=1)

    def label_of_match(images: torch.Tensor) -> torch.Tensor:
        return targets[nearest(images)]

    # As shares of the most there can be, or tasks of 2 and of 10 classes would not compare.
    most = math.log(subject.data.n_classes)
    matched = acquisition.entropy(learner.log_probs(pool.gather(nearest(searched))))
    every = torch.cat([acquisition.entropy(part) for _, part in scan(pool, learner.log_probs)])
    return {
        "agreement_held_out": label_agreement(label, label_of_match, held_out),
        "agreement_random": label_agreement(label, label_of_match, before),
        "agreement_searched": label_agreement(label, label_of_match, searched),
        "entropy_of_matches": float(matched.mean()) / most,
        "entropy_of_pool": float(every.mean()) / most,
    }
