"""Pool strategies of scikit-activeml: ``skactiveml:UncertaintySampling``.

D. Kottke et al., "scikit-activeml: A Library and Toolbox for Active Learning Algorithms", 2021. Each
class of ``skactiveml.pool`` gets the pool's rows, the labels so far and the classifier of the cycle as an
estimator that is fitted already; strategies that must train one (``refit``) get scikit-learn's logistic
regression on the same rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from alharness.strategy import CycleView, Parameters, PoolQuery
from alharness_strategies.peers import (
    Peer,
    PeerParameters,
    PeerStrategy,
    as_query,
    normalised,
)

#: Where ``alharness list`` shows it.
FAMILY = "Of other libraries (needs the library)"

_REGRESSION = "it is for regression"


class SkactivemlParameters(PeerParameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    method: str = Field(
        "", description="the constructor's argument 'method', where it has one; empty: its default"
    )


class SkactivemlPool(PeerStrategy):
    """skactiveml:NAME: a pool strategy of scikit-activeml, as published."""

    Parameters: ClassVar[type[Parameters]] = SkactivemlParameters
    parameters: SkactivemlParameters
    source = "Kottke et al. 2021, scikit-activeml"
    example = "CoreSet"
    library = "scikit-activeml"
    module = "skactiveml.pool"
    install = "pip install 'alharness[peers]'"
    peers: ClassVar[Mapping[str, Peer]] = {
        "RandomSampling": Peer(),
        "UncertaintySampling": Peer("probabilities"),
        "QueryByCommittee": Peer("committee"),
        "GreedyBALD": Peer("committee"),
        "BatchBALD": Peer("committee"),
        "CoreSet": Peer(space="features"),
        "TypiClust": Peer(
            space="features",
            fault="on a pool of equal items it ends with an error (found here: tests/peers/test_faults.py)",
        ),
        "ProbCover": Peer(
            space="features",
            fault="its radius is searched up to 2.0 whatever the scale of the features: on rows that are not "
            "normalised the search ends at its edge (found here: tests/peers/test_faults.py)",
        ),
        "Badge": Peer(
            "probabilities",
            space="features",
            fault="where items repeat each other it can ask about one twice (scikit-activeml issue 586)",
        ),
        "ContrastiveAL": Peer("probabilities", space="features"),
        "Falcun": Peer("probabilities", space="features"),
        "DropQuery": Peer("probabilities", space="features"),
        "Clue": Peer("probabilities", space="features"),
        "MaxHerding": Peer(space="features"),
        "GreedySamplingX": Peer(space="features"),
        "DiscriminativeAL": Peer("refit", space="features"),
        "MonteCarloEER": Peer(
            "refit", space="features", fault="minutes a query: use it as subset:100:"
        ),
        "ValueOfInformationEER": Peer(
            cannot="it trains a classifier for every candidate, class and item: over a minute for ten of 60"
        ),
        "EpistemicUncertaintySampling": Peer(
            cannot="it maximises a likelihood for every item by itself: over a minute for 15 items"
        ),
        "Quire": Peer(space="features", fault="cubic in the pool: use it as subset:100:"),
        "ProbabilisticAL": Peer(cannot="it needs a classifier that counts labels near an item"),
        "FourDs": Peer(cannot="it needs a mixture model as classifier"),
        "CostEmbeddingAL": Peer(space="features"),
        "ExpectedModelChangeMaximization": Peer(cannot=_REGRESSION),
        "ExpectedModelOutputChange": Peer(cannot=_REGRESSION),
        "ExpectedModelVarianceReduction": Peer(cannot=_REGRESSION),
        "KLDivergenceMaximization": Peer(cannot=_REGRESSION),
        "GreedySamplingTarget": Peer(cannot=_REGRESSION),
        "RegressionTreeBasedAL": Peer(cannot=_REGRESSION),
    }

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        cls = getattr(self.imported(), self.peer)
        X = self.rows(view).double().cpu().numpy()
        y = np.full(view.pool.n, np.nan)
        y[view.labelled.indices.numpy()] = view.labelled.targets.numpy()
        seed = int(view.rng("skactiveml").integers(2**31))
        asked = inspect.signature(cls.query).parameters
        with view.sealed("skactiveml"), view.stopwatch.phase("query"):
            query = cls(**self._options(cls, view, seed))
            chosen = query.query(
                X,
                y,
                candidates=view.unlabelled.numpy(),
                batch_size=query_size,
                **self._models(asked, view, seed),
            )
        return as_query(chosen)

    def _options(self, cls: Any, view: CycleView, seed: int) -> dict[str, Any]:
        """Arguments of the constructor: the seed and the classes, where they are taken."""
        known = inspect.signature(cls.__init__).parameters
        given: dict[str, Any] = {
            "random_state": seed,
            "classes": list(range(view.n_classes)),
            "n_classes": view.n_classes,
        }
        if self.parameters.method:
            given["method"] = self.parameters.method
        if "cluster_algo_dict" in known:  # which draws from the global state otherwise
            given["cluster_algo_dict"] = {"random_state": seed}
        return {name: value for name, value in given.items() if name in known}

    def _models(self, asked: Mapping[str, Any], view: CycleView, seed: int) -> dict[str, Any]:
        """The classifiers that ``query`` asks for, and whether it must fit them."""
        classes, given = list(range(view.n_classes)), {}
        refits = self.known.needs == "refit"
        for name in ("clf", "estimator", "discriminator"):
            if name in asked:
                fresh = refits or name == "discriminator"
                given[name] = (
                    _logistic(None if name == "discriminator" else classes, seed)
                    if fresh
                    else _fitted(lambda rows: self.proba_of_rows(view, rows), classes)
                )
        if "ensemble" in asked:
            given["ensemble"] = self._committee(view, classes)
        for name in ("fit_clf", "fit_estimator", "fit_ensemble"):
            if name in asked:
                given[name] = refits
        return given

    def _committee(self, view: CycleView, classes: list[int]) -> list[Any]:
        """Members of the committee as fitted classifiers; each sees rows under its own parameters."""
        learner, rng = view.learner, view.torch_rng("committee")
        shape, n = view.pool.item_shape, self.parameters.n_samples

        def sampled(rows: Any) -> Any:
            import torch

            items = torch.from_numpy(np.ascontiguousarray(rows)).float().to(view.device)
            return normalised(learner.sample_log_probs(items.reshape(-1, *shape), n, rng))

        def member(s: int) -> Any:
            return _fitted(lambda rows: sampled(rows)[s], classes)

        one = view.pool.gather(view.unlabelled[:1]).flatten(1).cpu().numpy()
        return [member(s) for s in range(len(sampled(one)))]


def _fitted(predict: Callable[[Any], Any], classes: list[int]) -> Any:
    """A classifier of scikit-activeml that is fitted: it predicts what it is told to."""
    from skactiveml.base import SkactivemlClassifier

    class Fitted(SkactivemlClassifier):  # type: ignore[misc]
        def __init__(
            self,
            predict: Any = None,
            classes: Any = None,
            missing_label: Any = np.nan,
            cost_matrix: Any = None,
            random_state: Any = None,
        ) -> None:
            super().__init__(classes, missing_label, cost_matrix, random_state)
            self.predict_ = predict
            # What fit would have set, and what queries look at.
            self.classes_ = np.asarray(classes)
            self.cost_matrix_ = 1 - np.eye(len(classes))

        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            raise NotImplementedError("the classifier of the cycle is trained already")

        def predict_proba(self, X: Any) -> Any:
            return self.predict_(X)

        def predict(self, X: Any) -> Any:
            return self.predict_proba(X).argmax(axis=1)

    return Fitted(predict, classes)


def _logistic(classes: list[int] | None, seed: int) -> Any:
    """A classifier that the strategy trains itself."""
    from skactiveml.classifier import SklearnClassifier
    from sklearn.linear_model import LogisticRegression

    return SklearnClassifier(LogisticRegression(max_iter=500), classes=classes, random_state=seed)
