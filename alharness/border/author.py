"""A strategy's word and its faults: what it raises, and every answer, judged in its author's terms."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import torch

from alharness.availability import Availability
from alharness.errors import PluginError, blamed, home_of, is_library, place_of, shown
from alharness.pool import Pool
from alharness.queries import ImageQuery, LineQuery, PoolQuery, Query, listed
from alharness.strategy import Strategy


@dataclass(frozen=True)
class Author:
    """Whose plug-in it is, for messages.

    Attributes:
        strategy: the plug-in.
        name: as its user typed it.
    """

    strategy: Strategy
    name: str

    @property
    def home(self) -> str | None:
        """The plug-in's own file, even where ``select`` is inherited or a method is a library's function."""
        cls = type(self.strategy)
        if (file := home_of(cls)) is not None:
            return file
        # A notebook's cells: each is a file of its own to Python, and the module has none.
        own = [getattr(value, "__code__", None) for value in vars(cls).values()]
        codes = [code for code in own if code is not None] or [cls.select.__code__]
        return str(codes[0].co_filename)

    def blamed(self, expected: str) -> AbstractContextManager[None]:
        """Whatever is raised inside the block becomes one line that names the plug-in."""
        return blamed(f"strategy '{self.name}'", expected, self.home)

    def refuse(
        self, expected: str, found: str, *, call: str = "select", cycle: int | None = None
    ) -> NoReturn:
        """Say what was expected of a call and what it did instead.

        Raises:
            PluginError: always.
        """
        method = getattr(type(self.strategy), call, None)
        code = getattr(method, "__code__", None)
        where = ""
        if code is not None and not is_library(code.co_filename):
            where = f" ({call} in {shown(code.co_filename)}, line {code.co_firstlineno})"
        when = f" in cycle {cycle}" if cycle is not None else ""
        raise PluginError(
            f"The strategy '{self.name}' broke the contract{when}: expected {expected}, found {found}"
            f"{where}. 'alharness check {self.name}' shows what is wrong.",
            expected,
            found + where,
        )


def check_query(
    query: Any, pool: Pool, available: Availability, query_size: int, author: Author, cycle: int
) -> Query:
    """The harness's own check of every answer, so that no strategy is trusted with its own score.

    Args:
        query: whatever ``select`` returned.
        available: what could be asked about: the caller's own value, not one that a strategy held.

    Returns:
        the query, with values that the strategy does not hold.

    Raises:
        PluginError: the query is not of a known kind or size, carries figures that are none, or asks
            about items that it must not.
    """
    if not isinstance(query, PoolQuery | ImageQuery | LineQuery):
        author.refuse(
            "a PoolQuery, an ImageQuery or a LineQuery", f"a {type(query).__name__}", cycle=cycle
        )
    with author.blamed(f"a query that can be read in cycle {cycle}"):
        owned = Query.owned(query)
    fault = owned.fault(pool.n, pool.item_shape)
    if fault is None and len(owned) != query_size:
        fault = f"{query_size} items", f"{len(owned)}"
    fault = fault or owned.figures_fault()
    if fault is not None:
        author.refuse(*fault, cycle=cycle)
    again = owned.touched[torch.isin(owned.touched, available.taken)]
    if len(again):
        found = f"items already asked about: {listed(again)}"
        author.refuse("unlabelled items only", found, cycle=cycle)
    return owned


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
