"""Learning loss.

D. Yoo, I. S. Kweon, "Learning Loss for Active Learning", CVPR 2019: ask about the items for which a
module trained beside the classifier predicts the largest loss.

Differs from the paper: all unlabelled items are scored, as the ASAL paper's Table 2 counts it; the
original scores 10,000 random ones, which is ``subset:10000:learning-loss`` here. The classifier is the
harness's, see ``alharness.learners.loss_prediction``.
"""

from __future__ import annotations

from collections.abc import Mapping

from alharness import acquisition
from alharness.strategy import Adaptation, CycleView, PoolQuery, Preparation, Strategy

#: Where ``alharness list`` shows it.
FAMILY = "Uncertainty, with a network that predicts its own loss"


class LearningLoss(Strategy):
    """Ask about the items with the largest loss as the classifier itself predicts it."""

    source = "Yoo & Kweon 2019"
    learner_needs = frozenset({"activations"})

    def prepare(self, preparation: Preparation) -> Adaptation:
        # Networks, and so torch: not before there is something to train.
        from alharness.learners.loss_prediction import learning_loss_factory

        return Adaptation(learner_factory=learning_loss_factory(preparation.learner_settings))

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        return {"pool_items_scored": n_unlabelled}

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        from alharness.learners.loss_prediction import LearningLossLearner

        learner = view.learner
        assert isinstance(learner, LearningLossLearner)
        candidates = view.unlabelled
        with view.stopwatch.phase("score"):
            # No cut to 10,000 random candidates, as Table 2 counts it; subset:10000: is the original.
            scores = view.scan(learner.predicted_loss, candidates)
        with view.stopwatch.phase("top_k"):
            return PoolQuery(candidates[acquisition.top_k(scores, query_size)])
