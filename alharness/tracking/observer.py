"""Follows a run into MLflow, or keeps it out; a store that fails or dawdles costs the view only."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from alharness.records import CycleRecord, RunFolder
from alharness.spec import RunSpec
from alharness.tracking.marks import mark_kept_out
from alharness.tracking.patience import Patience
from alharness.tracking.stores import check_uri, load_mlflow, sqlite_path, store_error
from alharness.tracking.view import Tracking, files_of, open_tracking

#: Making a database is work, not waiting; twenty runs that start at once queue for it.
OPENING_S = 90.0

#: An interrupted run says so to its store, but does not wait long for it.
PARTING_S = 3.0

#: Share of the budget that the cycles may use; the rest opens and ends the run.
CYCLES_SHARE = 0.6


class KeptOut:
    """The observer of a run without MLflow: leaves word, so that a later sync leaves it out too."""

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        if not done:  # a run that was followed before stays in the view
            mark_kept_out(folder, True)

    def cycle(self, record: CycleRecord) -> None:
        pass

    def finished(self, folder: RunFolder, records: Sequence[CycleRecord]) -> None:
        pass


class TrackingObserver:
    """Logs cycles after their records are on the disk; says once when the store fails.

    A store that answers slowly gets several cycles at once, so that all calls of a run together stay
    within ``PATIENCE_S`` seconds; what does not fit is left to ``alharness sync``.

    Args:
        uri, experiment: the store.
        parent: MLflow run of the sweep, if any.
        warn: called with one sentence when the store fails; the run goes on.
    """

    def __init__(
        self, uri: str, experiment: str, warn: Callable[[str], object], parent: str | None = None
    ) -> None:
        self.uri, self.experiment = uri, experiment
        self.parent = parent
        self._warn = warn
        self._patience = Patience()
        self._tracking: Tracking | None = None
        self._run_id: str | None = None
        self._failed = False
        self._waiting: list[CycleRecord] = []
        self._n_cycles = 1
        self._spent_s = self._last_s = 0.0

    @property
    def alive(self) -> bool:
        """Whether everything was logged so far."""
        return not self._failed

    def open(self) -> None:
        """Open the store before anything costly, so that one that does not answer is told at once.

        Raises:
            UserError: the URI cannot be a store's.
        """
        self.uri = check_uri(self.uri)
        told: list[str] = []

        def go() -> None:
            self._tracking = open_tracking(self.uri, self.experiment, tell=told.append)

        own = sqlite_path(self.uri) is not None
        self._attempt(load_mlflow, here=True)
        self._attempt(go, free=OPENING_S if own else None)
        for text in told:
            self._warn(text)

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        mark_kept_out(folder, False)
        self._n_cycles = spec.n_cycles + 1

        def go() -> None:
            assert self._tracking is not None
            self._run_id = self._tracking.open_run(spec, folder, folder.facts(), self.parent, done)
            logged = self._tracking.logged_cycles(self._run_id) if done else set()
            missing = [record for record in done if record.cycle not in logged]
            self._tracking.log_records(self._run_id, missing)

        if self._tracking is not None:
            self._attempt(go)

    def cycle(self, record: CycleRecord) -> None:
        if self._failed:
            return
        self._waiting.append(record)
        share = CYCLES_SHARE * self._patience.seconds * (record.cycle + 1) / self._n_cycles
        if self._spent_s + self._last_s <= share:
            self._flush()

    def _flush(self) -> None:
        """Log the records that wait."""
        waiting = self._waiting

        def go() -> None:
            assert self._tracking is not None
            assert self._run_id is not None
            if len(waiting) == 1:
                self._tracking.log_record(self._run_id, waiting[0])
            else:
                self._tracking.log_records(self._run_id, waiting)

        if self._tracking is None or not waiting:
            return
        began = time.monotonic()
        self._attempt(go)
        self._last_s = time.monotonic() - began
        self._spent_s += self._last_s
        self._waiting = []

    def finished(self, folder: RunFolder, records: Sequence[CycleRecord]) -> None:
        self._flush()

        def go() -> None:
            assert self._tracking is not None
            assert self._run_id is not None
            self._tracking.log_files(self._run_id, files_of(folder))
            self._tracking.finish(self._run_id, ended_ms=records[-1].ts_ms)

        if self._tracking is not None:
            self._attempt(go)

    def stopped(self) -> None:
        """Mark an unfinished run, so that it does not seem to go on for ever."""

        def go() -> None:
            # After what was interrupted: a run that was just being opened is known by now.
            if self._tracking is not None and self._run_id is not None:
                if self._waiting:
                    self._tracking.log_records(self._run_id, self._waiting)
                self._tracking.finish(self._run_id, status="KILLED")

        self._patience.left = min(self._patience.left, PARTING_S)
        if self._tracking is not None:
            self._attempt(go)

    def _attempt(
        self, action: Callable[[], object], *, free: float | None = None, here: bool = False
    ) -> None:
        if self._failed:
            return
        try:
            if here:
                action()
            else:
                self._patience.call(action, free=free)
        except Exception as error:  # whatever the store raises, the records matter more
            self._failed = True
            self._warn(
                f"{store_error(self.uri, error)} The run goes on without MLflow and its records are "
                "complete; 'alharness sync' rebuilds the view."
            )
