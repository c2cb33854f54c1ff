"""How ties break (docs/protocol.md): among equal items every place that chooses takes the smaller index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from alharness import acquisition
from alharness.matching import build_index, match
from alharness.progress import silent
from alharness_strategies import badge, cluster_margin, core_set, prob_cover, qbc
from alharness_strategies.typiclust import TypiClust

N, K = 7, 4
SAME = torch.ones(N, 3)
NOTHING = torch.empty(0, dtype=torch.int64)


def by_index(kind: str) -> list[int]:
    """Four samples at one place, each of which takes the nearest free item."""
    return match(build_index(kind, SAME), SAME[:K], taken=NOTHING).indices.tolist()


def covering() -> list[int]:
    cover = prob_cover.within(SAME, 0.5, silent)
    return prob_cover.choose(cover, NOTHING, torch.arange(N), K)[0].tolist()


def voted() -> list[int]:
    log_p = torch.full((3, N, 2), 0.5).log()
    votes, mean = qbc.scores(log_p).numpy()
    return np.lexsort((-mean, -votes))[:K].tolist()


PLACES: dict[str, Callable[[], list[int]]] = {
    "acquisition.top_k": lambda: acquisition.top_k(torch.ones(N), K).tolist(),
    "exact": lambda: by_index("exact"),
    "kdtree": lambda: by_index("kdtree"),
    "core-set": lambda: core_set.k_centre(SAME, SAME[:0], K).tolist(),
    "core-set, labelled alike": lambda: core_set.k_centre(SAME, SAME[:1], K).tolist(),
    "prob-cover": covering,
    "badge": lambda: badge.seed_centres(
        torch.ones(N, 2), SAME, K, np.random.default_rng(0)
    ).tolist(),
    "typiclust": lambda: TypiClust().choose(SAME, torch.zeros(N).long(), N, K).tolist(),
    "typiclust, rule 0.2": lambda: (
        TypiClust(rule="0.2").choose(SAME, torch.zeros(N).long(), N, K).tolist()
    ),
    "qbc": voted,
}


@pytest.mark.parametrize("place", PLACES)
def test_of_equal_items_the_smaller_index_comes_first(place: str) -> None:
    assert PLACES[place]() == list(range(K))


def test_clusters_of_one_size_go_by_the_candidate_with_the_smaller_margin() -> None:
    """Candidates of cluster-margin stand in order of their margins."""
    found = cluster_margin.in_turn(np.array([2, 0, 2, 1, 0, 1]), 3, np.random.default_rng(0))
    assert [[2, 0, 2, 1, 0, 1][row] for row in found.tolist()] == [2, 0, 1]


def test_of_equal_clusters_typiclust_takes_the_smaller_number() -> None:
    points = torch.cat([SAME, 2 * SAME])
    clusters = torch.tensor([1] * N + [0] * N)
    assert TypiClust().choose(points, clusters, 2 * N, 2).tolist() == [N, 0]


def test_the_protocol_has_a_row_for_every_place() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    table = page.partition("## How ties break")[2].partition("\n## ")[0]
    named = ("top_k", "_GroupSearch", "GrowingIndex", "core-set", "prob-cover", "badge", "asal")
    assert [
        name for name in (*named, "typiclust", "qbc", "cluster-margin") if name not in table
    ] == []
