"""The scan behind uncertainty sampling: how near it comes to the bare forward pass of its network."""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

import pytest
import torch

from alharness.labelled import LabelledSet
from alharness.learners.learner import LearnerSettings, LinearLearner, NetworkLearner
from alharness.pool import ArrayPool
from alharness.queries import PoolQuery
from alharness.scaling.gates import CountingPool, gate_ratio, gate_reads, gate_slope, gate_work
from alharness.strategy import CycleView
from alharness.timing import Stopwatch
from alharness_strategies.max_entropy import MaxEntropy

SIZES = (1_000, 2_000, 4_000, 8_000)


def scene(n: int, device: torch.device, kind: str = "mnist-cnn") -> tuple[CycleView, torch.Tensor]:
    """A pool of random 28x28 images before an untrained network; nothing is labelled."""
    rng = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (n, 1, 28, 28), dtype=torch.uint8, generator=rng).to(device)
    learner = NetworkLearner((1, 28, 28), 10, device, LearnerSettings(kind=kind))
    learner.network = learner.build().eval().requires_grad_(False)
    view = CycleView(
        pool=CountingPool(ArrayPool(raw, device)),
        labelled=LabelledSet(),
        learner=learner,
        n_classes=10,
        cycle=0,
        seed=0,
    )
    return view, raw


@pytest.mark.parametrize("n", SIZES)
def test_scan(benchmark: Any, n: int, device: torch.device) -> None:
    view, _ = scene(n, device)
    benchmark(MaxEntropy().select, view, 10)


@pytest.mark.regress
def test_scan_runs_at_80_percent_of_the_bare_forward_pass(
    device: torch.device, plain: ModuleType
) -> None:
    view, raw = scene(1_000 if device.type == "cpu" else 100_000, device)
    learner = view.learner
    assert isinstance(learner, NetworkLearner)
    ratio = gate_ratio(
        lambda: MaxEntropy().select(view, 10),
        lambda: plain.bare_forward(learner.network, raw, view.pool.block_size()),
        at_most=1 / 0.8,
        device=device,
    )
    print(f"\nscan: {1 / ratio:.0%} of the bare forward pass's images per second (limit 80%)")


@pytest.mark.regress
def test_a_linear_scan_is_faster_than_numpy(device: torch.device, plain: ModuleType) -> None:
    """50,000 rows of 64 numbers, ten classes, the 100 most uncertain.

    By count 64 MFLOP of products, one copy of 13 MB and six passes over half a million predictions: of
    4.2 ms of CPU time the products take 2.0, the copy .8, the predictions 1.0, the choice .4. modAL's
    entropy_sampling took 12.4 ms in the same minute, NumPy's own lines 11.7.
    """
    n, rng = 50_000, torch.Generator().manual_seed(0)
    rows = torch.rand(n, 64, generator=rng)
    learner = LinearLearner((64,), 10, device)
    learner.weight = torch.randn(10, 64, generator=rng).to(device)
    learner.bias = torch.randn(10, generator=rng).to(device)
    labelled = LabelledSet(
        indices=torch.arange(0, n, 500), targets=torch.zeros(100, dtype=torch.int64)
    )
    pool = ArrayPool(rows, device)

    def ours() -> PoolQuery:
        about = {"n_classes": 10, "cycle": 0, "seed": 0}
        view = CycleView(pool=pool, labelled=labelled, learner=learner, **about)
        return MaxEntropy().select(view, 100)

    weight, bias = learner.weight.cpu().numpy(), learner.bias.cpu().numpy()
    plain_rows = rows.numpy()
    ratio = gate_ratio(
        ours,
        lambda: plain.numpy_entropy(plain_rows, weight, bias, 100),
        at_most=0.7,
        device=device,
    )
    print(f"\nlinear scan: {ratio:.2f} of NumPy's time (limit 0.7)")


@pytest.mark.regress
def test_scan_reads_each_item_once_and_says_so(device: torch.device) -> None:
    counts = {}
    for n in SIZES:
        view, _ = scene(n, device, "mlp")
        MaxEntropy().select(view, 10)
        assert isinstance(view.pool, CountingPool)
        gate_reads(view.pool, at_most=n)
        counts[n] = dict(view.work.counts)
        assert counts[n]["pool_items_scored"] == n
    gate_work(counts, linear=["pool_items_scored", "bytes_read"])


@pytest.mark.regress
def test_scan_is_linear(device: torch.device) -> None:
    sizes = (
        (2_000, 6_000, 18_000, 54_000) if device.type == "cpu" else (10**5, 10**6, 3 * 10**6, 10**7)
    )
    seconds: dict[int, list[float]] = {n: [] for n in sizes}
    views = {n: scene(n, device, "mlp")[0] for n in sizes}
    for _ in range(3):
        for n, view in views.items():
            view.stopwatch = Stopwatch(view.device)
            start = time.process_time()
            MaxEntropy().select(view, 10)
            # On a CPU its own seconds: the stopwatch's hold those of other processes, too.
            taken = time.process_time() - start
            on_cpu = device.type == "cpu"
            seconds[n].append(taken if on_cpu else view.stopwatch.seconds["score"])
    gate_slope(seconds, at_least=0.75, at_most=1.2)
