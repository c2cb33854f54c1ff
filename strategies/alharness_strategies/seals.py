"""SEALS: score only what lies near the labelled items.

C. Coleman, E. Chou, J. Katz-Samuels, S. Culatana, P. Bailis, A. C. Berg, R. Nowak, R. Sumbaly, M. Zaharia,
I. Z. Yalniz, "Similarity Search for Efficient Active Learning and Search of Rare Concepts", AAAI 2022:
candidates of a cycle are the K nearest neighbours of every labelled item, so that scoring costs as much as
there are labels and not as much as there are items. ``seals:100:max-entropy``.

Features of a network trained by contrast, as in the paper, come from a file (``strategy.features=npz:FILE``),
whole and as they are; else they are the task's auto-encoder's, or the rows themselves, reduced by PCA as
ASAL's are. One ``strategy.features`` is that of the strategy inside, too, where it has one.

Differs from the paper: the search is exact instead of approximate; all
neighbours are looked up in each cycle instead of kept, so that a resumed run counts the same work; where
fewer neighbours than asked for have no label, K is doubled until there are enough.

Shape letters: L labelled items, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import ClassVar

from alharness.lazily import torch
from alharness.matching import N_COMPONENTS, Index, build_index, spaces
from alharness.strategy import (
    Adaptation,
    CycleView,
    FeatureParameters,
    NarrowingStrategy,
    Parameters,
    Preparation,
)

#: Where ``alharness list`` shows it.
FAMILY = "Over a part of the pool"


class Seals(NarrowingStrategy):
    """seals:K:NAME: any scoring strategy over the K nearest neighbours of each labelled item."""

    Parameters: ClassVar[type[Parameters]] = FeatureParameters
    own: FeatureParameters
    source = "Coleman et al. 2022"
    takes = "K:STRATEGY"
    example = "20:max-entropy"
    takes_as = "seals"
    counts = "neighbours"
    follows_order = True  # an auto-encoder is trained on the pool in its order
    space: spaces.Space
    index: Index | None

    def identity(self) -> Mapping[str, str]:
        return {**super().identity(), **spaces.features_identity(self.own.features)}

    def unsuitable(self, n_classes: int, item_shape: tuple[int, ...]) -> str | None:
        return super().unsuitable(n_classes, item_shape) or spaces.unsuitable(
            self.own.features, item_shape
        )

    def prepare(self, preparation: Preparation) -> Adaptation | None:
        adaptation = super().prepare(preparation)
        name = spaces.chosen(self.own.features, "", preparation.pool)
        self.space = spaces.open_space(name, preparation, N_COMPONENTS)
        self.index = None  # of points that the classifier moves: built in each cycle
        if self.space.points is not None:
            rows = len(self.space.points)
            with preparation.ledger.entry("index", kind="exact", rows=rows):
                self.index = build_index("exact", self.space.points)
        return adaptation

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int] | None:
        bound = self.inner.work_bound(n_unlabelled, query_size)
        # The search measures distances itself, and reads the pool where the classifier moves it.
        own = {"distances"}
        if self.own.features == "classifier":
            own |= {"pool_items_featurised", "bytes_read"}
        return None if bound is None else {k: v for k, v in bound.items() if k not in own}

    def candidates(self, view: CycleView, at_least: int) -> torch.Tensor:
        """Neighbours of labelled items that can be asked about, int64, ascending."""
        labelled = view.labelled.indices
        nothing = torch.empty(0, dtype=torch.int64)
        k = self.number
        index, points = self.index, self.space.points
        if index is None or points is None:
            points = self.space.of(view, torch.arange(view.pool.n))
            index = build_index("exact", points)
        # Neighbourhoods overlap and shrink as items are taken: wider ones, until the query can be filled.
        while len(labelled) and k < view.pool.n:
            points_LD = points[labelled.to(points.device)]
            found = [
                # One more than K: an item is its own nearest neighbour.
                [item for item, _, _ in islice(neighbours, k + 1)]
                for neighbours in index.neighbours(points_LD, nothing, view.work)
            ]
            near = torch.tensor(found).unique()
            candidates: torch.Tensor = near[~torch.isin(near, view.available.taken)]
            if len(candidates) >= at_least:
                return candidates
            k *= 2
        return view.unlabelled
