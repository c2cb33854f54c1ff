"""Cluster-Margin: small margins, spread over clusters.

G. Citovsky, G. DeSalvo, C. Gentile, L. Karydas, A. Rajagopalan, A. Rostamizadeh, S. Kumar, "Batch Active
Learning at Scale", NeurIPS 2021: take the candidates with the smallest margins, ten times as many as asked
for, and go round their clusters from the smallest to the largest, one random item of each at a time.

Differs from the paper: the candidates of a cycle are clustered (average linkage) by the classifier's
features of that cycle, into clusters of ten on average, instead of the whole pool once before the first
cycle under a threshold of distance: the matrix of distances grows with the query and not with the pool.

Shape letters: N unlabelled items, M candidates, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from alharness import acquisition
from alharness.pool.scan import scan
from alharness.strategy import CycleView, Parameters, PoolQuery, Strategy


class ClusterMarginParameters(Parameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    candidates: int = Field(10, ge=1, description="candidates per item asked for (k_m / k_t)")
    cluster_size: int = Field(10, ge=1, description="candidates per cluster, on average")


class ClusterMargin(Strategy):
    """Ask about items of small margin, as many clusters of them as there are in turn."""

    Parameters: ClassVar[type[Parameters]] = ClusterMarginParameters
    parameters: ClusterMarginParameters
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
            features_MD = torch.cat(
                [
                    found
                    for _, found in scan(
                        view.pool, view.learner.features, candidates, work=view.work
                    )
                ]
            )
            view.work.add("pool_items_featurised", m)
            view.work.add("bytes_read", m * view.pool.item_bytes)
            n_clusters = -(-m // self.parameters.cluster_size)
            cluster_M = average_linkage(features_MD, n_clusters)
            view.work.add("distances", m * (m - 1) // 2)
        chosen = in_turn(cluster_M, query_size, view.rng("cluster-margin"))
        return PoolQuery(candidates[chosen])


def average_linkage(features_MD: torch.Tensor, n_clusters: int) -> np.ndarray:
    """Cluster of each candidate, int64 ``[M]``."""
    from sklearn.cluster import AgglomerativeClustering

    if len(features_MD) <= n_clusters:
        return np.arange(len(features_MD))
    solver = AgglomerativeClustering(n_clusters, linkage="average")
    labels: np.ndarray = solver.fit_predict(features_MD.cpu().double().numpy())
    return labels


def in_turn(cluster_M: np.ndarray, k: int, rng: np.random.Generator) -> torch.Tensor:
    """Round after round one random item of each cluster, small clusters first; int64 ``[k]``.

    Clusters of one size go by the first candidate that each holds.
    """
    _, first, sizes = np.unique(cluster_M, return_index=True, return_counts=True)
    names = cluster_M[first]
    order = names[np.lexsort((first, sizes))]
    members = {name: rng.permutation(np.flatnonzero(cluster_M == name)).tolist() for name in order}
    chosen: list[int] = []
    while len(chosen) < k:
        for name in order:
            if members[name] and len(chosen) < k:
                chosen.append(members[name].pop())
    return torch.tensor(chosen, dtype=torch.int64)
