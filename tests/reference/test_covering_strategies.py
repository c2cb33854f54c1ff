"""ProbCover, SEALS and Cluster-Margin against the obvious slow versions, on rows and on little data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import AgglomerativeClustering

from alharness import registry
from alharness.artefacts import ArtefactStore, Supply
from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.learner import LearnerSettings
from alharness.pool import ArrayPool
from alharness.progress import silent
from alharness.strategy import CycleView, Preparation, Strategy
from alharness_strategies import prob_cover
from alharness_strategies.cluster_margin import ClusterMargin, average_linkage, in_turn
from alharness_strategies.prob_cover import ProbCover, choose, radius, within
from alharness_strategies.seals import Seals

N = 40


def rows(n: int = N, seed: int = 0) -> torch.Tensor:
    """Three clouds in the plane."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0, 0], [4, 0], [0, 4]])
    return torch.from_numpy(centres[rng.integers(3, size=n)] + rng.normal(size=(n, 2))).float()


def no_images() -> None:
    raise AssertionError("rows need no auto-encoder")


def prepared(strategy: Strategy, items: torch.Tensor, root: Path) -> CycleView:
    """A view of rows with five labels, before which the strategy was prepared."""
    pool = ArrayPool(items)
    settings = LearnerSettings(kind="linear")
    strategy.prepare(
        Preparation(pool, pool, 3, 0, settings, Supply(ArtefactStore(root)), no_images, no_images)
    )
    index = torch.tensor([1, 7, 12, 20, 33])
    labelled = LabelledSet(index, torch.tensor([0, 1, 2, 0, 1]), n_asked=5)
    learner = learner_factory(settings)((2,), 3, torch.device("cpu"))
    learner.fit(labelled, pool, seed=0)
    return CycleView(pool=pool, labelled=labelled, learner=learner, n_classes=3, cycle=0, seed=0)


# ProbCover --------------------------------------------------------------------------------------


def slow_cover(points: torch.Tensor, delta: float, labelled: list[int], k: int) -> list[int]:
    def ball(i: int) -> set[int]:
        return {j for j in range(len(points)) if float((points[i] - points[j]).norm()) <= delta}

    balls = [ball(i) for i in range(len(points))]
    covered = set().union(*(balls[i] for i in labelled))
    chosen: list[int] = []
    for _ in range(k):
        rest = [i for i in range(len(points)) if i not in labelled and i not in chosen]
        best = max(rest, key=lambda i: (len(balls[i] - covered), len(balls[i]), -i))
        chosen.append(best)
        covered |= balls[best]
    return chosen


@pytest.mark.parametrize("delta", [0.5, 1.0, 2.5])
def test_prob_cover_takes_the_ball_that_holds_most(delta: float) -> None:
    points = rows()
    cover = within(points, delta, silent)
    labelled = torch.tensor([3, 9])
    candidates = torch.tensor([i for i in range(N) if i not in (3, 9)])
    found, n_covered = choose(cover, labelled, candidates, 12)
    assert found.tolist() == slow_cover(points, delta, [3, 9], 12)
    assert n_covered >= 14


def test_neighbourhoods_do_not_depend_on_how_many_rows_are_held_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 4 million items, 512 rows of distances are 8 GB."""
    whole = within(rows(), 1.0, silent)
    monkeypatch.setattr(prob_cover, "HELD", 3 * N)
    done: list[int] = []
    parts = within(rows(), 1.0, lambda what, at, of: done.append(at))
    assert done == [*range(3, N, 3), N]
    assert torch.equal(parts.starts, whole.starts)
    assert torch.equal(parts.neighbours, whole.neighbours)


@pytest.mark.parametrize(("m", "n_clusters"), [(50, 7), (200, 20), (40, 39), (40, 1), (5, 5)])
@pytest.mark.parametrize("digits", [4, 0])  # of coordinates: with 0 many distances are equal
def test_candidates_fall_into_scikit_learns_clusters(m: int, n_clusters: int, digits: int) -> None:
    points = torch.randn(m, 3, generator=torch.Generator().manual_seed(0)).round(decimals=digits)
    solver = AgglomerativeClustering(n_clusters, linkage="average")
    expected = solver.fit_predict(points.double().numpy())
    found = average_linkage(points, n_clusters)
    assert len(set(zip(expected, found, strict=True))) == n_clusters == len(set(found))


def test_pairs_are_those_of_distances_by_differences_however_close_to_delta() -> None:
    """A product in float32 rounds; many of these pairs lie at delta to the last bit."""
    points = torch.randint(0, 4, (300, 3), generator=torch.Generator().manual_seed(0)).float()
    for moved in (0.0, 100.0):  # far from the origin almost every pair is measured again
        at = points + moved
        apart = torch.cdist(at, at, compute_mode="donot_use_mm_for_euclid_dist")
        for delta in (1.0, 2.0**0.5, 3.0**0.5):
            found = within(at, delta, silent)
            expected = apart <= delta
            assert torch.equal(found.starts.diff(), expected.sum(dim=1))
            assert torch.equal(found.neighbours.long(), expected.nonzero()[:, 1])


def test_delta_is_as_large_as_purity_allows() -> None:
    points = rows(60)
    from sklearn.cluster import KMeans

    clusters = KMeans(3, random_state=0, n_init=1).fit(points.numpy()).labels_

    def pure_share(delta: float) -> float:
        near = torch.cdist(points, points) < delta
        return float(np.mean([len(set(clusters[row.numpy()])) == 1 for row in near]))

    delta = radius(points, 3, 0.8)
    assert pure_share(delta * 0.999) >= 0.8 - 1 / 60
    assert pure_share(delta * 1.3) < 0.8


def test_prob_cover_on_rows_keeps_its_graph(tmp_path: Path) -> None:
    first, again = ProbCover(), ProbCover()
    view = prepared(first, rows(), tmp_path)
    query = first.select(view, 6)
    assert 0 < query.diagnostics["covered"] <= 1
    prepared(again, rows(), tmp_path)
    assert torch.equal(again.select(view, 6).indices, query.indices)


def test_more_pairs_than_can_be_kept_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prob_cover, "MAX_PAIRS", 10)
    with pytest.raises(UserError, match=r"Set a smaller strategy.delta"):
        within(rows(), 1.0, silent)


# SEALS ------------------------------------------------------------------------------------------


def test_seals_scores_the_neighbours_of_labelled_items_only(tmp_path: Path) -> None:
    strategy = registry.resolve_strategy("seals:3:max-entropy")
    assert isinstance(strategy, Seals)
    items = rows()
    view = prepared(strategy, items, tmp_path)
    near: set[int] = set()
    for index in view.labelled.indices.tolist():
        distances = (items - items[index]).norm(dim=1)
        near |= {i for i in distances.argsort(stable=True)[:4].tolist() if i != index}
    near -= set(view.labelled.indices.tolist())
    assert strategy.candidates(view, 2).tolist() == sorted(near)
    query = strategy.select(view, 2)
    inner = strategy.inner.select(view.narrowed(torch.tensor(sorted(near))), 2)
    assert torch.equal(query.indices, inner.indices)
    assert view.work.counts["pool_items_scored"] == 2 * len(near) < 2 * view.n_unlabelled


def test_seals_widens_when_too_few_neighbours_have_no_label(tmp_path: Path) -> None:
    strategy = Seals(registry.resolve_strategy("margin"), 1)
    view = prepared(strategy, rows(), tmp_path)
    assert len(strategy.select(view, 30).indices) == 30
    assert len(strategy.candidates(view, view.n_unlabelled)) == view.n_unlabelled


@pytest.mark.parametrize(
    ("name", "message"),
    [("seals:x:margin", "Expected seals:K:STRATEGY"), ("seals:9:gaal", "chooses among")],
)
def test_a_wrong_seals_gets_one_line(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        registry.resolve_strategy(name)


# Cluster-Margin ---------------------------------------------------------------------------------


def test_clusters_take_turns_from_the_smallest() -> None:
    cluster = np.array([0, 0, 0, 1, 2, 2, 0])
    chosen = in_turn(cluster, 6, np.random.default_rng(0)).tolist()
    assert [int(cluster[i]) for i in chosen] == [1, 2, 0, 2, 0, 0]
    assert len(set(chosen)) == 6


def test_cluster_margin_chooses_among_the_smallest_margins(tmp_path: Path) -> None:
    strategy = ClusterMargin(candidates=3, cluster_size=2)
    view = prepared(strategy, rows(), tmp_path)
    p = view.learner.log_probs(view.pool.gather(view.unlabelled)).exp().sort(dim=1).values
    smallest = view.unlabelled[(p[:, -1] - p[:, -2]).argsort()[:12]]
    chosen = strategy.select(view, 4).indices
    assert bool(torch.isin(chosen, smallest).all())
    assert view.work.counts["distances"] == 12 * 11 / 2  # of three candidates for each of four
    for n, m in ((100, 12), (9, 9)):  # and what is allowed is no more than that, squared
        most = {"pool_items_scored": n, "pool_items_featurised": m, "distances": m * m}
        assert strategy.work_bound(n, 4) == most


# Rows through every strategy that needs no images -----------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "random", "max-entropy", "margin", "least-confidence", "core-set", "badge", "typiclust",
        "learning-loss", "prob-cover", "cluster-margin", "subset:10:margin", "seals:3:badge",
    ],
)  # fmt: skip
def test_rows_of_features_are_items_like_any_other(name: str, tmp_path: Path) -> None:
    strategy = registry.resolve_strategy(name)
    assert strategy.unsuitable(3, (2,)) is None
    view = prepared(strategy, rows(), tmp_path)
    if name == "learning-loss":
        from alharness.learners.loss_prediction import learning_loss_factory

        settings = LearnerSettings(kind="linear", min_steps=5, epochs=1)
        view.learner = learning_loss_factory(settings)((2,), 3, torch.device("cpu"))
        view.learner.fit(view.labelled, view.pool, seed=0)
    query = strategy.select(view, 4)
    assert len(query) == 4
    assert not set(query.indices.tolist()) & set(view.labelled.indices.tolist())  # type: ignore[attr-defined]
