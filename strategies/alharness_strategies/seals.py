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
from typing import Any

import torch

from alharness.errors import UserError
from alharness.matching import N_COMPONENTS, Index, build_index, features
from alharness.strategy import (
    Adaptation,
    CycleView,
    PoolQuery,
    Preparation,
    Query,
    Strategy,
)


class Seals(Strategy):
    """seals:K:NAME: any scoring strategy over the K nearest neighbours of each labelled item.

    Args:
        inner: a strategy that chooses among ``view.unlabelled``, as every ``ScoreStrategy`` does.
        n_neighbours: K.

    Raises:
        UserError: ``inner`` does not choose among the candidates, or K is not positive.
    """

    source = "Coleman et al. 2022"
    takes = "K:STRATEGY"
    follows_order = True  # an auto-encoder is trained on the pool in its order
    index: Index
    points: torch.Tensor

    def __init__(self, inner: Strategy, n_neighbours: int) -> None:
        super().__init__()
        if n_neighbours < 1:
            raise UserError(f"seals needs a positive number of neighbours; found {n_neighbours}.")
        self.inner = inner
        self.n_neighbours = n_neighbours
        self.parameters = inner.parameters
        self.learner_needs = inner.learner_needs
        if inner.asks_synthetic or inner.labels_everything:
            raise self._refusal()

    @classmethod
    def parse(cls, argument: str) -> tuple[dict[str, Any], str]:
        neighbours, _, inner = argument.partition(":")
        if not neighbours.isdecimal() or int(neighbours) < 1 or not inner:
            raise UserError(
                "Expected seals:K:STRATEGY, for instance seals:100:max-entropy; found "
                f"'seals:{argument}'."
            )
        return {"n_neighbours": int(neighbours)}, inner

    def _refusal(self) -> UserError:
        return UserError(
            f"seals:{self.n_neighbours} expects a strategy that chooses among view.unlabelled, such as "
            f"max-entropy; {type(self.inner).__name__} does not. Use it without 'seals:'."
        )

    def unsuitable(self, n_classes: int, item_shape: tuple[int, ...]) -> str | None:
        return self.inner.unsuitable(n_classes, item_shape)

    def prepare(self, preparation: Preparation) -> Adaptation | None:
        adaptation = self.inner.prepare(preparation)
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

    def select(self, view: CycleView, query_size: int) -> Query:
        with view.stopwatch.phase("candidates"):
            candidates = self.candidates(view, query_size)
        query = self.inner.select(view.narrowed(candidates), query_size)
        if not isinstance(query, PoolQuery) or not bool(
            torch.isin(query.indices, candidates).all()
        ):
            raise self._refusal()
        return query

    def candidates(self, view: CycleView, at_least: int) -> torch.Tensor:
        """Neighbours of labelled items that can be asked about, int64, ascending."""
        labelled = view.labelled.indices
        nothing = torch.empty(0, dtype=torch.int64)
        k = self.n_neighbours
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
