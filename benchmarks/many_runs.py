"""A sweep of very many runs, with the work itself left out: what the harness costs around it.

    python benchmarks/many_runs.py 100000

Plans the runs, reads lines of the plan as tasks of an array do, and drives them over a cluster that is
only pretended: its tasks take no time, so what is left is the driver's own time for each run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from alharness.engine.places import Places
from alharness.executors.driver import drive
from alharness.executors.plans import extend_plan, job_of_plan
from alharness.executors.ray_cluster import RayExecutor, _Starts
from alharness.executors.sweep_files import Sweep
from alharness.executors.sweeps import Choices, Job, expand, standing
from alharness.tasks.base import DataLocations

#: Runs that the pretended cluster carries out at a time.
SLOTS = 64


class PretendedRay:
    """As much of Ray as the executor asks for; every task is over as soon as somebody waits for it.

    Attributes:
        longest: most references that it was asked to wait for at once.
    """

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self) -> None:
        self.longest = self._n = 0
        self._results: dict[int, Any] = {}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": self.cluster_resources()}]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(SLOTS)}

    def remote(self, **options: Any) -> Any:
        def made(what: Any) -> Any:
            if what is _Starts:
                return SimpleNamespace(remote=lambda: self._actor(_Starts()))
            return SimpleNamespace(remote=self._submit)

        return made

    def _actor(self, starts: _Starts) -> Any:
        return SimpleNamespace(
            add=SimpleNamespace(remote=starts.add),
            take=SimpleNamespace(remote=lambda: self._kept(starts.take())),
        )

    def _submit(self, work: dict[str, Any], starts: Any) -> int:
        starts.add.remote(work["index"], "cpu")
        return self._kept(("", "", "cpu", 1.5))

    def _kept(self, result: Any) -> int:
        self._n += 1
        self._results[self._n] = result
        return self._n

    def wait(
        self, references: list[int], num_returns: int, timeout: float
    ) -> tuple[list[int], list[int]]:
        self.longest = max(self.longest, len(references))
        done = references[: min(num_returns, SLOTS)]
        return done, references[len(done) :]

    def get(self, reference: int) -> Any:
        return self._results.pop(reference)


class PretendedCluster(RayExecutor):
    """The executor, on a cluster that is only pretended."""

    def __init__(self) -> None:
        super().__init__()
        self.ray = PretendedRay()

    def run(self, jobs: Any, places: Places, *, fresh: bool) -> Iterator[Any]:  # type: ignore[override]
        yield from self._follow(self.ray, jobs, places, fresh)


def jobs_of(n: int, runs_dir: Path) -> list[Job]:
    """So many runs, seeds of two strategies; the device is left to whoever carries them out."""
    sweep = Sweep(
        name="many",
        base={"task": "digits-two", "budget": 30},
        runs=[{"strategy": ["random", "margin"], "seed": f"0-{n // 2 - 1}"}],
    )
    return expand(sweep, Choices(), runs_dir, elsewhere=True)


def timed(n: int, folder: Path) -> dict[str, float]:
    """CPU seconds for each of ``n`` runs, by what was done."""
    spent: dict[str, float] = {}

    def done(name: str, since: float, times: int = n) -> float:
        now = time.process_time()
        spent[name] = (now - since) / times
        return now

    start = time.process_time()
    jobs = jobs_of(n, folder / "runs")
    start = done("expand", start)
    left = standing(jobs).left
    start = done("look at the folders", start)
    extend_plan(folder / "plan.jsonl", "many", folder / "runs", left)
    start = done("write the plan", start)
    for index in range(0, n, n // 50):
        job_of_plan(folder / "plan.jsonl", index)
    start = done("a task finds its line", start, 50)
    outcome = drive(left, Places(folder / "runs", DataLocations.resolve()), PretendedCluster())
    assert len(outcome.finished) == n
    done("drive", start)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int, nargs="?", default=10_000)
    n = parser.parse_args().n
    with tempfile.TemporaryDirectory() as folder:
        spent = timed(n, Path(folder))
        size = (Path(folder) / "plan.jsonl").stat().st_size
    for name, seconds in spent.items():
        print(f"{name:<24} {1000 * seconds:.3f} ms a run, {n * seconds:.1f} s for {n:,}")
    print(f"the plan has {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
