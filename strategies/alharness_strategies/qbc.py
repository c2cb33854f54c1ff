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

import math

import numpy as np
import torch

from alharness import acquisition
from alharness.strategy import CommitteeStrategy, CycleView, PoolQuery


class QueryByCommittee(CommitteeStrategy):
    """Ask about items on which the votes of a committee are split; needs dropout or members."""

    source = "Seung et al. 1992; Dagan & Engelson 1995"

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        with view.stopwatch.phase("score"):
            votes_N, mean_N = self.scan(view, scores, dim=1).cpu().numpy()
        with view.stopwatch.phase("top_k"):
            order = np.lexsort((-mean_N, -votes_N))[:query_size]  # stable: then by index
        return PoolQuery(view.unlabelled[torch.from_numpy(order.copy())])


def scores(log_p_SNC: torch.Tensor) -> torch.Tensor:
    """Vote entropy and entropy of the mean prediction, ``[2, N]``."""
    mean_NC = log_p_SNC.double().logsumexp(dim=0) - math.log(len(log_p_SNC))
    return torch.stack([acquisition.vote_entropy(log_p_SNC), acquisition.entropy(mean_NC)])
