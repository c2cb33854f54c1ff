"""The greedy bound: how much there is to gain, found by looking at the test set's labels. No strategy.

The upper curve of a benchmark, as the greedy oracle of T. Werner, J. Burchert, M. Stubbemann,
L. Schmidt-Thieme, "A Cross-Domain Benchmark for Active Learning" (CDALBench), NeurIPS 2024: of some sampled
items ask about the one after whose label the classifier is best on the test set. It is greedy over a sample,
so better queries may exist: a strategy can lie above it, and what lies far below it has something to gain.

Differs from the paper: items of a query are found one after the other, each with those before it; among
equals the smaller test loss decides, then the smaller index; where no item helps, the least harmful is taken.

The harness marks its runs by ``looks_at_test_labels``: no comparison ranks, tests or pairs them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from alharness.strategy import CycleView, Parameters, PoolQuery, Strategy, draw_unlabelled

#: Where ``alharness list`` shows it.
FAMILY = "Baselines"


class GreedyBoundParameters(Parameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    n_candidates: int = Field(20, ge=1, description="items tried for each label, drawn anew")
    metric: Literal["accuracy", "balanced_accuracy"] = Field(
        "accuracy", description="figure of the test set that it climbs"
    )


class GreedyBound(Strategy):
    """Bound, no strategy: ask about the items after whose labels the test figures are best."""

    Parameters: ClassVar[type[Parameters]] = GreedyBoundParameters
    parameters: GreedyBoundParameters
    source = "Werner et al. 2024 (greedy oracle)"
    looks_at_test_labels = True
    # Which items are drawn follows the pool's order.
    follows_order = True

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        judge, n = view.judge, self.parameters.n_candidates
        if judge is None:
            # The conformance checks ask without a test set, as 'full' is asked: any items will do.
            return PoolQuery(draw_unlabelled(view, query_size, "candidates"))
        chosen = torch.empty(0, dtype=torch.int64)
        for place in range(query_size):
            rest = view.unlabelled[~torch.isin(view.unlabelled, chosen)]
            drawn = view.rng("candidates", place).permutation(len(rest))[:n]
            best: tuple[float, float] | None = None
            for candidate in rest[torch.from_numpy(drawn).sort().values].tolist():
                tried = torch.cat([chosen, torch.tensor([candidate])])
                with view.stopwatch.phase("judge"):
                    figures = judge(tried)
                view.work.add("classifiers_trained", 1)
                worth = (float(getattr(figures, self.parameters.metric)), -figures.log_loss)
                if best is None or worth > best:  # the first of equals has the smaller index
                    best, taken = worth, tried
            chosen = taken
        return PoolQuery(chosen)
