"""Features and PCA: exact, deterministic, the same by blocks as in one piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import decomposition

from alharness.artefacts import ArtefactStore, Supply
from alharness.matching import PCA, ExactIndex, FeatureExtractor, features, spaces
from alharness.pool import ArrayPool
from alharness.records import Ledger
from alharness.timing import WorkCounters


def rows(n: int = 300, d: int = 12, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, d)) @ np.diag(np.linspace(3, 0.2, d)) @ rng.normal(size=(d, d))
    return torch.from_numpy(mixed.astype(np.float32))


def images(n: int = 150) -> torch.Tensor:
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.integers(0, 256, size=(n, 1, 4, 4), dtype=np.uint8))


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("block", [7, 300])
def test_pca_agrees_with_scikit_learn(offset: float, block: int) -> None:
    data = rows() + offset
    ours = PCA.fit(iter(torch.split(data, block)), 5)
    reference = decomposition.PCA(5, svd_solver="full").fit(data.double().numpy())
    signs = np.sign((ours.components.numpy().T * reference.components_).sum(axis=1))
    tolerance = 1e-3 if offset else 1e-4  # what float32 leaves of numbers around 1000
    np.testing.assert_allclose(
        ours.components.numpy().T, reference.components_ * signs[:, None], atol=tolerance
    )
    np.testing.assert_allclose(
        ours.variances, reference.explained_variance_ * 299 / 300, rtol=tolerance
    )
    assert ours.explained == pytest.approx(reference.explained_variance_ratio_.sum(), rel=1e-4)


def test_directions_point_to_their_largest_entry() -> None:
    pca = PCA.fit(iter([rows()]), 6)
    largest = pca.components.gather(0, pca.components.abs().argmax(dim=0)[None])
    assert bool((largest > 0).all())


def test_no_more_components_than_features_or_rows() -> None:
    assert PCA.fit(iter([rows(300, 12)]), 50).components.shape == (12, 12)
    assert PCA.fit(iter([rows(4, 12)]), 50).components.shape == (12, 4)


def test_all_components_keep_distances() -> None:
    data = rows(50, 12)
    moved = PCA.fit(iter([data]), 50)(data).double()
    distances = torch.cdist(data.double(), data.double())
    torch.testing.assert_close(torch.cdist(moved, moved), distances, atol=1e-4, rtol=1e-5)


def test_constant_features_do_no_harm() -> None:
    pca = PCA.fit(iter([torch.ones(10, 3)]), 2)
    assert bool(pca(torch.ones(4, 3)).abs().max() < 1e-6)
    assert pca.explained == 1.0


def test_pool_features_are_the_extractors_rows_in_pool_order() -> None:
    pool = ArrayPool(images())
    work = WorkCounters()
    found = features.pool_features(pool, features.pixels(), work=work)
    torch.testing.assert_close(found, images().float().flatten(1) / 255)
    assert work.counts == {"pool_items_featurised": 150, "bytes_read": 150 * 16}


def test_features_and_points_stay_on_the_device_that_they_are_for() -> None:
    """Torch's device without memory stands for one that is not here."""
    elsewhere = features.FeatureExtractor("x", "", lambda items: items.to("meta"))
    assert features.pool_features(ArrayPool(images()), elsewhere).device.type == "meta"
    space = spaces.Space("items", "key", points=torch.ones(3, 2))
    assert space.on("meta").points.device.type == "meta"  # type: ignore[union-attr]
    assert space.points.device.type == "cpu"  # type: ignore[union-attr]
    nowhere = spaces.Space("classifier", "")
    assert nowhere.on("meta") is nowhere


def test_what_is_computed_with_a_pool_is_made_where_the_pool_is() -> None:
    """Torch's device without memory is where it makes what is told no place: none of it may be used."""
    points, taken = rows(200, 5), torch.tensor([3, 77])
    wanted = PCA.fit(iter([points]), 3).variances
    with torch.device("meta"):
        index = ExactIndex(points)
        found = [next(stream)[0] for stream in index.neighbours(points[:4] + 1e-3, taken)]
        fitted = PCA.fit(iter([points]), 3)
    assert found[:3] == [0, 1, 2]
    assert found[3] not in (3, 77)
    assert torch.equal(fitted.variances, wanted)


def test_a_pool_whose_raw_features_do_not_fit_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = ArrayPool(images())
    kept, twice = WorkCounters(), WorkCounters()
    in_memory = features.reduce_pool(pool, features.pixels(), 6, work=kept)
    monkeypatch.setattr(features, "KEEP_RAW_BYTES", 0)
    streamed = features.reduce_pool(pool, features.pixels(), 6, work=twice)
    torch.testing.assert_close(in_memory.features, streamed.features, atol=1e-5, rtol=0)
    assert kept.counts["pool_items_featurised"] == 150
    assert twice.counts["pool_items_featurised"] == 300, "two passes must be counted as two"


@pytest.mark.parametrize(("spare", "n_passes"), [(0, 1), (-1, 2)])
def test_raw_features_are_kept_up_to_the_byte(
    spare: int, n_passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """150 items of 16 numbers of four bytes."""
    monkeypatch.setattr(features, "KEEP_RAW_BYTES", 150 * 16 * 4 + spare)
    work = WorkCounters()
    features.reduce_pool(ArrayPool(images()), features.pixels(), 6, work=work)
    assert work.counts["pool_items_featurised"] == 150 * n_passes


def test_reduced_pool_treats_other_items_as_the_pools_own() -> None:
    pool = ArrayPool(images())
    reduced = features.reduce_pool(pool, features.pixels(), 6)
    some = torch.tensor([3, 77, 149])
    torch.testing.assert_close(reduced.space(pool.gather(some)), reduced.features[some])


def test_features_are_computed_once_and_found_again(tmp_path: Path) -> None:
    pool = ArrayPool(images())
    calls = 0

    def compute(items: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return items * 2

    extractor = FeatureExtractor("double", "double", compute)
    store = ArtefactStore(tmp_path)
    first, second = Ledger(), Ledger()
    built = features.obtain_reduced_pool(pool, extractor, 6, Supply(store, first))
    calls_then = calls
    again = features.obtain_reduced_pool(pool, extractor, 6, Supply(store, second))
    assert calls == calls_then
    assert torch.equal(built.features, again.features)
    assert torch.equal(built.space.pca.mean, again.space.pca.mean)
    assert [entry.name for entry in first.entries] == ["pca", "features"]
    assert [entry.cached for entry in first.entries] == [False, False]
    assert [entry.cached for entry in second.entries] == [True, True]
    assert [e.seconds for e in first.entries] == [e.seconds for e in second.entries]
    # Who computed them paid what they cost, part by part; who found them loaded one file.
    assert [e.load_s for e in first.entries] == [e.seconds for e in first.entries]
    assert second.entries[0].load_s == 0
    assert second.entries[1].load_s not in (0, built.features_s)
    assert again.features_s == built.features_s
    details = {"extractor": "double", "components": 6}
    explained = {"explained_variance": built.space.pca.explained}
    for entries in (first.entries, second.entries):
        assert entries[0].details.items() >= {**details, **explained}.items()
        assert entries[1].details.items() >= {**details, "rows": 150, "bytes": 150 * 6 * 4}.items()


def test_another_pool_extractor_or_dimension_is_another_artefact(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    ledger = Ledger()
    other = FeatureExtractor("other", "other", lambda items: -items)
    wanted = [
        (ArrayPool(images()), features.pixels(), 6),
        (ArrayPool(images(140)), features.pixels(), 6),
        (ArrayPool(images()), other, 6),
        (ArrayPool(images()), features.pixels(), 5),
    ]
    for pool, extractor, dims in wanted:
        features.obtain_reduced_pool(pool, extractor, dims, Supply(store, ledger))
    assert not any(entry.cached for entry in ledger.entries)
