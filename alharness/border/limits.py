"""An end to a selection that takes too long, in three steps.

1. An alarm raises in the main thread, and again each second. It ends all Python that lets it.
2. What catches it, masks it, or sits in native code is ended from outside after ``GRACE_S`` more: a second
   process, started once, ends this one. Records are on the disk by then. Only a process that is ours to end
   is: the command line's, and a sweep's workers (``own_process``).
3. In anybody else's process (a notebook, a script, a test) a thread raises in the one that selects, as far
   as Python lets it, and says on stderr which call it could not end.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from alharness.border.author import Author
from alharness.errors import place_of

#: Seconds after the limit at which the harder way is taken.
GRACE_S = 2.0

_is_ours = False


def own_process() -> None:
    """Say that this process may be ended together with a selection: nobody else's work is in it."""
    global _is_ours
    _is_ours = True


class _OutOfTime(BaseException):
    """Raised into a plug-in; not an Exception, which a plug-in may catch for reasons of its own."""


@contextmanager
def time_limit(seconds: float, author: Author, cycle: int) -> Iterator[None]:
    """End the block after so many seconds; 0 is no limit.

    Raises:
        PluginError: out of time.
    """
    if seconds <= 0:
        yield
        return
    late = (
        f"The {author.kind} '{author.name}' did not answer within {seconds:g} s (--select-timeout)"
    )
    late += f" in select of cycle {cycle}"
    # Windows has neither alarms nor SIGKILL: there a thread does what can be done.
    can_end = _is_ours and hasattr(signal, "SIGKILL")
    harder = _process_ended if can_end else _raised_beside
    try:
        with harder(seconds, late), _alarm(seconds):
            yield
    except _OutOfTime as error:
        refuse_late(seconds, author, cycle, place_of(error, author.home))


def refuse_late(seconds: float, author: Author, cycle: int, place: str = "") -> NoReturn:
    """Say that a strategy did not answer in time."""
    author.refuse(f"a query within {seconds:g} s (--select-timeout)", f"none{place}", cycle=cycle)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise in the block by SIGALRM, which the main thread alone can have."""
    is_main = threading.current_thread() is threading.main_thread()
    if not _has_alarm() or not is_main:
        yield
        return

    def ring(number: int, frame: FrameType | None) -> NoReturn:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, should a plug-in swallow the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _has_alarm() -> bool:
    """Whether this system can wake the main thread by a signal; Windows cannot."""
    return hasattr(signal, "SIGALRM") and hasattr(signal, "setitimer")


#: The second process: waits for the last line on its stdin, ``SECONDS TEXT``, to run out; 0 waits for ever.
#: It imports nothing that takes time, and ends with the pipe, which is closed when the first process ends.
_WATCHDOG = """
import os, select, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
wait, text = None, b""
while True:
    ready = select.select([0], [], [], wait)[0]
    if not ready:
        os.write(2, text + b"\\n")
        os.kill(int(sys.argv[1]), signal.SIGKILL)
        break
    lines = os.read(0, 65536).splitlines()
    if not lines:
        break
    seconds, _, text = lines[-1].partition(b" ")
    wait = float(seconds) or None
"""

_watchdogs: dict[
    int, subprocess.Popen[bytes]
] = {}  # by the process that started it: a fork has none


@contextmanager
def _process_ended(seconds: float, late: str) -> Iterator[None]:
    """End this process when the block has not ended in time, whatever it does."""
    pid = os.getpid()
    if pid not in _watchdogs:
        command = [sys.executable, "-I", "-S", "-c", _WATCHDOG, str(pid)]
        _watchdogs[pid] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0
        )
    pipe = _watchdogs[pid].stdin
    assert pipe is not None
    text = (
        f"alharness: {late} and cannot be interrupted: it catches what is raised, masks signals, or computes "
        "in native code. The process is ended; all records of complete cycles are safe."
    )
    with suppress(BrokenPipeError):  # somebody ended it: the alarm is left
        pipe.write(f"{seconds + GRACE_S} {text}\n".encode())
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            pipe.write(b"0 \n")


@contextmanager
def _raised_beside(seconds: float, late: str) -> Iterator[None]:
    """Raise in this thread from another one, which says so, when the block has not ended in time."""
    selecting, over = threading.get_ident(), threading.Event()
    can_ring = _has_alarm() and threading.current_thread() is threading.main_thread()

    raised = False

    def watch() -> None:
        nonlocal raised
        if over.wait(seconds + (GRACE_S if can_ring else 0.0)):
            return
        if can_ring:  # the alarm has rung in vain
            sys.stderr.write(
                f"alharness: {late}, and an exception did not end it. It is raised again each second; code "
                "that catches everything, or native code that never returns, is ended by nothing but the end "
                "of this process.\n"
            )
        while True:
            raised = True
            _raise_in(selecting, _OutOfTime)
            if over.wait(1.0):
                return

    watcher = threading.Thread(target=watch, name="alharness select-timeout", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        if raised:
            _let_arrive()


def _raise_in(thread: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def _let_arrive() -> None:
    """One that has not arrived yet arrives here, at a jump back, and not later in somebody else's code.

    Not taken back by ``PyThreadState_SetAsyncExc(thread, NULL)``: CPython 3.11 then interrupts its evaluation
    at each jump for ever, and under a tracer or profiler never goes on.
    """
    with suppress(_OutOfTime):
        for _ in range(8):
            pass
