"""Runs on a Ray cluster: one task per run, shares of GPUs, lost nodes tried again.

The run, data and artefact folders have to be the same shared file system on every node. A task whose
worker dies is started again by Ray and continues after the run's last complete cycle.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError
from alharness.executors.base import Event, carry_out, payload
from alharness.executors.local import THREADS
from alharness.executors.sweeps import Job

if TYPE_CHECKING:
    from alharness.run.opening import Places


class RayExecutor:
    """Tasks on a Ray cluster.

    Args:
        address: of a running cluster (``auto``, ``ray://...``); None starts one on this machine.
        cpus_per_run: CPU cores, and threads, of each run.
        gpus_per_run: share of a GPU that each run takes; 0 on a CPU.
        retries: how often a run is started again after its worker died.
        at_once: runs at once on a cluster started here; by default as many as fit the machine.
    """

    def __init__(
        self,
        address: str | None = None,
        cpus_per_run: int = 1,
        gpus_per_run: float = 0.0,
        retries: int = 3,
        at_once: int | None = None,
    ) -> None:
        self.address = address
        self.cpus_per_run = cpus_per_run
        self.gpus_per_run = gpus_per_run
        self.retries = retries
        self.at_once = at_once

    def run(
        self, jobs: Sequence[Job], places: Places, *, fresh: bool
    ) -> Generator[Event, None, None]:
        ray = _ray()
        # The runs' processes inherit these; Ray itself would leave them to every library.
        threads = dict.fromkeys(THREADS, str(self.cpus_per_run))
        options: dict[str, Any] = {"runtime_env": {"env_vars": threads}}
        if self.address is None and self.at_once is not None:
            options["num_cpus"] = self.at_once * self.cpus_per_run
        try:
            ray.init(
                address=self.address or "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
                **options,
            )
        except Exception as error:  # Ray wraps what can go wrong in many types
            raise UserError(
                f"The Ray cluster '{self.address or 'on this machine'}' does not answer "
                f"({str(error).splitlines()[0][:160]}). Check --address, or use --executor local."
            ) from error
        try:
            yield from self._follow(ray, jobs, places, fresh)
        finally:
            ray.shutdown()

    def _follow(
        self, ray: Any, jobs: Sequence[Job], places: Places, fresh: bool
    ) -> Generator[Event, None, None]:
        task = ray.remote(
            num_cpus=self.cpus_per_run,
            num_gpus=self.gpus_per_run,
            max_retries=self.retries,
            retry_exceptions=False,
        )(_task)
        # With --fresh, a task that Ray tries again starts over once more: only time is lost by it.
        waiting = {task.remote(payload(job, places, fresh=fresh)): job for job in jobs}
        started: set[int] = set()
        before = {job.index: _opened_ms(job) for job in jobs}
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
            for job in waiting.values():
                if job.index not in started and _opened_ms(job) != before[job.index]:
                    started.add(job.index)
                    yield Event("started", job)
            for reference in done:
                job = waiting.pop(reference)
                if job.index not in started:
                    started.add(job.index)
                    yield Event("started", job)
                try:
                    reason, details = ray.get(reference)
                except ray.exceptions.RayError as error:
                    told = (str(error).strip().splitlines() or [""])[0]
                    reason, details = f"{type(error).__name__}: {told}", str(error)
                yield Event("failed" if reason else "finished", job, reason, details)
            yield Event("tick")


def _task(work: dict[str, Any]) -> tuple[str, str]:
    """What runs on a node: the payload, as in a local worker."""
    return carry_out(work)


def _opened_ms(job: Job) -> int:
    """When the run was last opened; 0 when never."""
    try:
        return job.folder.env.stat().st_mtime_ns // 1_000_000
    except FileNotFoundError:
        return 0


def _ray() -> Any:
    """Ray, or how to get it."""
    # Ray would otherwise send usage figures over the network.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError(
            "The Ray executor needs the package 'ray'. Install it with: pip install 'alharness[ray]'"
        ) from None
    return ray
