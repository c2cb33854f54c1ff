"""Query strategies of small-text: ``small-text:GreedyCoreset``.

C. Schroeder et al., "Small-Text: Active Learning for Text Classification in Python", 2023. Its texts are pool
indices here; what it embeds and predicts are the features and the predictions of the cycle's classifier.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
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
        "ContrastiveActiveLearning": Peer("features", space="features"),
        "BALD": Peer(cannot="it asks for samples by a keyword of small-text's own classifiers"),
        "DiscriminativeActiveLearning": Peer(
            cannot="it asks for a factory of small-text's classifiers"
        ),
        "CategoryVectorInconsistencyAndRanking": Peer(cannot="it is for several labels an item"),
    }

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        everything = torch.arange(view.pool.n)
        features_ND = self.rows(view, everything).double().cpu().numpy()
        p_NC = normalised(view.log_probs(everything)) if self.known.needs != "nothing" else None
        with (
            view.sealed("small-text"),
            view.stopwatch.phase("query"),
            warnings.catch_warnings(),
        ):
            # It announces a default of an older version whenever one of its classes is made.
            warnings.simplefilter("ignore", UserWarning)
            found = getattr(self.imported(), self.peer)().query(
                _Fitted(features_ND, p_NC),
                everything.numpy()[:, None],
                view.unlabelled.numpy(),
                view.labelled.indices.numpy(),
                view.labelled.targets.numpy(),
                n=query_size,
            )
        return as_query(found)


class _Fitted:
    """The classifier of the cycle; its inputs are pool indices ``[n, 1]``."""

    def __init__(self, features_ND: Any, p_NC: Any) -> None:
        self.features, self.p = features_ND, p_NC

    def predict_proba(self, rows: Any) -> Any:
        return self.p[np.asarray(rows)[:, 0]]

    def embed(self, rows: Any, return_proba: bool = False, **_: Any) -> Any:
        at = np.asarray(rows)[:, 0]
        return (self.features[at], self.p[at]) if return_proba else self.features[at]
