"""Random sampling: the passive baseline of every figure (Sec. 4.2).

Differs from the paper: nothing.
"""

from __future__ import annotations

from alharness.strategy import CycleView, PoolQuery, Strategy
from alharness.subset import draw_unlabelled


class RandomSampling(Strategy):
    """Ask about unlabelled items drawn uniformly at random."""

    source = "Mayer & Timofte 2020, Sec. 4.2"

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        with view.stopwatch.phase("draw"):
            return PoolQuery(draw_unlabelled(view, query_size, "random"))
