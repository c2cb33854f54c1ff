"""Picks of scikit-activeml, on the same rows, labels and classifiers, against ours.

Where a method has one answer the picks are equal; where a peer breaks ties at random, the values that it
picks by are.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from alharness.availability import Availability
from alharness.labelled import LabelledSet
from alharness.learners.learner import FitReport, Learner
from alharness.pool import ArrayPool, Pool
from alharness.progress import silent
from alharness.strategy import CycleView, Strategy
from alharness_strategies import prob_cover
from alharness_strategies.bald import Bald
from alharness_strategies.batch_bald import BatchBald
from alharness_strategies.core_set import CoreSet
from alharness_strategies.least_confidence import LeastConfidence
from alharness_strategies.margin import Margin
from alharness_strategies.max_entropy import MaxEntropy
from alharness_strategies.qbc import QueryByCommittee, scores
from alharness_strategies.typiclust import TypiClust

peer = pytest.importorskip(
    "skactiveml.pool", reason="scikit-activeml: pip install 'alharness[peers]'"
)
classifiers = pytest.importorskip("skactiveml.classifier")

N, N_LABELLED, K, MEMBERS = 400, 30, 8, 5


@cache
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, classes, and the classes as the peer wants them: unknown ones are NaN."""
    values, classes = load_digits(return_X_y=True)
    rows = (values[:N] / 16).astype(np.float32)
    known = np.full(N, np.nan)
    known[:N_LABELLED] = classes[:N_LABELLED]
    return rows, classes[:N], known


def regression(c: float = 1.0) -> LogisticRegression:
    return LogisticRegression(C=c, max_iter=2000, tol=1e-8)


@cache
def fitted(c: float = 1.0) -> LogisticRegression:
    rows, classes, _ = digits()
    return regression(c).fit(rows[:N_LABELLED].astype(float), classes[:N_LABELLED])


@cache
def theirs(c: float = 1.0) -> object:
    rows, _, known = digits()
    return classifiers.SklearnClassifier(regression(c), classes=range(10)).fit(
        rows.astype(float), known
    )


STRENGTHS = [0.01, 0.1, 1.0, 10.0, 100.0]


class ScikitLearn(Learner):
    """scikit-learn's logistic regressions behind our interface; several are a committee."""

    def __init__(self, strengths: list[float]) -> None:
        super().__init__((64,), 10, torch.device("cpu"))
        self.strengths = strengths

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        return FitReport(1, 0.0, True)

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        return self.sample_log_probs(items, 1, torch.Generator())[0]

    def sample_log_probs(self, items: torch.Tensor, n: int, rng: torch.Generator) -> torch.Tensor:
        rows = items.double().numpy()
        return torch.stack(
            [torch.from_numpy(fitted(c).predict_log_proba(rows)) for c in self.strengths]
        )

    def features(self, items: torch.Tensor) -> torch.Tensor:
        return items

    def state(self) -> dict[str, torch.Tensor]:
        return {}


def view(strengths: list[float]) -> CycleView:
    rows, classes, _ = digits()
    labelled = torch.arange(N_LABELLED)
    return CycleView(
        pool=ArrayPool(rows),
        labelled=LabelledSet(labelled, torch.from_numpy(classes[:N_LABELLED]), n_asked=N_LABELLED),
        learner=ScikitLearn(strengths),
        n_classes=10,
        cycle=0,
        seed=0,
        available=Availability(N, labelled),
    )


def ours(strategy: Strategy, strengths: list[float] | None = None, k: int = K) -> list[int]:
    return strategy.select(view(strengths or [1.0]), k).indices.tolist()


@pytest.mark.parametrize(
    ("strategy", "method"),
    [
        (MaxEntropy, "entropy"),
        (Margin, "margin_sampling"),
        (LeastConfidence, "least_confident"),
    ],
)
def test_uncertainty_picks_the_same_items_in_the_same_order(
    strategy: type[Strategy], method: str
) -> None:
    rows, _, known = digits()
    query = peer.UncertaintySampling(method=method, random_state=0)
    expected = query.query(rows.astype(float), known, theirs(), fit_clf=False, batch_size=K)
    assert ours(strategy()) == expected.tolist()


def test_core_set_picks_the_same_items_in_the_same_order() -> None:
    rows, _, known = digits()
    expected = peer.CoreSet(random_state=0).query(rows.astype(float), known, batch_size=3 * K)
    assert ours(CoreSet(), k=3 * K) == expected.tolist()


def committee() -> list[object]:
    return [theirs(c) for c in STRENGTHS]


def test_bald_picks_the_same_items_in_the_same_order() -> None:
    rows, _, known = digits()
    expected = peer.GreedyBALD(random_state=0).query(
        rows.astype(float), known, committee(), fit_ensemble=False, batch_size=K
    )
    assert ours(Bald(), STRENGTHS) == expected.tolist()


def test_batch_bald_picks_the_same_items_while_its_entropies_are_exact() -> None:
    rows, _, known = digits()
    expected = peer.BatchBALD(n_MC_samples=1000, random_state=0).query(
        rows.astype(float), known, committee(), fit_ensemble=False, batch_size=3
    )
    assert ours(BatchBald(), STRENGTHS, k=3) == expected.tolist()


def test_a_committee_of_voters_picks_items_of_the_same_vote_entropy() -> None:
    rows, _, known = digits()
    query = peer.QueryByCommittee(method="vote_entropy", random_state=0)
    expected, utilities = query.query(
        rows.astype(float), known, committee(), fit_ensemble=False, batch_size=K,
        return_utilities=True,
    )  # fmt: skip
    items = torch.from_numpy(rows)
    log_p_SNC = ScikitLearn(STRENGTHS).sample_log_probs(items, MEMBERS, torch.Generator())
    votes = scores(log_p_SNC)[0].numpy()
    assert np.allclose(votes[N_LABELLED:], utilities[0][N_LABELLED:])
    picked = sorted(votes[ours(QueryByCommittee(), STRENGTHS)])
    assert np.allclose(picked, sorted(votes[expected]))


@pytest.mark.filterwarnings("ignore:The maximum purity")  # one radius is given
def test_prob_cover_covers_as_much_with_every_pick() -> None:
    rows, _, known = digits()
    delta = 2.0
    query = peer.ProbCover(n_classes=10, deltas=[delta], random_state=0)
    expected, utilities = query.query(
        rows.astype(float), known, batch_size=K, return_utilities=True
    )
    cover = prob_cover.within(torch.from_numpy(rows), delta, silent)
    labelled = torch.arange(N_LABELLED)
    for number, pick in enumerate(
        expected
    ):  # after the peer's picks so far, which break ties at random
        candidates = torch.tensor(sorted(set(range(N)) - set(labelled.tolist())))
        before = prob_cover.choose(cover, labelled, candidates, 0)[1]
        chosen, after = prob_cover.choose(cover, labelled, candidates, 1)
        gains = utilities[number]
        assert after - before == np.nanmax(gains) == gains[int(chosen)] == gains[pick]
        labelled = torch.cat([labelled, torch.tensor([int(pick)])])


class Given:
    """Clusters that were found before, as the peer wants a clustering algorithm."""

    def __init__(self, n_clusters: int = 1, labels: np.ndarray | None = None) -> None:
        self.labels = labels

    def fit_predict(self, rows: np.ndarray) -> np.ndarray:
        assert self.labels is not None
        return self.labels


def test_typiclust_picks_the_same_items_of_the_same_clusters() -> None:
    rows, _, known = digits()
    rng = np.random.default_rng(0)
    sizes = np.arange(38) + 1  # of different sizes: the order of the clusters is determined
    labels = np.repeat(np.arange(38), sizes)[:N]
    labels[:N_LABELLED] = rng.integers(20, 30, size=N_LABELLED)  # some clusters have labels
    k = 5
    expected = peer.TypiClust(
        random_state=0, cluster_algo=Given, cluster_algo_dict={"labels": labels}, k=k
    ).query(rows.astype(float), known, batch_size=K)
    strategy = TypiClust(n_neighbours=k)
    points, cluster = torch.from_numpy(rows), torch.from_numpy(labels)
    order = torch.cat([torch.arange(N_LABELLED, N), torch.arange(N_LABELLED)])
    chosen = strategy.choose(points[order], cluster[order], N - N_LABELLED, K)
    assert order[chosen].tolist() == expected.tolist()
