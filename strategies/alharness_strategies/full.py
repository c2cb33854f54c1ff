"""The fully supervised bound: the classifier trained on every label of the pool (Sec. 5).

Differs from the paper: nothing.
"""

from __future__ import annotations

from alharness.strategy import CycleView, PoolQuery, Strategy

#: Where ``alharness list`` shows it.
FAMILY = "Baselines"


class FullySupervised(Strategy):
    """Label the whole pool at once: the bound that active learning approaches."""

    optimises = False
    source = "Mayer & Timofte 2020, Sec. 5"
    labels_everything = True
    follows_order = True

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        # The loop labels everything before cycle 0 and then has nothing to ask; asked all the
        # same (by the conformance checks), the next items in order are as good as any.
        return PoolQuery(view.unlabelled[:query_size])
