"""A random subset of the unlabelled items at a cost that does not depend on the pool's size.

``subset:500:max-entropy`` scores 500 random candidates instead of the whole pool: the control that
the paper lacks (decisions 11), because it takes constant time without any generator.
"""

from __future__ import annotations

from collections.abc import Mapping

from alharness.lazily import torch
from alharness.strategy import CycleView, NarrowingStrategy, draw_unlabelled

#: Where ``alharness list`` shows it.
FAMILY = "Over a part of the pool"


class SubsetStrategy(NarrowingStrategy):
    """subset:SIZE:NAME: any scoring strategy over SIZE random candidates per cycle.

    All that is left when fewer are left, and at least as many as are asked for.
    """

    source = "control: constant time without a generator"
    takes = "SIZE:STRATEGY"
    example = "20:max-entropy"
    takes_as = "subset"
    counts = "candidates"

    @property
    def size(self) -> int:
        """Candidates per cycle."""
        return self.number

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int] | None:
        return self.inner.work_bound(min(n_unlabelled, max(self.size, query_size)), query_size)

    def candidates(self, view: CycleView, at_least: int) -> torch.Tensor:
        size = min(view.n_unlabelled, max(self.size, at_least))
        return draw_unlabelled(view, size, "subset").sort().values
