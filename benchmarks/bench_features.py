"""PCA, features of a pool and the building of indices: paid once, entered in the ledger."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from alharness.matching import features
from alharness.pool import ArrayPool
from alharness.scaling.gates import CountingPool, gate_ratio, gate_reads


def pool(n: int, device: torch.device) -> CountingPool:
    rng = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (n, 1, 28, 28), dtype=torch.uint8, generator=rng)
    return CountingPool(ArrayPool(raw, device))


@pytest.mark.parametrize("n", [2_000, 8_000])
def test_reduce_pool(benchmark: Any, n: int, device: torch.device) -> None:
    benchmark(features.reduce_pool, pool(n, device), features.pixels())


@pytest.mark.parametrize("d", [128, 784])
def test_pca(benchmark: Any, d: int, device: torch.device) -> None:
    rows = torch.randn(4_000, d, device=device)
    benchmark(lambda: features.PCA.fit(iter([rows])))


@pytest.mark.regress
def test_features_that_fit_are_computed_once(device: torch.device) -> None:
    items = pool(3_000, device)
    features.reduce_pool(items, features.pixels())
    gate_reads(items, at_most=3_000 + 1)  # one item tells how many features there are


@pytest.mark.regress
def test_pool_features_cost_little_more_than_the_extractor(
    device: torch.device, plain: ModuleType
) -> None:
    items = pool(8_000, device)
    weight = torch.randn(512, 784, device=device)

    def extract(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ weight.T

    extractor = features.FeatureExtractor("linear", "linear", extract)
    raw = items.read_range(0, len(items))
    gate_ratio(
        lambda: features.pool_features(items, extractor),
        lambda: plain.bare_forward(extract, raw, items.block_size()),
        at_most=1.5,
        device=device,
    )
