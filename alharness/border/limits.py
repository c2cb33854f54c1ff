"""An end to what takes too long."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from alharness.border.author import Author
from alharness.errors import place_of


class _OutOfTime(BaseException):
    """Raised into a plug-in; not an Exception, which a plug-in may catch for reasons of its own."""


@contextmanager
def time_limit(seconds: float, author: Author, cycle: int) -> Iterator[None]:
    """End the block after so many seconds; 0 is no limit.

    Needs SIGALRM and the main thread; elsewhere nothing is ended, and the caller finds out by its
    clock afterwards. Native code is ended when it comes back to Python.

    Raises:
        PluginError: out of time.
    """
    if (
        seconds <= 0
        or not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def ring(number: int, frame: FrameType | None) -> NoReturn:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, should a plug-in swallow the first
    try:
        yield
    except _OutOfTime as late:
        signal.setitimer(signal.ITIMER_REAL, 0)
        refuse_late(seconds, author, cycle, place_of(late, author.home))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refuse_late(seconds: float, author: Author, cycle: int, place: str = "") -> NoReturn:
    """Say that a strategy did not answer in time."""
    author.refuse(f"a query within {seconds:g} s (--select-timeout)", f"none{place}", cycle=cycle)
