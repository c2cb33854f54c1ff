"""A random subset of the unlabelled items at a cost that does not depend on the pool's size.

``subset:500:max-entropy`` scores 500 random candidates instead of the whole pool: the control that
the paper lacks (decisions 11), because it takes constant time without any generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from alharness.errors import UserError
from alharness.strategy import (
    Adaptation,
    CycleView,
    PoolQuery,
    Preparation,
    Query,
    Strategy,
    draw_unlabelled,
)


class SubsetStrategy(Strategy):
    """subset:SIZE:NAME: any scoring strategy over SIZE random candidates per cycle.

    Args:
        inner: a strategy that chooses among ``view.unlabelled``, as every ``ScoreStrategy`` does.
        size: number of candidates per cycle; all that is left when fewer are left, and at least
            as many as are asked for.

    Raises:
        UserError: ``inner`` does not choose among the candidates, or ``size`` is not positive.
    """

    source = "control: constant time without a generator"
    takes = "SIZE:STRATEGY"

    def __init__(self, inner: Strategy, size: int) -> None:
        super().__init__()
        if size < 1:
            raise UserError(f"subset needs a positive number of candidates; found {size}.")
        self.inner = inner
        self.size = size
        self.parameters = inner.parameters
        self.learner_needs = inner.learner_needs
        if inner.asks_synthetic or inner.labels_everything:
            raise self._refusal()

    @classmethod
    def parse(cls, argument: str) -> tuple[dict[str, Any], str]:
        size, _, inner = argument.partition(":")
        if not size.isdecimal() or int(size) < 1 or not inner:
            raise UserError(
                "Expected subset:SIZE:STRATEGY, for instance subset:500:max-entropy; found "
                f"'subset:{argument}'."
            )
        return {"size": int(size)}, inner

    def _refusal(self) -> UserError:
        return UserError(
            f"subset:{self.size} expects a strategy that chooses among view.unlabelled, such as "
            f"max-entropy; {type(self.inner).__name__} does not. Use it without 'subset:'."
        )

    def unsuitable(self, n_classes: int, item_shape: tuple[int, ...]) -> str | None:
        return self.inner.unsuitable(n_classes, item_shape)

    def prepare(self, preparation: Preparation) -> Adaptation | None:
        return self.inner.prepare(preparation)

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int] | None:
        return self.inner.work_bound(min(n_unlabelled, max(self.size, query_size)), query_size)

    def select(self, view: CycleView, query_size: int) -> Query:
        size = min(view.n_unlabelled, max(self.size, query_size))
        with view.stopwatch.phase("candidates"):
            candidates = draw_unlabelled(view, size, "subset").sort().values
        query = self.inner.select(view.narrowed(candidates), query_size)
        if not isinstance(query, PoolQuery) or not bool(
            torch.isin(query.indices, candidates).all()
        ):
            raise self._refusal()
        return query
