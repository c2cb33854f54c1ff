"""What the harness adds to a cycle: book-keeping, records on the disk, MLflow.

A share of one run, not a time: the wall clock between the ends of two cycles, less what fit,
evaluation, selection and annotation took in between.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alharness.api.running import places_of
from alharness.engine.runner import execute
from alharness.records import INITIAL, CycleRecord, QueryLog
from alharness.spec import resolve
from alharness.tracking import RunView, default_uri

#: Largest share of a cycle on mnist-ten that may go to anything but the work itself.
LIMIT = 0.05


class Clock:
    """Observer that notes when each cycle was completely dealt with; put it last."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.records: list[CycleRecord] = []

    def started(self, *_: Any) -> None:
        pass

    def cycle(self, record: CycleRecord) -> None:
        self.at.append(time.perf_counter())
        self.records.append(record)

    def finished(self, *_: Any) -> None:
        pass


def share_of_harness(clock: Clock) -> float:
    """Share of the wall clock, from the end of cycle 0 on, that no named work accounts for."""
    wall = clock.at[-1] - clock.at[0]
    work = sum(
        record.time.fit_s
        + record.time.evaluate_s
        + (record.time.select_s or 0.0)
        + (record.time.annotate_s or 0.0)
        for record in clock.records[1:]
    )
    return 1 - work / wall


@pytest.mark.slow  # trains six classifiers of Table 1 in full
@pytest.mark.regress
@pytest.mark.parametrize("strategy", ["random", "max-entropy"])
def test_share_of_a_cycle_on_mnist_ten(tmp_path: Path, strategy: str) -> None:
    if not os.environ.get("ALHARNESS_DATA"):
        pytest.skip("needs real MNIST: set ALHARNESS_DATA")
    spec = resolve({"task": "mnist-ten", "strategy": strategy, "budget": 350, "device": "cpu"})
    clock = Clock()
    tracker = RunView(default_uri(tmp_path), "bench", print)
    execute(spec, places_of(tmp_path, None), observers=[tracker, clock])
    share = share_of_harness(clock)
    print(f"\n{strategy} on mnist-ten: {share:.2%} of a cycle is the harness's (limit {LIMIT:.0%})")
    assert share < LIMIT


@pytest.mark.parametrize("n_cycles", [10, 200])
def test_query_log_write(benchmark: Any, tmp_path: Path, n_cycles: int) -> None:
    """Rewriting queries.npz: as many rows as mnist-ten has after so many cycles."""
    log = QueryLog()
    log.add(
        INITIAL, {"asked": np.arange(100), "indices": np.arange(100), "targets": np.arange(100)}
    )
    pictures = np.zeros((10, 1, 28, 28), np.uint8)
    for cycle in range(n_cycles):
        rows = {name: np.arange(50) for name in ("asked", "indices", "targets", "entropy")}
        log.add(cycle, {**rows, "array.synthetic": pictures})
    benchmark(log.write, tmp_path / "queries.npz")
