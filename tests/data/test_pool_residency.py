"""One pool whatever lies behind it, and the forecast that chooses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alharness import pool as pool_module
from alharness.errors import UserError
from alharness.pool import (
    ArrayPool,
    Forecast,
    Pool,
    StreamedPool,
    VirtualPool,
    file_extent,
    forecast,
)
from alharness.pool.residency import free_bytes
from alharness.tasks.base import PoolSettings, TaskData

CPU = torch.device("cpu")
N = 500
IMAGES = np.random.default_rng(3).integers(0, 256, (N, 3, 5, 4)).astype(np.uint8)


@pytest.fixture
def mapped(tmp_path: Path) -> np.ndarray:
    """The images in a file, with others before and after them."""
    around = np.concatenate([IMAGES[:7] + 1, IMAGES, IMAGES[:9] + 1])
    np.save(tmp_path / "images.npy", around)
    return np.load(tmp_path / "images.npy", mmap_mode="r")[7 : 7 + N]


@pytest.fixture(params=["device", "host", "memmap", "virtual", "mapped into memory"])
def pool(request: pytest.FixtureRequest, mapped: np.ndarray) -> Pool:
    if request.param == "memmap":
        return StreamedPool(mapped, CPU)
    if request.param == "virtual":
        return VirtualPool(
            N,
            IMAGES.shape[1:],
            CPU,
            lambda indices: torch.from_numpy(IMAGES)[indices],
            pixel_max=255,
            fingerprint="f",
        )
    if request.param == "mapped into memory":
        return ArrayPool(mapped, CPU)
    return ArrayPool(IMAGES, CPU, residency=request.param)


def expected(indices: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(IMAGES)[indices].float() / 255


def test_every_residency_gives_the_same_items(pool: Pool) -> None:
    assert (len(pool), pool.item_shape, pool.item_bytes) == (N, (3, 5, 4), 60)
    everything = torch.arange(N)
    shuffled = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    sparse = torch.tensor([499, 0, 77, 77, 3])
    twice = torch.tensor([3, 3, 5])
    for indices in (everything, shuffled, sparse, twice, torch.empty(0, dtype=torch.int64)):
        assert torch.equal(pool.gather(indices), expected(indices))
    for block_size in (1, 64, 499, 10_000):
        passed = list(pool.blocks(block_size=block_size))
        assert torch.equal(torch.cat([part for part, _ in passed]), everything)
        assert torch.equal(torch.cat([items for _, items in passed]), expected(everything))
    odd = everything[everything % 7 != 3]
    for indices in (odd, shuffled[:123]):
        parts = list(pool.blocks(indices, block_size=50))
        assert torch.equal(torch.cat([part for part, _ in parts]), indices)
        assert torch.equal(torch.cat([items for _, items in parts]), expected(indices))


@pytest.mark.parametrize("bad", [-1, N])
def test_every_residency_refuses_indices_outside(pool: Pool, bad: int) -> None:
    with pytest.raises(IndexError):
        pool.gather(torch.tensor([0, bad]))


def test_equal_items_have_equal_fingerprints(mapped: np.ndarray) -> None:
    assert StreamedPool(mapped, CPU).fingerprint == ArrayPool(IMAGES, CPU).fingerprint


@pytest.mark.parametrize("gap", [1, 60 * 3, 1 << 20])
def test_gathers_do_not_depend_on_how_runs_are_cut(
    mapped: np.ndarray, gap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StreamedPool, "GAP_BYTES", gap)
    streamed = StreamedPool(mapped, CPU, block_values=60 * 16)
    assert streamed.block_size() == 16
    indices = torch.from_numpy(np.random.default_rng(gap).integers(0, N, 200))
    assert torch.equal(streamed.gather(indices), expected(indices))


def test_a_stream_reads_each_wanted_byte_about_once(
    mapped: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass over nearly all items reads long runs: not item by item, and hardly more than the file."""
    reads: list[int] = []
    original = StreamedPool._read_into

    def counted(self: StreamedPool, file: Any, start: int, block: torch.Tensor) -> None:
        reads.append(block.numel())
        original(self, file, start, block)

    monkeypatch.setattr(StreamedPool, "_read_into", counted)
    streamed = StreamedPool(mapped, CPU, block_values=60 * 100)
    wanted = torch.arange(N)[torch.arange(N) % 50 != 0]  # as when few are labelled
    assert len(list(streamed.blocks(wanted))) == 5
    assert len(reads) <= 2 * 5  # a block may straddle one border
    assert sum(reads) <= IMAGES.nbytes


def test_a_caller_that_stops_early_leaves_no_thread(mapped: np.ndarray) -> None:
    import threading

    blocks = StreamedPool(mapped, CPU).blocks(block_size=10)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("alharness-read-ahead")]


def test_a_file_that_was_cut_is_named(tmp_path: Path, mapped: np.ndarray) -> None:
    streamed = StreamedPool(mapped, CPU)
    path, _ = file_extent(mapped)
    with path.open("r+b") as file:
        file.truncate(10_000)
    with pytest.raises(UserError, match="shorter than its header says"):
        list(streamed.blocks())


def test_items_in_memory_cannot_be_streamed() -> None:
    with pytest.raises(UserError, match="in memory"):
        StreamedPool(IMAGES, CPU)
    with pytest.raises(UserError, match="in memory"):
        forecast(IMAGES.shape, CPU, asked="memmap")


# ---------------------------------------------------------------------------------------- forecast


def choose(
    monkeypatch: pytest.MonkeyPatch, device: str, free: dict[str, int | None], **asked: object
) -> Forecast:
    from alharness.pool import residency

    monkeypatch.setattr(residency, "free_bytes", lambda device: free[device.type])
    shape = (1_000_000, 3, 64, 64)  # 12.3 GB
    return forecast(shape, torch.device(device), **asked)  # type: ignore[arg-type]


GB = 1_000_000_000


@pytest.mark.parametrize(
    ("device", "device_gb", "host_gb", "residency"),
    [
        ("cuda", 80, 64, "device"),
        ("cuda", 16, 64, "host"),
        ("cuda", 16, 12, "memmap"),
        ("cpu", 0, 64, "device"),
        ("cpu", 0, 12, "memmap"),
    ],
)
def test_auto_takes_the_fastest_place_with_room(
    device: str, device_gb: int, host_gb: int, residency: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: dict[str, int | None] = {"cuda": device_gb * GB, "cpu": host_gb * GB}
    chosen = choose(monkeypatch, device, free, in_file=True)
    assert chosen.residency == residency
    assert chosen.residency in str(chosen) or "GB" in str(chosen)
    if residency == "memmap":
        assert chosen.total_bytes < 1 * GB


def test_what_is_asked_for_and_does_not_fit_is_refused_before_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free: dict[str, int | None] = {"cuda": 8 * GB, "cpu": 8 * GB}
    with pytest.raises(UserError, match=r"pool.residency=device needs 13\.. GB and 4.8 GB may"):
        choose(monkeypatch, "cuda", free, asked="device", in_file=True)
    with pytest.raises(UserError, match="can be streamed"):
        choose(monkeypatch, "cpu", free, in_file=False)
    with pytest.raises(UserError, match="computed, not stored"):
        choose(monkeypatch, "cpu", free, asked="memmap", computed_from_bytes=1000)
    assert choose(monkeypatch, "cpu", {"cpu": None}).residency == "device"  # nothing is known


def test_too_little_even_for_a_stream_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"memmap needs .* and 20 MB may.*raise pool.memory_mb"):
        choose(monkeypatch, "cpu", {"cpu": 64 * GB}, in_file=True, memory_mb=20)
    with pytest.raises(UserError, match=r"virtual needs"):
        choose(monkeypatch, "cpu", {"cpu": GB // 10}, computed_from_bytes=GB)


def test_given_memory_bounds_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose(monkeypatch, "cpu", {"cpu": 64 * GB}, in_file=True, memory_mb=120)
    assert chosen.residency == "memmap"
    assert chosen.block_values is not None
    assert chosen.block_values * 13 <= 30 * 1_000_000


def test_a_task_opens_its_pool_where_the_forecast_says(mapped: np.ndarray) -> None:
    targets = np.zeros(N, np.int64)
    data = TaskData(mapped, targets, IMAGES[:9], targets[:9], ("a",), "f", "p")
    assert data.open_pool(CPU).residency == "device"
    streamed = data.open_pool(CPU, PoolSettings(residency="memmap"))
    assert streamed.residency == "memmap"
    assert streamed.fingerprint == "p"
    assert data.forecast(CPU).residency == "device"
    assert data.open_test(CPU).n == 9


def test_free_memory_is_known_here() -> None:
    free = free_bytes(CPU)
    assert free is None or free > 0


STREAMED_SCAN = """
import sys
from pathlib import Path
from typing import Any
import numpy as np
import torch
from alharness import acquisition
from alharness.availability import Availability
from alharness.labelled import LabelledSet
from alharness.learners.learner import LinearLearner
from alharness.pool import ArrayPool, StreamedPool
from alharness.strategy import CycleView
from alharness.pool.residency import forecast

def peak():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

def query(pool):
    learner = LinearLearner(pool.item_shape, 2, pool.device)
    learner.weight = torch.linspace(-1, 1, 3072)[None]
    view = CycleView(
        pool=pool, labelled=LabelledSet(),
        available=Availability(pool.n, torch.arange(0, pool.n, 90)),
        learner=learner, n_classes=2, cycle=0, seed=0,
    )
    scores = view.scan(lambda items: acquisition.entropy(learner.log_probs(items)))
    return view.unlabelled[acquisition.top_k(scores, 10)]

torch.set_num_threads(1)
path = Path(sys.argv[1]) / "images.npy"
rng = np.random.default_rng(0)
n = 60_000
file = np.lib.format.open_memmap(path, "w+", np.uint8, (n, 3, 32, 32))
for start in range(0, n, 1000):
    file[start : start + 1000] = rng.integers(0, 256, (1000, 3, 32, 32), dtype=np.uint8)
del file
items = np.load(path, mmap_mode="r")
query(StreamedPool(items[:500], block_values=3072 * 50))  # what is loaded once is not the pool's
chosen = forecast(items.shape, torch.device("cpu"), memory_mb=60, in_file=True)
assert chosen.residency == "memmap", chosen
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = peak()
streamed = query(StreamedPool(items, block_values=chosen.block_values))
grown = peak() - before
assert torch.equal(streamed, query(ArrayPool(items)))
print(grown, chosen.total_bytes)
"""


@pytest.mark.regress
def test_a_streamed_scan_stays_below_its_forecast_and_asks_the_same(tmp_path: Path) -> None:
    """Max-entropy over 184 MB with 60 MB given, in a process of its own."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peak memory is read from /proc")
    result = subprocess.run(
        [sys.executable, "-c", STREAMED_SCAN, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    grown, stated = map(int, result.stdout.split())
    print(f"peak memory grew by {grown / 1e6:.1f} MB; the forecast was {stated / 1e6:.1f} MB")
    assert grown < stated
    assert stated < 60_000_000


@pytest.mark.gpu
@pytest.mark.parametrize("residency", ["device", "host", "memmap"])
def test_on_a_gpu(residency: str, mapped: np.ndarray) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = torch.device("cuda")
    targets = np.zeros(N, np.int64)
    data = TaskData(mapped, targets, IMAGES[:9], targets[:9], ("a",), "f", "p")
    opened = data.open_pool(device, PoolSettings(residency=residency))
    indices = torch.randperm(N)
    assert torch.equal(opened.gather(indices).cpu(), expected(indices))
    items = torch.cat([items for _, items in opened.blocks(block_size=64)])
    assert items.device.type == "cuda"
    assert torch.equal(items.cpu(), expected(torch.arange(N)))
    assert pool_module.BLOCK_VALUES_CUDA > 0
