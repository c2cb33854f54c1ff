"""Two strategies of one's own. Try them without installing anything:

alharness check ./examples/my_strategy.py:Spread
alharness run --strategy ./examples/my_strategy.py:Spread --dataset digits-ten
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field

from alharness import acquisition
from alharness.strategy import CycleView, Parameters, PoolQuery, ScoreStrategy, Strategy


class Gini(ScoreStrategy):
    """Ask where the Gini impurity of the prediction is largest."""

    def score(self, log_p_NC: torch.Tensor) -> torch.Tensor:
        return 1 - log_p_NC.exp().square().sum(dim=-1)


class SpreadParameters(Parameters):
    """What ``--set strategy.NAME=VALUE`` may set."""

    shortlist: int = Field(10, ge=1, description="uncertain items looked at per item asked for")


class Spread(Strategy):
    """Ask about uncertain items that lie far apart in the classifier's features."""

    Parameters: ClassVar[type[Parameters]] = SpreadParameters
    parameters: SpreadParameters

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        # The promise that 'alharness check' holds the counters against.
        return {
            "pool_items_scored": n_unlabelled,
            "pool_items_featurised": self.parameters.shortlist * query_size,
        }

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        # Phases split select_s in the record; what stands outside any is called "other".
        with view.stopwatch.phase("score"):
            scores_N = view.scan(lambda items: acquisition.margin(view.learner.log_probs(items)))
        with view.stopwatch.phase("spread"):
            n_listed = min(self.parameters.shortlist * query_size, view.n_unlabelled)
            # top_k breaks ties by index, so a query does not depend on the device.
            listed = view.unlabelled[acquisition.top_k(scores_N, n_listed)]
            features_MD = view.learner.features(view.pool.gather(listed)).flatten(1)
            # view.scan counts by itself; what a strategy reads on its own it counts on its own.
            view.work.add("pool_items_featurised", n_listed)
            chosen = farthest_first(features_MD, query_size)
        return PoolQuery(listed[chosen])


def farthest_first(points_MD: torch.Tensor, k: int) -> torch.Tensor:
    """Rows that lie far apart, the first row first; int64 ``[k]`` on the CPU."""
    chosen = [0]
    distances_M = (points_MD - points_MD[0]).square().sum(dim=1)
    distances_M[0] = -1.0  # never again, even where everything is equal
    while len(chosen) < k:
        row = int(acquisition.top_k(distances_M, 1))
        chosen.append(row)
        nearer_M = (points_MD - points_MD[row]).square().sum(dim=1)
        distances_M = torch.minimum(distances_M, nearer_M)
        distances_M[row] = -1.0
    return torch.tensor(chosen)
