"""Pseudo-labels: a linear head that learns from its own certain predictions of unlabelled items, too.

D.-H. Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural
Networks", 2013; on frozen features as in LabelBench (J. Zhang et al., 2023).

Differs from the paper: one round and a threshold, in place of a weight that grows over the epochs (which a
convex problem without epochs has not); a pseudo-label counts as much as a label.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from alharness import seeds
from alharness.labelled import Annotation, LabelledSet
from alharness.lazily import numpy as np
from alharness.learners.learner import FitReport
from alharness.learners.linear import LinearLearner
from alharness.pool import Pool


class PseudoLabelLearner(LinearLearner):
    """Trained on the labels; then on these and on what it is certain of among unlabelled items.

    A fit reads ``learner.unlabelled`` items of the pool, drawn from its seed: the pool's size costs
    nothing. How many were read and how many it was certain of stand in the fit's report and in the record.
    Under ``learner.class_weight`` classes are counted over labels and pseudo-labels together.
    """

    #: By the sample of unlabelled items.
    seeded = True

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        first = super().fit(labelled, pool, seed=seed)
        indices = self._unlabelled(labelled, pool, seed)
        targets, sure = [], []
        size = pool.block_size()
        for start in range(0, len(indices), size):
            best = self.log_probs(pool.gather(indices[start : start + size])).max(dim=1)
            sure.append((best.values.exp() >= self.settings.pseudo_labels).cpu())
            targets.append(best.indices.cpu())
        certain = torch.cat(sure) if sure else torch.empty(0, dtype=torch.bool)
        report = replace(first, n_unlabelled=len(indices), n_pseudo=int(certain.sum()))
        if not report.n_pseudo:
            return report
        told = Annotation(indices[certain], torch.cat(targets)[certain])
        second = super().fit(labelled.extended(told), pool, seed=seed)
        return replace(
            report,
            steps=first.steps + second.steps,
            train_loss=second.train_loss,
            converged=second.converged,
        )

    def _unlabelled(self, labelled: LabelledSet, pool: Pool, seed: int) -> torch.Tensor:
        """Indices of items that have no label, int64, at most ``learner.unlabelled`` of them."""
        # Drawn from all items, the labelled ones then dropped: no pass over a pool of millions.
        n = min(pool.n, self.settings.unlabelled + len(labelled.indices))
        drawn = seeds.rng(seed, "unlabelled").choice(pool.n, size=n, replace=False)
        open_ = drawn[~np.isin(drawn, labelled.indices.numpy())][: self.settings.unlabelled]
        return torch.from_numpy(np.sort(open_).astype(np.int64))
