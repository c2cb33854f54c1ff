"""Least-confidence sampling.

D. D. Lewis, W. A. Gale, "A Sequential Algorithm for Training Text Classifiers", SIGIR 1994: ask
where the classifier is least sure of its own answer.

Differs from the paper: any number of classes; the paper has two.
"""

from __future__ import annotations

from alharness import acquisition
from alharness.lazily import torch
from alharness.strategy import ScoreStrategy

#: Where ``alharness list`` shows it.
FAMILY = "Uncertainty"


class LeastConfidence(ScoreStrategy):
    """Ask about the unlabelled items whose most probable class has the smallest probability."""

    optimises = False
    source = "Lewis & Gale 1994"

    def score(self, log_p_NC: torch.Tensor) -> torch.Tensor:
        return acquisition.least_confidence(log_p_NC)
