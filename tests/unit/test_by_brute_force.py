"""What is told of a cycle, and what stands beside which item, against plain loops over small inputs."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from alharness.artefacts import Supply
from alharness.availability import Availability
from alharness.engine import stage, tuning
from alharness.engine.ending import look_at
from alharness.engine.evaluation import decide_precision, query_entropy
from alharness.engine.initial import start
from alharness.engine.loop import Sizes, run
from alharness.engine.recording import cycle_rows, record_of
from alharness.engine.stage import set_stage
from alharness.errors import UserError
from alharness.labelled import Annotation, LabelledSet
from alharness.matching import build_index, embedder, match, match_best
from alharness.oracle import Oracle
from alharness.records import Ledger, StopSetFigures
from alharness.registry import resolve_strategy
from alharness.strategy import CycleView, PoolQuery, Strategy
from alharness_strategies import typiclust
from alharness_strategies.badge import seed_centres

SIZES = Sizes(seed=0, data_seed=0, budget=44, query_size=12, initial_size=20)


def entropy_of(probabilities: Any) -> float:
    return -sum(float(p) * math.log(float(p)) for p in probabilities if p > 0)


class Classifier:
    """Whatever is one item's own row: log probabilities of its classes."""

    @staticmethod
    def log_probs(items: torch.Tensor) -> torch.Tensor:
        return items.log_softmax(dim=1)


@pytest.mark.parametrize("block_size", [1, 2, 7, 8, 100])
def test_each_entropy_is_that_of_its_own_item_whatever_the_blocks(block_size: int) -> None:
    items = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    found = query_entropy(Classifier(), items, block_size)  # type: ignore[arg-type]
    wanted = [entropy_of(item.softmax(dim=0)) for item in items.double()]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)
    assert found.dtype == np.float32


class Backwards(Strategy):
    """Asks about the last items first, so that no order of the pool is the order of the query."""

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        return PoolQuery(view.unlabelled.flip(0)[:query_size])


def test_what_is_recorded_of_a_query_stands_item_by_item(blobs: Any) -> None:
    strategy = Backwards()
    set_up = set_stage(strategy, blobs.problem, None, Supply(None))  # type: ignore[arg-type]
    begin = start(strategy, blobs.problem.pool.n, blobs.oracle, SIZES)
    truth, pool = blobs.oracle.vault.reveal(), blobs.problem.pool
    for cycle in run(set_up, blobs.oracle, blobs.test_targets, SIZES, begin):
        if cycle.asked is None:
            continue
        rows = cycle_rows(cycle.asked)
        assert rows["asked"].tolist() == rows["indices"].tolist()
        assert rows["asked"].tolist() == sorted(rows["asked"].tolist(), reverse=True)
        each = [
            entropy_of(
                cycle.learner.log_probs(pool.gather(torch.tensor([index])))[0].double().exp()
            )
            for index in rows["asked"].tolist()
        ]
        assert rows["entropy"].tolist() == pytest.approx(each, abs=1e-6)
        assert len(set(each)) > 1
        assert rows["targets"].tolist() == [int(truth[index]) for index in rows["asked"]]
        record = record_of(cycle, Ledger())
        assert record.query is not None
        assert record.annotation is not None
        assert record.query.size == len(each)
        assert record.query.entropy_mean == pytest.approx(sum(each) / len(each), abs=1e-6)
        middle = sorted(each)[len(each) // 2 - 1 : len(each) // 2 + 1]
        assert record.query.entropy_median == pytest.approx(sum(middle) / 2, abs=1e-6)
        assert record.annotation.class_histogram == [
            rows["targets"].tolist().count(c) for c in range(2)
        ]


def test_the_stop_set_is_looked_at_item_by_item() -> None:
    """Classes of all of it, certainty of what has no label; blocks smaller than it."""
    rows = torch.randn(30, 3, generator=torch.Generator().manual_seed(1))
    pool = SimpleNamespace(block_size=lambda: 4, gather=lambda indices: rows[indices])
    indices = torch.tensor([3, 29, 7, 11, 0, 18])
    labelled = LabelledSet().extended(
        Annotation(
            torch.tensor([7, 5, 0]), torch.tensor([0, 1, 2]), n_asked=3, n_rejected=0, cost=3.0
        )
    )
    found = look_at(Classifier(), pool, indices, labelled)  # type: ignore[arg-type]
    p = [rows[i].double().softmax(dim=0).tolist() for i in indices.tolist()]
    still_open = [each for i, each in zip(indices.tolist(), p, strict=True) if i not in (7, 5, 0)]
    entropies = [entropy_of(each) for each in still_open]
    assert (found.size, found.n_labelled, found.n_classes) == (6, 2, 3)
    assert found.predicted().tolist() == [each.index(max(each)) for each in p]
    assert found.confidence == pytest.approx(sum(map(max, still_open)) / 4, rel=1e-5)
    assert found.entropy == pytest.approx(sum(entropies) / 4, rel=1e-5)
    assert found.entropy_max == pytest.approx(max(entropies), rel=1e-5)
    whole = labelled.extended(
        Annotation(indices[[0, 1, 3, 5]], torch.zeros(4).long(), n_asked=4, n_rejected=0, cost=4.0)
    )
    known = look_at(Classifier(), pool, indices, whole)  # type: ignore[arg-type]
    assert (known.confidence, known.entropy, known.entropy_max) == (None, None, None)


@pytest.mark.parametrize(("n_classes", "n_bytes"), [(2, 1), (255, 1), (256, 1), (257, 2)])
def test_predicted_classes_take_a_byte_each_up_to_256_classes(n_classes: int, n_bytes: int) -> None:
    predicted = [0, n_classes - 1, 1]
    packed = StopSetFigures.packed(predicted, n_classes)
    assert len(packed) == 4 * math.ceil(len(predicted) * n_bytes / 3)
    figures = StopSetFigures(
        size=3, n_labelled=0, n_classes=n_classes, classes=packed, confidence=None, entropy=None,
        entropy_max=None,
    )  # fmt: skip
    assert figures.predicted().tolist() == predicted


@pytest.mark.parametrize("seed", range(6))
def test_what_can_be_asked_about_is_what_a_set_says(seed: int) -> None:
    """Queries and narrowed choices in turns: what was not among the candidates is taken until then."""
    rng = np.random.default_rng(seed)
    n = 23
    whole, asked = Availability(n), []
    for _ in range(4):
        left = sorted(set(range(n)) - set(asked))
        narrow = sorted(rng.choice(left, size=min(6, len(left)), replace=False).tolist())
        before = whole.among(torch.tensor(narrow))
        query = rng.permutation(narrow)[:3].tolist()
        for found, can in (
            (whole, left),
            (before, narrow),
            (before.taking(torch.tensor(query)), sorted(set(narrow) - set(query))),
            (whole.taking(torch.tensor(query)), sorted(set(left) - set(query))),
        ):
            assert found.indices.tolist() == can
            assert len(found) == len(can)
            assert found.is_taken.tolist() == [i not in can for i in range(n)]
            assert sorted(found.taken.tolist()) == sorted(set(range(n)) - set(can))
        asked += query
        whole = whole.taking(torch.tensor(query))
        assert whole.asked.tolist() == asked


@pytest.mark.parametrize("kind", ["exact", "kdtree"])
def test_as_many_matches_as_free_items_and_not_one_more(kind: str) -> None:
    points = torch.arange(5.0)[:, None]
    index, taken = build_index(kind, points), torch.tensor([1, 3])
    queries = torch.tensor([[2.9], [1.1], [4.0]])
    assert match(index, queries, taken=taken).indices.tolist() == [2, 0, 4]
    with pytest.raises(ValueError, match="4 matches asked of 3 free pool items"):
        match(index, queries[[0, 1, 2, 0]], taken=taken)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="not finite"):
            match(index, torch.tensor([[0.0], [bad]]), taken=taken)


@pytest.mark.parametrize(("apart", "first"), [(1.3e-3, 1), (1.5e-3, 0)])
def test_gradients_closer_than_a_millionth_of_their_lengths_are_one(
    apart: float, first: int
) -> None:
    """Lengths 1 and (1 + d)^2: equal below a squared distance of 2e-6, that is d of 1.41e-3.

    A draw at 0 takes the first item that has any weight: item 0, unless it counts as the longest one.
    """
    features = torch.tensor([[1.0], [0.9], [1.0 + apart]], dtype=torch.float64)
    zero = SimpleNamespace(random=lambda: 0.0)
    chosen = seed_centres(torch.ones(3, 1).double(), features, 2, zero)  # type: ignore[arg-type]
    assert chosen.tolist() == [2, first]


@pytest.mark.parametrize(
    ("counts", "positive"),
    [
        ((39, 61), 0),
        ((61, 39), 1),
        ((40, 60), None),
        ((60, 40), None),
        ((50, 50), None),
        ((1, 1, 98), None),
    ],
)
def test_the_rarer_of_two_classes_is_looked_for_below_two_fifths(
    counts: tuple[int, ...], positive: int | None
) -> None:
    names = ["a", "b", "c"][: len(counts)]
    found = decide_precision(names, counts, None)
    told = "macro" if positive is None else f"class {names[positive]}"
    assert (found.positive, found.told) == (positive, told)
    named = decide_precision(names, counts, names[-1])
    assert (named.positive, named.told) == (len(counts) - 1, f"class {names[-1]}")


class Shy(Strategy):
    """Asks for what comes first."""

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        return PoolQuery(view.unlabelled[:query_size])


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        (replace(SIZES, budget=301), r"The budget \(301\) is larger than the pool \(300 items\)"),
        (replace(SIZES, budget=400, initial_size=301), r"The budget \(400\)"),
    ],
)
def test_sizes_beyond_the_pool_are_told_before_anybody_is_asked(
    blobs: Any, sizes: Sizes, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        start(Shy(), blobs.problem.pool.n, blobs.oracle, sizes)


def test_who_asks_for_pictures_may_ask_for_more_than_the_pool_but_not_at_the_start(
    blobs: Any,
) -> None:
    gaal = resolve_strategy("gaal")
    assert gaal.asks_synthetic
    n, more = blobs.problem.pool.n, replace(SIZES, budget=1_000)
    assert len(start(gaal, n, blobs.oracle, more).asked) == 20
    assert len(start(gaal, n, blobs.oracle, replace(more, initial_size=n)).asked) == n
    with pytest.raises(
        UserError, match=r"initial set \(301\) is larger than the pool \(300 items\)"
    ):
        start(gaal, n, blobs.oracle, replace(more, initial_size=n + 1))


def test_a_budget_beyond_the_pool_ends_where_the_pool_does(blobs: Any) -> None:
    """Who asks for pictures, too, may have one: the last query takes what is left, and nothing crashes."""

    class Greedy(Shy):
        asks_synthetic = True

    sizes = replace(SIZES, budget=1_000, query_size=130)
    set_up = set_stage(Greedy(), blobs.problem, None, Supply(None))  # type: ignore[arg-type]
    begin = start(set_up.strategy, blobs.problem.pool.n, blobs.oracle, sizes)
    found = list(run(set_up, blobs.oracle, blobs.test_targets, sizes, begin))
    assert [len(cycle.labelled) for cycle in found] == [20, 150, 280, 300]
    assert [cycle.asked is None for cycle in found] == [False, False, False, True]


def test_the_loss_of_labels_left_out_is_that_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that knows how many it was trained on; blocks smaller than a fold."""
    monkeypatch.setattr(tuning, "_BLOCK", 2)
    rows = torch.randn(12, 3, generator=torch.Generator().manual_seed(2))
    pool = SimpleNamespace(gather=lambda indices: rows[indices])
    trained: list[tuple[list[int], int]] = []

    def fit(labelled: LabelledSet, *, seed: int) -> tuple[Any, None]:
        trained.append((labelled.indices.tolist(), seed))
        n = len(labelled)
        return SimpleNamespace(log_probs=lambda items: (items * n).log_softmax(dim=1)), None

    at, targets = torch.tensor([3, 7, 1, 0, 11, 5, 4]), torch.tensor([0, 1, 2, 2, 1, 0, 0])
    labelled = LabelledSet().extended(Annotation(at, targets, n_asked=7, n_rejected=0, cost=7.0))
    folds = np.array([0, 1, 0, 0, 1, 0, 1])
    made_by: Any = SimpleNamespace(fit=fit, problem=SimpleNamespace(pool=pool))
    found = tuning.log_loss(made_by, labelled, folds, seed=3)
    n_others = np.array([3, 4])[folds]
    each = [
        -float((rows[i].double() * int(n)).log_softmax(dim=0)[c])
        for i, c, n in zip(at, targets, n_others, strict=True)
    ]
    assert found == pytest.approx(sum(each) / 7, rel=1e-6)
    assert [indices for indices, _ in trained] == [[7, 11, 4], [3, 1, 0, 5]]
    assert len({seed for _, seed in trained}) == 2


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e30])
def test_one_feature_that_is_not_finite_is_refused(bad: float) -> None:
    """1e30 is finite, and its square is not."""
    rows = torch.zeros(20, 3)
    rows[13, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        build_index("exact", rows)


def test_nothing_is_chosen_where_the_data_give_the_whole_start() -> None:
    """Nor where they give more; what lacks one is chosen, and what was given is not asked again."""
    targets = np.full(300, -1)
    targets[[5, 9, 4]] = 1
    oracle = Oracle(targets, 2)
    asked: list[int] = []

    def choose(sizes: Sizes) -> torch.Tensor:
        asked.append(sizes.initial_size)
        return torch.tensor([9, 100, 5, 101])

    def begin(size: int) -> list[int]:
        oracle.annotate = lambda query, cycle: query.indices  # type: ignore[assignment, method-assign, return-value]
        return start(Shy(), 300, oracle, replace(SIZES, initial_size=size), choose).asked.tolist()

    assert begin(2) == begin(3) == [4, 5, 9]
    assert asked == []
    assert begin(4) == [4, 5, 9, 100]
    assert begin(5) == [4, 5, 9, 100, 101]
    assert asked == [4, 5]


def test_up_to_fifty_clusters_k_means_is_run_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def solver(name: str) -> Any:
        def make(n_clusters: int, **options: Any) -> SimpleNamespace:
            used.append((name, n_clusters, sorted(options.items())))
            return SimpleNamespace(fit_predict=lambda points: np.zeros(len(points)))

        return make

    for name in ("KMeans", "MiniBatchKMeans"):
        monkeypatch.setattr(typiclust, name, solver(name))
    points = torch.zeros(60, 2)
    for n_clusters in (50, 51):
        typiclust.k_means(points, n_clusters, 3)
    typiclust.k_means(points, 50, 3, rule="0.2")
    small = [("batch_size", 5000), ("n_init", 1), ("random_state", 3)]
    assert used == [
        ("KMeans", 50, [("n_init", 1), ("random_state", 3)]),
        ("MiniBatchKMeans", 51, small),
        ("MiniBatchKMeans", 50, [small[0], ("n_init", 3), small[2]]),
    ]


@pytest.mark.parametrize(
    ("made", "by_itself"),
    [
        (lambda: None, True), (lambda x=1, y=2: None, True), (lambda *all, **named: None, True),
        (lambda x: None, False), (lambda x, y=2: None, False), (lambda y=2, *, x: None, False), (7, False),
    ],
)  # fmt: skip
def test_a_model_is_made_by_a_call_where_nothing_has_to_be_given(
    made: Any, by_itself: bool
) -> None:
    assert embedder._needs_nothing(made) is by_itself


def test_an_embedding_is_a_row_per_image_of_finite_numbers() -> None:
    assert embedder._as_rows(np.ones((4, 3)), 4).tolist() == [[1.0] * 3] * 4
    assert embedder._as_rows(torch.ones(4, 2, 3), 4).shape == (4, 6)
    for wrong in (torch.ones(4), torch.ones(3, 2), torch.ones(4, 0)):
        with pytest.raises(ValueError, match="for 4 images"):
            embedder._as_rows(wrong, 4)
    one_bad = torch.ones(4, 2)
    one_bad[2, 1] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        embedder._as_rows(one_bad, 4)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["none", "loss", "one weight of two", "what is predicted"])
def test_one_number_that_is_none_makes_a_training_diverge(where: str, bad: float) -> None:
    weights = {"a": torch.zeros(2), "n": torch.tensor([3]), "b": torch.zeros(2)}
    log_p = torch.zeros(1, 2)
    if where == "one weight of two":
        weights["b"][1] = bad
    if where == "what is predicted":
        log_p[0, 1] = bad
    learner: Any = SimpleNamespace(state=lambda: weights, log_probs=lambda items: log_p)
    report: Any = SimpleNamespace(train_loss=bad if where == "loss" else 0.5)
    pool: Any = SimpleNamespace(gather=lambda indices: indices)
    assert stage._is_finite(learner, report, pool) is (where == "none")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("among", [1, 2, 4])
def test_the_best_of_the_nearest_free_ones_is_that_of_two_loops(seed: int, among: int) -> None:
    """Queries that crowd around few points, so that neighbours are gone and the walk goes on."""
    rng = torch.Generator().manual_seed(seed)
    points = torch.randn(14, 2, generator=rng)
    queries = points[:2].repeat(4, 1) + 0.01 * torch.randn(8, 2, generator=rng)
    scores = torch.randn(14, generator=rng)
    taken = torch.tensor([3, 11])
    chosen: list[int] = []
    for query in queries:
        by_distance = (points - query).square().sum(dim=1).argsort().tolist()
        near = [at for at in by_distance if at not in (3, 11)]
        free = [at for at in near[:among] if at not in chosen]
        beyond = (at for at in near if at not in chosen)
        chosen.append(max(free, key=lambda at: float(scores[at])) if free else next(beyond))
    found = match_best(
        build_index("exact", points), queries, taken=taken, score=lambda at: scores[at], among=among
    )
    assert found.indices.tolist() == chosen
