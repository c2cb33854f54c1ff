"""Runs on this machine: a few worker processes that take one run after the other.

Workers without a GPU are forked from one process that has imported torch (``worker.nursery``); CUDA does
not survive a fork, so that with a GPU each of them starts anew and imports it for some seconds. Runs of the
harness's own code share a worker, because a warm one is faster still, and cannot influence each other: no
random stream is carried along and nothing is seeded globally. A run of foreign code has a process of its
own: a class attribute or a module of somebody's that was changed in one run would be there in the next.
Its price is a fork; with a GPU, the import. A worker that dies (memory, a crash in native code) fails its
runs and is replaced.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import starmap
from typing import IO, TYPE_CHECKING, Any, Protocol

from alharness import plugins
from alharness.errors import UserError
from alharness.executors.base import Event, payload
from alharness.executors.sweeps import Job
from alharness.pool.residency import SHARING

if TYPE_CHECKING:
    from alharness.engine.places import Places

#: Variables through which numerical libraries learn how many threads to use.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class LocalExecutor:
    """Worker processes on this machine.

    Args:
        jobs: how many at once.
        threads: CPU threads of each; ``OMP_NUM_THREADS`` where it is set, else cores / jobs. Times
            differ between numbers of threads, so keep it through a sweep. More threads than
            idle cores cost far more than they give: they wait for each other.
        n_gpus: GPUs that workers take in turn, of those that ``CUDA_VISIBLE_DEVICES`` names where it
            is set; 0 leaves the choice of the device to the spec.
    """

    def __init__(self, jobs: int = 1, threads: int | None = None, n_gpus: int = 0) -> None:
        self.jobs = jobs
        said = os.environ.get("OMP_NUM_THREADS", "")
        self.threads = (
            threads
            or (int(said) if said.isdecimal() else 0)
            or max(1, (os.cpu_count() or 1) // jobs)
        )
        self.n_gpus = n_gpus

    @classmethod
    def fitting(
        cls,
        jobs: Sequence[Job],
        at_once: int | None = None,
        threads: int | None = None,
    ) -> LocalExecutor:
        """Workers for these jobs: as many as asked for, else one per GPU, else one."""
        n_gpus = 0
        if any(job.spec.device == "cuda" for job in jobs):
            import torch

            n_gpus = torch.cuda.device_count()
        return cls(at_once or max(1, n_gpus), threads, n_gpus)

    def run(
        self, jobs: Sequence[Job], places: Places, *, fresh: bool
    ) -> Generator[Event, None, None]:
        # CUDA does not survive a fork; elsewhere than on Linux torch's libraries may not.
        forks = _can_fork() and all(job.spec.device == "cpu" for job in jobs)
        # Foreign runs stand among the others, so that a busy minute meets all alike and times compare. Where
        # a worker costs the imports anew, runs of the harness's own code go first and share one.
        # Turned round: jobs are taken from the end.
        waiting = (list(jobs) if forks else sorted(jobs, key=_is_foreign))[::-1]
        # Filled by a thread for each worker: Windows can wait for one pipe, and not for several.
        told: queue.SimpleQueue[tuple[_Worker, bytes]] = queue.SimpleQueue()
        workers: dict[int, _Worker] = {}

        def give(slot: int) -> Iterator[Event]:
            """The next run for a worker; one that there is none for is let go."""
            worker = workers[slot]
            # A worker that has run anything takes no foreign run; one of foreign code takes nothing more.
            if waiting and (worker.is_fresh or not (worker.is_foreign or _is_foreign(waiting[-1]))):
                job = waiting.pop()
                worker.give(job, payload(job, places, fresh=fresh))
                yield Event("started", job)
            else:
                workers.pop(slot).close()
                if waiting:  # what one foreign run left in its process is no other run's
                    yield from hire(slot)

        # One environment for all: without GPUs workers differ in nothing.
        nursery = _Nursery(self._environment(0)) if forks and jobs else None

        def hire(slot: int) -> Iterator[Event]:
            start = nursery.fork if nursery is not None else _fresh(self._environment(slot))
            workers[slot] = _Worker(slot, start, told)
            yield from give(slot)

        try:
            for slot in range(min(self.jobs, len(waiting))):
                yield from hire(slot)
            while workers:
                try:
                    worker, line = told.get(timeout=1.0)
                except queue.Empty:
                    yield Event("tick")
                    continue
                slot, job = worker.slot, worker.job
                if workers.get(slot) is not worker:
                    continue  # the end of one that was let go
                assert job is not None
                if line.endswith(b"\n"):
                    answer = json.loads(line)
                    kind = answer["kind"]
                    yield Event(kind, job, answer.get("text", ""), answer.get("details", ""))
                    if kind != "progress":
                        yield from give(slot)
                else:  # the process is gone, perhaps within a word
                    yield Event("failed", job, worker.epitaph())
                    workers.pop(slot).close()
                    if waiting:
                        yield from hire(slot)
                yield Event("tick")
        finally:
            if nursery is not None:
                nursery.close()
            for worker in workers.values():
                worker.close()

    def _environment(self, slot: int) -> dict[str, str]:
        environment = {**os.environ, **dict.fromkeys(THREADS, str(self.threads))}
        if self.n_gpus > 1:
            given = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
            number = slot % self.n_gpus
            # A device that was given by name or number is passed on as it was given.
            # Too few names, or an empty one: then the variable says nothing that could be dealt out.
            named = len(given) >= self.n_gpus and all(given[: self.n_gpus])
            environment["CUDA_VISIBLE_DEVICES"] = given[number] if named else str(number)
        # Each run takes its share of what is free: it must know how many there are.
        on_card = math.ceil(self.jobs / max(1, self.n_gpus))
        environment |= {SHARING["cpu"]: str(self.jobs), SHARING["cuda"]: str(on_card)}
        return environment


class _Process(Protocol):
    """A process as far as its owner asks; ``subprocess.Popen`` is one."""

    def wait(self) -> int:
        """Its exit code, once it has ended."""

    def kill(self) -> None:
        """End it."""


#: Starts a worker with these three standard descriptors.
Start = Callable[[int, int, int], _Process]


class _Nursery:
    """The process that has imported everything and forks itself into workers."""

    def __init__(self, environment: dict[str, str]) -> None:
        # Packets: a message arrives whole, with its descriptors.
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.n_forked = 0
        self.is_ready = False
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "alharness.executors.worker"),
                *("--nursery", str(theirs.fileno())),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a group of its own, to be ended with all that it forked
        )
        theirs.close()

    def fork(self, stdin: int, stdout: int, stderr: int) -> _Process:
        """Ask for a worker; it begins when the nursery is ready, and its input may be written before."""
        self.n_forked += 1
        request = json.dumps({"fork": self.n_forked}).encode()
        with suppress(OSError):  # a dead nursery: the worker's answers end, and it is asked after
            socket.send_fds(self.channel, [request], [stdin, stdout, stderr])
        return _Forked(self, self.n_forked)

    def end_of(self, asked: str, number: int) -> int:
        """``kill`` a worker, or ``wait`` for it: its exit code, the nursery's own where that is dead."""
        try:
            if not self.is_ready:
                self.is_ready = self.channel.recv(16) == b"ready"
            self.channel.send(json.dumps({asked: number}).encode())
            answer = self.channel.recv(16)
        except OSError:
            answer = b""
        return int(answer) if answer else self.process.wait()

    def close(self) -> None:
        """End it and whatever it forked that is still there."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.channel.close()


@dataclass
class _Forked:
    """A worker that the nursery forked, and reaps."""

    nursery: _Nursery
    number: int
    code: int | None = None

    def wait(self) -> int:
        if self.code is None:
            self.code = self.nursery.end_of("wait", self.number)
        return self.code

    def kill(self) -> None:
        if self.code is None:
            self.code = self.nursery.end_of("kill", self.number)


def _fresh(environment: dict[str, str]) -> Start:
    """Starts workers that import everything themselves."""

    def start(stdin: int, stdout: int, stderr: int) -> _Process:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "alharness.executors.worker"],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment,
        )

    return start


class _Worker:
    """One worker process, its two pipes, and the thread that waits for its answers.

    Args:
        slot: its place among the workers.
        start: starts the process.
        told: where its lines go as they come; one without an end when it is gone.
    """

    def __init__(
        self, slot: int, start: Start, told: queue.SimpleQueue[tuple[_Worker, bytes]]
    ) -> None:
        self.slot = slot
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        stdin, requests = os.pipe()
        answers, stdout = os.pipe()
        self.process = start(stdin, stdout, self.errors.fileno())
        os.close(stdin)
        os.close(stdout)
        self.answers: IO[bytes] = os.fdopen(answers, "rb")
        self.requests: IO[bytes] = os.fdopen(requests, "wb", buffering=0)
        self.job: Job | None = None
        self.is_fresh = True
        self.is_foreign = False
        self._listener = threading.Thread(target=self._listen, args=(told,), daemon=True)
        self._listener.start()

    def _listen(self, told: queue.SimpleQueue[tuple[_Worker, bytes]]) -> None:
        while True:
            line = self.answers.readline()
            told.put((self, line))
            if not line.endswith(b"\n"):
                return

    def give(self, job: Job, work: dict[str, Any]) -> None:
        self.job = job
        self.is_fresh, self.is_foreign = False, _is_foreign(job)
        with suppress(BrokenPipeError):  # a dead worker shows when its answer is read
            self.requests.write(json.dumps(work).encode() + b"\n")

    def epitaph(self) -> str:
        """How a dead worker ended."""
        code = self.process.wait()
        how = f"exit code {code}"
        if code < 0:
            name = signal.Signals(-code).name
            how = f"signal {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().splitlines()
        return f"its process ended with {how}" + (f": {said[-1]}" if said else "")

    def close(self) -> None:
        """End the process: its records are on the disk, whatever it was doing."""
        self.process.kill()
        self.process.wait()
        # A process that a plug-in left behind may hold the pipe open: its reader is then left, too.
        self._listener.join(timeout=1.0)
        if not self._listener.is_alive():
            self.answers.close()
        self.errors.close()
        with suppress(BrokenPipeError):
            self.requests.close()


def _can_fork() -> bool:
    """Whether this system has all that the nursery takes; Windows has none of it."""
    needed = (os, "fork"), (os, "killpg"), (socket, "send_fds"), (signal, "SIGKILL")
    return sys.platform == "linux" and all(hasattr(module, name) for module, name in needed)


def _is_foreign(job: Job) -> bool:
    """Whether code of somebody else takes part in a run. A folder of data is none."""
    return any(starmap(_has_source, job.spec.named))


@cache  # thousands of jobs name the same few
def _has_source(group: str, name: str) -> bool:
    try:
        return bool(plugins.identity_of(group, name))
    except UserError:  # gone since the sweep was put together: its run says so
        return True
