"""Follows a sweep: failures are written down and named, MLflow is written by this process alone.

Several writers on one SQLite file lock each other out, so runs only keep records, and the driver
brings MLflow up to date whenever one has finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alharness.comparison.runs import write_failure
from alharness.executors.base import Event, Executor
from alharness.executors.sweeps import Job

if TYPE_CHECKING:
    from alharness.run.opening import Places
    from alharness.tracking import Tracking


@dataclass
class Follow:
    """The MLflow side of a sweep.

    Attributes:
        tracking: the store.
        parent: MLflow run of the sweep.
        warn: told once when the store fails; the sweep goes on.
    """

    tracking: Tracking
    parent: str | None
    warn: Callable[[str], None]
    broken: bool = field(default=False, init=False)

    def finished(self, job: Job) -> None:
        """Copy the records of a finished run."""
        from alharness.tracking import sync_run

        self._attempt(lambda: sync_run(job.folder, self.tracking, self.parent))

    def ended(self, status: str) -> None:
        """Set the status of the sweep's own run: FINISHED, FAILED or KILLED."""
        # After an interruption in the middle of a copy the store may refuse; 'sync' mends the view.
        with suppress(Exception):
            if self.parent is not None:
                self.tracking.finish(self.parent, status)

    def _attempt(self, action: Callable[[], object]) -> None:
        if self.broken:
            return
        try:
            action()
        except Exception as error:  # whatever the store raises, the records matter more
            self.broken = True
            text = (str(error).splitlines() or [type(error).__name__])[0][:160]
            self.warn(
                f"MLflow stopped answering ({text}). The sweep goes on and its records are complete; "
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
    show: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Carry out the jobs. An interruption stops the executor and is passed on.

    Args:
        jobs: runs that are not finished.
        places: where runs, data and artefacts lie.
        executor: who carries them out.
        fresh: start every one of them over.
        follow: the MLflow side; None keeps records only.
        show: sees every event.
    """
    outcome = Outcome()
    with closing(executor.run(jobs, places, fresh=fresh)) as stream:
        for event in stream:
            job = event.job
            if job is not None:
                if event.kind == "started":
                    write_failure(job.folder.path, None)
                elif event.kind == "failed":
                    write_failure(job.folder.path, event.text, event.details)
                    outcome.failed.append((job, event.text))
                elif event.kind == "finished":
                    outcome.finished.append(job)
                    if follow is not None:
                        follow.finished(job)
            show(event)
    return outcome
