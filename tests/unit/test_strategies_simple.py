"""The small strategies: what they ask for, and what it costs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.learner import FitReport, Learner
from alharness.pool import ArrayPool, Pool
from alharness.strategy import CycleView, PoolQuery, Strategy, draw_unlabelled
from alharness_strategies.badge import draw, seed_centres
from alharness_strategies.full import FullySupervised
from alharness_strategies.gaal import SimpleGan
from alharness_strategies.least_confidence import LeastConfidence
from alharness_strategies.margin import Margin
from alharness_strategies.max_entropy import MaxEntropy
from alharness_strategies.random_sampling import RandomSampling
from alharness_strategies.subset import SubsetStrategy
from alharness_strategies.typiclust import TypiClust


class Reads(Learner):
    """Takes an item for its own class probabilities."""

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        return FitReport(0, 0.0, True)

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        return items.log()

    def features(self, items: torch.Tensor) -> torch.Tensor:
        return items

    def state(self) -> dict[str, torch.Tensor]:
        return {}


def view_of(items: torch.Tensor, labelled: list[int], seed: int = 0, cycle: int = 0) -> CycleView:
    pool = ArrayPool(items)
    indices = torch.tensor(labelled, dtype=torch.int64)
    return CycleView(
        pool=pool,
        labelled=LabelledSet(
            indices=indices, targets=torch.zeros_like(indices), n_asked=len(indices)
        ),
        learner=Reads((items.shape[1],), items.shape[1], torch.device("cpu")),
        n_classes=items.shape[1],
        cycle=cycle,
        seed=seed,
    )


#: Where three scores disagree: by entropy item 1, by margin item 2, by confidence item 3 first.
PROBABILITIES = torch.tensor(
    [
        [0.98, 0.01, 0.01],
        [0.45, 0.30, 0.25],
        [0.495, 0.49, 0.015],
        [0.42, 0.38, 0.20],
        [0.34, 0.33, 0.33],
    ]
)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [(MaxEntropy(), [1, 3, 2]), (Margin(), [2, 3, 1]), (LeastConfidence(), [3, 1, 2])],
)
def test_each_score_asks_in_its_own_order(strategy: MaxEntropy, expected: list[int]) -> None:
    query = strategy.select(view_of(PROBABILITIES, labelled=[4]), 3)
    assert query.indices.tolist() == expected


def test_random_draws_every_unlabelled_item_equally_often() -> None:
    items = torch.rand(40, 2)
    counts: Counter[int] = Counter()
    for seed in range(3000):
        query = RandomSampling().select(view_of(items, [0, 5, 17], seed), 4)
        counts.update(query.indices.tolist())
    assert set(counts) == set(range(40)) - {0, 5, 17}
    expected = 3000 * 4 / 37
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < 67.99  # the 99.9 % quantile with 36 degrees of freedom


def test_random_differs_from_cycle_to_cycle_and_from_seed_to_seed() -> None:
    items = torch.rand(500, 2)
    drawn = {
        tuple(RandomSampling().select(view_of(items, [1], seed, cycle), 5).indices.tolist())
        for seed in (0, 1)
        for cycle in (0, 1)
    }
    assert len(drawn) == 4


@pytest.mark.parametrize("n_labelled", [0, 3, 700, 995])
def test_a_draw_is_distinct_and_unlabelled_however_full_the_pool(n_labelled: int) -> None:
    view = view_of(torch.rand(1000, 2), list(range(n_labelled)))
    for size in (1, 5, (1000 - n_labelled) // 2):
        drawn = draw_unlabelled(view, size, "test")
        assert len(drawn.unique()) == len(drawn) == size
        assert int(drawn.min()) >= n_labelled


def test_a_draw_does_not_look_at_the_pool() -> None:
    view = view_of(torch.rand(100_000, 2), [1, 2, 3])
    draw_unlabelled(view, 500, "test")
    assert not {"indices", "is_taken"} & set(vars(view.available))  # what costs O(pool)


def test_more_than_is_left_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="asked for 3 of 2"):
        draw_unlabelled(view_of(torch.rand(5, 2), [0, 1, 2]), 3)


def test_a_subset_scores_as_many_items_as_it_says() -> None:
    p = torch.rand(5000, 3).softmax(dim=1)
    view = view_of(p, list(range(50)))
    query = SubsetStrategy(MaxEntropy(), 200).select(view, 10)
    assert view.work.counts["pool_items_scored"] == 200
    entropy = -(p * p.log()).sum(dim=1)
    assert isinstance(query, PoolQuery)
    # The best ten of 200 random ones lie among the best 30 % of all.
    assert float(entropy[query.indices].min()) > float(entropy.quantile(0.7))


def test_a_subset_as_large_as_the_pool_changes_nothing() -> None:
    p = torch.rand(300, 3).softmax(dim=1)
    whole = MaxEntropy().select(view_of(p, [3]), 10)
    subset = SubsetStrategy(MaxEntropy(), 10_000).select(view_of(p, [3]), 10)
    assert isinstance(subset, PoolQuery)
    assert torch.equal(whole.indices, subset.indices)


class LooksPastIt(Strategy):
    """Lists by itself what has no label."""

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        return PoolQuery(torch.arange(view.pool.n - query_size, view.pool.n))


def test_a_subset_of_a_strategy_that_looks_past_it_is_refused() -> None:
    with pytest.raises(UserError, match="LooksPastIt does not"):
        SubsetStrategy(LooksPastIt(), 5).select(view_of(torch.rand(500, 2), [0]), 3)
    for refused in (SimpleGan(), FullySupervised()):
        with pytest.raises(UserError, match="does not"):
            SubsetStrategy(refused, 5)
    with pytest.raises(UserError, match="positive"):
        SubsetStrategy(MaxEntropy(), 0)


# BADGE ---------------------------------------------------------------------------------------


def test_badge_seeds_as_k_means_plus_plus_on_the_outer_products() -> None:
    """The same draws, from the matrix of N x C*D numbers that is not built."""
    rng = np.random.default_rng(3)
    errors = torch.from_numpy(rng.normal(size=(200, 4))).float()
    features = torch.from_numpy(rng.normal(size=(200, 6))).float()
    got = seed_centres(errors, features, 15, np.random.default_rng(7))

    gradients = torch.einsum("nc,nd->ncd", errors, features).flatten(1).double()
    draws = np.random.default_rng(7)
    chosen = [int(gradients.norm(dim=1).argmax())]
    while len(chosen) < 15:
        nearest = torch.cdist(gradients, gradients[chosen]).amin(dim=1).square()
        nearest[chosen] = 0
        cumulative = nearest.cumsum(0)
        chosen.append(int(torch.searchsorted(cumulative, draws.random() * float(cumulative[-1]))))
    assert got.tolist() == chosen


@pytest.mark.parametrize("n", [1, 1023, 1024, 1025, 5000])
def test_badge_draws_as_one_running_sum_over_all_weights_would(n: int) -> None:
    rng = np.random.default_rng(n)
    weights = torch.from_numpy(rng.random(n) * (rng.random(n) < 0.3)).float()
    weights[-1] = 0.5
    cumulative = weights.double().cumsum(0)
    for u in [0.0, *rng.random(50).tolist(), 1.0 - 2.0**-53]:
        expected = int(torch.searchsorted(cumulative, u * float(cumulative[-1]), right=True))
        assert draw(weights, u) == min(expected, n - 1)
        assert weights[draw(weights, u)] > 0
    assert draw(torch.zeros(n), 0.5) is None


def test_badge_reads_a_few_numbers_per_pick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a running sum over all candidates: at most 16 kB of a million."""
    read: list[int] = []
    original = torch.Tensor.cpu

    def counted(self: torch.Tensor) -> torch.Tensor:
        read.append(self.numel())
        return original(self)

    monkeypatch.setattr(torch.Tensor, "cpu", counted)
    rows = torch.randn(100_000, 3, generator=torch.Generator().manual_seed(0))
    seed_centres(rows, rows, 4, np.random.default_rng(0))
    assert read == [98, 1024] * 3


def test_badge_fills_its_query_when_all_gradients_are_equal() -> None:
    same = seed_centres(torch.ones(6, 2), torch.ones(6, 3), 4, np.random.default_rng(0))
    assert same.tolist() == [0, 1, 2, 3]


# TypiClust -----------------------------------------------------------------------------------


def test_typiclust_asks_about_the_middle_of_large_clusters_without_a_label() -> None:
    rng = torch.Generator().manual_seed(0)
    sizes, centres = (30, 60, 40, 3), ((0, 0), (10, 0), (0, 10), (10, 10))
    parts, cluster = [], []
    for number, (size, centre) in enumerate(zip(sizes, centres, strict=True)):
        spread = torch.randn(size, 2, generator=rng)
        spread[0] = 0.0  # the first of a cluster lies in its middle
        parts.append(torch.tensor(centre, dtype=torch.float32) + spread)
        cluster += [number] * size
    candidates = torch.cat(parts)
    labelled = torch.tensor([[10.1, 0.1]])  # cluster 1 has a label
    points = torch.cat([candidates, labelled])
    clusters = torch.tensor([*cluster, 1])
    chosen = TypiClust().choose(points, clusters, len(candidates), 4)
    assert [cluster[row] for row in chosen.tolist()] == [
        2,
        0,
        1,
        2,
    ]  # size, then labels, then again
    distance = (candidates[chosen[:3]] - torch.tensor([centres[c] for c in (2, 0, 1)])).norm(dim=1)
    assert float(distance.max()) < 0.8


def test_typiclust_can_fill_a_query_with_everything() -> None:
    points = torch.rand(50, 3)
    clusters = torch.arange(50) % 17
    chosen = TypiClust().choose(points, clusters, 50, 50)
    assert sorted(chosen.tolist()) == list(range(50))
