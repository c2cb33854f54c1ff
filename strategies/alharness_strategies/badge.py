"""BADGE: batch active learning by diverse gradient embeddings.

J. T. Ash, C. Zhang, A. Krishnamurthy, J. Langford, A. Agarwal, "Deep Batch Active Learning by Diverse,
Uncertain Gradient Lower Bounds", ICLR 2020: k-means++ seeding on the gradients of the last layer's
weights under the predicted label. An uncertain item has a long gradient, and far gradients are diverse.

Differs from the paper: nothing in the result. The gradient of an item is an outer product
``(p - onehot) x h`` of C and D numbers; here it stays one, so that no matrix of N x C*D numbers is
built: ``|a x h - b x g|^2 = |a|^2 |h|^2 + |b|^2 |g|^2 - 2 (a.b) (h.g)``.

Shape letters: N candidates, C classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

from alharness.strategy import CycleView, PoolQuery, Strategy


class Badge(Strategy):
    """Ask about items whose loss gradients would be long and point different ways."""

    source = "Ash et al. 2020"

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        return {"pool_items_scored": n_unlabelled, "distances": n_unlabelled * query_size}

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        candidates = view.unlabelled
        with view.stopwatch.phase("score"):
            errors_NC, features_ND = embeddings(view, candidates)
        with view.stopwatch.phase("k_means_plus_plus"):
            chosen = seed_centres(errors_NC, features_ND, query_size, view.rng("badge"))
        view.work.add("distances", (query_size - 1) * len(candidates))
        return PoolQuery(candidates[chosen])


def embeddings(view: CycleView, candidates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The two factors of each gradient: ``p - onehot(argmax p)`` ``[N, C]`` and features ``[N, D]``."""
    errors, features = [], []
    for _, items in view.pool.blocks(candidates):
        p_BC = view.learner.log_probs(items).exp()
        errors.append(p_BC - functional.one_hot(p_BC.argmax(dim=1), view.n_classes))
        features.append(view.learner.features(items))
    view.work.add("pool_items_scored", len(candidates))
    view.work.add("bytes_read", len(candidates) * view.pool.item_bytes)
    return torch.cat(errors), torch.cat(features)


def seed_centres(
    errors_NC: torch.Tensor, features_ND: torch.Tensor, k: int, rng: np.random.Generator
) -> torch.Tensor:
    """k-means++ seeding: the longest gradient, then each with probability ~ distance squared.

    Where every gradient left lies on a chosen one, the first ones in order.

    Returns:
        row numbers in the order of choice, int64 ``[k]`` on the CPU.
    """
    lengths_N = errors_NC.square().sum(dim=1) * features_ND.square().sum(dim=1)
    nearest_N = torch.full_like(lengths_N, torch.inf)
    free = torch.ones(len(lengths_N), dtype=torch.bool, device=lengths_N.device)
    chosen = [int(lengths_N.argmax())]
    while len(chosen) < k:
        last = chosen[-1]
        free[last] = False
        inner_N = (errors_NC @ errors_NC[last]) * (features_ND @ features_ND[last])
        distances_N = lengths_N + lengths_N[last] - 2 * inner_N
        # Below what float32 can tell, two gradients are equal.
        distances_N[distances_N < 1e-6 * (lengths_N + lengths_N[last])] = 0.0
        nearest_N = torch.minimum(nearest_N, distances_N)
        cumulative_N = nearest_N.masked_fill(~free, 0.0).double().cpu().cumsum(dim=0)
        total = float(cumulative_N[-1])
        if total > 0:
            row = int(torch.searchsorted(cumulative_N, rng.random() * total, right=True))
        else:
            row = int(free.nonzero()[0])
        chosen.append(row)
    return torch.tensor(chosen)
