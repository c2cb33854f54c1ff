"""ASAL: adversarial sampling for active learning.

C. Mayer, R. Timofte, "Adversarial Sampling for Active Learning", WACV 2020: Algorithm 1.

Differs from the paper: each latent's best iterate is kept (Eq. 1 is solved by 100 Adam steps there,
the step size is not given); queries choose their matches by falling score, each the nearest item
that is neither labelled nor chosen (the paper does not resolve collisions); neighbours are found by
exact search unless ``index=kdtree`` asks for the paper's tree. ``features`` puts another space in the place
of the one that the strategy's name says; a file's rows serve where the file names the model that made them,
which then places the synthetic images, too. ``rerank`` (choose among the nearest
neighbours by the classifier) and ``latent_steps=0`` (is the search for entropy needed at all?) are
additions of this harness.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from alharness import acquisition
from alharness.generative.latent_search import ClassifierSearch, LatentSearch, SearchResult
from alharness.lazily import torch
from alharness.matching import (
    FeatureExtractor,
    FeatureSpace,
    Index,
    Matches,
    build_index,
    features,
    match,
    match_best,
    spaces,
)
from alharness.strategy import (
    Adaptation,
    CycleView,
    FeatureParameters,
    Parameters,
    PoolQuery,
    Preparation,
    Strategy,
)

if TYPE_CHECKING:
    from alharness.generative import Generator
    from alharness.learners.learner import Learner

#: Where ``alharness list`` shows it.
FAMILY = "ASAL: synthetic samples matched in the pool (needs a generator, trained once)"


class AsalParameters(FeatureParameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    latent_steps: int = Field(100, ge=0, description="Adam steps of Eq. 1 (Sec. 4.2); 0 skips it")
    latent_lr: float = Field(
        0.02, gt=0, description="Adam's step size (measured; not in the paper)"
    )
    keep_best: bool = Field(
        True,
        description="keep each latent's best iterate, not the last",
        json_schema_extra={
            "seen_elsewhere": "where steps overshoot: tests/unit/test_latent_search.py"
        },
    )
    prior_weight: float = Field(0.0, ge=0, description="weight of |z|^2 / 2 against the score")
    pca_dims: int = Field(50, ge=1, description="dimensions of the matching space (Sec. 4.2)")
    index: Literal["exact", "kdtree", "faiss"] = Field(
        "exact", description="neighbour search; kdtree is the paper's (Sec. 3.2)"
    )
    score: Literal["entropy", "margin", "least-confidence", "learning-loss"] = Field(
        "entropy", description="what the synthetic samples maximise; entropy in the paper"
    )
    rerank: int = Field(
        0, ge=0, description="choose by score among so many neighbours; 0: the nearest"
    )
    n_pictures: int = Field(
        10, ge=0, description="synthetic samples kept per cycle for the picture"
    )


class Asal(Strategy):
    """Synthesise uncertain samples, ask about the pool items most like them."""

    Parameters: ClassVar[type[Parameters]] = AsalParameters
    parameters: AsalParameters
    source = "Mayer & Timofte 2020, Algorithm 1"
    learner_needs = frozenset({"gradients"})
    #: Colour channels that the feature extractor is named for; None: any.
    channels: ClassVar[int | None] = None

    generator: Generator
    search: ClassifierSearch
    # None where the classifier moves both: they are made in each cycle then.
    space: FeatureSpace | None = None
    index: Index | None = None

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        if self.parameters.score == "learning-loss":  # its module reads the classifier's layers
            self.learner_needs = self.learner_needs | {"activations"}

    def extractor(self, preparation: Preparation) -> FeatureExtractor | None:
        """F of Eq. 2 by the strategy's name; None when it changes with the classifier."""
        raise NotImplementedError

    def identity(self) -> Mapping[str, str]:
        return spaces.features_identity(self.parameters.features)

    def unsuitable(self, n_classes: int, item_shape: tuple[int, ...]) -> str | None:
        if len(item_shape) != 3:
            return f"it generates images, the task's items have shape {item_shape}"
        if self.channels is not None and item_shape[0] != self.channels:
            kind, other = ("grey", "asal-rgb") if self.channels == 1 else ("colour", "asal-gray")
            return (
                f"it matches {kind} values ({self.channels} channel(s)), the task's images have "
                f"{item_shape[0]}; {other} is its counterpart"
            )
        return None

    def prepare(self, preparation: Preparation) -> Adaptation | None:
        """Algorithm 1, input: train G and F, precompute the PCA, mu and S = {F_PCA(x)}."""
        chosen, rows = self.parameters.features, None
        extractor: FeatureExtractor | None = None
        if chosen != spaces.AUTO:
            # First: a file that does not serve is said before a generator is trained.
            extractor, rows = spaces.extractor_in(chosen, preparation)
        self.generator = preparation.generator()
        self.search = ClassifierSearch(self.searcher)
        if chosen == spaces.AUTO:
            extractor = self.extractor(preparation)
        if extractor is not None:
            reduced = features.obtain_reduced_pool(
                preparation.pool,
                extractor,
                self.parameters.pca_dims,
                preparation.supply,
                raw=rows,
            )
            self.space = reduced.space
            # Beside the features, which are shared: an index is built by each run, and costs.
            n = len(reduced.features)
            with preparation.ledger.entry("index", kind=self.parameters.index, rows=n):
                self.index = build_index(self.parameters.index, reduced.features)
        if self.parameters.score == "learning-loss":
            from alharness.learners.loss_prediction import learning_loss_factory

            return Adaptation(learner_factory=learning_loss_factory(preparation.learner_settings))
        return None

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        """Independent of the pool apart from the search for neighbours (Sec. 3.1)."""
        bound = {
            "images_generated": query_size * (self.parameters.latent_steps + 1),
            "pool_items_scored": query_size * self.parameters.rerank,
        }
        # In the classifier's space all of the pool is featurised, labelled items too.
        return bound if self.follows_classifier else {**bound, "pool_items_featurised": 0}

    @property
    def follows_classifier(self) -> bool:
        """Whether the space is the classifier's, obsolete as soon as it is trained again (Sec. 3.2)."""
        return self.parameters.features == spaces.CLASSIFIER

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        with view.stopwatch.phase("generate"):  # Algorithm 1, step 2
            found = self.synthesise(view, query_size)
            # The most uncertain chooses first; equals in the order in which they were drawn.
            first_choice = found.score_after.cpu().argsort(descending=True, stable=True)
            synthetic = found.images[first_choice.to(view.device)]
        with view.stopwatch.phase("features"):  # step 3
            space, index = self.matching_space(view)
            points = space(synthetic)
        with view.stopwatch.phase("match"):  # step 4
            matches = self.retrieve(view, index, points)
        return self.report(view, found, synthetic, matches)

    def synthesise(self, view: CycleView, n: int) -> SearchResult:
        """Eq. 1: maximise H(h(G(z))) from z ~ N(0, I), all n latents in one batch."""
        z0 = torch.randn(n, self.generator.latent_dim, generator=view.torch_rng("latent"))
        return self.search(view.learner, z0.to(view.device), view.work)

    def searcher(self, learner: Learner) -> LatentSearch:
        """The search of Eq. 1 for a classifier."""
        return LatentSearch(
            self.generator.decode,
            self.score(learner),
            steps=self.parameters.latent_steps,
            lr=self.parameters.latent_lr,
            prior_weight=self.parameters.prior_weight,
            keep_best=self.parameters.keep_best,
        )

    def score(self, learner: Learner) -> Callable[[torch.Tensor], torch.Tensor]:
        """The acquisition score as a differentiable function of images, ``[B, ...]`` to ``[B]``."""
        if self.parameters.score == "learning-loss":
            from alharness.learners.loss_prediction import LearningLossLearner

            assert isinstance(learner, LearningLossLearner)  # what prepare asked for
            return learner.predicted_loss
        of_log_probs = acquisition.SCORES[self.parameters.score]

        def score(images: torch.Tensor) -> torch.Tensor:
            return of_log_probs(learner.logits(images).log_softmax(dim=-1))

        return score

    def matching_space(self, view: CycleView) -> tuple[FeatureSpace, Index]:
        """F_PCA and the index of S: precomputed, unless they hang on what the classifier has become."""
        if self.space is not None and self.index is not None:
            return self.space, self.index
        reduced = features.reduce_pool(
            view.pool, features.classifier(view.learner), self.parameters.pca_dims, work=view.work
        )
        with view.stopwatch.phase("index"):
            return reduced.space, build_index(self.parameters.index, reduced.features)

    def retrieve(self, view: CycleView, index: Index, points: torch.Tensor) -> Matches:
        """Eq. 2, without replacement; with ``rerank`` the best-scored of several near items."""
        taken = view.available.taken
        if self.parameters.rerank == 0:
            return match(index, points, taken=taken, work=view.work)
        score = self.score(view.learner)

        def rerank(candidates: torch.Tensor) -> torch.Tensor:
            with view.stopwatch.phase("rerank"):
                return view.scan(score, candidates)

        # Only so many items per sample are read: no cost that grows with the pool.
        among = self.parameters.rerank
        return match_best(index, points, taken=taken, score=rerank, among=among, work=view.work)

    def report(
        self, view: CycleView, found: SearchResult, synthetic: torch.Tensor, matches: Matches
    ) -> PoolQuery:
        """The query with what explains it: how uncertain, how near, how deep (Sec. 5.4)."""
        log_p_BC = view.learner.log_probs(synthetic)
        entropy = acquisition.entropy(log_p_BC)
        pictured = synthetic[: self.parameters.n_pictures].mul(255).round().to(torch.uint8)
        return PoolQuery(
            matches.indices,
            diagnostics={
                "score_before": float(found.score_before.mean()),
                "score_after": float(found.score_after.mean()),
                "synthetic_entropy": float(entropy.mean()),
                "saturated": float((entropy > 0.99 * math.log(view.n_classes)).float().mean()),
                "latent_norm": float(found.z.norm(dim=1).mean()),
                "best_step": float(found.best_step.double().mean()),
                "match_distance": float(matches.distances.mean()),
                "match_depth_mean": float(matches.depth.double().mean()),
                "match_depth_max": float(matches.depth.max()),
            },
            arrays={
                "synthetic": pictured.cpu().numpy(),
                "synthetic_entropy": entropy.cpu().numpy().astype(np.float32),
                # what the classifier takes the images for, beside the labels of their matches
                "synthetic_label": log_p_BC.argmax(dim=1).cpu().numpy().astype(np.int64),
            },
        )


class AsalGray(Asal):
    """ASAL, matched by grey values."""

    channels = 1

    def extractor(self, preparation: Preparation) -> FeatureExtractor:
        return features.pixels()


class AsalRgb(Asal):
    """ASAL, matched by colour values."""

    channels = 3

    def extractor(self, preparation: Preparation) -> FeatureExtractor:
        return features.pixels()


class AsalAuto(Asal):
    """ASAL, matched by the code of an auto-encoder."""

    def extractor(self, preparation: Preparation) -> FeatureExtractor:
        return features.encoder(preparation.autoencoder())


class AsalDisc(Asal):
    """ASAL, matched by the last hidden layer of the generator's critic."""

    def extractor(self, preparation: Preparation) -> FeatureExtractor:
        return features.critic(self.generator)  # prepared just before


class AsalCls(Asal):
    """ASAL, matched by the classifier's last hidden layer: O(pool) in each cycle."""

    def extractor(self, preparation: Preparation) -> None:
        return None

    @property
    def follows_classifier(self) -> bool:
        return self.parameters.features in (spaces.AUTO, spaces.CLASSIFIER)


def preset(base: type[Asal], summary: str, **defaults: Any) -> type[Asal]:
    """A strategy that differs from ``base`` in the defaults of its parameters alone.

    Args:
        base: the strategy.
        summary: one line, which ``alharness list`` reads from this call's source.
        defaults: by name of the parameter.
    """
    fields: dict[str, Any] = {}
    for name, value in defaults.items():
        field = base.Parameters.model_fields[name]
        # The bounds and the description stay: only the default is another one.
        fields[name] = (field.annotation, FieldInfo.merge_field_infos(field, default=value))
    model = create_model(base.Parameters.__name__, __base__=base.Parameters, **fields)
    own = {"Parameters": model, "__doc__": summary, "__module__": base.__module__}
    return cast("type[Asal]", type(base.__name__, (base,), own))


AsalGrayRerank = preset(
    AsalGray, "ASAL by grey values, choosing the most uncertain of 50 neighbours.", rerank=50
)
AsalRgbRerank = preset(
    AsalRgb, "ASAL by colour values, choosing the most uncertain of 50 neighbours.", rerank=50
)
AsalAutoRerank = preset(
    AsalAuto, "ASAL by auto-encoder codes, choosing the most uncertain of 50 neighbours.", rerank=50
)
AsalDiscRerank = preset(
    AsalDisc, "ASAL by critic features, choosing the most uncertain of 50 neighbours.", rerank=50
)
AsalGrayRandomLatent = preset(
    AsalGray, "Control: matches of un-optimised G(z) by grey values.", latent_steps=0
)
AsalRgbRandomLatent = preset(
    AsalRgb, "Control: matches of un-optimised G(z) by colour values.", latent_steps=0
)
AsalAutoRandomLatent = preset(
    AsalAuto, "Control: matches of un-optimised G(z) by auto-encoder codes.", latent_steps=0
)
AsalDiscRandomLatent = preset(
    AsalDisc, "Control: matches of un-optimised G(z) by critic features.", latent_steps=0
)
