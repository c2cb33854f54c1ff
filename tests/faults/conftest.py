"""A nursery of processes: each begins with everything imported, and dies whenever a story wants it to."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from alharness.executors.worker import NEEDED

sys.path.insert(0, str(Path(__file__).parent))  # the package 'readers', for the test beside it

#: Imported once, and then only forked: a process starts in a tenth of a second instead of ten.
IMPORTED = [*NEEDED, "alharness.tracking.view", "alharness.cli.run"]
IMPORTED += ["mlflow", "mlflow.store.tracking.sqlalchemy_store", "sklearn.datasets"]


class Child:
    """A command that runs.

    Attributes:
        process: to be killed.
        root: where it writes.
    """

    def __init__(self, process: BaseProcess, root: Path, output: Path, count: Path) -> None:
        self.process, self.root = process, root
        self._output, self._count = output, count
        self.began = time.monotonic()

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit code, negative for a signal; None while it runs on."""
        self.process.join(seconds)
        return self.process.exitcode

    @property
    def printed(self) -> str:
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    @property
    def n_writes(self) -> int:
        """How many writes below its root were counted; 0 when it was killed."""
        return int(self._count.read_text()) if self._count.exists() else 0


class Nursery:
    """Starts commands of alharness as processes of their own, by forking one that has imported all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(IMPORTED)
        self._n = 0

    def start(
        self,
        arguments: Sequence[str],
        root: Path,
        *,
        death: int = 0,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        powerless: bool = False,
    ) -> Child:
        """Start a command.

        Args:
            root: where it writes.
            death: the number of the write below ``root`` at which it kills itself; 0 for none.
            settings: ``module:function`` -> keywords with other defaults.
            powerless: without root's right to read and write everything.
        """
        self._n += 1
        output, count = (self._folder / f"{self._n}.{what}" for what in ("output", "count"))
        given = {
            "ARGUMENTS": list(arguments),
            "ENVIRONMENT": dict(os.environ),
            "OUTPUT": str(output),
            "ROOT": str(root),
            "COUNT": str(count),
            "DEATH": death,
            "POWERLESS": powerless,
            "SETTINGS": {place: dict(defaults) for place, defaults in (settings or {}).items()},
        }
        script = str(Path(__file__).with_name("dying.py"))
        process = self._context.Process(target=runpy.run_path, args=(script, given))
        process.start()
        return Child(process, root, output, count)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts commands in processes that can be killed."""
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    for process in multiprocessing.active_children():
        process.kill()
