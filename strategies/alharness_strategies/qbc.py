"""Query by committee, with vote entropy.

H. S. Seung, M. Opper, H. Sompolinsky, "Query by Committee", COLT 1992; vote entropy by I. Dagan, S. P.
Engelson, "Committee-Based Sampling for Training Probabilistic Classifiers", ICML 1995: ask where the
members' votes are spread most evenly over the classes.

Differs from the paper: the committee are the members of an ensemble (``learner.members``), or samples of
a network with dropout. Few members have few different votes: among equal vote entropies the item with
the larger entropy of the mean prediction comes first.

Shape letters: S members, N items, C classes.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from alharness import acquisition
from alharness.lazily import torch
from alharness.strategy import CommitteeStrategy, CycleView, PoolQuery

#: Where ``alharness list`` shows it.
FAMILY = "Disagreement (needs learner.dropout, or an ensemble)"


class QueryByCommittee(CommitteeStrategy):
    """Ask about items on which the votes of a committee are split; needs dropout or members."""

    optimises = False
    source = "Seung et al. 1992; Dagan & Engelson 1995"

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        with view.stopwatch.phase("score"):
            judged = self.scan(view, partial(scores, k=query_size), dim=1)
            votes_N, mean_N = judged.cpu().numpy()
        with view.stopwatch.phase("top_k"):
            order = np.lexsort((-mean_N, -votes_N))[:query_size]  # stable: then by index
        return PoolQuery(view.unlabelled[torch.from_numpy(order.copy())])


def scores(log_p_SNC: torch.Tensor, k: int | None = None) -> torch.Tensor:
    """Vote entropy and entropy of the mean prediction, float64 ``[2, N]``.

    Args:
        log_p_SNC: log probabilities under S sets of parameters.
        k: so many of these items can be chosen at most: an item that k others surpass in votes is out
            whatever its mean prediction, which is left at minus infinity. By default all are worked out.
    """
    votes_N = acquisition.vote_entropy(log_p_SNC)
    if k is None or k >= len(votes_N):
        return torch.stack([votes_N, acquisition.mean_entropy(log_p_SNC)])
    # Exponentials of all members' predictions cost twice what counting votes does.
    in_reach = (votes_N >= votes_N.topk(k).values[-1]).nonzero().squeeze(1)
    mean_N = torch.full_like(votes_N, -torch.inf)
    mean_N[in_reach] = acquisition.mean_entropy(log_p_SNC[:, in_reach])
    return torch.stack([votes_N, mean_N])
