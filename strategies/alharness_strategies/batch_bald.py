"""BatchBALD: the batch of labels that together tells most about the parameters.

A. Kirsch, J. van Amersfoort, Y. Gal, "BatchBALD: Efficient and Diverse Batch Acquisition for Deep Bayesian
Active Learning", NeurIPS 2019: picks greedily by ``I(y_1 .. y_b; theta) = H(y_1 .. y_b) - sum_i E H(y_i |
theta)``, so that two items that tell the same are not both asked about.

The joint entropy is exact while the outcomes of the picks so far, C^(b-1) of them, are no more than
``max_outcomes``; then it is estimated from as many outcomes drawn from their joint distribution
(Sec. 3.3). ``exact_picks`` among a query's diagnostics says how many picks were exact.

Differs from the paper: the sets of parameters are the members of an ensemble (``learner.members``) where
there is one. Outcomes are drawn anew for every pick.

Shape letters: S sets of parameters, N items, C classes, B picks, M outcomes.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from alharness import acquisition
from alharness.lazily import torch
from alharness.strategy import (
    CommitteeParameters,
    CommitteeStrategy,
    CycleView,
    Parameters,
    PoolQuery,
)

#: Where ``alharness list`` shows it.
FAMILY = "Disagreement (needs learner.dropout, or an ensemble)"

#: Numbers of the joint distribution of a block of candidates that are held at once: a GPU wants few
#: blocks, a CPU ones that stay in its cache (2 MB: half the time of 128 MB).
VALUES, VALUES_CPU = 1 << 24, 1 << 18

#: Finite, so that it is nothing times nothing.
LOG_OF_NOTHING = -1e300


class BatchBaldParameters(CommitteeParameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    max_outcomes: int = Field(
        1000, ge=1, description="outcomes of the picks up to which, and by which, entropies are had"
    )


class BatchBald(CommitteeStrategy):
    """Ask about items whose labels together tell most about the parameters; needs dropout or members."""

    Parameters: ClassVar[type[Parameters]] = BatchBaldParameters
    parameters: BatchBaldParameters
    optimises = False
    source = "Kirsch et al. 2019"

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        with view.stopwatch.phase("score"):
            p_SNC = self.scan(view, lambda log_p_SBC: log_p_SBC.double().exp(), dim=1)
        with view.stopwatch.phase("pick"):
            rng = view.torch_rng("outcomes")
            chosen, n_exact = pick(p_SNC, query_size, self.parameters.max_outcomes, rng)
        return PoolQuery(
            view.unlabelled[chosen],
            diagnostics={"exact_picks": float(n_exact), "committee": float(len(p_SNC))},
        )


def pick(
    p_SNC: torch.Tensor, k: int, max_outcomes: int, rng: torch.Generator
) -> tuple[torch.Tensor, int]:
    """Greedy choice by joint mutual information.

    Args:
        p_SNC: probabilities, float64.
        k: how many.
        max_outcomes: of the picks so far; more are sampled down to about so many.
        rng: on the CPU, draws those.

    Returns:
        item numbers in order of choice, int64 ``[k]`` on the CPU, and how many had exact entropies.
    """
    n_classes = p_SNC.shape[2]
    conditional_N = acquisition.entropy(p_SNC.log()).mean(dim=0)
    chosen: list[int] = []
    n_exact = 0
    joint_SM = p_SNC.new_ones(len(p_SNC), 1)  # of no picks: one outcome
    log_scale_M = None
    for number in range(k):
        exact = n_classes**number <= max_outcomes
        n_exact += exact
        if exact and chosen:
            joint_SM = (joint_SM[:, :, None] * p_SNC[:, chosen[-1], None]).flatten(1)
        elif not exact:
            joint_SM, log_scale_M = draw_outcomes(p_SNC[:, chosen], max_outcomes, rng)
        scores_N = joint_entropy(joint_SM, p_SNC, log_scale_M) - conditional_N
        scores_N[chosen] = -torch.inf
        chosen.append(int(acquisition.top_k(scores_N, 1)))
    return torch.tensor(chosen), n_exact


def joint_entropy(
    joint_SM: torch.Tensor, p_SNC: torch.Tensor, log_scale_M: torch.Tensor | None = None
) -> torch.Tensor:
    """Entropy of the picks so far together with each item, ``[N]`` in nats.

    Args:
        joint_SM: probability of each outcome of the picks under each set of parameters.
        p_SNC: the items'.
        log_scale_M: None where the M outcomes are all. Otherwise they are draws from their distribution,
            their probabilities ``joint_SM * exp(log_scale_M)``, and the mean over them of
            ``- sum_c p(c | outcome) log p(outcome, c)`` estimates the entropy.
    """
    n_sets, n_outcomes = joint_SM.shape
    n_classes = p_SNC.shape[2]
    if log_scale_M is None:
        weight_M, of_scales = torch.ones_like(joint_SM[0]), 0.0
    else:
        # The scales cancel in p(c | outcome), whose sum is 1: their logarithms stand apart, the same for
        # all items. With the terms they would weigh what float32 leaves that sum short of 1.
        weight_M, of_scales = 1 / (n_outcomes * joint_SM.mean(dim=0)), -float(log_scale_M.mean())
    joint_MS = (joint_SM / n_sets).T.contiguous()
    values = VALUES_CPU if p_SNC.device.type == "cpu" else VALUES
    parts = []
    for part_SBC in p_SNC.split(max(1, values // (n_outcomes * n_classes)), dim=1):
        p_MV = joint_MS @ part_SBC.flatten(1)  # V: an item's classes, item after item
        # 0 log 0 is 0. A third of the time of torch.xlogy, which looks at each number twice.
        terms_MV = p_MV.log().clamp_(min=LOG_OF_NOTHING).mul_(p_MV)
        parts.append(-(weight_M @ terms_MV).view(-1, n_classes).sum(dim=1))
    return torch.cat(parts) + of_scales


def draw_outcomes(
    p_SBC: torch.Tensor, n: int, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """About ``n`` outcomes drawn from the picks' joint distribution.

    The distribution is a mixture of S products: equally many outcomes are drawn from each.

    Args:
        p_SBC: probabilities of the picks' classes.
        n: outcomes in all; M is the next multiple of S.
        rng: on the CPU.

    Returns:
        probabilities ``[S, M]``, each outcome's largest over the S scaled to 1, and the logarithms of
        those scales ``[M]``: a product of three hundred classes' probabilities is no float64 any more.
    """
    n_sets, n_picks, _ = p_SBC.shape
    per_set = -(-n // n_sets)
    rows = p_SBC.flatten(0, 1).cpu()
    drawn = torch.multinomial(rows, per_set, replacement=True, generator=rng)  # [S * B, M / S]
    outcomes_BM = drawn.view(n_sets, n_picks, per_set).transpose(0, 1).flatten(1).to(p_SBC.device)
    log_p_SBC = p_SBC.log()
    log_joint_SM = p_SBC.new_zeros(n_sets, outcomes_BM.shape[1])
    for number in range(n_picks):
        log_joint_SM += log_p_SBC[:, number, outcomes_BM[number]]
    # Finite: the set that an outcome was drawn from allows it.
    log_scale_M = log_joint_SM.amax(dim=0)
    return (log_joint_SM - log_scale_M).exp(), log_scale_M
