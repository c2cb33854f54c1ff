"""Acquisition scores: pure functions of predictions; larger means ask sooner.

Shape letters: N items, C classes, S sets of parameters.
"""

from __future__ import annotations

from collections.abc import Callable

from alharness.lazily import functional, torch

#: A log probability whose exponential is 0 in every floating-point type.
_LOG_OF_NOTHING = -1e4
#: Numbers of a committee's predictions that are worked on at once on a CPU, so that what is made of them
#: (float64 and its exponentials, or comparisons) stays in a core's cache. A GPU takes all: few launches.
_IN_CACHE, _COMPARED_IN_CACHE = 1 << 15, 1 << 18
#: Classes up to which the two largest are found by going through them with all items side by side.
_FEW_CLASSES = 32


def entropy(log_p_NC: torch.Tensor) -> torch.Tensor:
    """Shannon entropy in nats, ``H = -sum_c p_c log p_c`` (paper, Eq. 1), shape ``[N]``.

    Computed from log probabilities: a class of probability 0 contributes 0, never NaN.
    """
    # 0 * -inf would be NaN; the limit of p log p at 0 is 0. Below the floor p is 0 in float64, too.
    return -(log_p_NC.exp() * log_p_NC.clamp(min=_LOG_OF_NOTHING)).sum(dim=-1)


def margin(log_p_NC: torch.Tensor) -> torch.Tensor:
    """Minus the gap between the two most probable classes, shape ``[N]``, in [-1, 0]."""
    n_classes = log_p_NC.shape[-1]
    # The order of log probabilities is that of probabilities: two exponentials an item, not C.
    if n_classes > _FEW_CLASSES or log_p_NC.requires_grad:
        top = log_p_NC.topk(2, dim=-1).values.exp()
        return top[..., 1] - top[..., 0]
    # A fifth of the time of topk, which sorts ten numbers for each item.
    first = log_p_NC[..., 0]
    second = torch.full_like(first, -torch.inf)
    for c in range(1, n_classes):
        other = log_p_NC[..., c]
        second = torch.maximum(second, torch.minimum(first, other))
        first = torch.maximum(first, other)
    return second.exp() - first.exp()


def least_confidence(log_p_NC: torch.Tensor) -> torch.Tensor:
    """One minus the probability of the most probable class, shape ``[N]``."""
    return 1.0 - log_p_NC.amax(dim=-1).exp()


def mutual_information(log_p_SNC: torch.Tensor) -> torch.Tensor:
    """How much a label would tell about the parameters, ``H(mean_s p) - mean_s H(p)``, shape ``[N]``.

    BALD: N. Houlsby, F. Huszar, Z. Ghahramani, M. Lengyel, "Bayesian Active Learning for Classification
    and Preference Learning", arXiv 1112.5745, 2011, Eq. 2.

    Args:
        log_p_SNC: log probabilities under S sets of parameters.
    """

    def of_block(part_SBC: torch.Tensor) -> torch.Tensor:
        # float64, for the difference of two numbers that are nearly equal.
        log_p_SBC = part_SBC.to(torch.float64, copy=True).clamp_(min=_LOG_OF_NOTHING)
        p_SBC = log_p_SBC.exp()
        of_mean_B = _entropy_of(p_SBC.mean(dim=0))
        # Sets first: vectors as long as the block, where the classes alone would be ten numbers.
        return of_mean_B + p_SBC.mul_(log_p_SBC).sum(dim=0).sum(dim=1) / len(part_SBC)

    return _in_blocks(of_block, log_p_SNC, _IN_CACHE)


def mean_entropy(log_p_SNC: torch.Tensor) -> torch.Tensor:
    """Entropy of the mean prediction of S sets of parameters in nats, float64 ``[N]``."""
    return _in_blocks(
        lambda part: _entropy_of(part.double().exp().mean(dim=0)), log_p_SNC, _COMPARED_IN_CACHE
    )


def _entropy_of(p_NC: torch.Tensor) -> torch.Tensor:
    return -(p_NC * p_NC.log().clamp(min=_LOG_OF_NOTHING)).sum(dim=1)


def _in_blocks(
    score: Callable[[torch.Tensor], torch.Tensor], log_p_SNC: torch.Tensor, values: int
) -> torch.Tensor:
    """``score`` of a committee's predictions, of so many numbers at a time where a cache is to be kept."""
    if log_p_SNC.device.type != "cpu":
        return score(log_p_SNC)
    n_sets, _, n_classes = log_p_SNC.shape
    step = max(1, values // (n_sets * n_classes))
    return torch.cat([score(part) for part in log_p_SNC.split(step, dim=1)])


def vote_entropy(log_p_SNC: torch.Tensor) -> torch.Tensor:
    """Entropy of the classes that S sets of parameters vote for, in nats, shape ``[N]``.

    I. Dagan, S. P. Engelson, "Committee-Based Sampling for Training Probabilistic Classifiers", ICML 1995.
    Equal entropies are equal to the last bit, as there are few of them and another rule decides then.

    Args:
        log_p_SNC: log probabilities under S sets of parameters.
    """
    n_sets = len(log_p_SNC)
    share = torch.arange(n_sets + 1, dtype=torch.float64, device=log_p_SNC.device) / n_sets
    terms = -share * share.log().clamp(min=_LOG_OF_NOTHING)
    # Whole numbers add up to the same in any order of the classes, and 2^50 log C is exact in float64.
    whole = (terms * 2.0**50).round().long()
    votes_NC = _in_blocks(_votes, log_p_SNC, _COMPARED_IN_CACHE)
    summed_N = whole.index_select(0, votes_NC.flatten()).view(votes_NC.shape).sum(dim=1)
    # Counts of equal entropy, as 4, 3, 3 and 6, 2, 1, 1 of ten votes, differ far beyond the twelfth digit.
    return summed_N.double().mul(2.0**-50).round(decimals=12)


def _votes(log_p_SNC: torch.Tensor) -> torch.Tensor:
    """How many of S sets of parameters vote for each class, the first of equals, int32 ``[N, C]``."""
    # A third of the time of argmax, which walks through ten classes one by one.
    is_best_SNC = log_p_SNC == log_p_SNC.amax(dim=2, keepdim=True)
    votes_NC = is_best_SNC.view(torch.uint8).sum(dim=0, dtype=torch.int32)
    tied = (votes_NC.sum(dim=1) != len(log_p_SNC)).nonzero().squeeze(1)
    if len(tied):
        first_ST = log_p_SNC[:, tied].argmax(dim=2)
        votes_NC[tied] = functional.one_hot(first_ST, log_p_SNC.shape[2]).sum(dim=0).int()
    return votes_NC


#: Scores by the name that ``--set strategy.score=`` takes.
SCORES = {"entropy": entropy, "margin": margin, "least-confidence": least_confidence}


def top_k(scores_N: torch.Tensor, k: int) -> torch.Tensor:
    """Indices of the k largest scores, best first, ties by smaller index; int64 ``[k]`` on the CPU.

    ``torch.topk`` breaks ties differently from device to device, and a query must not depend on
    that: the k-th value is found with it, the choice among equals is made by index.

    Raises:
        ValueError: fewer than k scores above minus infinity, or a NaN among them.
    """
    if k <= 0:
        return torch.empty(0, dtype=torch.int64)
    if k > len(scores_N):
        raise ValueError(f"asked for the {k} best of {len(scores_N)} scores")
    best = scores_N.topk(k).values
    if bool(best.isnan().any()):  # NaN counts as the largest of all
        raise ValueError("a score is NaN")
    kth = best[-1]
    if bool(kth == -torch.inf):
        raise ValueError(f"fewer than {k} items can be asked about")
    found = (scores_N >= kth).nonzero().squeeze(1)  # few, unless many scores are equal
    is_above = scores_N[found] > kth
    above = found[is_above]
    chosen = torch.cat([above, found[~is_above][: k - len(above)]])
    # Each part ascends, so a stable sort keeps ties by index.
    order = torch.argsort(scores_N[chosen].cpu(), descending=True, stable=True)
    return chosen.cpu()[order]
