"""BALD: Bayesian active learning by disagreement.

N. Houlsby, F. Huszar, Z. Ghahramani, M. Lengyel, "Bayesian Active Learning for Classification and
Preference Learning", arXiv 1112.5745, 2011; for networks with dropout Y. Gal, R. Islam, Z. Ghahramani,
"Deep Bayesian Active Learning with Image Data", ICML 2017: ask where a label would tell most about the
parameters, where each set of them is certain and they disagree.

Differs from the paper: the sets of parameters are the members of an ensemble (``learner.members``) where
there is one; with dropout all items are seen under the same masks, as BatchBALD needs it.

Shape letters: S sets of parameters, N items, C classes.
"""

from __future__ import annotations

from alharness import acquisition
from alharness.strategy import CommitteeStrategy, CycleView, PoolQuery

#: Where ``alharness list`` shows it.
FAMILY = "Disagreement (needs learner.dropout, or an ensemble)"


class Bald(CommitteeStrategy):
    """Ask about items on which certain sets of parameters disagree; needs dropout or members."""

    optimises = False
    source = "Houlsby et al. 2011; Gal et al. 2017"

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        with view.stopwatch.phase("score"):
            scores = self.scan(view, acquisition.mutual_information)
        with view.stopwatch.phase("top_k"):
            chosen = acquisition.top_k(scores, query_size)
        return PoolQuery(view.unlabelled[chosen])
