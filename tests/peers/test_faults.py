"""The faults of published strategies that a run of them tells, each shown."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from alharness import registry
from alharness.strategy import CycleView

View = Callable[..., CycleView]


def test_baals_batch_bald_leaves_out_its_own_first_pick(view: View) -> None:
    heuristics = pytest.importorskip(
        "baal.active.heuristics", reason="see peers/baal_heuristics.py"
    )
    seen = view(40)
    p_NCS = seen.samples(n_samples=20).double().exp().numpy().transpose(1, 2, 0)
    scores = heuristics.BALD()(p_NCS)  # most informative first
    first = int(np.ascontiguousarray(scores)[0])
    with seen.sealed("baal"):
        chosen = heuristics.BatchBALD(num_samples=5, num_draw=50)(p_NCS)[:5]
    assert first not in set(np.asarray(chosen).tolist())
    ours = registry.resolve_strategy("batch-bald").select(view(40), 1)
    assert int(seen.unlabelled[first]) == int(ours.touched[0])


def test_scikit_activemls_badge_repeats_items_where_the_pool_holds_copies() -> None:
    pool = pytest.importorskip("skactiveml.pool")
    from alharness_strategies.peers.skactiveml_pool import _logistic

    copies = np.repeat([[3.0, 3.0], [7.0, 7.0]], 5, axis=0)
    rows = np.concatenate([[[0.0, 0.0], [1.0, 1.0]], copies])
    labels = np.concatenate([[0, 1], np.full(10, np.nan)])
    sizes = [
        len(
            {
                int(index)
                for index in pool.Badge(random_state=seed).query(
                    rows, labels, _logistic([0, 1], 0), batch_size=6
                )
            }
        )
        for seed in range(20)
    ]
    assert min(sizes) < 6


def test_scikit_activemls_typi_clust_ends_with_an_error_on_equal_items() -> None:
    pool = pytest.importorskip("skactiveml.pool")
    labels = np.concatenate([[0, 1], np.full(18, np.nan)])
    with (
        pytest.warns(UserWarning, match="Number of distinct clusters"),
        pytest.raises(UnboundLocalError),
    ):
        pool.TypiClust(random_state=0).query(np.ones((20, 2)), labels, batch_size=3)


def test_scikit_activemls_prob_cover_ends_at_the_edge_of_its_grid() -> None:
    pool = pytest.importorskip("skactiveml.pool")
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 4)) * 100
    rows = np.concatenate([centre + rng.normal(size=(30, 4)) * 3 for centre in centres])
    labels = np.full(len(rows), np.nan)
    query = pool.ProbCover(random_state=0, n_classes=5)
    query.query(rows, labels, batch_size=2)
    # No two points of a cluster lie nearer than its grid reaches: the radius covers nobody but its centre.
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    assert query.delta_max_ <= 2.0
    assert np.median(np.sort(distances, axis=1)[:, 10]) > query.delta_max_
