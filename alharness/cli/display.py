"""What a run shows: one line per cycle, on a terminal above a bar that moves; nothing if quiet.

A terminal keeps the lines; only the bar below them is drawn again and again. It is made to fit: words give
way before figures do.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

    from alharness.records import CycleRecord, RunFolder
    from alharness.spec import RunSpec

COLUMNS = ("cycle", "labels", "accuracy", "balanced", "entropy", "select ms", "fit s")

#: Columns of a bar: at most, and at least where the terminal is narrow.
BAR, SHORT_BAR = 24, 8

#: Width where nobody's terminal sets one.
WHOLE = 1000

#: Long works that are shown at a time; earlier ones that never reached their end are not.
LIVE_STAGES = 4
#: Seconds between two pictures of what is going on.
REDRAWN_S = 0.25


def cells(record: CycleRecord) -> tuple[str, ...]:
    """One record as the columns of the table."""
    query, select_s = record.query, record.time.select_s
    return (
        str(record.cycle),
        str(record.n_labelled),
        record.test.as_text("accuracy"),
        record.test.as_text("balanced_accuracy"),
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
    if seconds < 3600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> str:
    """Columns as wide as their widest cell; on a narrow terminal cells go on below themselves."""
    from rich.console import Console
    from rich.table import Table

    lines = [*rows]
    grid = Table(box=None, pad_edge=False, show_header=bool(header), header_style="")
    for name in header or [""] * max(map(len, lines), default=0):
        grid.add_column(name, overflow="fold")  # a key or a figure is never cut
    for row in lines:
        grid.add_row(*row)
    # A pipe gets whole lines, however long: whoever reads them cuts them.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WHOLE
    console = Console(width=width, markup=False, emoji=False, highlight=False, no_color=True)
    with console.capture() as drawn:
        console.print(grid)
    return "\n".join(line.rstrip() for line in drawn.get().splitlines())


def headline(spec: RunSpec) -> str:
    """What is going to run, in one line."""
    from alharness.records.facts import RANDOM_START

    start = str(spec.initial_size)
    if spec.initial != RANDOM_START:
        start += f" ({spec.initial.name})"
    return (
        f"{spec.task.name}  {spec.strategy.name}  seed {spec.seed}  profile {spec.profile}  "
        f"{spec.device}  budget {spec.budget} = {start} + {spec.n_cycles} x {spec.query_size}"
        + (f"  stop {', '.join(map(str, spec.stop))}" if spec.stop else "")
    )


def shortened(text: str, width: int) -> str:
    """A text in so many columns, its middle left out: what tells names apart stands at their ends."""
    if len(text) <= width:
        return text
    if width < 3:
        return text[: max(0, width)]
    first = (width - 1) * 2 // 3
    return f"{text[:first]}…{text[len(text) - (width - 1 - first) :]}"


def figures(notes: Mapping[str, float] | None) -> list[str]:
    """Notes of long work, a word and a number each."""
    return [f"{key} {value:.4g}" for key, value in (notes or {}).items()]


def as_many(told: Sequence[str], width: int) -> str:
    """What is told, two spaces before each, as long as it fits: the rest is left out, not cut."""
    line = ""
    for text in told:
        if len(line) + 2 + len(text) > width:
            break
        line += f"  {text}"
    return line


def bar_line(name: str, done: int, total: int, told: Sequence[str], width: int) -> Text:
    """A bar in one line of at most ``width`` columns: its name, how far it is, and what is told of it.

    The count and the first of what is told (the time left) stay whole on any terminal of 40 columns.
    Further ones are left out from the end, the bar becomes shorter, and then the name does.
    """
    from rich.text import Text

    count = f"{done}/{total}"
    fixed = "".join(f"  {text}" for text in told[:1] if text)
    n_bar = max(SHORT_BAR, min(BAR, width - len(name) - len(count) - len(fixed) - 4))
    name = shortened(name, width - n_bar - len(count) - len(fixed) - 4)
    filled = round(n_bar * min(1.0, done / total)) if total > 0 else 0
    line = Text(f"{name}  ", no_wrap=True, overflow="crop")
    line.append("━" * filled, style="green")
    line.append("━" * (n_bar - filled), style="dim")
    line.append(f"  {count}{fixed}")
    return line.append(as_many(told[1:], width - len(line)))


class Stretch:
    """Long work as it goes on: how far it is, and how long it will take at the pace of this session."""

    def __init__(self, name: str, done: int, total: int) -> None:
        self.name, self.total = name, total
        self.since = time.monotonic()
        self.first = self.done = done  # a stopped training goes on in the middle
        self.notes: list[str] = []

    def moved(self, done: int, total: int, notes: Mapping[str, float] | None = None) -> None:
        self.done, self.total, self.notes = done, total, figures(notes)

    def left(self) -> list[str]:
        """The time left, in words; nothing as long as nothing is known of the pace."""
        spent, n = time.monotonic() - self.since, self.done - self.first
        if n <= 0 or spent <= 0 or self.done >= self.total:
            return []
        return [f"{duration(spent * (self.total - self.done) / n)} left"]

    def line(self, width: int) -> Text:
        told = self.left() or [""]
        return bar_line(self.name, self.done, self.total, [*told, *self.notes], width)


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

    def __init__(self, *, err: bool = False) -> None:
        self._err = err
        self._stretch: Stretch | None = None
        self._said = 0.0

    def say(self, text: str) -> None:
        click.echo(text, err=self._err)

    def explain(self, text: str) -> None:
        """A sentence, in lines that end between words."""
        self.say(text)

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        self.explain(headline(spec))
        forecast = folder.facts().task.forecast
        if forecast:
            self.explain(forecast)
        self.say("  ".join(f"{name:>9}" for name in COLUMNS))
        for record in done:
            self.row(record)
        if done and not done[-1].final:
            self.say(f"continues after cycle {done[-1].cycle}")

    def row(self, record: CycleRecord) -> None:
        self.say("  ".join(f"{cell:>9}" for cell in cells(record)))

    def cycle(self, record: CycleRecord) -> None:
        self.row(record)

    def progress(
        self, stage: str, done: int, total: int, notes: Mapping[str, float] | None = None
    ) -> None:
        now = time.monotonic()
        if self._stretch is None or stage != self._stretch.name:
            self._stretch, self._said = Stretch(stage, done, total), now
        # A log keeps every line: what goes on is told now and then, a new stage at once.
        elif now - self._said < self.EVERY_S:
            return
        else:
            self._said = now
        self._stretch.moved(done, total, notes)
        told = [f"{done}/{total}", *self._stretch.left(), *self._stretch.notes]
        self.say("  ".join([stage, *told]))


class Live(Plain):
    """The same lines, kept by the terminal, and below them what is going on, with the time left."""

    def __init__(self, *, err: bool = False) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        super().__init__(err=err)
        self._console = Console(stderr=err, highlight=False, markup=False, emoji=False)
        self._stages: dict[str, Stretch] = {}
        self._cycles: Stretch | None = None
        # Drawn when something is told, and not by a thread: none of ours runs beside a timed selection, or
        # moves a random state while a plug-in is watched.
        self._live = RichLive(self, console=self._console, auto_refresh=False, transient=True)
        self._drawn = 0.0
        self._live.start()

    def _draw(self) -> None:
        """Show what is going on, a few times a second at most."""
        if time.monotonic() - self._drawn >= REDRAWN_S:
            self._drawn = time.monotonic()
            self._live.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What is going on, as wide as the terminal is now."""
        # Long work hides the bar of cycles: it is what is waited for.
        stages = [*self._stages.values()][-LIVE_STAGES:]
        if self._cycles is not None and not stages:
            stages = [self._cycles]
        for stretch in stages:
            yield stretch.line(options.max_width)

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def explain(self, text: str) -> None:
        self._console.print(text)

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        super().started(spec, folder, done)
        self._stages.clear()
        if not (done and done[-1].final):
            self._cycles = Stretch("cycles", len(done), spec.n_cycles + 1)
        self._draw()

    def cycle(self, record: CycleRecord) -> None:
        super().cycle(record)
        self._stages.clear()
        if self._cycles is not None:
            self._cycles.moved(record.cycle + 1, self._cycles.total)
        self._draw()

    def progress(
        self, stage: str, done: int, total: int, notes: Mapping[str, float] | None = None
    ) -> None:
        if stage not in self._stages:
            # What is told as 0 of 1 is a word, and has no end of its own.
            self._stages = {name: s for name, s in self._stages.items() if s.total > 1}
            self._stages[stage] = Stretch(stage, done, total)
            if total == 1 and done == 0:
                self.say(stage)
        stretch = self._stages[stage]
        stretch.moved(done, total, notes)
        if done >= total:  # its last line stays, above what comes next
            del self._stages[stage]
            line = f"{stage}  {done}/{total}  in {duration(time.monotonic() - stretch.since)}"
            self.say(line + as_many(stretch.notes, self._console.width - len(line)))
        self._draw()

    def warn(self, text: str) -> None:
        self._console.print(f"alharness: {text}", style="yellow", soft_wrap=True)

    def close(self) -> None:
        self._live.stop()


def make_display(*, quiet: bool, err: bool = False) -> Quiet | Plain | Live:
    """The display that fits where the output goes: to standard error where that is asked for."""
    if quiet:
        return Quiet()
    stream = sys.stderr if err else sys.stdout
    return Live(err=err) if stream.isatty() else Plain(err=err)
