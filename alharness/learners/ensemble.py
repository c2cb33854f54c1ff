"""Several classifiers trained side by side, whose probabilities are averaged.

B. Lakshminarayanan, A. Pritzel, C. Blundell, "Simple and Scalable Predictive Uncertainty Estimation using
Deep Ensembles", NeurIPS 2017: members differ in their initial weights and in the order of batches, which
both follow from seeds derived from the fit's. Members that do not depend on a seed (the linear model) see
labels resampled with replacement instead (N. Abe, H. Mamitsuka, "Query Learning Strategies Using Boosting
and Bagging", ICML 1998); they would be equal otherwise.

Shape letters: S members, N items, C classes, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from alharness import seeds
from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.learner import FitReport, Learner
from alharness.pool import Pool


class Ensemble(Learner):
    """The mean of several classifiers' probabilities.

    Args:
        members: unfitted classifiers of one kind.
    """

    def __init__(
        self,
        item_shape: tuple[int, ...],
        n_classes: int,
        device: torch.device,
        members: Sequence[Learner],
    ) -> None:
        super().__init__(item_shape, n_classes, device)
        self.members = list(members)
        self.differentiable = all(member.differentiable for member in members)  # type: ignore[misc]

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        """Train every member; steps add up, losses are averaged."""
        reports = []
        for number, member in enumerate(self.members):
            own = seeds.derive(seed, "member", number)
            given = labelled if member.seeded else resampled(labelled, own)
            reports.append(member.fit(given, pool, seed=own))
        return FitReport(
            sum(report.steps for report in reports),
            sum(report.train_loss for report in reports) / len(reports),
            all(report.converged for report in reports),
        )

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        """Logarithm of the mean probability, ``[N, C]``."""
        log_p_SNC = torch.stack([m.logits(items).log_softmax(dim=-1) for m in self.members])
        return log_p_SNC.logsumexp(dim=0) - math.log(len(self.members))

    def features(self, items: torch.Tensor) -> torch.Tensor:
        """All members' features side by side, ``[N, S * D]``."""
        return torch.cat([member.features(items) for member in self.members], dim=1)

    def state(self) -> dict[str, torch.Tensor]:
        return {
            f"{number}.{name}": values
            for number, member in enumerate(self.members)
            for name, values in member.state().items()
        }

    def sample_log_probs(self, items: torch.Tensor, n: int, rng: torch.Generator) -> torch.Tensor:
        return torch.stack([member.log_probs(items) for member in self.members])

    def head_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        raise UserError(
            f"An ensemble of {len(self.members)} classifiers has as many heads. Set "
            "learner.members=1 for a strategy that needs the head's weights."
        )


def resampled(labelled: LabelledSet, seed: int) -> LabelledSet:
    """As many labels as there are, drawn with replacement."""
    drawn = torch.from_numpy(
        seeds.rng(seed, "bootstrap").integers(len(labelled), size=len(labelled))
    )
    n_pool = len(labelled.targets)
    of_pool, of_items = drawn[drawn < n_pool], drawn[drawn >= n_pool] - n_pool
    return replace(
        labelled,
        indices=labelled.indices[of_pool],
        targets=labelled.targets[of_pool],
        items=labelled.items[of_items] if labelled.items is not None and len(of_items) else None,
        item_targets=labelled.item_targets[of_items],
    )
