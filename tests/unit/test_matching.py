"""Eq. 2: every index finds what an exhaustive float64 search finds, ties and collisions included."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from alharness import matching, numerics
from alharness.errors import UserError
from alharness.matching import ExactIndex, Index, KDTreeIndex, build_index, exact, match, match_best
from alharness.matching.index import GrowingIndex
from alharness.timing import WorkCounters


class CarelessIndex(GrowingIndex):
    """A library at its worst: float32 sums, and equals in another order each time it is asked."""

    name = "careless"

    def __init__(self, features: torch.Tensor) -> None:
        self.features = features
        self.n, self.n_dims = features.shape
        self._rng = np.random.default_rng(0)

    def nearest(
        self, query: NDArray[np.float32], k: int, work: WorkCounters | None
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        gap = self.features.numpy() - query
        squares = np.zeros(self.n, dtype=np.float32)
        for dimension in self._rng.permutation(self.n_dims):
            squares += gap[:, dimension] ** 2
        order = np.lexsort((self._rng.random(self.n), squares))[:k]
        return np.sqrt(squares[order]), order

    def rows(self, indices: NDArray[np.int64]) -> torch.Tensor:
        return self.features[torch.from_numpy(indices)]


INDICES = [
    ExactIndex,
    KDTreeIndex,
    CarelessIndex,
    pytest.param(
        matching.FaissIndex,
        marks=pytest.mark.skipif(
            __import__("importlib.util").util.find_spec("faiss") is None,
            reason="the faiss extra is not installed",
        ),
    ),
]


def obvious_match(
    features: torch.Tensor, queries: torch.Tensor, taken: torch.Tensor
) -> tuple[list[int], list[float], list[int]]:
    """All distances in float64, all of them sorted, one query after the other."""
    rows = features.double().numpy()
    used = set(taken.tolist())
    indices, distances, depths = [], [], []
    for query in queries.double().numpy():
        squares = ((rows - query) ** 2).sum(axis=1)
        order = np.lexsort((np.arange(len(rows)), squares))
        depth, at = next((d, int(i)) for d, i in enumerate(order, 1) if int(i) not in used)
        used.add(at)
        indices.append(at)
        distances.append(float(squares[at]) ** 0.5)
        depths.append(depth)
    return indices, distances, depths


def cloud(n: int, k: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


def some(n: int, of: int, seed: int = 3) -> torch.Tensor:
    return torch.randperm(of, generator=torch.Generator().manual_seed(seed))[:n]


@pytest.mark.parametrize("index_class", INDICES)
@pytest.mark.parametrize(
    ("n", "k", "n_queries", "n_taken"),
    [(1, 4, 1, 0), (63, 3, 40, 20), (64, 3, 64, 0), (65, 3, 5, 60), (3000, 50, 30, 100)],
)
def test_matches_are_those_of_the_obvious_search(
    index_class: type[Index], n: int, k: int, n_queries: int, n_taken: int
) -> None:
    features, queries = cloud(n, k), cloud(n_queries, k, seed=1, scale=0.3)
    taken = some(n_taken, n)
    found = match(index_class(features), queries, taken=taken)  # type: ignore[call-arg]
    indices, distances, depths = obvious_match(features, queries, taken)
    assert found.indices.tolist() == indices
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5)
    assert found.depth.tolist() == depths


def test_a_pool_of_many_blocks_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above 4096 groups the search goes by bundles; more queries than fit need several passes."""
    monkeypatch.setattr(ExactIndex, "QUERIES", 8)
    n, n_queries = 64 * 4096 + 1000, 20
    features, queries = cloud(n, 4), cloud(n_queries, 4, seed=1)
    taken = some(500, n)
    found = match(ExactIndex(features), queries, taken=taken)
    indices, _, depths = obvious_match(features, queries, taken)
    assert found.indices.tolist() == indices
    assert found.depth.tolist() == depths


@pytest.mark.parametrize("n", [127, 128, 384, 385, 520, 900])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_pass_shared_out_among_threads(
    monkeypatch: pytest.MonkeyPatch, n: int, threads: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(ExactIndex, "PART_CPU", 128)
    features, queries, taken = cloud(n, 5), cloud(7, 5, seed=1), some(20, n)
    found = match(ExactIndex(features), queries, taken=taken)
    assert found.indices.tolist() == obvious_match(features, queries, taken)[0]


def test_cancellation_does_not_change_the_winner() -> None:
    """Far from the origin |f|^2 - 2 q.f loses all digits in float32; the result must not."""
    features = cloud(2000, 8) * 0.01 + 100
    queries = cloud(20, 8, seed=1) * 0.01 + 100
    naive = (features.square().sum(1) - 2 * queries @ features.T).argmin(dim=1)
    indices, _, _ = obvious_match(features, queries, torch.empty(0, dtype=torch.int64))
    assert naive.tolist() != indices, "the test needs a case in which the fast formula fails"
    none = torch.empty(0, dtype=torch.int64)
    assert match(ExactIndex(features), queries, taken=none).indices.tolist() == indices


def test_ties_go_to_the_smaller_index() -> None:
    features = torch.zeros(500, 3)
    features[250:] = 1.0
    taken = torch.tensor([0, 2, 250])
    found = match(ExactIndex(features), torch.tensor([[0.0] * 3, [1.0] * 3] * 3), taken=taken)
    assert found.indices.tolist() == [1, 251, 3, 252, 4, 253]


def walks(
    index: Index, queries: torch.Tensor, taken: torch.Tensor
) -> list[list[tuple[int, float, int]]]:
    return [list(stream) for stream in index.neighbours(queries, taken)]


def obvious_walk(
    features: torch.Tensor, query: torch.Tensor, taken: torch.Tensor
) -> list[tuple[int, float, int]]:
    """All free items by (distance, index), each with its rank among all."""
    squares = (features.double() - query.double()).square().sum(dim=1).tolist()
    order = sorted(range(len(squares)), key=lambda at: (squares[at], at))
    used = set(taken.tolist())
    return [(at, squares[at] ** 0.5, rank) for rank, at in enumerate(order, 1) if at not in used]


@pytest.mark.parametrize("index_class", INDICES)
def test_among_ties_every_item_comes_once_and_the_smaller_index_first(
    index_class: Callable[[torch.Tensor], Index],
) -> None:
    """Item 3 is the nearest free one; trees gave item 1, or none, as equals came in another order."""
    features, query = torch.tensor([[0.0], [2.0], [1.0], [1.0]]), torch.zeros(1, 1)
    taken = torch.tensor([2, 0])
    assert walks(index_class(features), query, taken) == [[(3, 1.0, 3), (1, 2.0, 4)]]
    equal = torch.ones(9, 2)
    assert [at for at, _, _ in walks(index_class(equal), torch.zeros(1, 2), taken)[0]] == [
        1, *range(3, 9)
    ]  # fmt: skip


@pytest.mark.parametrize("index_class", INDICES)
def test_walks_through_small_pools_of_ties_are_the_obvious_ones(
    index_class: Callable[[torch.Tensor], Index],
) -> None:
    """Whole numbers: every distance is exact in float32 as well, so that ties are ties everywhere."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        n, k = int(rng.integers(1, 20)), int(rng.integers(1, 4))
        features = torch.from_numpy(rng.integers(0, 3, (n, k)).astype(np.float32))
        queries = torch.from_numpy(rng.integers(0, 3, (2, k)).astype(np.float32))
        taken = torch.from_numpy(rng.permutation(n)[: rng.integers(0, n)])
        found = walks(index_class(features), queries, taken)
        assert found == [obvious_walk(features, query, taken) for query in queries]


@pytest.mark.parametrize("copies", [2, 8])
@pytest.mark.parametrize("away", [0.0, 30.0])
@pytest.mark.parametrize("index_class", INDICES)
def test_duplicates_in_a_pool_are_matched_as_by_the_exact_index(
    index_class: Callable[[torch.Tensor], Index], copies: int, away: float
) -> None:
    """Copies are equal to the last bit, others nearly so; far from the origin float32 confuses both."""
    features = (cloud(960 // copies, 20) * 0.1 + away).repeat(copies, 1)
    queries = cloud(30, 20, seed=1) * 0.1 + away
    taken = some(300, len(features))
    index, exact = index_class(features), ExactIndex(features)
    found, wanted = match(index, queries, taken=taken), match(exact, queries, taken=taken)
    assert found.indices.tolist() == wanted.indices.tolist()
    assert found.distances.tolist() == wanted.distances.tolist()
    assert found.depth.tolist() == wanted.depth.tolist()
    assert found.depth.tolist() == obvious_match(features, queries, taken)[2]
    best, wanted = (
        match_best(which, queries, taken=taken, score=lambda at: -at.float(), among=50)
        for which in (index, exact)
    )
    assert best.indices.tolist() == wanted.indices.tolist()
    for near in index.neighbours(queries[:5], taken):
        assert len({at for at, _, _ in itertools.islice(near, 50)}) == 50


def test_the_whole_pool_can_be_matched() -> None:
    features = cloud(200, 2).round()  # many duplicates
    taken = some(50, 200)
    found = match(ExactIndex(features), cloud(150, 2, seed=1), taken=taken)
    assert sorted(found.indices.tolist() + taken.tolist()) == list(range(200))
    with pytest.raises(ValueError, match="151 matches asked of 150 free"):
        match(ExactIndex(features), cloud(151, 2, seed=1), taken=taken)


@pytest.mark.parametrize("index_class", INDICES)
def test_an_index_is_as_before_after_a_search(index_class: type[Index]) -> None:
    features, queries = cloud(400, 5), cloud(9, 5, seed=1)
    index = index_class(features)  # type: ignore[call-arg]
    none = torch.empty(0, dtype=torch.int64)
    before = match(index, queries, taken=none)
    match(index, queries, taken=before.indices)
    assert torch.equal(match(index, queries, taken=none).indices, before.indices)


def test_depth_says_how_many_nearer_items_were_gone() -> None:
    features = torch.arange(10.0)[:, None]
    query = torch.tensor([[0.1], [0.1]])
    found = match(ExactIndex(features), query, taken=torch.tensor([0, 1, 2, 9]))
    assert found.indices.tolist() == [3, 4]
    assert found.depth.tolist() == [4, 5]
    np.testing.assert_allclose(found.distances, [2.9, 3.9], rtol=1e-6)


def test_work_of_the_exact_index_is_one_pass_and_a_rest_that_does_not_grow() -> None:
    rest = []
    for n in (1 << 14, 1 << 16, 1 << 18):
        work = WorkCounters()
        match(ExactIndex(cloud(n, 6)), cloud(10, 6, seed=1), taken=some(20, n), work=work)
        assert work.counts["feature_rows_read"] == n
        rest.append(work.counts["distances"] - 10 * n)
    assert max(rest) < 20_000


def test_work_of_the_tree_is_less_than_exhaustive_in_few_dimensions() -> None:
    work = WorkCounters()
    index = KDTreeIndex(cloud(20_000, 3))
    match(index, cloud(10, 3, seed=1), taken=torch.empty(0, dtype=torch.int64), work=work)
    assert 10 <= work.counts["distances"] < 0.05 * 10 * 20_000


def test_match_best_chooses_the_best_scored_neighbour() -> None:
    features = torch.arange(20.0)[:, None]
    score = torch.arange(20.0) % 7  # best among 0..4: 4; among the free of 1..5 then: 5
    asked: list[int] = []

    def score_of(indices: torch.Tensor) -> torch.Tensor:
        asked.extend(indices.tolist())
        return score[indices]

    none = torch.empty(0, dtype=torch.int64)
    found = match_best(
        ExactIndex(features), torch.tensor([[2.1], [3.1]]), taken=none, score=score_of, among=5
    )
    assert found.indices.tolist() == [4, 5]
    assert asked == sorted(set(asked)), "each candidate is scored once"


def test_match_best_goes_beyond_when_its_neighbours_are_gone() -> None:
    features = torch.arange(10.0)[:, None]
    none = torch.empty(0, dtype=torch.int64)
    found = match_best(
        ExactIndex(features),
        torch.zeros(5, 1),
        taken=none,
        score=lambda indices: -indices.float(),
        among=2,
    )
    assert found.indices.tolist() == [0, 1, 2, 3, 4]


def test_match_best_among_one_is_match() -> None:
    features, queries, taken = cloud(300, 4), cloud(20, 4, seed=1), some(30, 300)
    plain = match(ExactIndex(features), queries, taken=taken)
    best = match_best(
        ExactIndex(features), queries, taken=taken, score=lambda at: torch.zeros(len(at)), among=1
    )
    assert torch.equal(plain.indices, best.indices)


def test_bad_input_is_refused() -> None:
    index = ExactIndex(cloud(10, 3))
    none = torch.empty(0, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"shape \[Q, 3\]"):
        match(index, cloud(2, 4), taken=none)
    with pytest.raises(ValueError, match="not finite"):
        match(index, torch.full((1, 3), torch.nan), taken=none)
    with pytest.raises(ValueError, match="not finite"):
        ExactIndex(torch.full((4, 3), torch.inf))
    with pytest.raises(UserError, match="Did you mean 'kdtree'"):
        build_index("kd-tree", cloud(10, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_device_finds_what_the_host_finds() -> None:
    features, queries, taken = cloud(100_000, 50), cloud(40, 50, seed=1), some(1000, 100_000)
    host = match(ExactIndex(features), queries, taken=taken)
    device = match(ExactIndex(features.cuda()), queries.cuda(), taken=taken)
    assert torch.equal(host.indices, device.indices)
    assert torch.equal(host.depth, device.depth)


def test_the_pass_is_computed_exactly_whatever_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that allows TF32 would break the bound on its rounding."""
    told = []
    product = torch.bmm

    def noting(*arguments: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        told.append(numerics.describe())
        return product(*arguments, out=out)

    monkeypatch.setattr(torch, "bmm", noting)
    features, queries = cloud(500, 8), cloud(5, 8, seed=1)
    nothing = torch.empty(0, dtype=torch.int64)
    with numerics.training("tf32"):
        found = match(ExactIndex(features), queries, taken=nothing)
        assert numerics.describe()["matmul"] == "tf32"
    assert [entry["matmul"] for entry in told] == ["float32"] * len(told) != []
    assert found.indices.tolist() == obvious_match(features, queries, nothing)[0]


@pytest.mark.parametrize("cache_mb", [4, 40, 50])  # T4, A100, H100
def test_a_pass_on_cuda_keeps_its_products_in_the_cache(
    cache_mb: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = SimpleNamespace(L2_cache_size=cache_mb << 20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: about)
    index = ExactIndex(cloud(64, 4))
    index.device = torch.device("cuda")  # blocks are planned, nothing is computed
    for n_queries in (1, 10, 128):
        n = 16_000_000
        blocks = list(index._blocks(n, n_queries))
        assert blocks[0][0] == 0
        assert blocks[-1][1] == n
        assert all(a[1] == b[0] for a, b in itertools.pairwise(blocks))
        products = max((stop - start) * n_queries for start, stop, _ in blocks) * 4
        assert 0.3 * about.L2_cache_size < products < 0.34 * about.L2_cache_size


def test_a_tree_built_inside_prepare_leaves_the_global_random_states(tmp_path: Path) -> None:
    """In a fresh interpreter, with a scikit-learn that draws as it is imported, as the true one may."""
    library = tmp_path / "sklearn"
    library.mkdir()
    (library / "__init__.py").write_text("")
    (library / "neighbors.py").write_text(
        "import random\n\nimport numpy as np\nimport torch\n\n"
        "random.random(), np.random.rand(), torch.rand(1)\n\n"
        "class KDTree:\n    def __init__(self, rows, leaf_size): pass\n"
    )
    script = """
import sys, torch
from alharness.matching import build_index
from alharness.border.state import changed, global_marks

def by_us():
    build_index("kdtree", torch.zeros(9, 2))

def by_others():
    import sklearn.neighbors

for load in (by_us, by_others):
    before = global_marks()
    load()
    print(load.__name__, *changed(before, global_marks()), sep="\\n")
    del sys.modules["sklearn"], sys.modules["sklearn.neighbors"]
"""
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["by_us", "by_others"] + [
        f"the global random state of {name} (if importing sklearn did, import at the top of the module, "
        "not inside the call)"
        for name in ("torch", "numpy", "random")
    ]


def test_steps_rise_for_each_query_and_open_as_many_groups_as_they_say() -> None:
    """Bundles of groups stand for them by their largest minimum: too many may be opened, never too few."""
    few = SimpleNamespace(SORTABLE=8, BUNDLE=4)
    minima_QG = (
        torch.rand(5, 23, generator=torch.Generator().manual_seed(0))
        * 10.0 ** torch.arange(5)[:, None]
    )
    steps = exact._GroupSearch._steps(few, minima_QG)
    for row, minima in zip(steps, minima_QG, strict=True):
        assert (row.diff() >= 0).all()
        assert row[-1] == minima.max() or row[-1] in minima
        for n in range(1, len(row) + 1):
            assert int((minima <= row[n - 1]).sum()) >= n
    exactly = SimpleNamespace(SORTABLE=23, BUNDLE=4)
    assert torch.equal(exact._GroupSearch._steps(exactly, minima_QG), minima_QG.sort(dim=1).values)
