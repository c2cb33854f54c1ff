"""One pool whatever lies behind it, and the forecast that chooses."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
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
    PinnedPool,
    Pool,
    StreamedPool,
    VirtualPool,
    file_extent,
    forecast,
    pinned,
    scan,
)
from alharness.pool.pinned import Ring, pinned_bytes
from alharness.pool.residency import free_bytes
from alharness.tasks.base import PoolSettings, TaskData
from alharness.timing import WorkCounters

CPU = torch.device("cpu")
N = 500
IMAGES = np.random.default_rng(3).integers(0, 256, (N, 3, 5, 4)).astype(np.uint8)


@pytest.fixture
def mapped(tmp_path: Path) -> np.ndarray:
    """The images in a file, with others before and after them."""
    around = np.concatenate([IMAGES[:7] + 1, IMAGES, IMAGES[:9] + 1])
    np.save(tmp_path / "images.npy", around)
    return np.load(tmp_path / "images.npy", mmap_mode="r")[7 : 7 + N]


@pytest.fixture(params=["device", "host", "memmap", "virtual", "mapped into memory", "pinned"])
def pool(
    request: pytest.FixtureRequest, mapped: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> Pool:
    if request.param == "pinned":
        monkeypatch.setattr(pinned, "PIECE_BYTES", 60 * 128)  # four pieces
        return PinnedPool(mapped, CPU)
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
    assert PinnedPool(IMAGES, CPU).fingerprint == ArrayPool(IMAGES, CPU).fingerprint


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
    if residency == "memmap":  # a pass, with a classifier's activations on a GPU
        assert chosen.total_bytes < (1 * GB if device == "cpu" else 5 * GB)


@pytest.mark.parametrize(
    ("free_gb", "n", "residency"),
    [
        (148, 10_000_000, "device"),  # LSUN, 123 GB, on an H200: 25 GB are enough for the rest
        (148, 11_500_000, "memmap"),  # 141 GB would leave the networks 7 GB less than they need
        (84, 10_000_000, "memmap"),
        (84, 5_000_000, "device"),
        (4, 60_000, "device"),  # a small card: .7 GB, and smaller blocks
    ],
)
def test_a_gpu_is_filled_but_for_what_networks_need(
    free_gb: int, n: int, residency: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alharness.pool import residency as module

    free = {"cuda": free_gb * GB, "cpu": 100 * GB}
    monkeypatch.setattr(module, "free_bytes", lambda device: free[device.type])
    chosen = forecast((n, 3, 64, 64), torch.device("cuda"), in_file=True)
    assert chosen.residency == residency
    assert chosen.device_bytes <= free_gb * GB - min(6 * GB, int(0.4 * free_gb * GB))


def test_what_happens_to_be_free_rarely_changes_a_gpus_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another block size may round otherwise: a run should find the same one when it goes on."""
    from alharness.pool import residency as module

    sizes = set()
    for free in range(8 * GB, 40 * GB, GB // 4):
        monkeypatch.setattr(module, "free_bytes", lambda device, free=free: free)
        sizes.add(forecast((60_000, 3, 32, 32), torch.device("cuda")).block_values)
    assert sizes == {None, 2**23, 2**22}


def test_a_forecast_counts_the_first_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million MNIST images: 32 channels of 28x28 for each of a block's 21,399, twice: 4.3 GB."""
    from alharness.pool import residency as module

    monkeypatch.setattr(module, "free_bytes", lambda device: 80 * GB)
    chosen = forecast((1_000_000, 1, 28, 28), torch.device("cuda"))
    block = 2**24 // 784
    activations = 2 * 4 * 32 * 784 * block
    assert 4.2 * GB < activations < chosen.device_bytes - chosen.pool_bytes
    assert chosen.device_bytes < 6 * GB
    assert 32 * 784 * block < 2**31  # where cuDNN stops counting


def test_what_is_asked_for_and_does_not_fit_is_refused_before_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free: dict[str, int | None] = {"cuda": 8 * GB, "cpu": 8 * GB}
    with pytest.raises(UserError, match=r"pool.residency=device needs 13\.9 GB and 4.8 GB may"):
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


def test_the_first_forecast_is_the_one_that_counts(
    mapped: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the pool in its place less is free: a second forecast would tell another story."""
    from alharness.pool import residency

    targets = np.zeros(N, np.int64)
    data = TaskData(mapped, targets, IMAGES[:9], targets[:9], ("a",), "f", "p")
    chosen = data.forecast(CPU)
    monkeypatch.setattr(residency, "free_bytes", lambda device: 1)
    assert data.open_pool(CPU, chosen=chosen).residency == chosen.residency == "device"
    with pytest.raises(UserError, match="may be taken"):
        data.open_pool(CPU)


@pytest.mark.parametrize("residency", ["device", "memmap"])
def test_given_memory_bounds_the_blocks_wherever_items_live(
    residency: str, mapped: np.ndarray
) -> None:
    targets = np.zeros(N, np.int64)
    data = TaskData(mapped, targets, IMAGES[:9], targets[:9], ("a",), "f", "p")
    opened = data.open_pool(CPU, PoolSettings(residency=residency, memory_mb=17))
    assert opened.block_size() == N  # of 60 bytes each: 17 MB are plenty
    chosen = replace(data.forecast(CPU), residency=residency, block_values=60 * 7)
    assert data.open_pool(CPU, chosen=chosen).block_size() == 7


# ------------------------------------------------------------- scans that find too little memory


def too_small_for(n: int, seen: list[int]) -> Any:
    """A network that needs more memory than there is for more than ``n`` items at once."""

    def sums(items: torch.Tensor) -> torch.Tensor:
        seen.append(len(items))
        if len(items) > n:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return items.flatten(1).sum(dim=1)

    return sums


@pytest.mark.parametrize("indices", [None, torch.arange(N).flip(0)[:300]])
def test_a_scan_halves_its_blocks_until_they_fit_and_says_so(
    pool: Pool, indices: torch.Tensor | None
) -> None:
    seen: list[int] = []
    work = WorkCounters()
    found = list(scan(pool, too_small_for(70, seen), indices, work=work))
    wanted = torch.arange(N) if indices is None else indices
    assert torch.equal(torch.cat([part for part, _ in found]), wanted)
    sums = torch.cat([result for _, result in found])
    torch.testing.assert_close(sums, expected(wanted).flatten(1).sum(dim=1))
    assert work.counts["blocks_halved"] == 3  # 500, 250, 125, 62
    assert pool.block_size() == 62
    seen.clear()
    again = WorkCounters()
    list(scan(pool, too_small_for(70, seen), indices, work=again))
    assert max(seen) == 62
    assert again.counts == {}


@pytest.mark.parametrize(
    ("said", "is_memory"),
    [
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", True),
        ("GET was unable to find an engine to execute this computation", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_memory_that_ran_out_is_known_however_it_is_said(
    said: str, is_memory: bool, pool: Pool
) -> None:
    """By the driver, by cuDNN once none of its kernels has a workspace, by cuBLAS for its handle."""

    def sums(items: torch.Tensor) -> torch.Tensor:
        if len(items) > 200:
            raise RuntimeError(said)
        return items.flatten(1).sum(dim=1)

    work = WorkCounters()
    if is_memory:
        assert sum(len(part) for part, _ in scan(pool, sums, work=work)) == N
        assert work.counts["blocks_halved"] == 2
    else:
        with pytest.raises(RuntimeError, match="illegal memory access"):
            list(scan(pool, sums, work=work))


def test_a_scan_gives_up_only_on_a_single_item(mapped: np.ndarray) -> None:
    seen: list[int] = []
    with pytest.raises(torch.cuda.OutOfMemoryError):
        list(scan(StreamedPool(mapped, CPU), too_small_for(0, seen)))
    assert seen[-1] == 1


def test_another_error_of_a_scan_is_not_taken_for_too_little_memory() -> None:
    def wrong(items: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        list(scan(ArrayPool(IMAGES), wrong))


# ------------------------------------------------------------------------ the way through the host


class FakeEvent:
    """The end of a copy: noted when it is recorded and when somebody waits for it."""

    def __init__(self, log: list[str], slot: int) -> None:
        self.log, self.slot = log, slot

    def record(self) -> None:
        self.log.append(f"sent {self.slot}")

    def synchronize(self) -> None:
        self.log.append(f"wait {self.slot}")


class LoggedRing(Ring):
    """A ring as on CUDA, with buffers that are not pinned."""

    log: list[str]

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(CPU, shape)
        self._on_cuda, self.log = True, []

    def _slot(self) -> Any:
        slot = len(self._slots)
        self.log.append(f"new {slot}")
        return torch.empty(self.shape, dtype=torch.uint8), FakeEvent(self.log, slot)


def test_a_buffer_is_filled_again_only_after_its_copy() -> None:
    ring = LoggedRing((4, 2))
    for _ in range(5):
        ring.send(ring.take(3))
    news = ["new 0", "sent 0", "new 1", "sent 1", "new 2", "sent 2"]
    assert ring.log == [*news, "wait 0", "sent 0", "wait 1", "sent 1"]


def test_a_ring_holds_three_buffers_and_no_more() -> None:
    ring = LoggedRing((4, 2))
    for _ in range(3):
        ring.take(4)
    with pytest.raises(RuntimeError, match="none was sent"):
        ring.take(4)
    assert ring.log == ["new 0", "new 1", "new 2"]


def test_a_streamed_pass_uses_one_ring(mapped: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the pass and slow the device: three buffers of a block each."""
    from alharness.pool import stored

    rings: list[LoggedRing] = []

    def ring(device: torch.device, shape: tuple[int, ...]) -> LoggedRing:
        rings.append(LoggedRing(shape))
        return rings[-1]

    monkeypatch.setattr(stored, "Ring", ring)
    for _, items in StreamedPool(mapped, CPU).blocks(block_size=40):
        assert len(items) <= 40
    (used,) = rings
    assert used.shape == (40, 3, 5, 4)
    assert [entry for entry in used.log if entry.startswith("new")] == ["new 0", "new 1", "new 2"]
    assert sum(entry.startswith("sent") for entry in used.log) == 13
    # The reader waits for the copy of block k - 3 before it fills the buffer with block k.
    assert used.log.index("sent 0") < used.log.index("wait 0")


def test_dense_scans_of_pinned_items_send_what_is_between(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = PinnedPool(IMAGES, CPU)
    picked: list[int] = []
    original = PinnedPool._pick

    def noting(self: PinnedPool, indices: torch.Tensor, ring: Ring) -> torch.Tensor:
        picked.append(len(indices))
        return original(self, indices, ring)

    monkeypatch.setattr(PinnedPool, "_pick", noting)
    most = torch.arange(N)[torch.arange(N) % 3 != 0]
    assert torch.equal(opened.gather(most), expected(most))
    assert picked == []
    few = torch.tensor([400, 3, 77])
    assert torch.equal(opened.gather(few), expected(few))
    assert picked == [3]


def test_pinned_memory_is_not_rounded_up_to_twice_its_size() -> None:
    assert pinned_bytes(123 * GB) < 124 * GB  # in one piece torch would pin 137 GB
    assert pinned_bytes(5000) == 8192


def test_free_memory_is_known_here() -> None:
    free = free_bytes(CPU)
    assert free is None or free > 0


STREAMED_SCAN = """
import sys
from dataclasses import replace
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
n = 24_000
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
    """Max-entropy over 74 MB with 60 MB given, in a process of its own."""
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
