"""TypiClust: typical items of clusters that have no label yet.

G. Hacohen, A. Dekel, D. Weinshall, "Active Learning on a Budget: Opposite Strategies Suit High and Low
Budgets", ICML 2022: cluster the features into as many clusters as there will be labels, and ask about
the densest item of each large cluster without a label.

Differs from the paper: features are the task's auto-encoder's, reduced by PCA as ASAL's are, instead of
a network trained by contrasting augmented images, and rows of features are clustered as they are; how
typical an item is in its cluster is computed once per query and not again after each choice; clusters of
fewer than five items come last instead of never, so that a query can always be filled.

Shape letters: N items of the pool that take part, K features, M items of a cluster.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field

from alharness.matching import features
from alharness.strategy import CycleView, Parameters, PoolQuery, Preparation, Strategy

#: Rows of a cluster whose distances to the whole cluster are held at once.
ROWS = 1024


class TypiClustParameters(Parameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    max_clusters: int = Field(500, ge=1, description="clusters at most, as in the paper")
    n_neighbours: int = Field(20, ge=1, description="neighbours that say how typical an item is")
    min_size: int = Field(5, ge=1, description="clusters smaller than this come last")
    pca_dims: int = Field(50, ge=1, description="dimensions of the features after PCA")


class TypiClust(Strategy):
    """Ask about the most typical items of large clusters that have no label yet."""

    Parameters: ClassVar[type[Parameters]] = TypiClustParameters
    parameters: TypiClustParameters
    source = "Hacohen et al. 2022"
    points: torch.Tensor

    def prepare(self, preparation: Preparation) -> None:
        reduced = features.obtain_reduced_pool(
            preparation.pool,
            features.of_items(preparation.pool, preparation.autoencoder),
            self.parameters.pca_dims,
            preparation.supply,
        )
        self.points = reduced.features.cpu()  # once: 200 bytes per item, where k-means wants them

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        return {"pool_items_scored": 0, "bytes_read": 0}

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        candidates, labelled = view.unlabelled, view.labelled.indices
        with view.stopwatch.phase("cluster"):
            rows = torch.cat([candidates, labelled])
            points_NK = self.points[rows]
            n_clusters = min(len(labelled) + query_size, self.parameters.max_clusters, len(rows))
            seed = int(view.rng("k-means").integers(2**31))
            cluster_N = k_means(points_NK, n_clusters, seed)
        with view.stopwatch.phase("typical"):
            chosen = self.choose(points_NK, cluster_N, len(candidates), query_size)
        return PoolQuery(candidates[chosen])

    def choose(
        self, points_NK: torch.Tensor, cluster_N: torch.Tensor, n_candidates: int, k: int
    ) -> torch.Tensor:
        """Rows of candidates, which stand before the labelled items; int64 ``[k]``."""
        sizes = cluster_N.bincount()
        n_labels = cluster_N[n_candidates:].bincount(minlength=len(sizes))
        small = sizes < self.parameters.min_size
        # Clusters without a label first, large ones first among equals; small ones last of all.
        order = sorted(
            range(len(sizes)), key=lambda c: (bool(small[c]), int(n_labels[c]), -int(sizes[c]), c)
        )
        turns = [[c for c in order if not small[c]], [c for c in order if small[c]]]
        of_candidates = cluster_N[:n_candidates]
        waiting: dict[int, list[int]] = {}
        chosen: list[int] = []
        for clusters in turns:
            while clusters and len(chosen) < k:
                left = []
                for c in clusters:
                    if c not in waiting:
                        members = (of_candidates == c).nonzero().squeeze(1)
                        waiting[c] = self._most_typical_last(points_NK, members)
                    if waiting[c] and len(chosen) < k:
                        chosen.append(waiting[c].pop())
                    if waiting[c]:
                        left.append(c)
                clusters = left
        return torch.tensor(chosen, dtype=torch.int64)

    def _most_typical_last(self, points_NK: torch.Tensor, members: torch.Tensor) -> list[int]:
        """Rows of a cluster by typicality, the inverse mean distance to the nearest neighbours."""
        points_MK = points_NK[members]
        k = min(self.parameters.n_neighbours, len(members) - 1)
        if k < 1:
            return members.tolist()
        mean_M = torch.cat(
            [
                # The smallest of the k + 1 distances is an item's to itself.
                torch.cdist(part, points_MK).topk(k + 1, largest=False).values.sum(dim=1) / k
                for part in points_MK.split(ROWS)
            ]
        )
        return members.flip(0)[mean_M.flip(0).argsort(descending=True, stable=True)].tolist()


def k_means(points_NK: torch.Tensor, n_clusters: int, seed: int) -> torch.Tensor:
    """Cluster of each point, int64 ``[N]``: scikit-learn's mini-batch k-means, as in the original.

    On the CPU whatever the device, so that the same clusters are asked about everywhere: who is in which
    cluster hangs on the order of every draw and sum, and a k-means of our own on a GPU would be another
    method. Its steps see 5,000 points whatever the pool's size; what grows with the pool is the last
    assignment, ``2 N K`` times the clusters: 50 GFLOP for a million points of 50 numbers and 500
    clusters, as much as a small classifier's pass over them.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    solver = MiniBatchKMeans(n_clusters, random_state=seed, batch_size=5000, n_init=3)
    with warnings.catch_warnings():
        # Fewer distinct points than clusters: some stay empty, which is harmless here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = solver.fit_predict(points_NK.numpy())
    return torch.from_numpy(labels).long()
