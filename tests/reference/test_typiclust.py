"""TypiClust against the rule of the authors' code, written here as it stands there.

avihu111/TypiClust, module ``pycls.al.typiclust``: ``select_samples`` and ``kmeans``. Distances are
those of the paper's Eq. 1.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from alharness.matching.spaces import unit_rows
from alharness_strategies import typiclust
from alharness_strategies.typiclust import TypiClust, k_means

ROWS = (load_digits().data / 16).astype(np.float32)[:1198]


def authors(points: np.ndarray, clusters: np.ndarray, labelled: np.ndarray, k: int) -> list[int]:
    """``select_samples``: rows of ``points`` in order of choice."""
    labels = clusters.copy()
    with_labels = np.bincount(labels[labelled], minlength=labels.max() + 1)
    ids, sizes = np.unique(labels, return_counts=True)
    table = sorted(
        (with_labels[c], -size, c) for c, size in zip(ids, sizes, strict=True) if size > 5
    )
    labels[labelled] = -1
    chosen = []
    for turn in range(k):
        members = np.flatnonzero(labels == table[turn % len(table)][2])
        n_neighbours = min(20, len(members) // 2)
        apart = np.linalg.norm(points[members][:, None] - points[members], axis=2)
        mean = np.sort(apart, axis=1)[:, 1 : n_neighbours + 1].mean(axis=1)
        first = members[(1 / (mean + 1e-5)).argmax()]
        chosen.append(int(first))
        labels[first] = -1
    return chosen


@pytest.mark.parametrize(("n_labelled", "k"), [(10, 10), (20, 20), (40, 20), (80, 20), (5, 30)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_items_as_the_authors_code_of_the_same_clusters(
    n_labelled: int, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labelled = rng.choice(len(ROWS), n_labelled, replace=False)
    others = np.setdiff1d(np.arange(len(ROWS)), labelled)
    order = np.concatenate([others, labelled])
    points = torch.from_numpy(ROWS[order])
    n_clusters = min(n_labelled + k, 30)  # fewer than items asked for, so that clusters come again
    clusters = k_means(points, n_clusters, seed)
    in_place = np.empty(len(ROWS), dtype=np.int64)
    in_place[order] = clusters.numpy()
    found = order[TypiClust().choose(points, clusters, len(others), k).numpy()]
    assert found.tolist() == authors(ROWS, in_place, labelled, k)


def test_up_to_fifty_clusters_k_means_sees_all_items_and_above_mini_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def noted(name: str) -> object:
        solver = getattr(typiclust, name)
        return lambda n, **settings: made.append((name, n)) or solver(n, **settings)

    for name in ("KMeans", "MiniBatchKMeans"):
        monkeypatch.setattr(typiclust, name, noted(name))
    points = torch.from_numpy(ROWS[:200])
    for n_clusters in (50, 51):
        k_means(points, n_clusters, seed=0)
    k_means(points, 50, seed=0, rule="0.2")
    assert made == [("KMeans", 50), ("MiniBatchKMeans", 51), ("MiniBatchKMeans", 50)]


def test_the_clusters_are_scikit_learns() -> None:
    points = torch.from_numpy(ROWS[:300])
    expected = KMeans(20, random_state=4).fit_predict(ROWS[:300])
    assert k_means(points, 20, seed=4).tolist() == expected.tolist()


def test_clusters_of_five_items_come_last() -> None:
    points = torch.rand(17, 3, generator=torch.Generator().manual_seed(0))
    clusters = torch.tensor([0] * 5 + [1] * 6 + [2] * 6)
    chosen = TypiClust().choose(points, clusters, 17, 14).tolist()
    assert {int(clusters[row]) for row in chosen[:12]} == {1, 2}
    before = TypiClust(rule="0.2").choose(points, clusters, 17, 3).tolist()
    assert sorted(int(clusters[row]) for row in before) == [0, 1, 2]


def test_a_query_takes_everything_that_is_left() -> None:
    points = torch.rand(23, 3, generator=torch.Generator().manual_seed(0))
    clusters = torch.arange(23) % 4
    assert sorted(TypiClust().choose(points, clusters, 23, 23).tolist()) == list(range(23))


@pytest.mark.parametrize("n_members", [1, 2, 6, 40])
def test_the_most_typical_is_nearest_to_its_neighbours_by_either_rule(
    n_members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean distances to the k nearest others, by two loops; blocks smaller than a cluster."""
    monkeypatch.setattr(typiclust, "ROWS", 5)
    points = torch.randn(60, 3, generator=torch.Generator().manual_seed(1)).double()
    members = torch.arange(60)[:: 60 // n_members][:n_members]

    def mean_distances(k: int) -> list[float]:
        own = points[members]
        each = [sorted(float((a - b).norm()) for b in own)[1 : k + 1] for a in own]
        return [sum(found) / k for found in each]

    strategy = TypiClust()
    k = min(strategy.parameters.n_neighbours, n_members - 1)
    order = strategy.by_typicality(points, members).tolist()
    if k < 1:
        assert order == members.tolist()
        return
    wanted = mean_distances(k)
    assert order == [int(members[i]) for i in sorted(range(n_members), key=wanted.__getitem__)]
    found = np.concatenate(list(typiclust._mean_distances(points[members].numpy(), k)))
    assert found.tolist() == pytest.approx(wanted)


def test_rows_have_length_one_each_by_itself_and_zeros_stay() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])
    assert unit_rows(rows).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0], [0, -1]]


@pytest.mark.parametrize("size", [2, 3, 5, 9])
@pytest.mark.parametrize("n_neighbours", [1, 3, 20])
def test_typicality_is_over_as_many_neighbours_as_there_are_and_are_asked_for(
    size: int, n_neighbours: int
) -> None:
    """Both rules, by differences: all of a small cluster by that of 0.2, half of it by the authors'."""
    strategy = TypiClust(n_neighbours=n_neighbours)
    for seed in range(20):
        points = torch.randn(30, 4, generator=torch.Generator().manual_seed(seed))
        members = torch.randperm(30, generator=torch.Generator().manual_seed(seed))[:size]
        apart = torch.cdist(points[members].double(), points[members].double()).sort(dim=1).values

        def mean(k: int, apart: torch.Tensor = apart) -> torch.Tensor:
            return apart[:, 1 : k + 1].mean(dim=1)

        wanted = members[mean(min(n_neighbours, size - 1)).argsort(stable=True)]
        assert strategy.by_typicality(points, members).tolist() == wanted.tolist()
        if size > 2:
            first = int(mean(min(n_neighbours, size // 2)).argmin())
            assert strategy.most_typical(points[members]) == first
