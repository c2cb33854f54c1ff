"""A sweep on a Ray cluster of this machine, whose workers are killed and told to go in the middle."""

from __future__ import annotations

import runpy
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from alharness.cli import call
from alharness.engine.places import Places
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.executors import ray_cluster
from alharness.executors.ray_cluster import RayExecutor
from alharness.executors.sweep_files import Sweep
from alharness.executors.sweeps import Choices, expand
from alharness.files import read_toml
from alharness.records import run_folders
from alharness.spec import RunSpec
from alharness.tasks.base import DataLocations

ROOT = Path(__file__).parents[2]

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="the Ray executor needs: pip install 'alharness[ray]'"
)

#: Loses its worker twice: killed in cycle 1, and told to go (as a preempted one is) in cycle 2.
FRAGILE = '''
import os, signal, time
from pathlib import Path
from alharness.strategy import PoolQuery, Strategy

class Fragile(Strategy):
    """Loses its worker twice."""
    def select(self, view, query_size):
        number = {1: signal.SIGKILL, 2: signal.SIGTERM}.get(view.cycle)
        if number is not None:
            marker = Path(__file__).with_name(f"lost-{number.name}")
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), number)
                time.sleep(20)
        return PoolQuery(view.unlabelled[:query_size])
'''


@needs_ray
@pytest.mark.slow  # Ray replaces its workers three times: 100 s alone
@pytest.mark.timeout(900)
def test_lost_and_preempted_workers_are_replaced_and_nothing_is_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    runs = tmp_path / "runs"
    command = ["sweep", "--strategies", f"{tmp_path}/fragile.py:Fragile", "--seeds", "0"]
    command += ["--datasets", "digits-two", "--no-tracking", "--set", "budget=80"]
    command += ["--runs-dir", str(runs), "--executor", "ray", "--jobs", "1"]
    assert call(command) == 0
    assert sorted(path.name for path in tmp_path.glob("lost-*")) == ["lost-SIGKILL", "lost-SIGTERM"]
    assert "1 of 1 runs are finished" in capfd.readouterr().out
    (folder,) = run_folders(runs)
    sessions = folder.facts().sessions
    assert [session.first_cycle for session in sessions] == [0, 1, 2], "it was continued"
    spec = RunSpec.model_validate(read_toml(folder.spec))
    again = execute(spec, Places(tmp_path / "local", DataLocations.resolve()))
    assert [r.without_times() for r in again.records()] == [
        r.without_times() for r in folder.records()
    ]


class Cluster:
    """What the executor asks Ray about its nodes."""

    def __init__(self, **resources: float) -> None:
        self.resources = resources

    def nodes(self) -> list[dict[str, object]]:
        gone = {"Alive": False, "Resources": {"CPU": 999.0, "GPU": 999.0}}
        return [{"Alive": True, "Resources": self.resources}, gone]

    def cluster_resources(self) -> dict[str, float]:
        return self.resources


def test_what_no_node_can_carry_out_is_refused_instead_of_waited_for() -> None:
    executor = RayExecutor(cpus_per_run=8)
    executor._see_that_it_fits(Cluster(CPU=8.0), 0.0)
    executor._see_that_it_fits(Cluster(CPU=8.0, GPU=1.0), 0.5)
    for cluster, gpus in ((Cluster(CPU=4.0), 0.0), (Cluster(CPU=8.0), 0.5)):
        with pytest.raises(UserError, match=r"No node of the Ray cluster .* 8 cores") as told:
            executor._see_that_it_fits(cluster, gpus)
        assert "\n" not in str(told.value)


def test_runs_take_a_gpu_where_the_cluster_has_one_whatever_the_submitting_machine_has(
    tmp_path: Path,
) -> None:
    def gpus(device: str, cluster: Cluster) -> float:
        sweep = Sweep(base={"task": "digits-two", "device": device}, runs=[{"strategy": "random"}])
        return RayExecutor()._gpus(cluster, expand(sweep, Choices(), tmp_path, elsewhere=True))

    with_gpus, without = Cluster(CPU=8.0, GPU=4.0), Cluster(CPU=8.0)
    assert [gpus(device, with_gpus) for device in ("auto", "cpu", "cuda")] == [1.0, 0.0, 1.0]
    assert [gpus(device, without) for device in ("auto", "cpu", "cuda")] == [0.0, 0.0, 1.0]


def test_a_worker_that_is_lost_too_often_is_told_in_one_line() -> None:
    error = RuntimeError("The worker died unexpectedly. Check the logs.\nWorker ID: 1\n")
    told = RayExecutor(retries=2)._lost(error)
    assert told.startswith("its worker was lost after 2 new starts (RuntimeError: The worker died")
    assert "\n" not in told


def test_where_nothing_is_left_no_cluster_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "_ray", object)  # it has no init
    places = Places(tmp_path, DataLocations.resolve())
    assert not [*RayExecutor().run([], places, fresh=False)]


def test_a_missing_ray_is_told_before_anything_is_planned(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert call(["sweep", "there-is-no-such.toml", "--executor", "ray"]) == 2
    told = capfd.readouterr()
    assert "pip install 'alharness[ray]'" in told.err
    assert not told.out


def test_tasks_tell_their_start_and_a_cluster_is_given_few_at_a_time(tmp_path: Path) -> None:
    """The driver asks no folder about a run, and waits for as many tasks as a cluster needs."""
    many_runs = runpy.run_path(str(ROOT / "benchmarks" / "many_runs.py"))
    cluster = many_runs["PretendedCluster"]()
    jobs = many_runs["jobs_of"](2500, tmp_path)
    before = len(list(tmp_path.iterdir()))
    events = [*cluster.run(jobs, Places(tmp_path, DataLocations.resolve()), fresh=False)]
    kinds = Counter(event.kind for event in events)
    assert (kinds["started"], kinds["finished"], kinds["failed"]) == (2500, 2500, 0)
    first: dict[int, list[str]] = {}
    for event in events:
        if event.job is not None:
            first.setdefault(event.job.index, []).append(event.kind)
    assert all(told == ["started", "finished"] for told in first.values())
    ends = [event for event in events if event.kind == "finished"]
    assert {event.seconds for event in ends} == {1.5}, "the worker's own seconds, not our waiting"
    assert cluster.ray.longest == 1000
    assert len(list(tmp_path.iterdir())) == before
