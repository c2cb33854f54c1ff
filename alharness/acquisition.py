"""Acquisition scores: pure functions of predictions; larger means ask sooner.

Shape letters: N items, C classes, S sets of parameters.
"""

from __future__ import annotations

import math

import torch

#: A log probability whose exponential is 0 in every floating-point type.
_LOG_OF_NOTHING = -1e4


def entropy(log_p_NC: torch.Tensor) -> torch.Tensor:
    """Shannon entropy in nats, ``H = -sum_c p_c log p_c`` (paper, Eq. 1), shape ``[N]``.

    Computed from log probabilities: a class of probability 0 contributes 0, never NaN.
    """
    # 0 * -inf would be NaN; the limit of p log p at 0 is 0. Below the floor p is 0 in float64, too.
    return -(log_p_NC.exp() * log_p_NC.clamp(min=_LOG_OF_NOTHING)).sum(dim=-1)


def margin(log_p_NC: torch.Tensor) -> torch.Tensor:
    """Minus the gap between the two most probable classes, shape ``[N]``, in [-1, 0]."""
    top = log_p_NC.exp().topk(2, dim=-1).values
    return top[..., 1] - top[..., 0]


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
    log_p_SNC = log_p_SNC.double()  # a difference of two numbers that are nearly equal
    mean_NC = log_p_SNC.logsumexp(dim=0) - math.log(len(log_p_SNC))
    return entropy(mean_NC) - entropy(log_p_SNC).mean(dim=0)


def vote_entropy(log_p_SNC: torch.Tensor) -> torch.Tensor:
    """Entropy of the classes that S sets of parameters vote for, in nats, shape ``[N]``.

    I. Dagan, S. P. Engelson, "Committee-Based Sampling for Training Probabilistic Classifiers", ICML 1995.
    Equal entropies are equal to the last bit, as there are few of them and another rule decides then.

    Args:
        log_p_SNC: log probabilities under S sets of parameters.
    """
    n_classes = log_p_SNC.shape[2]
    votes_NC = torch.nn.functional.one_hot(log_p_SNC.argmax(dim=2), n_classes).sum(dim=0)
    # The same counts of other classes are added up in one order; other counts of equal entropy, as 4, 3, 3
    # and 6, 2, 1, 1 of ten votes, differ far beyond the twelfth digit, and unequal ones before it.
    votes_NC = votes_NC.sort(dim=1).values
    return entropy((votes_NC.double() / len(log_p_SNC)).log()).round(decimals=12)


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
