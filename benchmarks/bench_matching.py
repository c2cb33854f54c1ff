"""Matching: every index against its floor, one read of the features or their product, whichever is more."""

from __future__ import annotations

import statistics
import time
from types import ModuleType
from typing import Any

import pytest
import torch

from alharness.matching import INDICES, ExactIndex, build_index, match
from alharness.scaling.gates import gate_slope, gate_work, interleaved
from alharness.timing import Stopwatch, WorkCounters

K, Q = 50, 10
TAKEN = torch.arange(100)


def rows(n: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Features with the falling spectrum that PCA gives."""
    rng = torch.Generator().manual_seed(0)
    spectrum = torch.linspace(1, 0.1, K)
    return (torch.randn(n, K, generator=rng) * spectrum).to(device)


def points(q: int, device: torch.device | str = "cpu") -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return (torch.randn(q, K, generator=rng) * torch.linspace(1, 0.1, K)).to(device)


@pytest.mark.parametrize("kind", INDICES)
@pytest.mark.parametrize("n", [10_000, 100_000])
def test_match(benchmark: Any, kind: str, n: int, device: torch.device) -> None:
    if kind == "faiss":
        pytest.importorskip("faiss")
    index = build_index(kind, rows(n, device))
    benchmark(match, index, points(Q, device), taken=TAKEN)


@pytest.mark.parametrize("kind", INDICES)
def test_build(benchmark: Any, kind: str) -> None:
    if kind == "faiss":
        pytest.importorskip("faiss")
    features = rows(30_000)
    benchmark(build_index, kind, features)


def floor_ratio(n: int, device: torch.device, plain: ModuleType) -> dict[str, float]:
    """Seconds of an exact match, of its two floors, and the ratio to the larger one; interleaved."""
    features, queries = rows(n, device), points(Q, device)
    index = ExactIndex(features)
    size = 1024
    product = plain.matrix_rate(size)
    searched, read = interleaved(
        lambda: match(index, queries, taken=TAKEN),
        lambda: plain.read_once(features),
        device=device,
    )
    _, multiplied = interleaved(lambda: None, product, device=device)
    match_s, read_s = min(searched), min(read)
    product_s = min(multiplied) * (2 * n * K * Q) / (2 * size**3)
    return {
        "match_s": match_s,
        "read_s": read_s,
        "product_s": product_s,
        "ratio": match_s / max(read_s, product_s),
    }


@pytest.mark.parametrize("n", [1_000_000, pytest.param(16_000_000, marks=pytest.mark.slow)])
@pytest.mark.regress
def test_exact_match_is_near_its_floor(plain: ModuleType, n: int) -> None:
    """3 times the floor is the target on a quiet machine; 5 leaves room for a busy one."""
    found = [floor_ratio(n, torch.device("cpu"), plain) for _ in range(3)]
    best = min(found, key=lambda figures: figures["ratio"])
    told = ", ".join(f"{name} {value:.3g}" for name, value in best.items())
    print(f"\nexact match of {Q} in {n:,} x {K}: {told} (limit 5)")
    assert best["ratio"] <= 5, f"{[figures['ratio'] for figures in found]} times the floor"


@pytest.mark.regress
def test_exact_work_is_one_pass(device: torch.device) -> None:
    counts = {}
    for n in (16_384, 65_536, 262_144):
        work = WorkCounters()
        match(build_index("exact", rows(n, device)), points(Q, device), taken=TAKEN, work=work)
        counts[n] = {"feature_rows_read": work.counts["feature_rows_read"]}
        assert work.counts["distances"] - Q * n < 50_000, "the opened groups must stay few"
    gate_work(counts, linear=["feature_rows_read"])


@pytest.mark.regress
def test_exact_is_at_most_linear(device: torch.device) -> None:
    sizes = (50_000, 100_000, 200_000, 400_000)
    indices = {n: build_index("exact", rows(n, device)) for n in sizes}
    seconds: dict[int, list[float]] = {n: [] for n in sizes}
    for repeat in range(6):
        for n, index in indices.items():
            stopwatch, start = Stopwatch(device), time.process_time()
            with stopwatch.phase("match"):
                match(index, points(Q, device), taken=TAKEN)
            taken = time.process_time() - start
            if repeat:  # the first is a warm-up
                seconds[n].append(taken if device.type == "cpu" else stopwatch.seconds["match"])
    assert statistics.median(seconds[400_000]) > 0
    gate_slope(seconds, at_most=1.25)
