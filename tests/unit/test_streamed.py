"""The search behind CUDA's kernel, whose minima are plain products here: neighbours as two loops find."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from alharness.matching import ExactIndex, streamed
from alharness.matching.streamed import StreamedRows, StreamedSearch
from alharness.timing import WorkCounters

SIZE = 4  # rows of a group


def minima_of(
    rows_GKS: torch.Tensor,
    norms: torch.Tensor,
    is_gone: torch.Tensor,
    high: torch.Tensor,
    low: torch.Tensor,
    n_queries: int,
) -> torch.Tensor:
    """What the kernel is asked for: smallest ``|f|^2 + q.f`` of each group, of ``-2 q`` in two parts."""
    assert high.shape == low.shape
    assert [size % block for size, block in zip(high.shape, streamed.BLOCK, strict=True)] == [0, 0]
    queries = (high.float() + low.float())[:n_queries, : rows_GKS.shape[1]]
    scores = torch.einsum("qk,gks->qgs", queries, rows_GKS.float())
    return (scores + norms.masked_fill(is_gone, torch.inf).view(len(rows_GKS), -1)).amin(dim=2)


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``search(points, queries, taken)``, of few groups and candidates at a time."""
    monkeypatch.setattr(torch.ops.alharness, "group_minima", minima_of)
    monkeypatch.setattr(StreamedSearch, "FIRST", 2)
    monkeypatch.setattr(StreamedSearch, "TOLD", 2)
    monkeypatch.setattr(StreamedSearch, "ROWS", 5)

    def make(points: torch.Tensor, queries: torch.Tensor, taken: list[int]) -> StreamedSearch:
        filled = torch.cat([points, torch.zeros(-len(points) % SIZE, points.shape[1])])
        norms = filled.square().sum(dim=1)
        norms[len(points) :] = torch.inf  # no rows
        source = StreamedRows(filled, norms, SIZE, 2 * SIZE)
        work = WorkCounters()
        at = torch.tensor(sorted(taken), dtype=torch.int64)
        found = StreamedSearch(source, lambda rows: filled[rows], queries, at, work)
        found.work = work
        return found

    return make


def by_loops(points: torch.Tensor, query: torch.Tensor, taken: list[int]) -> Iterator[Any]:
    """Free items from near to far, ties by smaller index; ranks count the taken ones, too."""
    squares = ((points.double() - query.double()) ** 2).sum(dim=1).numpy()
    for rank, at in enumerate(np.lexsort((np.arange(len(points)), squares)).tolist(), 1):
        if at not in taken:
            yield at, pytest.approx(float(squares[at]) ** 0.5, abs=1e-12), rank


@pytest.mark.parametrize(
    ("n", "k", "offset"), [(1, 3, 0.0), (7, 2, 0.0), (45, 3, 30.0), (64, 70, 0.0)]
)
@pytest.mark.parametrize("ties", [False, True])
def test_neighbours_are_those_of_two_loops(
    n: int, k: int, offset: float, ties: bool, search: Any
) -> None:
    rng = torch.Generator().manual_seed(n)
    points = torch.randn(n, k, generator=rng) + offset
    queries = torch.randn(17, k, generator=rng) + offset
    if ties:
        points, queries = points.round(), queries.round()
    taken = list(range(1, n, 3))
    found = search(points, queries, taken)
    for q in range(17):
        assert list(found.walk(q)) == list(by_loops(points, queries[q], taken))


def test_as_many_groups_are_opened_as_are_asked_for_and_each_row_is_counted(search: Any) -> None:
    """Points on a line, a group for each stretch of four: the first two groups hold what is near."""
    points = torch.arange(64.0)[:, None]
    found = search(points, torch.tensor([[0.0], [40.2]]), [5])
    # Each query against two groups of four rows, and against the one that is taken.
    assert found.work.counts == {"distances": 2 * 2 * SIZE + 2}
    assert [at for at, _, _ in islice(found.walk(0), 2)] == [0, 1]
    assert found.work.counts == {"distances": 18}
    # Two candidates of each group are told: a fifth one asks for four times as many groups.
    assert [at for at, _, _ in islice(found.walk(0), 5)] == [0, 1, 2, 3, 4]
    assert found.work.counts == {"distances": 18 + 8 * SIZE}


def test_a_kernel_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    norms = rows.square().sum(dim=1)
    for off, is_used in ((0.0, True), (1e-4, True), (1.0, False), (-1.0, False)):
        monkeypatch.setattr(
            torch.ops.alharness,
            "group_minima",
            lambda *given, off=off: minima_of(*given) + off * norms.max(),
        )
        if is_used:
            assert streamed.streamed(rows, norms, SIZE, SIZE) is not None
        else:
            with pytest.warns(UserWarning, match="slower but the same"):
                assert streamed.streamed(rows, norms, SIZE, SIZE) is None


def test_what_two_passes_find_costs_what_it_says() -> None:
    """A cloud of 50 groups: one pass, the groups opened first, and the two rows that are taken."""
    points = torch.randn(3200, 5, generator=torch.Generator().manual_seed(0))
    work = WorkCounters()
    index = ExactIndex(points)
    for stream in index.neighbours(points[:3] + 0.01, torch.tensor([7, 9]), work):
        assert len(list(islice(stream, 3))) == 3
    assert work.counts["feature_rows_read"] == 3200
    assert work.counts["distances"] == 3 * 3200 + 3 * 8 * 64 + 3 * 2
