"""What a run shows: a live table on a terminal, one plain line per cycle elsewhere, nothing if quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from alharness.records import CycleRecord, RunFolder
    from alharness.spec import RunSpec

COLUMNS = ("cycle", "labels", "accuracy", "balanced", "entropy", "select ms", "fit s")

#: Rows of the live table; earlier ones are in the records.
LIVE_ROWS = 15


def cells(record: CycleRecord) -> tuple[str, ...]:
    """One record as the columns of the table."""
    query, select_s = record.query, record.time.select_s
    return (
        str(record.cycle),
        str(record.n_labelled),
        f"{record.test.accuracy:.4f}",
        f"{record.test.balanced_accuracy:.4f}",
        f"{query.entropy_mean:.3f}" if query is not None else "-",
        f"{1000 * select_s:.1f}" if select_s is not None else "-",
        f"{record.time.fit_s:.2f}",
    )


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 ms, 4.2 s, 12 s, 3:05 min, 2:10 h."""
    if seconds < 0.995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if seconds < 3600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def headline(spec: RunSpec) -> str:
    """What is going to run, in one line."""
    return (
        f"{spec.task.name}  {spec.strategy.name}  seed {spec.seed}  profile {spec.profile}  "
        f"{spec.device}  budget {spec.budget} = {spec.initial_size} + {spec.n_cycles} x {spec.query_size}"
    )


class _Base:
    """Common to all displays: they also are the ``progress`` of long work."""

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        pass

    def cycle(self, record: CycleRecord) -> None:
        pass

    def finished(self, folder: RunFolder, records: Sequence[CycleRecord]) -> None:
        pass

    def progress(
        self, stage: str, done: int, total: int, notes: Mapping[str, float] | None = None
    ) -> None:
        pass

    def warn(self, text: str) -> None:
        click.echo(f"alharness: {text}", err=True)

    def close(self) -> None:
        pass


class Quiet(_Base):
    """Shows warnings only."""


class Plain(_Base):
    """One line per cycle; preparation tells of itself every few seconds."""

    EVERY_S = 10.0

    def __init__(self) -> None:
        self._stage = ""
        self._since = self._last = 0.0
        self._first = 0  # where this session began: a stopped training goes on in the middle

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        click.echo(headline(spec))
        click.echo(folder.environment().get("task", {}).get("forecast", ""))
        if done and not done[-1].final:
            click.echo(f"continues after cycle {done[-1].cycle}")
        click.echo("  ".join(f"{name:>9}" for name in COLUMNS))

    def cycle(self, record: CycleRecord) -> None:
        click.echo("  ".join(f"{cell:>9}" for cell in cells(record)))

    def progress(
        self, stage: str, done: int, total: int, notes: Mapping[str, float] | None = None
    ) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._since, self._last, self._first = stage, now, now, done
        elif now - self._last < self.EVERY_S:
            return
        else:
            self._last = now
        figures = "".join(f"  {key} {value:.4g}" for key, value in (notes or {}).items())
        spent, n = now - self._since, done - self._first
        left = spent * (total - done) / n if n > 0 and spent > 0 else None
        remaining = f"  {duration(left)} left" if left is not None and done < total else ""
        click.echo(f"{stage}  {done}/{total}{remaining}{figures}")


class Live(_Base):
    """Progress bars for the preparation, then a table that grows, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._console = Console(highlight=False, markup=False, emoji=False)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[notes]}", markup=False),
            console=self._console,
        )
        self._stages: dict[str, Any] = {}
        self._records: list[CycleRecord] = []
        self._title = ""
        self._n_cycles = 0
        self._live = RichLive(console=self._console, auto_refresh=True, refresh_per_second=4)
        self._live.start()

    def _show(self) -> None:
        from rich.console import Group
        from rich.table import Table

        parts: list[Any] = []
        if self._stages:
            parts.append(self._bars)
        if self._title:
            parts.append(self._title)
        if self._records:
            table = Table(box=None, pad_edge=False)
            for name in COLUMNS:
                table.add_column(name, justify="right")
            for record in self._records[-LIVE_ROWS:]:
                table.add_row(*cells(record))
            parts.append(table)
            last = self._records[-1]
            if not last.final:
                parts.append(f"cycle {last.cycle + 1} of {self._n_cycles} ...")
        self._live.update(Group(*parts))

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        self._title = headline(spec)
        self._title += "\n" + folder.environment().get("task", {}).get("forecast", "")
        self._n_cycles = spec.n_cycles
        self._records = list(done)
        self._show()

    def cycle(self, record: CycleRecord) -> None:
        self._records.append(record)
        self._show()

    def progress(
        self, stage: str, done: int, total: int, notes: Mapping[str, float] | None = None
    ) -> None:
        text = "  ".join(f"{key} {value:.4g}" for key, value in (notes or {}).items())
        if stage not in self._stages:
            # What an earlier session did is no measure of this one's speed.
            self._stages[stage] = self._bars.add_task(
                stage, total=total, completed=done, notes=text
            )
        self._bars.update(self._stages[stage], completed=done, total=total, notes=text)
        self._show()

    def warn(self, text: str) -> None:
        self._console.print(f"alharness: {text}", style="yellow", soft_wrap=True)

    def close(self) -> None:
        self._live.stop()


def make_display(*, quiet: bool) -> Quiet | Plain | Live:
    """The display that fits where the output goes."""
    if quiet:
        return Quiet()
    return Live() if sys.stdout.isatty() else Plain()
