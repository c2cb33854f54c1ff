"""Core-set against scikit-activeml and ALiPy: the same picks, how much faster, and how many bytes.

    python benchmarks/bench_core_set.py --peers PYTHON --out benchmarks/results/core_set.json

``PYTHON`` is the interpreter of an environment with ``scikit-activeml`` and ``alipy``; it runs in a
process of its own, before ours, on the same features. Rounds alternate, so that a machine that gets
busy slows both down; the smallest time of each counts.

As a test (``pytest benchmarks/bench_core_set.py``) it holds the work counters, which no machine changes.
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
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

N, D, N_LABELLED = 50_000, 128, 100

#: Runs in the peers' environment: features file, picks, which peer; prints seconds and picks.
PEER = """
import collections, collections.abc, json, sys, time
import numpy as np
path, k, peer = sys.argv[1], int(sys.argv[2]), sys.argv[3]
X = np.load(path)
labelled = np.arange(100)
if peer == "scikit-activeml":
    from skactiveml.pool import CoreSet
    y = np.full(len(X), np.nan); y[labelled] = 0
    query = lambda: CoreSet(random_state=0).query(X=X, y=y, batch_size=k)
else:
    collections.Iterable = collections.abc.Iterable
    from alipy.query_strategy import QueryInstanceCoresetGreedy
    rest = list(range(100, len(X)))
    strategy = QueryInstanceCoresetGreedy(X, np.zeros(len(X)), np.arange(len(X)))
    query = lambda: strategy.select(list(labelled), rest, batch_size=k)
start = time.perf_counter()
picks = [int(p) for p in query()]
print(json.dumps({"seconds": time.perf_counter() - start, "picks": picks}))
"""


def features() -> NDArray[np.float32]:
    """Clustered rectified features, as a classifier's last layer gives."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(50, D))
    rows = means[rng.integers(50, size=N)] + rng.normal(size=(N, D))
    return np.maximum(rows, 0).astype(np.float32)


def ours(rows: NDArray[np.float32], k: int) -> dict[str, Any]:
    """Seconds, picks and work of one query."""
    import torch

    from alharness.timing import WorkCounters
    from alharness_strategies.core_set import k_centre

    values = torch.from_numpy(rows)
    work = WorkCounters()
    start = time.perf_counter()
    chosen = k_centre(values[N_LABELLED:], values[:N_LABELLED], k, work=work)
    seconds = time.perf_counter() - start
    picks = [int(row) + N_LABELLED for row in chosen]
    return {"seconds": seconds, "picks": picks, "work": dict(work.counts)}


def obvious_torch(rows: NDArray[np.float32], k: int) -> float:
    """Seconds of the loop that reads all features once per pick."""
    import torch

    values = torch.from_numpy(rows)
    start = time.perf_counter()
    nearest = torch.cdist(values[N_LABELLED:], values[:N_LABELLED]).amin(dim=1)
    for _ in range(k):
        row = N_LABELLED + int(nearest.argmax())
        nearest = torch.minimum(nearest, (values[N_LABELLED:] - values[row]).norm(dim=1))
    return time.perf_counter() - start


def bandwidth() -> float:
    """Bytes per second of reading the features once, the best of ten."""
    import torch

    values = torch.rand(N, D)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        values.sum()
        times.append(time.perf_counter() - start)
    return values.nbytes / min(times)


def peer(python: str, path: Path, k: int, name: str) -> dict[str, Any]:
    """One query of a peer, in a process of its own."""
    done = subprocess.run(
        [python, "-W", "ignore", "-c", PEER, str(path), str(k), name],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = features()
    result: dict[str, Any] = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        },
        "features": [N, D],
        "labelled": N_LABELLED,
        "bytes_per_second": bandwidth(),
        "queries": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        np.save(path, rows)
        for k, peers in ((50, ("scikit-activeml", "alipy")), (1000, ("scikit-activeml",))):
            times: dict[str, list[float]] = {}
            mine: dict[str, Any] = {}
            same = {}
            for _ in range(options.rounds):
                for name in peers:
                    theirs = peer(options.peers, path, k, name)
                    times.setdefault(name, []).append(theirs["seconds"])
                    mine = ours(rows, k)
                    times.setdefault("alharness", []).append(mine["seconds"])
                    same[name] = theirs["picks"] == mine["picks"]
                times.setdefault("obvious torch loop", []).append(obvious_torch(rows, k))
            best = {name: min(seconds) for name, seconds in times.items()}
            row_bytes = 4 * D
            moved = mine["work"]["feature_rows_read"] * row_bytes
            entry = {
                "picks": k,
                "seconds": best,
                "same_picks": same,
                "times_faster": {name: best[name] / best["alharness"] for name in best},
                "work": mine["work"],
                "bytes_read": moved,
                "bytes_read_by_the_obvious_loop": (k + 1) * N * row_bytes,
                "seconds_of_reading": moved / result["bytes_per_second"],
            }
            result["queries"].append(entry)
            print(json.dumps(entry, indent=2))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        partial = options.out.with_name(options.out.name + ".partial")
        partial.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        partial.replace(options.out)


@pytest.mark.regress
def test_a_thousand_picks_read_the_features_a_few_times() -> None:
    work = ours(features(), 1000)["work"]
    assert work["feature_rows_read"] < 20 * N


if __name__ == "__main__":
    main()
