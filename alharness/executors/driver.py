"""Follows a sweep: failures are written down and named, MLflow is written by this process alone.

Several writers on one SQLite file lock each other out, so runs only keep records, and the driver
brings MLflow up to date whenever one has finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alharness.errors import UserError
from alharness.executors.base import Event, Executor
from alharness.executors.sweeps import Job
from alharness.tracking.marks import mark_kept_out
from alharness.tracking.patience import Patience

if TYPE_CHECKING:
    from alharness.engine.opening import Places
    from alharness.tracking import Tracking


@dataclass
class Follow:
    """The MLflow side of a sweep.

    Attributes:
        tracking: the store.
        parent: MLflow run of the sweep.
        warn: told once when the store fails, and of each run that cannot be copied; the sweep goes on.
        uri: of the store, as it is shown.
    """

    tracking: Tracking
    parent: str | None
    warn: Callable[[str], None]
    uri: str = ""
    broken: bool = field(default=False, init=False)
    patience: Patience = field(default_factory=Patience, init=False)

    @classmethod
    def opened(
        cls, uri: str, experiment: str, sweep: str, warn: Callable[[str], None]
    ) -> Follow | None:
        """Open the store; None when it fails, which is told.

        Raises:
            UserError: the URI cannot be a store's.
        """
        from alharness.tracking import check_uri, open_tracking
        from alharness.tracking.observer import OPENING_S
        from alharness.tracking.stores import load_mlflow, sqlite_path

        uri, patience, told = check_uri(uri), Patience(), list[str]()
        own = sqlite_path(uri) is not None
        try:
            load_mlflow()
            tracking = patience.call(
                lambda: open_tracking(uri, experiment, tell=told.append),
                free=OPENING_S if own else None,
            )
            parent = patience.call(lambda: tracking.sweep(sweep))
        except Exception as error:  # whatever the store raises, the records matter more
            warn(_without_view(uri, error))
            return None
        for text in told:
            warn(text)
        return cls(tracking, parent, warn, uri)

    def finished(self, job: Job) -> None:
        """Copy the records of a finished run."""
        from alharness.tracking import sync_run

        if self.broken:
            return
        self.patience.refill()
        try:
            self.patience.call(lambda: sync_run(job.folder, self.tracking, self.parent))
        except UserError as error:  # this run's folder, and no other's
            self.warn(f"{job.name} is left out of MLflow: {error}")
        except Exception as error:  # whatever the store raises, the records matter more
            self.broken = True
            self.warn(_without_view(self.uri, error))

    def ended(self, status: str) -> None:
        """Set the status of the sweep's own run: FINISHED, FAILED or KILLED."""
        if self.broken or self.parent is None:
            return
        from alharness.tracking.observer import PARTING_S

        parent = self.parent
        self.patience.refill()
        if status == "KILLED":
            self.patience.left = PARTING_S
        # After an interruption in the middle of a copy the store may refuse; 'sync' mends the view.
        with suppress(Exception):
            self.patience.call(lambda: self.tracking.finish(parent, status))


def _without_view(uri: str, error: Exception) -> str:
    from alharness.tracking.stores import store_error

    return (
        f"{store_error(uri, error)} The sweep goes on without MLflow and its records are complete; "
        "'alharness sync' rebuilds the view."
    )


@dataclass
class Outcome:
    """How a sweep ended: jobs that finished now, and jobs that failed with their reasons."""

    finished: list[Job] = field(default_factory=list)
    failed: list[tuple[Job, str]] = field(default_factory=list)


def drive(
    jobs: Sequence[Job],
    places: Places,
    executor: Executor,
    *,
    fresh: bool = False,
    follow: Follow | None = None,
    keep_out: bool = False,
    show: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Carry out the jobs. An interruption stops the executor and is passed on.

    Args:
        jobs: runs that are not finished.
        places: where runs, data and artefacts lie.
        executor: who carries them out.
        fresh: start every one of them over.
        follow: the MLflow side; None keeps records only.
        keep_out: leave word in new runs that they stay out of MLflow.
        show: sees every event.
    """
    outcome = Outcome()
    with closing(executor.run(jobs, places, fresh=fresh)) as stream:
        for event in stream:
            job = event.job
            if job is not None:
                if event.kind == "started":
                    job.folder.write_failure(None)
                    if follow is not None or keep_out:
                        _mark(job, keep_out)
                elif event.kind == "failed":
                    job.folder.write_failure(event.text, event.details)
                    outcome.failed.append((job, event.text))
                elif event.kind == "finished":
                    outcome.finished.append(job)
                    if follow is not None:
                        follow.finished(job)
            show(event)
    return outcome


def _mark(job: Job, keep_out: bool) -> None:
    """Leave word in a run without records that it stays out of MLflow; a followed one has none."""
    if not keep_out or not job.folder.cycles.exists():
        mark_kept_out(job.folder, keep_out)
