"""Runs on a Ray cluster: one task per run, shares of GPUs, lost nodes tried again.

The run, data and artefact folders have to be the same shared file system on every node. A task whose
worker dies is started again by Ray and continues after the run's last complete cycle.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError, end_on_sigterm
from alharness.executors.base import Event, carry_out, payload
from alharness.executors.local import THREADS
from alharness.executors.sweeps import Job
from alharness.pool.residency import SHARING

if TYPE_CHECKING:
    from alharness.engine.places import Places


#: Tasks that a small cluster is given at a time.
WINDOW = 1000

#: A cluster that grows on demand gets so long to bring a node that fits.
NODES_S = 60.0


@dataclass(frozen=True)
class RayExecutor:
    """Tasks on a Ray cluster.

    Attributes:
        address: of a running cluster (``auto``, ``ray://...``); None starts one on this machine.
        cpus_per_run: CPU cores, and threads, of each run.
        gpus_per_run: share of a GPU that each run takes; by default one where the cluster has GPUs
            and a run may use them.
        retries: how often a run is started again after its worker died.
        at_once: runs at once on a cluster started here; by default as many as fit the machine.
    """

    address: str | None = None
    cpus_per_run: int = 1
    gpus_per_run: float | None = None
    retries: int = 3
    at_once: int | None = None

    def run(
        self, jobs: Sequence[Job], places: Places, *, fresh: bool
    ) -> Generator[Event, None, None]:
        ray = _ray()
        if not jobs:
            return  # starting a cluster takes seconds, and ending it at once makes Ray complain
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
        gpus = self._gpus(ray, jobs)
        self._see_that_it_fits(ray, gpus)
        on_card = int(1 / gpus) if gpus else 1
        sharing = {"env_vars": {SHARING["cuda"]: str(on_card)}} if on_card > 1 else {}
        wanted = {
            "num_cpus": self.cpus_per_run,
            "num_gpus": gpus,
            "runtime_env": sharing,
            "max_retries": self.retries,
            "retry_exceptions": False,
        }
        task = ray.remote(**wanted)(_task)
        # Ray's processes serve one task after the other: not after a plug-in, which may have changed its own.
        alone = ray.remote(**wanted, max_calls=1)(_task)
        starts = ray.remote(num_cpus=0)(_Starts).remote()
        # Places are the same for all jobs: resolved once, and not for each of many thousands.
        places_of_all = payload(jobs[0], places, fresh=fresh)

        def submit(job: Job) -> Any:
            # With --fresh, a task that Ray tries again starts over once more: only time is lost by it.
            work = {**places_of_all, "index": job.index, "spec": job.portable()}
            return (alone if job.spec.plugins else task).remote(work, starts)

        rest = iter(jobs)
        submitted: dict[int, Job] = {}  # and not over yet
        started: dict[int, Job] = {}
        waiting: dict[Any, int] = {}
        window = self._window(ray)
        while True:
            # Ray looks at all references that it is to wait for: so many at a time, however many are left.
            for job in itertools.islice(rest, window - len(waiting)):
                submitted[job.index] = job
                waiting[submit(job)] = job.index
            if not waiting:
                return
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
            if done:  # and whatever else is ready
                done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
            for index, device in self._news(ray, starts):
                if index in submitted and index not in started:
                    started[index] = _on(submitted[index], device)
                    yield Event("started", started[index])
            for reference in done:
                index = waiting.pop(reference)
                job = submitted.pop(index)
                try:
                    reason, details, device, seconds = ray.get(reference)
                except ray.exceptions.RayError as error:
                    reason, details, device, seconds = self._lost(error), str(error), "", None
                told = started.pop(index, None)
                run = _on(job, device) if device else told or job
                if told is None:
                    yield Event("started", run)
                # A short run is over before its start is told: only its worker knows how long it took.
                yield Event("failed" if reason else "finished", run, reason, details, seconds)
            yield Event("tick")

    def _window(self, ray: Any) -> int:
        """How many tasks Ray is given at a time: twice what the cluster holds now, so that it may grow."""
        slots = ray.cluster_resources().get("CPU", 0) / self.cpus_per_run
        return max(WINDOW, 2 * int(slots))

    def _news(self, ray: Any, starts: Any) -> list[tuple[int, str]]:
        """Which tasks have begun since it was last asked; none where their node was lost."""
        try:
            news: list[tuple[int, str]] = ray.get(starts.take.remote())
        except ray.exceptions.RayError:
            return []  # the runs are told as started when they end
        return news

    def _gpus(self, ray: Any, jobs: Sequence[Job]) -> float:
        """The share of a GPU that each run takes; it is the cluster's GPUs that count, not ours."""
        if self.gpus_per_run is not None:
            return self.gpus_per_run
        if any((job.device or job.spec.device).startswith("cuda") for job in jobs):
            return 1.0
        open_device = any(job.device == "auto" for job in jobs)
        return 1.0 if open_device and ray.cluster_resources().get("GPU", 0) else 0.0

    def _see_that_it_fits(self, ray: Any, gpus: float) -> None:
        """Ray waits for ever for a node that can carry out what none can.

        Raises:
            UserError: no node of the cluster has so many cores or GPUs.
        """
        deadline = time.monotonic() + (0.0 if self.address is None else NODES_S)
        while True:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            if any(n.get("CPU", 0) >= self.cpus_per_run and n.get("GPU", 0) >= gpus for n in nodes):
                return
            if time.monotonic() > deadline:
                break
            time.sleep(1.0)
        cpus = max((node.get("CPU", 0) for node in nodes), default=0)
        largest = max((node.get("GPU", 0) for node in nodes), default=0)
        raise UserError(
            f"No node of the Ray cluster can carry out a run that takes {self.cpus_per_run} cores and "
            f"{gpus:g} GPUs: the largest have {cpus:g} cores and {largest:g} GPUs. Lower --threads or "
            "--gpus-per-run, or give --device cpu."
        )

    def _lost(self, error: Exception) -> str:
        """What Ray says of a task that did not come back, in one line."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = lines[0].split(". ")[0].rstrip(".") if lines else "no reason given"
        tries = f" after {self.retries} new starts" if self.retries else ""
        return (
            f"its worker was lost{tries} ({type(error).__name__}: {told[:200]}). Its records are safe; "
            "the same command continues it"
        )


class _Starts:
    """An actor to which tasks tell that they begin: the shared folder need not be asked about each run."""

    def __init__(self) -> None:
        self._new: list[tuple[int, str]] = []

    def add(self, index: int, device: str) -> None:
        """A task took a run, on a device."""
        self._new.append((index, device))

    def take(self) -> list[tuple[int, str]]:
        """What was told since it was last asked."""
        new, self._new = self._new, []
        return new


def _task(work: dict[str, Any], starts: Any) -> tuple[str, str, str, float]:
    """What runs on a node: the payload, as in a local worker; the device that it ran on, and seconds."""
    from alharness.spec import resolve_device

    end_on_sigterm()  # a node that is taken away: Ray starts the task again, nobody is to blame
    try:
        device = resolve_device(work["spec"]["device"])
    except UserError:  # carrying it out tells why
        device = ""
    starts.add.remote(work["index"], device)
    began = time.monotonic()
    reason, details = carry_out(work)
    return reason, details, device, time.monotonic() - began


def _on(job: Job, device: str) -> Job:
    """The run on the device that its worker took."""
    return job if device in ("", job.spec.device) else job.on(device)


def see_that_ray_is_there() -> None:
    """Whether Ray can be imported, without importing it.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("ray") is None:
        raise UserError(
            "The Ray executor needs the package 'ray'. Install it with: pip install 'alharness[ray]'"
        )


def _ray() -> Any:
    """Ray, or how to get it."""
    # Ray would otherwise send usage figures over the network.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    see_that_ray_is_there()
    import ray

    return ray
