"""Follows a sweep: failures are written down and named, MLflow is written by this process alone.

Several writers on one SQLite file lock each other out, so runs only keep records, and the driver
brings MLflow up to date: now and then, and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alharness.engine.folders import leave_word, open_folder
from alharness.errors import UserError
from alharness.executors.base import Event, Executor
from alharness.executors.sweeps import Job
from alharness.tracking.marks import mark
from alharness.tracking.visits import PARTING_S, Visits

if TYPE_CHECKING:
    from alharness.engine.places import Places


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
    before: Sequence[Job] = (),
    view: Visits | None = None,
    show: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Carry out the jobs. An interruption stops the executor and is passed on.

    Args:
        jobs: runs that are not finished.
        places: where runs, data and artefacts lie.
        executor: who carries them out.
        fresh: start every one of them over.
        before: runs of the sweep that were finished before.
        view: the MLflow side. One without a store leaves word in new runs that they stay out of it.
        show: sees every event.
    """
    outcome = Outcome()
    # Those of before, too: a stop may have come between the last record of a run and its copy.
    waiting = list(before)
    try:
        with closing(executor.run(jobs, places, fresh=fresh)) as stream:
            for event in stream:
                _note(event, outcome, view)
                if event.job is not None and event.kind == "finished":
                    waiting.append(event.job)
                show(event)
                if view is not None and waiting and view.due():
                    view.visit([job.folder for job in waiting])
                    waiting.clear()
    except BaseException:
        if view is not None and view.made:
            view.visit([job.folder for job in waiting], "KILLED", PARTING_S)
        raise
    if view is not None:
        status = "FAILED" if outcome.failed else "FINISHED"
        view.visit([job.folder for job in waiting], status)
    return outcome


def _note(event: Event, outcome: Outcome, view: Visits | None) -> None:
    """Write down what became of a run, in its folder and in the outcome."""
    job = event.job
    if job is None:
        return
    if event.kind == "started":
        if view is not None:
            mark(job.folder, tracked=view.uri is not None)
    elif event.kind == "failed":
        with suppress(UserError, OSError):  # not into a folder that holds another run
            folder = open_folder(job.spec, job.runs_dir)
            leave_word(job.spec, folder, event.text, event.details)
        outcome.failed.append((job, event.text))
    elif event.kind == "finished":
        outcome.finished.append(job)
