"""Pools of any size: images per second of a max-entropy scan, and peak memory beside its forecast.

    python benchmarks/bench_pool.py --n 150000 --memory-mb 100 --out benchmarks/results/pool.json

One file of N images of 3x32x32, scanned by the same linear model in five ways, each in a process of
its own so that peak memory is its own: the raw read alone (no arithmetic), the streamed pool, the
pool in memory, and the streamed pool and the raw read once more with the file dropped from the
system's cache. ``--virtual M`` adds a pool of M computed items.

As a test (``pytest benchmarks/bench_pool.py``) it times blocks with pytest-benchmark and holds what
no machine changes: a streamed scan reads each byte of the file about once, in long runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alharness import acquisition
from alharness.availability import Availability
from alharness.labelled import LabelledSet
from alharness.learners.learner import LinearLearner
from alharness.pool import ArrayPool, Pool, StreamedPool, VirtualPool, forecast
from alharness.strategy import CycleView
from alharness.tasks.augmented import augment

SHAPE = (3, 32, 32)
QUERY_SIZE = 10
CPU = torch.device("cpu")


def write_images(path: Path, n: int) -> None:
    """A file of random images."""
    rng = np.random.default_rng(0)
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (n, *SHAPE))
    for start in range(0, n, 5000):
        stop = min(start + 5000, n)
        file[start:stop] = rng.integers(0, 256, (stop - start, *SHAPE), dtype=np.uint8)
    file.flush()


def scan(pool: Pool) -> list[int]:
    """One max-entropy query with a linear model, as a strategy makes it."""
    learner = LinearLearner(pool.item_shape, 2, pool.device)
    generator = torch.Generator().manual_seed(0)
    learner.weight = torch.randn(learner.weight.shape, generator=generator) / 50
    view = CycleView(
        pool=pool,
        labelled=LabelledSet(),
        available=Availability(pool.n, torch.arange(0, pool.n, 5000)),
        learner=learner,
        n_classes=2,
        cycle=0,
        seed=0,
    )
    scores = view.scan(lambda items: acquisition.entropy(learner.log_probs(items)))
    chosen: list[int] = view.unlabelled[acquisition.top_k(scores, QUERY_SIZE)].tolist()
    return chosen


def raw_read(path: Path, block: int = 1 << 21) -> int:
    """Read a file to its end into one buffer: the bound that no scan can pass."""
    buffer = bytearray(block)
    total = 0
    with path.open("rb", buffering=0) as file:
        while n := file.readinto(buffer):
            total += n
    return total


def peak_bytes() -> int | None:
    """Peak resident memory of this process; None where /proc does not tell."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def drop_from_cache(path: Path) -> None:
    """Ask the system to forget the file's pages (clean ones only, no privilege needed)."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(kind: str, path: Path, memory_mb: int, n_virtual: int) -> dict[str, Any]:
    """One way of scanning: seconds, images per second, peak memory, forecast, query."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    items = np.load(path, mmap_mode="r")
    n = len(items)
    scan(ArrayPool(np.array(items[:2000])))  # what is loaded once is not the pool's
    if kind.endswith("cold"):
        drop_from_cache(path)
    stated: int | None = None
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = peak_bytes()
    run: Callable[[], list[int]]
    if kind.startswith("streamed"):
        chosen = forecast(items.shape, CPU, asked="memmap", memory_mb=memory_mb, in_file=True)
        stated = chosen.total_bytes
        pool: Pool = StreamedPool(items, CPU, block_values=chosen.block_values)
        run = lambda: scan(pool)  # noqa: E731
    elif kind == "in memory":
        stated = forecast(items.shape, CPU, asked="device", in_file=True).total_bytes
        pool = ArrayPool(items, CPU)
        run = lambda: scan(pool)  # noqa: E731
    elif kind == "virtual":
        n = n_virtual
        source = ArrayPool(np.array(items[:10_000]), CPU)
        chosen = forecast((n, *SHAPE), CPU, computed_from_bytes=source.n * source.item_bytes)
        stated = chosen.total_bytes

        def compute(indices: torch.Tensor) -> torch.Tensor:
            varied = augment(source.gather(indices % source.n), indices, 0, flip=True)
            return varied.mul_(255).round_().to(torch.uint8)

        pool = VirtualPool(n, SHAPE, CPU, compute, pixel_max=255, fingerprint="bench")
        run = lambda: scan(pool)  # noqa: E731
    else:
        run = lambda: [raw_read(path)]  # noqa: E731
    start, cpu_start = time.perf_counter(), time.process_time()
    query = run()
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    after = peak_bytes()
    return {
        "kind": kind,
        "n": n,
        "seconds": round(seconds, 3),
        "images_per_s": round(n / seconds),
        "cpu_s": round(cpu_s, 3),  # all threads; on a busy machine the steadier number
        "images_per_cpu_s": round(n / max(cpu_s, 1e-9)),
        "peak_mb": round((after - before) / 1e6, 1) if after and before else None,
        "forecast_mb": round(stated / 1e6, 1) if stated else None,
        "query": query if not kind.startswith("raw") else None,
    }


KINDS = ("raw read", "streamed", "in memory", "raw read, cold", "streamed, cold")


def main() -> None:
    """Measure all ways and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=150_000)
    parser.add_argument("--memory-mb", type=int, default=100)
    parser.add_argument("--virtual", type=int, default=0, help="items of a computed pool")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.path, given.memory_mb, given.virtual)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        write_images(path, given.n)
        kinds = (*KINDS, "virtual") if given.virtual else KINDS
        results = []
        for kind in kinds:
            command = [sys.executable, __file__, "--one", kind, "--path", str(path)]
            command += ["--memory-mb", str(given.memory_mb), "--virtual", str(given.virtual)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout))
            shown = {key: value for key, value in results[-1].items() if key != "query"}
            print("  ".join(f"{key} {value}" for key, value in shown.items()))
    queries = {str(result["query"]) for result in results if result["kind"] in KINDS[1:3]}
    assert len(queries) == 1, "the streamed pool must be asked the same as the one in memory"
    report = {
        "pool_mb": round(given.n * np.prod(SHAPE) / 1e6),
        "machine": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", "1")),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "results": results,
    }
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(report, indent=1) + "\n")


# --------------------------------------------------------------------------------------- as a test


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    path = tmp_path_factory.mktemp("pool") / "images.npy"
    write_images(path, 4000)
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("residency", ["memmap", "device"])
def test_scan(benchmark: Any, images: np.ndarray, residency: str) -> None:
    pool: Pool = StreamedPool(images) if residency == "memmap" else ArrayPool(images)
    query = benchmark.pedantic(scan, (pool,), rounds=3, warmup_rounds=1)
    assert query == scan(ArrayPool(np.array(images)))


@pytest.mark.regress
def test_a_scan_reads_each_byte_once_in_long_runs(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    original = StreamedPool._read_into

    def counted(self: StreamedPool, file: Any, start: int, block: torch.Tensor) -> None:
        reads.append(block.numel())
        original(self, file, start, block)

    monkeypatch.setattr(StreamedPool, "_read_into", counted)
    pool = StreamedPool(images)
    scan(pool)
    assert sum(reads) <= images.nbytes
    assert len(reads) <= 2 * (images.nbytes // (pool.block_size() * pool.item_bytes) + 1)


if __name__ == "__main__":
    main()
