"""Samplers of modAL: ``modal:margin_sampling``.

T. Danka, P. Horvath, "modAL: A modular active learning framework for Python", 2018. Its committee functions
ask for learners that modAL trained; those of single classifiers and the ranked batch are asked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from alharness.strategy import CycleView, PoolQuery
from alharness_strategies.peers import Peer, PeerStrategy, as_query

#: Where ``alharness list`` shows it.
FAMILY = "Of other libraries (needs the library)"

_COMMITTEE = (
    "it asks for learners that modAL trained itself; use skactiveml:QueryByCommittee or qbc"
)


class ModalSampler(PeerStrategy):
    """modal:NAME: a sampler of modAL, as published."""

    source = "Danka & Horvath 2018, modAL"
    example = "margin_sampling"
    library = "modAL-python"
    module = "modAL.uncertainty"
    install = "pip install --no-deps modAL-python"  # it pins a skorch that imports distutils
    peers: ClassVar[Mapping[str, Peer]] = {
        "uncertainty_sampling": Peer("probabilities"),
        "margin_sampling": Peer("probabilities"),
        "entropy_sampling": Peer("probabilities"),
        "uncertainty_batch_sampling": Peer("probabilities"),
        "vote_entropy_sampling": Peer(cannot=_COMMITTEE),
        "consensus_entropy_sampling": Peer(cannot=_COMMITTEE),
        "max_disagreement_sampling": Peer(cannot=_COMMITTEE),
    }

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        batch = self.peer == "uncertainty_batch_sampling"
        sampler = getattr(self.imported("modAL.batch" if batch else self.module), self.peer)
        candidates = view.unlabelled
        rows = self.rows(view, candidates).cpu().numpy()
        known = self.rows(view, view.labelled.indices).cpu().numpy()
        with view.sealed("modal"), view.stopwatch.phase("query"):
            found = sampler(_fitted(self, view, known), rows, n_instances=query_size)
        # modAL 0.4 gives the positions, or positions and rows.
        chosen = found[0] if isinstance(found, tuple) else found
        return as_query(candidates.numpy()[np.asarray(chosen)])


def _fitted(strategy: ModalSampler, view: CycleView, known: Any) -> Any:
    """The classifier of the cycle as modAL's functions use one."""
    from sklearn.base import BaseEstimator

    class Fitted(BaseEstimator):  # type: ignore[misc]
        on_transformed = False
        X_training = known

        def predict_proba(self, X: Any) -> Any:
            return strategy.proba_of_rows(view, X)

    return Fitted()
