"""What strategies of all other libraries share, by a stand-in for a library."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from alharness.pool import ArrayPool
from alharness.strategy import CycleView, PoolQuery
from alharness_strategies.peers import Peer, PeerStrategy, as_query


class StandIn(PeerStrategy):
    library = module = "a-library-of-mine"
    install = "pip install a-library-of-mine"
    peers: ClassVar = {
        "by-nothing": Peer(),
        "by-probabilities": Peer(needs="probabilities"),
        "by-committee": Peer(needs="committee"),
        "by-features": Peer(needs="features", space="features"),
        "by-refit": Peer(needs="refit"),
    }

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        return as_query(view.unlabelled[:query_size])


@pytest.mark.parametrize("name", StandIn.peers)
def test_only_who_asks_a_committee_needs_a_learner_that_samples(name: str) -> None:
    assert StandIn(name).learner_needs == ({"samples"} if name == "by-committee" else frozenset())


@pytest.mark.parametrize("space", ["features", "items"])
def test_probabilities_of_rows_are_the_softmax_over_the_classes(space: Any) -> None:
    rng = np.random.default_rng(0)
    rows, weight, bias = rng.normal(size=(5, 4)), rng.normal(size=(3, 4)), rng.normal(size=3)
    weight_CD, bias_C = (torch.from_numpy(values).float() for values in (weight, bias))

    def log_probs(items: torch.Tensor) -> torch.Tensor:
        assert items.shape == (5, 1, 2, 2)  # as the pool has them
        return (items.flatten(1) @ weight_CD.T + bias_C).log_softmax(1)

    view: Any = SimpleNamespace(
        device=torch.device("cpu"),
        pool=ArrayPool(np.zeros((6, 1, 2, 2), np.uint8)),
        learner=SimpleNamespace(head_weights=lambda: (weight_CD, bias_C), log_probs=log_probs),
    )
    found = StandIn("by-nothing", space=space).proba_of_rows(view, rows)
    exponential = np.exp(rows @ weight.T + bias)
    np.testing.assert_allclose(
        found, exponential / exponential.sum(axis=1, keepdims=True), atol=1e-6
    )
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-15)
