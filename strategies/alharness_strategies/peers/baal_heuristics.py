"""Heuristics of baal: ``baal:BALD``.

P. Atighehchian et al., "Bayesian active learning for production, a systematic study and a reusable
library", 2020. They get probabilities ``[N, C, S]`` of every unlabelled item under a committee.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from alharness.strategy import CycleView, PoolQuery
from alharness_strategies.peers import Peer, PeerStrategy, as_query, normalised

#: Where ``alharness list`` shows it.
FAMILY = "Of other libraries (needs the library)"


class BaalHeuristic(PeerStrategy):
    """baal:NAME: a heuristic of baal, as published."""

    source = "Atighehchian et al. 2020, baal"
    example = "Entropy"
    library = "baal"
    module = "baal.active.heuristics"
    # Without what it depends on, which is jupyter among others.
    install = "pip install --no-deps baal structlog torchmetrics lightning-utilities"
    peers: ClassVar[Mapping[str, Peer]] = {
        "BALD": Peer("committee"),
        "Entropy": Peer("committee"),
        "Margin": Peer("committee"),
        "Certainty": Peer("committee"),
        "Variance": Peer("committee"),
        "BatchBALD": Peer(
            "committee",
            fault="the item of the largest BALD score is never among its answers, and the rest come in "
            "reverse (found here: tests/peers/test_faults.py)",
        ),
        "Random": Peer("committee"),
        "EPIG": Peer(cannot="it asks for predictions on the items that will be tested"),
    }

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        cls = getattr(self.imported(), self.peer)
        more = {"num_samples": query_size, "num_draw": 50} if self.peer == "BatchBALD" else {}
        candidates = view.unlabelled
        with view.stopwatch.phase("score"):
            p_SNC = normalised(view.samples(candidates, self.parameters.n_samples))
        with view.sealed("baal"), view.stopwatch.phase("query"):
            ranks = cls(**more)(p_SNC.transpose(1, 2, 0))
        return as_query(candidates.numpy()[np.ascontiguousarray(ranks)[:query_size]])
