"""TypiClust: typical items of clusters that have no label yet.

G. Hacohen, A. Dekel, D. Weinshall, "Active Learning on a Budget: Opposite Strategies Suit High and Low
Budgets", ICML 2022: cluster the features into as many clusters as there will be labels, and ask about
the densest item of each large cluster without a label.

With the features of a network that was trained without labels (``strategy.features=npz:FILE``) it is the
published method: rows scaled to length 1, as the authors' code loads them, not reduced.

Differs from the paper: without a file, features are the task's auto-encoder's, or the rows themselves,
reduced by PCA as ASAL's are and not scaled; the clusters are found anew for each query, over all items that
are labelled or can be asked about; clusters of five items and fewer come last instead of never, so that a
query can always be filled.

As the authors' code (avihu111/TypiClust, module ``pycls.al.typiclust``): k-means of all items up to 50
clusters and in mini-batches above; clusters with the fewest labels first, large ones first among equals;
typicality (Eq. 1) among the 20 nearest of a cluster's items that have no label and are not yet chosen, half
of them where there are fewer than 40. ``rule=0.2`` is how versions before 0.3 chose: mini-batches always,
clusters of five first as well, all of a small cluster as neighbours, and typicality computed once per query.

Shape letters: N items of the pool that take part, K features, M items of a cluster.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from alharness.lazily import torch
from alharness.strategy import (
    CycleView,
    FeatureParameters,
    FeatureStrategy,
    Parameters,
    PoolQuery,
    Preparation,
)

#: Where ``alharness list`` shows it.
FAMILY = "Diversity and coverage"

#: Clusters up to which k-means sees all items in each step; above, the authors' code takes mini-batches.
FULL_UP_TO = 50
#: Rows of a cluster whose distances to the whole cluster are held at once.
ROWS = 1024


class TypiClustParameters(FeatureParameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    max_clusters: int = Field(500, ge=1, description="clusters at most, as in the paper")
    n_neighbours: int = Field(20, ge=1, description="neighbours that say how typical an item is")
    min_size: int = Field(5, ge=1, description="clusters of so many items and fewer come last")
    pca_dims: int = Field(50, ge=1, description="dimensions of the features after PCA")
    rule: Literal["published", "0.2"] = Field(
        "published",
        description="the authors' code; 0.2: as versions before 0.3, whose runs go on with it",
        json_schema_extra={"added": "0.3", "before": "0.2"},
    )


class TypiClust(FeatureStrategy):
    """Ask about the most typical items of large clusters that have no label yet."""

    Parameters: ClassVar[type[Parameters]] = TypiClustParameters
    parameters: TypiClustParameters
    optimises = False
    source = "Hacohen et al. 2022"
    own_features = ""
    unit = True  # as the authors' code loads its rows

    def prepare(self, preparation: Preparation) -> None:
        super().prepare(preparation)
        self.space = self.space.on("cpu")  # once, where k-means wants them

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        if self.parameters.features == "classifier":
            return {"pool_items_scored": 0}
        return {"pool_items_scored": 0, "bytes_read": 0}

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        candidates, labelled = view.unlabelled, view.labelled.indices
        with view.stopwatch.phase("cluster"):
            rows = torch.cat([candidates, labelled])
            points_NK = self.space.of(view, rows).cpu()
            n_clusters = min(len(labelled) + query_size, self.parameters.max_clusters, len(rows))
            seed = int(view.rng("k-means").integers(2**31))
            cluster_N = k_means(points_NK, n_clusters, seed, self.parameters.rule)
        with view.stopwatch.phase("typical"):
            chosen = self.choose(points_NK, cluster_N, len(candidates), query_size)
        return PoolQuery(candidates[chosen])

    def choose(
        self, points_NK: torch.Tensor, cluster_N: torch.Tensor, n_candidates: int, k: int
    ) -> torch.Tensor:
        """Rows of candidates, which stand before the labelled items; int64 ``[k]``."""
        old = self.parameters.rule == "0.2"
        sizes = cluster_N.bincount()
        n_labels = cluster_N[n_candidates:].bincount(minlength=len(sizes))
        small = sizes < self.parameters.min_size if old else sizes <= self.parameters.min_size
        # Clusters without a label first, large ones first among equals; small ones last of all.
        order = sorted(
            range(len(sizes)), key=lambda c: (bool(small[c]), int(n_labels[c]), -int(sizes[c]), c)
        )
        turns = [[c for c in order if not small[c]], [c for c in order if small[c]]]
        # One sort for all clusters, instead of a look at every candidate for each.
        of_candidates = cluster_N[:n_candidates]
        by_cluster = of_candidates.argsort(stable=True)
        members = by_cluster.split(of_candidates.bincount(minlength=len(sizes)).tolist())
        waiting: dict[int, torch.Tensor] = {}
        chosen: list[int] = []
        for clusters in turns:
            while clusters and len(chosen) < k:
                left = []
                for c in clusters:
                    if c not in waiting:
                        own = members[c]
                        waiting[c] = self.by_typicality(points_NK, own) if old else own
                    if len(waiting[c]) and len(chosen) < k:
                        first = 0 if old else self.most_typical(points_NK[waiting[c]])
                        chosen.append(int(waiting[c][first]))
                        waiting[c] = torch.cat([waiting[c][:first], waiting[c][first + 1 :]])
                    if len(waiting[c]):
                        left.append(c)
                clusters = left
        return torch.tensor(chosen, dtype=torch.int64)

    def most_typical(self, points_MK: torch.Tensor) -> int:
        """The point with the smallest mean distance to its nearest neighbours, the first of equals."""
        k = min(self.parameters.n_neighbours, len(points_MK) // 2)
        if k < 1:
            return 0
        return int(np.concatenate(list(_mean_distances(points_MK.numpy(), k))).argmin())

    def by_typicality(self, points_NK: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
        """Rows of a cluster, the most typical first, by the rule of versions before 0.3."""
        points_MK = points_NK[members]
        k = min(self.parameters.n_neighbours, len(members) - 1)
        if k < 1:
            return members
        mean_M = torch.cat(
            [
                # The smallest of the k + 1 distances is an item's to itself.
                torch.cdist(part, points_MK).topk(k + 1, largest=False).values.sum(dim=1) / k
                for part in points_MK.split(ROWS)
            ]
        )
        return members[mean_M.argsort(stable=True)]


def _mean_distances(points_MK: np.ndarray, k: int) -> Iterator[np.ndarray]:
    """Mean distance of each point to its k nearest others, block by block."""
    squared_M = np.square(points_MK).sum(axis=1)
    for start in range(0, len(points_MK), ROWS):
        part_BK = points_MK[start : start + ROWS]
        # A product instead of differences; only the k smallest of a row become distances.
        squared_BM = part_BK @ (-2 * points_MK.T)
        squared_BM += squared_M
        squared_BM += squared_M[start : start + ROWS, None]
        own = np.arange(len(part_BK))
        squared_BM[own, start + own] = np.inf
        nearest_BK = np.partition(squared_BM, k - 1, axis=1)[:, :k]
        yield np.sqrt(np.maximum(nearest_BK, 0)).mean(axis=1)


def k_means(
    points_NK: torch.Tensor, n_clusters: int, seed: int, rule: str = "published"
) -> torch.Tensor:
    """Cluster of each point, int64 ``[N]``: scikit-learn's k-means, as the authors' code calls it.

    On the CPU whatever the device, so that the same clusters are asked about everywhere: who is in which
    cluster hangs on the order of every draw and sum, and a k-means of our own on a GPU would be another
    method. Mini-batches see 5,000 points whatever the pool's size; what grows with the pool is the last
    assignment, ``2 N K`` times the clusters: 50 GFLOP for a million points of 50 numbers and 500
    clusters, as much as a small classifier's pass over them.
    """
    if rule == "0.2":
        solver = MiniBatchKMeans(n_clusters, random_state=seed, batch_size=5000, n_init=3)
    elif n_clusters <= FULL_UP_TO:
        solver = KMeans(n_clusters, random_state=seed, n_init=1)
    else:
        solver = MiniBatchKMeans(n_clusters, random_state=seed, batch_size=5000, n_init=1)
    with warnings.catch_warnings():
        # Fewer distinct points than clusters: some stay empty, which is harmless here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = solver.fit_predict(points_NK.numpy())
    return torch.from_numpy(labels).long()
