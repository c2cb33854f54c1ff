"""SEALS: score only what lies near the labelled items.

C. Coleman, E. Chou, J. Katz-Samuels, S. Culatana, P. Bailis, A. C. Berg, R. Nowak, R. Sumbaly, M. Zaharia,
I. Z. Yalniz, "Similarity Search for Efficient Active Learning and Search of Rare Concepts", AAAI 2022:
candidates of a cycle are the K nearest neighbours of every labelled item, so that scoring costs as much as
there are labels and not as much as there are items. ``seals:100:max-entropy``.

Differs from the paper: features are the task's auto-encoder's, or the rows themselves, reduced by PCA as
ASAL's are, instead of a network pretrained by contrast; the search is exact instead of approximate; all
neighbours are looked up in each cycle instead of kept, so that a resumed run counts the same work; where
fewer neighbours than asked for have no label, K is doubled until there are enough.

Shape letters: L labelled items, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from alharness.lazily import torch
from alharness.matching import N_COMPONENTS, Index, build_index, features
from alharness.strategy import Adaptation, CycleView, NarrowingStrategy, Preparation


class Seals(NarrowingStrategy):
    """seals:K:NAME: any scoring strategy over the K nearest neighbours of each labelled item."""

    source = "Coleman et al. 2022"
    takes = "K:STRATEGY"
    example = "20:max-entropy"
    takes_as = "seals"
    counts = "neighbours"
    follows_order = True  # an auto-encoder is trained on the pool in its order
    index: Index
    points: torch.Tensor

    def prepare(self, preparation: Preparation) -> Adaptation | None:
        adaptation = super().prepare(preparation)
        extractor = features.of_items(preparation.pool, preparation.autoencoder)
        reduced = features.obtain_reduced_pool(
            preparation.pool, extractor, N_COMPONENTS, preparation.supply
        )
        with preparation.ledger.entry("index", kind="exact", rows=len(reduced.features)):
            self.index = build_index("exact", reduced.features)
        self.points = reduced.features
        return adaptation

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int] | None:
        return self.inner.work_bound(n_unlabelled, query_size)

    def candidates(self, view: CycleView, at_least: int) -> torch.Tensor:
        """Neighbours of labelled items that can be asked about, int64, ascending."""
        labelled = view.labelled.indices
        nothing = torch.empty(0, dtype=torch.int64)
        k = self.number
        # Neighbourhoods overlap and shrink as items are taken: wider ones, until the query can be filled.
        while len(labelled) and k < view.pool.n:
            points_LD = self.points[labelled.to(self.points.device)]
            found = [
                # One more than K: an item is its own nearest neighbour.
                [index for index, _, _ in islice(neighbours, k + 1)]
                for neighbours in self.index.neighbours(points_LD, nothing, view.work)
            ]
            near = torch.tensor(found).unique()
            candidates: torch.Tensor = near[~torch.isin(near, view.available.taken)]
            if len(candidates) >= at_least:
                return candidates
            k *= 2
        return view.unlabelled
