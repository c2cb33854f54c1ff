"""Maximum entropy sampling (uncertainty sampling), the exhaustive method that ASAL approximates.

C. E. Shannon, "A Mathematical Theory of Communication", 1948, for the measure; Mayer & Timofte,
"Adversarial Sampling for Active Learning", WACV 2020, Sec. 3 and 4.2, for its use as a baseline.

Differs from the paper: nothing; the classifier is in evaluation mode, on which the paper is silent.
"""

from __future__ import annotations

from alharness import acquisition
from alharness.lazily import torch
from alharness.strategy import ScoreStrategy

#: Where ``alharness list`` shows it.
FAMILY = "Uncertainty"


class MaxEntropy(ScoreStrategy):
    """Ask about the unlabelled items whose predicted classes have the largest entropy."""

    optimises = False
    source = "Mayer & Timofte 2020, Sec. 4.2"

    def score(self, log_p_NC: torch.Tensor) -> torch.Tensor:
        return acquisition.entropy(log_p_NC)
