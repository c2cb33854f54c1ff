"""A random subset of the unlabelled items at a cost that does not depend on the pool's size.

``subset:500:max-entropy`` scores 500 random candidates instead of the whole pool: the control that
the paper lacks (decisions 11), because it takes constant time without any generator.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from alharness.errors import UserError
from alharness.strategy import (
    Adaptation,
    CycleView,
    PoolQuery,
    Preparation,
    Query,
    Strategy,
)


def draw_unlabelled(view: CycleView, size: int, *purpose: str | int) -> torch.Tensor:
    """``size`` distinct unlabelled pool indices in random order, int64 on the CPU.

    Draws positions of the whole pool and drops those that cannot be asked about or are drawn
    already: O(size). Only when most of the pool is taken, or most of the rest is wanted, it
    permutes the rest instead.

    Args:
        view: the cycle's view.
        size: how many.
        purpose: names the randomness, as in ``view.rng``.

    Raises:
        ValueError: fewer than ``size`` items are unlabelled.
    """
    n, n_left = view.pool.n, view.n_unlabelled
    if size > n_left:
        raise ValueError(f"asked for {size} of {n_left} unlabelled items")
    rng = view.rng(*purpose)
    if 2 * size > n_left or 4 * n_left < n:
        return torch.from_numpy(rng.permutation(view.unlabelled.numpy())[:size])
    is_labelled = view.is_labelled.numpy()
    drawn = np.empty(0, dtype=np.int64)
    while len(drawn) < size:
        more = rng.integers(n, size=2 * (size - len(drawn)) + 16)
        together = np.concatenate([drawn, more[~is_labelled[more]]])
        # Keeping the order of arrival makes every ordered subset equally likely.
        drawn = together[np.sort(np.unique(together, return_index=True)[1])]
    return torch.from_numpy(drawn[:size])


class SubsetStrategy(Strategy):
    """Another strategy that sees some random unlabelled items instead of all.

    Args:
        inner: a strategy that chooses among ``view.unlabelled``, as every ``ScoreStrategy`` does.
        size: number of candidates per cycle; all that is left when fewer are left, and at least
            as many as are asked for.

    Raises:
        UserError: ``inner`` does not choose among the candidates, or ``size`` is not positive.
    """

    source = "control: constant time without a generator"

    def __init__(self, inner: Strategy, size: int) -> None:
        super().__init__()
        if size < 1:
            raise UserError(f"subset needs a positive number of candidates; found {size}.")
        self.inner = inner
        self.size = size
        self.parameters = inner.parameters
        if inner.asks_synthetic or inner.labels_everything:
            raise self._refusal()

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
