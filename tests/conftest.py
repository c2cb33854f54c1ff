"""Fixtures that several tests share: small problems, places for runs, the way to real data."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np
import pytest

# Before anybody imports Triton: without a device its interpreter computes matching's kernel.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import torch

from alharness.engine.places import Places
from alharness.engine.stage import Problem
from alharness.executors.base import Event, carry_out, payload
from alharness.executors.local import LocalExecutor
from alharness.executors.sweeps import Job
from alharness.learners.learner import LearnerSettings
from alharness.oracle import Oracle
from alharness.pool import ArrayPool
from alharness.tracking import stores, visits

# What is imported and collected lives to the end: nobody need look through it for circles, as the harness
# does behind every run of foreign code.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes a user's caches, runs or tracking store."""
    if "ALHARNESS_CACHE" not in os.environ:
        cache = tmp_path_factory.getbasetemp() / "alharness-cache"
        monkeypatch.setenv("ALHARNESS_CACHE", str(cache))
    for name in ("MLFLOW_TRACKING_URI", "ALHARNESS_RUNS", "ALHARNESS_ARTEFACTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _own_import_path() -> Iterator[None]:
    """Folders of plug-ins stay on the import path of their process: here each import would look through
    those of hundreds of tests."""
    before = sys.path[:]
    yield
    sys.path[:] = before


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the disk: a killed process loses nothing that it wrote, and a run waits nine times
    some milliseconds. Who tests the waiting itself (a full disk, a kill in it) sets ``fsync`` anew. Nor does
    MLflow's client pause before it asks a server again that did not answer."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for name in ("FACTOR", "JITTER"):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_BACKOFF_{name}", "0")


@pytest.fixture
def sweeps_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps carry out their runs in this process: importing torch in another one takes seconds, and what
    other processes do is told by ``analysis/test_executor_local.py``."""

    def run(
        self: LocalExecutor, jobs: Sequence[Job], places: Places, *, fresh: bool
    ) -> Generator[Event, None, None]:
        for job in jobs:
            yield Event("started", job)
            reason, details = carry_out(payload(job, places, fresh=fresh))
            yield Event("failed" if reason else "finished", job, reason, details)

    monkeypatch.setattr(LocalExecutor, "run", run)


class Copy:
    """A copy of this process, which has imported all, at some work of its own: it begins in hundredths of a
    second, and what becomes of it is nothing to the tests.

    Attributes:
        pid: to be signalled.
        printed_at: a file with all that it prints.
    """

    def __init__(self, work: Callable[[], object], printed_at: Path) -> None:
        self.printed_at, self._code = printed_at, None
        self.pid = os.fork()
        if self.pid == 0:
            _live(work, printed_at)

    def wait(self) -> int:
        """Its exit code, negative for a signal."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def kill(self) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    @property
    def printed(self) -> str:
        return self.printed_at.read_text(errors="replace")


def _live(work: Callable[[], object], printed_at: Path) -> NoReturn:
    code: object = 70
    try:
        file = os.open(printed_at, os.O_WRONLY | os.O_CREAT)
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # not pytest's own
        torch.set_num_threads(1)  # those of OpenMP are not copied
        code = work()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else code is not None)


@pytest.fixture
def copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Copy]]:
    """``copies(work)`` does something in a copy of this process, whose exit code is what it returns; None
    is 0. Where a process of its own matters, and not what a fresh one imports."""
    folder, made = tmp_path_factory.mktemp("copies"), list[Copy]()

    def start(work: Callable[[], object]) -> Copy:
        made.append(Copy(work, folder / str(len(made))))
        return made[-1]

    yield start
    for copy in made:
        copy.kill()


class VisitHere:
    """A visit as ``alharness.tracking.visits`` has it, made in this process."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        from alharness.tracking.__main__ import make

        self.answers: list[dict[str, Any]] = []
        make(asked, lambda kind, **values: self.answers.append({"kind": kind, **values}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def answer(self, deadline: float, limit: float) -> dict[str, Any]:
        return self.answers.pop(0)


@pytest.fixture
def visits_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Visits of MLflow are made in this process: importing it in another one takes seconds, and what such
    a process does is told by ``faults/test_tracker.py``."""
    monkeypatch.setattr(visits, "_Child", VisitHere)


@pytest.fixture
def real_data() -> Path:
    """The folder with real MNIST and CIFAR-10; skips where it is absent."""
    root = os.environ.get("ALHARNESS_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("needs real data: set ALHARNESS_DATA")
    return Path(root)


def two_blobs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tiny 1x4x4 images of two classes that a linear model separates well but not perfectly."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(2, size=n)
    means = np.where(targets[:, None], 150, 105)
    images = np.clip(rng.normal(means, 60, size=(n, 16)), 0, 255).astype(np.uint8)
    return images.reshape(n, 1, 4, 4), targets.astype(np.int64)


class Blobs(NamedTuple):
    """A problem with the answers that a run needs beside it."""

    problem: Problem
    oracle: Oracle
    test_targets: np.ndarray


@pytest.fixture
def blobs() -> Blobs:
    """300 pool items and 100 test items of two overlapping classes, with a linear learner."""
    images, targets = two_blobs(400)
    pool, test = ArrayPool(images[:300]), ArrayPool(images[300:])
    problem = Problem("blobs", pool, test, 2, LearnerSettings(kind="linear"))
    return Blobs(problem, Oracle(targets[:300], 2), targets[300:])


@pytest.fixture(scope="session")
def _mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from alharness.tracking.stores import ready_database

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    ready_database(path, mend=True, tell=pytest.fail)
    return path


@pytest.fixture
def place_store(_mlflow_template: Path) -> Callable[[Path], str]:
    """``place_store(runs_dir)`` puts an empty MLflow database there and returns its URI: making one
    takes seconds, copying none."""
    from alharness.tracking import default_uri

    def place(runs_dir: Path) -> str:
        runs_dir.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_mlflow_template, runs_dir / "mlflow.db")
        return default_uri(runs_dir)

    return place


@pytest.fixture
def copied_stores(_mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New databases are copies of an empty one: what is tested is not how MLflow makes its tables."""
    monkeypatch.setattr(stores, "_make", lambda path: shutil.copyfile(_mlflow_template, path))
