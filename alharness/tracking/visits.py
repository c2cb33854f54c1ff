"""When the view of a run or a sweep is brought up to date, by whom, and what that may cost.

A visit is what ``alharness sync`` does, for a few folders, in a child process: so MLflow takes none of a
run's memory, no thread of its client lives on beside a strategy, and one that hangs can be ended. The caller
waits, so that nothing runs beside a timed selection. Visits come after 1, 2, 4, ... minutes and at the end:
their number grows with the logarithm of the time, and a short run has one.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Self

from alharness.errors import UserError
from alharness.records import RunFolder
from alharness.tracking.marks import mark
from alharness.tracking.seen import look
from alharness.tracking.stores import sqlite_path, store_error

if TYPE_CHECKING:
    from alharness.records import CycleRecord
    from alharness.spec import RunSpec

#: Seconds until the first visit; each later pause is twice the one before.
FIRST_S = 60.0

#: Seconds that a visit waits for its store, and more for each run that it brings.
PATIENCE_S = 10.0
PER_RUN_S = 0.2

#: Importing MLflow and making a database are work, not waiting; on a full machine they take a minute.
STARTING_S = 90.0

#: Who is interrupted says so to a store that knows the run, but does not wait long for it.
PARTING_S = 3.0


class Visits:
    """The view of some runs.

    Args:
        uri, experiment: the store; no ``uri``: there are no visits.
        warn: told once when the store fails, and of each run that cannot be copied; the runs go on.
        sweep: name of the sweep that the runs belong to, if any.
    """

    def __init__(
        self, uri: str | None, experiment: str, warn: Callable[[str], object], sweep: str = ""
    ) -> None:
        self.uri, self.experiment, self.sweep = uri, experiment, sweep
        self._warn = warn
        self._pause = FIRST_S
        self._next = time.monotonic() + FIRST_S
        self.failed = False
        self.made = False

    @property
    def alive(self) -> bool:
        """Whether there is a view, and all went into it so far."""
        return self.uri is not None and not self.failed

    def due(self) -> bool:
        """Whether the pause is over."""
        return self.alive and time.monotonic() >= self._next

    def visit(
        self, folders: Sequence[RunFolder], status: str = "RUNNING", patience: float | None = None
    ) -> None:
        """Bring some runs up to date; whatever the store does, this ends and raises nothing of it.

        Args:
            folders: the runs, which no other process writes.
            status: of the sweep, and of a run that is not finished: ``RUNNING``, ``FINISHED``,
                ``FAILED`` or ``KILLED``.
            patience: seconds for the store; ``PATIENCE_S`` by default.
        """
        if not self.alive or self._is_fresh(folders, status):
            return
        self.made = True
        try:
            self._ask(folders, status, PATIENCE_S if patience is None else patience)
        except Exception as error:  # whatever the store raises, the records matter more
            self.failed = True
            what = "sweep" if self.sweep else "run"
            self._warn(
                f"{store_error(self.uri or '', error)} The {what} goes on without MLflow and its records "
                "are complete; 'alharness sync' rebuilds the view."
            )
        self._pause *= 2
        self._next = time.monotonic() + self._pause

    def _is_fresh(self, folders: Sequence[RunFolder], status: str) -> bool:
        seen = look(self.uri or "", self.experiment)
        if seen is None:
            return False
        if self.sweep and (
            self.sweep not in seen.sweeps or seen.sweeps[self.sweep].status != status
        ):
            return False
        return all(seen.is_fresh(folder, self.sweep) for folder in folders)

    def _ask(self, folders: Sequence[RunFolder], status: str, patience: float) -> None:
        asked = {
            "uri": self.uri,
            "experiment": self.experiment,
            "folders": [str(folder.path.absolute()) for folder in folders],
            "sweep": self.sweep,
            "status": status,
        }
        # A database of ours is made by us: only what comes after it is waiting for somebody else.
        ready = "opened" if sqlite_path(self.uri or "") is not None else "imported"
        # Who parts in a hurry does not wait for an import either.
        limit = STARTING_S if patience >= PATIENCE_S else PATIENCE_S
        with _Child(asked) as child:
            deadline = time.monotonic() + limit
            while (answer := child.answer(deadline, limit))["kind"] != "done":
                if answer["kind"] == ready:
                    limit = patience + PER_RUN_S * len(folders)
                    deadline = time.monotonic() + limit
                elif answer["kind"] == "failed":
                    raise UserError(answer["text"])
                elif "text" in answer:
                    self._warn(answer["text"])


class RunView(Visits):
    """The view of one run: an observer, told of each cycle when it is on the disk."""

    _folder: RunFolder | None = None

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        mark(folder, tracked=self.uri is not None)
        self._folder = folder

    def cycle(self, record: CycleRecord) -> None:
        if self._folder is not None and not record.final and self.due():
            self.visit([self._folder])

    def finished(self, folder: RunFolder, records: Sequence[CycleRecord]) -> None:
        self.visit([folder], "FINISHED")

    def stopped(self) -> None:
        """Mark an unfinished run that the view has, so that it does not seem to go on for ever."""
        if self._folder is not None and self.made:
            self.visit([self._folder], "KILLED", PARTING_S)


class _Child:
    """A process that makes a visit: what it is asked on its input, an answer a line on its output."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._process = subprocess.Popen(
            # -P: a module in the folder where the user is, of whatever name, is not MLflow.
            [sys.executable, "-P", "-m", "alharness.tracking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,  # a buffer would hide a second answer from the selector
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # it computes nothing
            start_new_session=True,  # Ctrl-C in the terminal is the caller's to answer
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._output: IO[bytes] = self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        with (
            suppress(BrokenPipeError),
            self._process.stdin as file,
        ):  # its death shows when it is read
            file.write(json.dumps(asked).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._selector.close()
        self._output.close()
        self._errors.close()

    def answer(self, deadline: float, limit: float) -> dict[str, Any]:
        """The next answer.

        Raises:
            TimeoutError: it does not come in time.
            RuntimeError: the process has ended.
        """
        if not self._selector.select(max(0.0, deadline - time.monotonic())):
            raise TimeoutError(f"no answer within {limit:.0f} s")
        line = self._output.readline()
        if not line.endswith(b"\n"):
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"its process ended: {said[-1] if said else self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer
