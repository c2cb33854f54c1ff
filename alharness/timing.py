"""Honest time and exact work: named phases with a device synchronise at each border, and counters.

Seconds vary with the machine, work does not: a claim about complexity is checked on the counters
first and on the clock second.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

# By name, so that a plug-in that replaces time.perf_counter does not set the harness's clock.
from time import perf_counter, process_time, thread_time
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


#: What the counters count. A strategy may add names of its own; these mean the same everywhere.
WORK = {
    "pool_items_scored": "pool items that went through the classifier",
    "pool_items_featurised": "pool items whose features were computed during selection",
    "images_generated": "images that the generator decoded, all search steps counted",
    "distances": "distances between two feature rows computed by the index or the core-set",
    "feature_rows_read": "feature rows read from memory by the search",
    "bytes_read": "bytes of pool items gathered from their residence",
    "blocks_halved": "times that a block of a scan did not fit into the device's memory and was halved",
}


#: Shorter than any sleep of a machine, longer than a process waits between two readings of a clock.
SHORTEST_SLEEP_S = 0.2
#: Seconds that sums of many phases lose to rounding.
ROUNDING = 1e-6


def synchronise(device: torch.device | str) -> None:
    """Wait for the device's queue to run empty, so that the host clock says what was really done."""
    if str(device).startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def now() -> float:
    """The clock of the harness, in seconds."""
    return perf_counter()


@dataclass
class Effort:
    """What a piece of work took beside seconds on the clock.

    Attributes:
        cpu_s: CPU seconds of the whole process, all threads together.
        paused_s: seconds in which it stood still by no fault of its own: the process was stopped (SIGSTOP,
            Ctrl-Z), of which the clock of a selection knows nothing, or the machine slept.
    """

    cpu_s: float = 0.0
    paused_s: float = 0.0


@contextmanager
def effort() -> Iterator[Effort]:
    """Measure the block. Stops are seen from the main thread alone; there a signal tells of their end."""
    found, continued = Effort(), 0
    here = threading.current_thread() is threading.main_thread()
    number = getattr(signal, "SIGCONT", None) if here else None

    def went_on(number: int, frame: FrameType | None) -> None:
        nonlocal continued
        continued += 1
        if callable(before):
            before(number, frame)

    before = None if number is None else signal.signal(number, went_on)
    wall, slept, cpu, own = perf_counter(), _slept(), process_time(), thread_time()
    try:
        yield found
    finally:
        found.cpu_s = process_time() - cpu
        asleep = _slept() - slept
        # Two clocks are read one after the other: what lies between the readings is no sleep.
        found.paused_s = asleep if asleep > SHORTEST_SLEEP_S else 0.0
        if continued:
            # No clock counts the stop alone: what this thread did not compute is its upper bound.
            found.paused_s += max(0.0, perf_counter() - wall - (thread_time() - own))
        if number is not None:
            signal.signal(number, before)


def _slept() -> float:
    """Seconds that the machine has slept since it was started; 0 where the system does not tell."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class Stopwatch:
    """Seconds per named phase. A nested phase's time is its own, not its parent's.

    Phases therefore add up: ``sum(seconds.values())`` is the time spent inside any phase. The
    harness opens one phase around ``select``; what a strategy leaves unnamed stays there. What the
    harness does on a strategy's behalf stands apart, whatever a strategy calls its phases.

    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = device
        self._seconds: dict[str, float] = {}
        self._apart: dict[str, float] = {}
        self._open: list[tuple[dict[str, float], str]] = []
        self._since = 0.0
        self.effort: Effort | None = None  # of the selection as a whole, once it is over

    @property
    def seconds(self) -> Mapping[str, float]:
        """By phase, as far as phases have ended; to be read."""
        return MappingProxyType(self._seconds)

    @property
    def apart(self) -> Mapping[str, float]:
        """What belongs to the harness, by its own names; to be read."""
        return MappingProxyType(self._apart)

    def fault(self, at_least: float, at_most: float) -> tuple[str, str] | None:
        """What phases must be, and what these are instead.

        Args:
            at_least, at_most: what another clock says of the time in which phases were open, read just
                inside and just outside of them: a busy machine may look elsewhere in between.
        """
        if self._open:
            return "phases that end", f"'{self._open[-1][1]}' still open"
        for name, seconds in [*self._seconds.items(), *self._apart.items()]:
            if not (math.isfinite(seconds) and seconds >= 0):
                return "seconds that went by", f"{seconds} s in the phase '{name}'"
        total = sum(self._seconds.values()) + sum(self._apart.values())
        if not at_least - ROUNDING <= total <= at_most + ROUNDING:
            return f"phases that add up to the {at_least:.4f} s that went by", f"{total:.4f} s"
        return None

    def _border(self) -> None:
        synchronise(self.device)
        now = perf_counter()
        if self._open:
            account, name = self._open[-1]
            account[name] = account.get(name, 0.0) + now - self._since
        self._since = now

    @contextmanager
    def _inside(self, account: dict[str, float], name: str) -> Iterator[None]:
        if not isinstance(name, str) or not name:
            raise TypeError(f"a phase is called by a text, found {name!r}")
        self._border()
        self._open.append((account, name))
        account.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._border()
            self._open.pop()

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Attribute the time inside the ``with`` block to ``name``."""
        return self._inside(self._seconds, name)

    def aside(self, name: str = "bookkeeping") -> AbstractContextManager[None]:
        """Attribute the time inside the ``with`` block to the harness.

        Raises:
            RuntimeError: called by anyone else, whose time would vanish from the selection's.
        """
        caller = str(sys._getframe(1).f_globals.get("__name__"))
        if caller.partition(".")[0] != __name__.partition(".")[0]:
            raise RuntimeError("time is put apart by the harness alone; name a phase instead")
        return self._inside(self._apart, name)


class WorkCounters:
    """Exact counts of work done, by name (see ``WORK``)."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """By name; to be read."""
        return MappingProxyType(self._counts)

    def fault(self) -> tuple[str, str] | None:
        """What counts must be, and what these are instead."""
        for name, n in self._counts.items():
            if type(name) is not str or type(n) is not int or n < 0:
                return "work in whole units, none of them negative", f"{n!r} of {name!r}"
        return None

    def add(self, name: str, n: int) -> None:
        """Count ``n`` more of ``name``.

        Raises:
            TypeError: a name that is no text.
            ValueError: work that was not done, or not in whole units.
        """
        if not isinstance(name, str) or not name:
            raise TypeError(f"work is named by a text, found {name!r}")
        if int(n) != n or n < 0:
            raise ValueError(f"work is counted in whole units, none of them negative; found {n!r}")
        self._counts[name] = self._counts.get(name, 0) + int(n)
