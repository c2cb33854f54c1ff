"""What a sweep shows: a live table on a terminal, plain lines elsewhere, failures in any case."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from alharness.cli.display import duration
from alharness.errors import UserError

if TYPE_CHECKING:
    from alharness.executors.base import Event
    from alharness.executors.sweeps import Job
    from alharness.records import CycleRecord

#: Runs in progress that the live table lists.
LIVE_ROWS = 12

#: Runs that have to be over before the rest is estimated: the first ones pay for the start.
FEWEST = 3


#: Seconds between two words about long work before a run's first cycle.
EVERY_S = 20.0


class SweepDisplay:
    """Plain lines: one for the end of each run."""

    def __init__(self, jobs: Sequence[Job], left: Sequence[Job], *, quiet: bool) -> None:
        self.quiet = quiet
        self.total = len(jobs)
        self.n_left = len(left)
        self.n_before = len(jobs) - len(left)
        self.counts: Counter[str] = Counter()
        self.started_at: dict[int, float] = {}
        self.texts: dict[int, str] = {}
        self.running: dict[int, Job] = {}
        self.since = self.said = time.monotonic()

    def event(self, event: Event) -> None:
        """One thing that happened."""
        job = event.job
        if job is None:
            return
        if event.kind == "started":
            if not self.started_at:
                self.since = time.monotonic()  # opening the store is no part of the runs
            self.running[job.index] = job
            self.started_at[job.index] = time.monotonic()
            self.began(job)
        elif event.kind == "progress":
            self.texts[job.index] = event.text
            self.went_on(job, event.text)
        else:
            self.counts[event.kind] += 1
            self.running.pop(job.index, None)
            self.texts.pop(job.index, None)
            self.ended(job, event)

    def began(self, job: Job) -> None:
        """A run was given to a worker: said until the first one has ended."""
        if not self.quiet and not self.counts:
            self.say(f"{self.position()}  started   {job.name}")

    def went_on(self, job: Job, text: str) -> None:
        """A run tells of long work before its first cycle: said now and then."""
        if not self.quiet and time.monotonic() - self.said > EVERY_S:
            self.say(f"{self.position()}  goes on   {job.name}: {text}")

    def ended(self, job: Job, event: Event) -> None:
        """A run is over."""
        if event.kind == "failed":
            self.say(f"{self.position()}  failed    {job.name}: {event.text}", error=True)
        elif not self.quiet:
            self.say(f"{self.position()}  finished  {job.name}  {self.result(job)}")

    def result(self, job: Job) -> str:
        """Last accuracy and how long this took."""
        records = _records(job)
        taken = time.monotonic() - self.started_at.get(job.index, self.since)
        accuracy = f"{records[-1].test.accuracy:.4f}  " if records else ""
        return f"{accuracy}{duration(taken)}"

    def position(self) -> str:
        done = self.n_before + self.counts["finished"] + self.counts["failed"]
        return f"{done:>{len(str(self.total))}}/{self.total}"

    def say(self, text: str, *, error: bool = False, aside: bool = False) -> None:
        """A line; one that is an ``aside`` is left out where nothing but failures is wanted."""
        if not (aside and self.quiet):
            self.said = time.monotonic()
            self.show(text, error=error)

    def show(self, text: str, *, error: bool) -> None:
        click.echo(text, err=error)

    def warn(self, text: str) -> None:
        self.say(f"alharness: {text}", error=True)

    def close(self) -> None:
        """Nothing to put away."""


class LiveSweepDisplay(SweepDisplay):
    """A table of the runs in progress below the lines of those that ended."""

    def __init__(self, jobs: Sequence[Job], left: Sequence[Job], *, quiet: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(jobs, left, quiet=quiet)
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._drawn = 0.0
        self._live.start()

    def event(self, event: Event) -> None:
        super().event(event)
        if event.kind != "progress" or time.monotonic() - self._drawn > 0.5:
            self._drawn = time.monotonic()
            self._live.update(self._table(), refresh=True)

    def began(self, job: Job) -> None:
        """The table shows it."""

    def went_on(self, job: Job, text: str) -> None:
        """The table shows it."""

    def show(self, text: str, *, error: bool) -> None:
        self._console.print(text, style="red" if error else None, soft_wrap=True)

    def _table(self) -> Any:
        from rich.table import Table

        done = self.counts["finished"] + self.counts["failed"]
        passed = time.monotonic() - self.since
        # What runs now is counted as half done on average.
        shown_left = ""
        if done >= FEWEST:
            rest = self.n_left - done - len(self.running) / 2
            shown_left = f", about {duration(max(rest, 0.5) * passed / done)} left"
        failed = f", {self.counts['failed']} failed" if self.counts["failed"] else ""
        table = Table(
            box=None,
            title=f"{self.position()} runs{failed}, {duration(passed)}{shown_left}",
            title_justify="left",
            title_style="bold",
            pad_edge=False,
        )
        for column, justify in (
            ("run", "left"),
            ("cycle", "right"),
            ("accuracy", "right"),
            ("for", "right"),
            ("", "left"),
        ):
            table.add_column(column, justify=justify)  # type: ignore[arg-type]
        for index, job in list(self.running.items())[:LIVE_ROWS]:
            records = _records(job)
            table.add_row(
                job.name,
                f"{len(records)}/{job.spec.n_cycles + 1}",
                f"{records[-1].test.accuracy:.4f}" if records else "-",
                duration(time.monotonic() - self.started_at[index]),
                "" if records else self.texts.get(index, "preparing"),
            )
        if len(self.running) > LIVE_ROWS:
            table.add_row(f"and {len(self.running) - LIVE_ROWS} more", "", "", "", "")
        return table

    def close(self) -> None:
        self._live.stop()


def _records(job: Job) -> list[CycleRecord]:
    """What can be read of a run; that of a damaged one is its worker's to tell."""
    try:
        return job.folder.records()
    except (UserError, OSError):
        return []


def make_sweep_display(jobs: Sequence[Job], left: Sequence[Job], *, quiet: bool) -> SweepDisplay:
    """The display that fits where the output goes."""
    kind = LiveSweepDisplay if sys.stdout.isatty() and not quiet else SweepDisplay
    return kind(jobs, left, quiet=quiet)
