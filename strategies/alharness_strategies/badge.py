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

from alharness.lazily import functional, torch
from alharness.matching import spaces
from alharness.pool import scan
from alharness.strategy import CycleView, FeatureStrategy, PoolQuery

#: Where ``alharness list`` shows it.
FAMILY = "Uncertainty and diversity"

#: Weights that are added up on the device before they are read.
BLOCK = 1024


class Badge(FeatureStrategy):
    """Ask about items whose loss gradients would be long and point different ways."""

    optimises = False
    source = "Ash et al. 2020"

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        return {"pool_items_scored": n_unlabelled, "distances": n_unlabelled * query_size}

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        candidates = view.unlabelled
        with view.stopwatch.phase("score"):
            errors_NC, features_ND = embeddings(view, candidates, self.space)
        with view.stopwatch.phase("k_means_plus_plus"):
            chosen = seed_centres(errors_NC, features_ND, query_size, view.rng("badge"))
        view.work.add("distances", (query_size - 1) * len(candidates))
        return PoolQuery(candidates[chosen])


def embeddings(
    view: CycleView, candidates: torch.Tensor, space: spaces.Space
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two factors of each gradient: ``p - onehot(argmax p)`` ``[N, C]`` and features ``[N, D]``.

    Features of another space than the classifier's take the place of the second one: how wrong the
    classifier may be, and where the item lies.
    """
    classes_C = torch.arange(view.n_classes, device=view.device)
    is_own = space.name == "classifier"  # both factors in one pass over the items

    def factors(items: torch.Tensor) -> torch.Tensor:
        p_BC = view.learner.log_probs(items).exp()
        is_predicted_BC = p_BC.argmax(dim=1)[:, None] == classes_C
        errors_BC = p_BC - is_predicted_BC.float()
        return torch.cat([errors_BC, view.learner.features(items)], dim=1) if is_own else errors_BC

    blocks = [rows for _, rows in scan(view.pool, factors, candidates, work=view.work)]
    view.work.add("pool_items_scored", len(candidates))
    view.work.add("bytes_read", len(candidates) * view.pool.item_bytes)
    n = view.n_classes
    errors_NC = torch.cat([rows[:, :n] for rows in blocks])
    if not is_own:
        return errors_NC, space.of(view, candidates)
    return errors_NC, torch.cat([rows[:, n:] for rows in blocks])


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
    # The first is no draw in the authors' code either: the longest gradient.
    chosen = [int(lengths_N.argmax())]
    while len(chosen) < k:
        last = chosen[-1]
        free[last] = False
        # (a x h).(b x g) = (a.b)(h.g): C + D products an item in place of C * D.
        inner_N = (errors_NC @ errors_NC[last]) * (features_ND @ features_ND[last])
        distances_N = lengths_N + lengths_N[last] - 2 * inner_N
        # Below what float32 can tell, two gradients are equal.
        equal_N = distances_N < 1e-6 * (lengths_N + lengths_N[last])
        nearest_N = torch.minimum(nearest_N, distances_N.masked_fill(equal_N, 0.0))
        # One number is drawn in each round, whether or not it decides: later rounds stay aligned.
        row = draw(nearest_N.masked_fill(~free, 0.0), rng.random())
        chosen.append(int(free.nonzero()[0]) if row is None else row)
    return torch.tensor(chosen)


def draw(weights_N: torch.Tensor, u: float) -> int | None:
    """The item at the share ``u`` of all weights, in float64; None where all weights are 0.

    Sums of ``BLOCK`` weights, and then the weights of one block, go to the host: 16 kB of a million
    items instead of 8 MB. A running sum on a GPU would not be the same each time; these sums are.
    """
    weights_MB = functional.pad(weights_N, (0, -len(weights_N) % BLOCK)).view(-1, BLOCK)
    upto_M = weights_MB.sum(dim=1, dtype=torch.float64).cpu().cumsum(dim=0)
    total = float(upto_M[-1])
    if not total > 0:
        return None
    block = _first_above(upto_M, u * total)
    before = float(upto_M[block - 1]) if block else 0.0
    upto_B = weights_MB[block].double().cpu().cumsum(dim=0)
    return block * BLOCK + _first_above(upto_B, u * total - before)


def _first_above(rising: torch.Tensor, value: float) -> int:
    """First place that is above ``value``; where rounding leaves none, the one that reaches the end."""
    end = int(torch.searchsorted(rising, rising[-1]))
    return min(int(torch.searchsorted(rising, value, right=True)), end)
