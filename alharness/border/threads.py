"""Threads beside the one that calls foreign code: who had them before, and what they compute after it.

Only threads that run Python are looked at. Those of torch and of BLAS are nobody's: they serve whoever calls.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

#: CPU seconds that a thread may take after the call that began it: an idle one of a library wakes now and
#: then (tqdm's every ten seconds) and takes microseconds.
IDLE_S = 0.005
#: ... and the share of the time gone by, for threads that live long.
IDLE_SHARE = 0.005
#: Seconds in which a new thread is watched when the call that began it has returned.
WATCHED_S = 0.02


def running() -> set[int]:
    """Identifiers of all threads that run Python, but for the one that asks."""
    return set(sys._current_frames()) - {threading.get_ident()}


def name_of(thread: int) -> str:
    """What a thread is called, for a message."""
    for known in threading.enumerate():
        if known.ident == thread:
            return f"the thread '{known.name}'"
    return "a thread"


def cpu_of(thread: int) -> float | None:
    """CPU seconds that a thread has taken; None where the system does not tell or the thread is gone."""
    if not hasattr(time, "pthread_getcpuclockid") or thread not in sys._current_frames():
        return None
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(thread))
    except OSError:
        return None


def cpu_of_the_dead() -> float:
    """CPU seconds of threads of this process that have ended; 0 where the system does not tell."""
    alive = 0
    for task in Path("/proc/self/task").glob("*/schedstat"):
        try:
            alive += int(task.read_text(encoding="ascii").split()[0])
        except (OSError, ValueError):  # it ends just now, or a kernel without statistics
            continue
    return max(0.0, time.process_time() - alive / 1e9) if alive else 0.0


class Begun:
    """Threads that foreign code began and left behind when its call returned."""

    def __init__(self, before: Iterable[int]) -> None:
        """``before``: what was ``running`` when the call began."""
        self._since = time.perf_counter()
        self._cpu: Mapping[int, float] = {
            thread: taken
            for thread in running() - set(before)
            if (taken := cpu_of(thread)) is not None
        }
        # Reading the threads of the whole process takes longer than all else here: only where there are any.
        self._dead = cpu_of_the_dead() if self._cpu else 0.0

    def __bool__(self) -> bool:
        return bool(self._cpu)

    def at_work(self) -> str | None:
        """Which of them computes on although its call has returned, and how much; None: they are idle."""
        allowed = IDLE_S + IDLE_SHARE * (time.perf_counter() - self._since)
        gone = False
        for thread, before in self._cpu.items():
            now = cpu_of(thread)
            if now is None:
                gone = True
            elif now - before > allowed:
                return f"{name_of(thread)} computing for {now - before:.3f} s after it returned"
        if gone and (dead := cpu_of_the_dead() - self._dead - sum(self._cpu.values())) > allowed:
            return f"a thread computing for {dead:.3f} s after it returned"
        return None

    def watch(self) -> str | None:
        """``at_work`` after a moment in which the caller does nothing."""
        if not self:
            return None
        time.sleep(WATCHED_S)
        return self.at_work()
