"""Margin sampling.

T. Scheffer, C. Decomain, S. Wrobel, "Active Hidden Markov Models for Information Extraction", IDA
2001: ask where the two most probable classes lie closest together.

Differs from the paper: scores single items by a classifier instead of tokens by a Markov model.
"""

from __future__ import annotations

from alharness import acquisition
from alharness.lazily import torch
from alharness.strategy import ScoreStrategy

#: Where ``alharness list`` shows it.
FAMILY = "Uncertainty"


class Margin(ScoreStrategy):
    """Ask about the items with the smallest gap between the two most probable classes."""

    optimises = False
    source = "Scheffer et al. 2001"

    def score(self, log_p_NC: torch.Tensor) -> torch.Tensor:
        return acquisition.margin(log_p_NC)
