"""Query strategies of small-text: ``small-text:GreedyCoreset``.

C. Schroeder et al., "Small-Text: Active Learning for Text Classification in Python", 2023. Its texts are pool
indices here; what it embeds and predicts are the features and the predictions of the cycle's classifier.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from alharness.lazily import torch
from alharness.strategy import CycleView, PoolQuery
from alharness_strategies.peers import Peer, PeerStrategy, as_query, normalised

#: Where ``alharness list`` shows it.
FAMILY = "Of other libraries (needs the library)"


class SmallTextQuery(PeerStrategy):
    """small-text:NAME: a query strategy of small-text, as published."""

    source = "Schroeder et al. 2023, small-text"
    example = "PredictionEntropy"
    library = "small-text"
    module = "small_text.query_strategies"
    install = "pip install 'alharness[peers]'"
    peers: ClassVar[Mapping[str, Peer]] = {
        "RandomSampling": Peer(),
        "BreakingTies": Peer("probabilities", space="features"),
        "LeastConfidence": Peer("probabilities", space="features"),
        "PredictionEntropy": Peer("probabilities", space="features"),
        "GreedyCoreset": Peer(
            "features",
            space="features",
            fault="features are scaled to length one by default, unlike the paper's",
        ),
        "LightweightCoreset": Peer("features", space="features"),
        "EmbeddingKMeans": Peer("features", space="features"),
        "ContrastiveActiveLearning": Peer("probabilities", space="features"),
        "BALD": Peer(cannot="it asks for samples by a keyword of small-text's own classifiers"),
        "DiscriminativeActiveLearning": Peer(
            cannot="it asks for a factory of small-text's classifiers"
        ),
        "CategoryVectorInconsistencyAndRanking": Peer(cannot="it is for several labels an item"),
    }

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        everything = torch.arange(view.pool.n)
        classifier = _Fitted if self.known.needs == "probabilities" else _Embedding
        with (
            view.sealed("small-text"),
            view.stopwatch.phase("query"),
            warnings.catch_warnings(),
        ):
            # It announces a default of an older version whenever one of its classes is made.
            warnings.simplefilter("ignore", UserWarning)
            found = getattr(self.imported(), self.peer)().query(
                classifier(self, view),
                everything.numpy()[:, None],
                view.unlabelled.numpy(),
                view.labelled.indices.numpy(),
                view.labelled.targets.numpy(),
                n=query_size,
            )
        return as_query(found)


class _Embedding:
    """Rows of pool items as an embedding; its inputs are pool indices ``[n, 1]``.

    It takes no ``return_proba``, which tells the library that there are no probabilities: who looks at rows
    alone costs no scan of the pool, and may choose the initial set.
    """

    def __init__(self, strategy: SmallTextQuery, view: CycleView) -> None:
        self.strategy, self.view = strategy, view
        self.everything = torch.arange(view.pool.n)

    @cached_property
    def rows(self) -> Any:
        return self.strategy.rows(self.view, self.everything).double().cpu().numpy()

    def embed(self, rows: Any, pbar: Any = None) -> Any:
        return self.rows[np.asarray(rows)[:, 0]]


class _Fitted(_Embedding):
    """The classifier of the cycle."""

    @cached_property
    def probabilities(self) -> Any:
        return normalised(self.view.log_probs(self.everything))

    def predict_proba(self, rows: Any) -> Any:
        return self.probabilities[np.asarray(rows)[:, 0]]

    def embed(self, rows: Any, pbar: Any = None, return_proba: bool = False) -> Any:
        found = super().embed(rows)
        return (found, self.predict_proba(rows)) if return_proba else found
