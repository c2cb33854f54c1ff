"""What the harness does around a run takes as long in a sweep of many: ratios of CPU time in one process."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from alharness.engine.places import Places
from alharness.executors.driver import drive
from alharness.tasks.base import DataLocations

#: As a script: pytest finds no neighbours of a benchmark by name.
MANY_RUNS = runpy.run_path(str(Path(__file__).with_name("many_runs.py")))
PretendedCluster, jobs_of, timed = (
    MANY_RUNS[name] for name in ("PretendedCluster", "jobs_of", "timed")
)

#: Time for a run of twenty times as many, at most so many times that of a run of few.
RATIO = 1.5


@pytest.mark.regress
def test_planning_and_driving_are_linear(tmp_path: Path) -> None:
    timed(200, tmp_path / "warm")
    few, many = timed(500, tmp_path / "few"), timed(10_000, tmp_path / "many")
    for name in ("expand", "look at the folders", "write the plan", "drive"):
        print(f"{name}: {1000 * few[name]:.3f} and {1000 * many[name]:.3f} ms a run")
        assert many[name] < RATIO * few[name], name


def test_a_cluster_waits_for_few_tasks_however_many_are_left(tmp_path: Path) -> None:
    cluster = PretendedCluster()
    drive(jobs_of(3000, tmp_path), Places(tmp_path, DataLocations.resolve()), cluster)
    assert cluster.ray.longest <= 1000
