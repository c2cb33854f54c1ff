"""Random sampling: the passive baseline of every figure (Sec. 4.2).

Differs from the paper: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from alharness.strategy import CycleView, PoolQuery, Strategy, draw_unlabelled

#: Where ``alharness list`` shows it.
FAMILY = "Baselines"


class RandomSampling(Strategy):
    """Ask about unlabelled items drawn uniformly at random."""

    optimises = False
    source = "Mayer & Timofte 2020, Sec. 4.2"

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        return {"pool_items_scored": 0, "bytes_read": 0}

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        with view.stopwatch.phase("draw"):
            return PoolQuery(draw_unlabelled(view, query_size, "random"))
