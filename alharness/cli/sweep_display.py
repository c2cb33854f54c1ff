"""What a sweep shows: a live table on a terminal, plain lines elsewhere, failures in any case."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from alharness.cli.display import as_many, bar_line, duration, shortened
from alharness.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

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
            # By number: on another device the same job is another object.
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
            self.say(f"{self.position()}  finished  {job.name}  {self.result(event)}")

    def result(self, event: Event) -> str:
        """Last accuracy and how long this took."""
        assert event.job is not None
        # Read from the folder: other machines may have made the run.
        records = _records(event.job)
        taken = event.seconds
        if taken is None:
            taken = time.monotonic() - self.started_at.get(event.job.index, self.since)
        accuracy = f"{records[-1].test.as_text('accuracy')}  " if records else ""
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
    """The same lines, and below them how far the sweep is and the runs in progress."""

    def __init__(self, jobs: Sequence[Job], left: Sequence[Job], *, quiet: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(jobs, left, quiet=quiet)
        self._standing: dict[int, tuple[int, str | None]] = {}
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live = Live(self, console=self._console, refresh_per_second=2, transient=True)
        self._live.start()

    def event(self, event: Event) -> None:
        super().event(event)
        # Records are read here and not where it is drawn: that is another thread.
        for index, job in list(self.running.items())[:LIVE_ROWS]:
            records = _records(job)
            self._standing[index] = (
                len(records),
                (records[-1].test.as_text("accuracy") if records else None),
            )

    def began(self, job: Job) -> None:
        """The table shows it."""

    def went_on(self, job: Job, text: str) -> None:
        """The table shows it."""

    def show(self, text: str, *, error: bool) -> None:
        self._console.print(text, style="red" if error else None, soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As wide as the terminal is now."""
        from rich.text import Text

        width = options.max_width
        done = self.counts["finished"] + self.counts["failed"]
        passed = time.monotonic() - self.since
        told = [duration(passed)]
        # What runs now is counted as half done on average.
        if done >= FEWEST:
            # Never 0 while something runs: 'about 0 s left' would be said for minutes.
            rest = max(self.n_left - done - len(self.running) / 2, 0.5)
            told.insert(0, f"about {duration(rest * passed / done)} left")
        if self.counts["failed"]:
            told.append(f"{self.counts['failed']} failed")
        yield bar_line("runs", self.n_before + done, self.total, told, width)
        running = list(self.running.items())
        longest = max((len(job.name) for _, job in running), default=0)
        for index, job in running[:LIVE_ROWS]:
            n, accuracy = self._standing.get(index, (0, None))
            figures = [
                f"{n}/{job.spec.n_cycles + 1}",
                accuracy or "-",
                duration(time.monotonic() - self.started_at[index]),
            ]
            shown = "".join(f"  {text:>8}" for text in figures)
            room = width - len(shown)
            line = f"{shortened(job.name, room):<{min(longest, room)}}{shown}"
            note = "" if n else self.texts.get(index, "preparing")
            yield Text(line + as_many([note], width - len(line)), no_wrap=True, overflow="crop")
        if len(running) > LIVE_ROWS:
            yield Text(f"and {len(running) - LIVE_ROWS} more")

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
