"""Cluster-Margin: small margins, spread over clusters.

G. Citovsky, G. DeSalvo, C. Gentile, L. Karydas, A. Rajagopalan, A. Rostamizadeh, S. Kumar, "Batch Active
Learning at Scale", NeurIPS 2021: take the candidates with the smallest margins, ten times as many as asked
for, and go round their clusters from the smallest to the largest, one random item of each at a time.

Differs from the paper: the candidates of a cycle are clustered (average linkage) by the classifier's
features of that cycle (or in another space, ``strategy.features``), into clusters of ten on average,
instead of the whole pool once before the first cycle under a threshold of distance: the matrix of distances
grows with the query and not with the pool.

Shape letters: N unlabelled items, M candidates, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy.cluster.hierarchy import linkage

from alharness import acquisition
from alharness.lazily import torch
from alharness.strategy import (
    CycleView,
    FeatureParameters,
    FeatureStrategy,
    Parameters,
    PoolQuery,
)

#: Where ``alharness list`` shows it.
FAMILY = "Uncertainty and diversity"


class ClusterMarginParameters(FeatureParameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    candidates: int = Field(10, ge=1, description="candidates per item asked for (k_m / k_t)")
    cluster_size: int = Field(10, ge=1, description="candidates per cluster, on average")


class ClusterMargin(FeatureStrategy):
    """Ask about items of small margin, as many clusters of them as there are in turn."""

    Parameters: ClassVar[type[Parameters]] = ClusterMarginParameters
    parameters: ClusterMarginParameters
    optimises = False
    source = "Citovsky et al. 2021"

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        m = min(n_unlabelled, self.parameters.candidates * query_size)
        return {"pool_items_scored": n_unlabelled, "pool_items_featurised": m, "distances": m * m}

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        m = min(view.n_unlabelled, self.parameters.candidates * query_size)
        with view.stopwatch.phase("score"):
            scores = view.scan(lambda items: acquisition.margin(view.learner.log_probs(items)))
            candidates = view.unlabelled[acquisition.top_k(scores, m)]
        with view.stopwatch.phase("cluster"):
            features_MD = self.space.of(view, candidates)
            n_clusters = -(-m // self.parameters.cluster_size)
            cluster_M = average_linkage(features_MD, n_clusters)
            view.work.add("distances", m * (m - 1) // 2)
        chosen = in_turn(cluster_M, query_size, view.rng("cluster-margin"))
        return PoolQuery(candidates[chosen])


def average_linkage(features_MD: torch.Tensor, n_clusters: int) -> np.ndarray:
    """Cluster of each candidate, int64 ``[M]``."""
    m = len(features_MD)
    if m <= n_clusters:
        return np.arange(m)
    merges = linkage(features_MD.cpu().double().numpy(), method="average")
    # The first M - n merges, which join what is nearest; the one of number i makes the node M + i.
    pairs = merges[: m - n_clusters, :2].astype(np.int64)
    node = np.arange(m + len(pairs))
    node[pairs] = np.arange(m, len(node))[:, None]
    while not np.array_equal(node, above := node[node]):  # up to the root, twice as far each time
        node = above
    labels: np.ndarray = node[:m]
    return labels


def in_turn(cluster_M: np.ndarray, k: int, rng: np.random.Generator) -> torch.Tensor:
    """Round after round one random item of each cluster, small clusters first; int64 ``[k]``.

    Clusters of one size go by the first candidate that each holds.
    """
    _, first, place_M, sizes = np.unique(
        cluster_M, return_index=True, return_inverse=True, return_counts=True
    )
    ends = np.cumsum(sizes)
    by_cluster = np.argsort(place_M, kind="stable")
    order = np.lexsort((first, sizes)).tolist()
    members = {c: rng.permutation(by_cluster[ends[c] - sizes[c] : ends[c]]).tolist() for c in order}
    chosen: list[int] = []
    while len(chosen) < k:
        for c in order:
            if members[c] and len(chosen) < k:
                chosen.append(members[c].pop())
    return torch.tensor(chosen, dtype=torch.int64)
