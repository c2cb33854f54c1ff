"""GAAL: generative adversarial active learning.

J.-J. Zhu, J. Bento, "Generative Adversarial Active Learning", arXiv 1702.07956, 2017: synthesise
images next to the separating hyperplane, have them annotated, and train on them.

Differs from the paper: the generator is ASAL's WGAN-GP instead of a DCGAN, as in Sec. 5.3 of the ASAL
paper; all latents of a cycle are searched at once by Adam, as ASAL's are, instead of one by one by
momentum with restarts; the classifier is the harness's, and where it is not a linear model of two
classes its entropy takes the place of the distance to the hyperplane (the two order images alike
where both are defined). The annotator is a network, see ``alharness.oracle``.

Shape letters: B latents, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from alharness import acquisition
from alharness.generative.latent_search import ClassifierSearch, LatentSearch
from alharness.lazily import torch
from alharness.learners.learner import Learner
from alharness.strategy import CycleView, ImageQuery, Parameters, Preparation, Strategy

if TYPE_CHECKING:
    from alharness.generative import Generator

#: Where ``alharness list`` shows it.
FAMILY = "Synthetic images that are labelled themselves (needs a generator, trained once, and an annotator)"


class SimpleGan(Strategy):
    """Ask about images of random latents: GAAL without its search, a baseline of its paper."""

    source = "Zhu & Bento 2017, 'simple GAN'"
    asks_synthetic = True
    generator: Generator

    def unsuitable(self, n_classes: int, item_shape: tuple[int, ...]) -> str | None:
        if len(item_shape) != 3:
            return f"it generates images, the task's items have shape {item_shape}"
        return None

    def prepare(self, preparation: Preparation) -> None:
        self.generator = preparation.generator()

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        return {"pool_items_scored": 0, "bytes_read": 0, "images_generated": query_size}

    def latents(self, view: CycleView, n: int) -> torch.Tensor:
        """z ~ N(0, I), ``[n, L]`` on the device."""
        # On the CPU, as ASAL's: at equal seeds both start from the same latents on every device.
        drawn = torch.randn(n, self.generator.latent_dim, generator=view.torch_rng("latent"))
        return drawn.to(view.device)

    def select(self, view: CycleView, query_size: int) -> ImageQuery:
        with view.stopwatch.phase("generate"), torch.no_grad():
            images = self.generator.decode(self.latents(view, query_size))
        view.work.add("images_generated", query_size)
        return ImageQuery(images.cpu())


class GaalParameters(Parameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    latent_steps: int = Field(100, ge=1, description="Adam steps of the search")
    latent_lr: float = Field(0.02, gt=0, description="Adam's step size; the same as ASAL's")
    prior_weight: float = Field(0.0, ge=0, description="weight of |z|^2 / 2 against the score")
    score: Literal["auto", "distance", "entropy"] = Field(
        "auto", description="distance to the hyperplane for linear models of two classes"
    )


class Gaal(SimpleGan):
    """Ask about synthetic images on which the classifier is undecided, and train on them."""

    Parameters: ClassVar[type[Parameters]] = GaalParameters
    parameters: GaalParameters
    source = "Zhu & Bento 2017; Mayer & Timofte 2020, Sec. 5.3"
    learner_needs = frozenset({"gradients"})
    search: ClassifierSearch

    def prepare(self, preparation: Preparation) -> None:
        super().prepare(preparation)
        self.search = ClassifierSearch(self.searcher)

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        n_decoded = query_size * (self.parameters.latent_steps + 1)
        return {"pool_items_scored": 0, "bytes_read": 0, "images_generated": n_decoded}

    def score(self, learner: Learner) -> Callable[[torch.Tensor], torch.Tensor]:
        """Images ``[B, ...]`` to what is maximised, ``[B]``: -|w.x + b|, or the entropy."""
        from alharness.learners.linear import LinearLearner  # which needs torch

        linear = isinstance(learner, LinearLearner) and learner.n_classes == 2
        if self.parameters.score == "distance" or (self.parameters.score == "auto" and linear):

            def nearness(images: torch.Tensor) -> torch.Tensor:
                # |w.x + b| as the gap of two logits, one of which is 0; it has a gradient where the
                # probability has saturated.
                top_B2 = learner.logits(images).topk(2, dim=1).values
                return top_B2[:, 1] - top_B2[:, 0]

            return nearness
        return lambda images: acquisition.entropy(learner.logits(images).log_softmax(dim=1))

    def searcher(self, learner: Learner) -> LatentSearch:
        """The search for images on which a classifier is undecided."""
        return LatentSearch(
            self.generator.decode,
            self.score(learner),
            steps=self.parameters.latent_steps,
            lr=self.parameters.latent_lr,
            prior_weight=self.parameters.prior_weight,
        )

    def select(self, view: CycleView, query_size: int) -> ImageQuery:
        with view.stopwatch.phase("generate"):
            found = self.search(view.learner, self.latents(view, query_size), view.work)
        return ImageQuery(
            found.images.cpu(),
            diagnostics={
                "score_before": float(found.score_before.mean()),
                "score_after": float(found.score_after.mean()),
                "latent_norm": float(found.z.norm(dim=1).mean()),
                # Mean distance of an image to its nearest neighbour in the query: duplicates show.
                "nearest_mean": _nearest_mean(found.images),
            },
        )


def _nearest_mean(images: torch.Tensor) -> float:
    """Mean Euclidean distance from an image to the nearest other one; 0 for a single image."""
    if len(images) < 2:
        return 0.0
    distances_BB = torch.cdist(images.flatten(1), images.flatten(1))
    distances_BB.fill_diagonal_(torch.inf)
    return float(distances_BB.amin(dim=1).mean())
