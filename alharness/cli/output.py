"""Standard output and error as they may be: closed, on a full disk, or with a reader that went away.

What is shown is no result of a run. So a command whose output fails goes on without it, and its exit code
stays its own; only output that is lost for another reason than ``| head`` is told where it still can be.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, TextIO

#: Errors by which a reader says that it has seen enough, or that its terminal is gone.
READER_GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ECONNRESET)


class Output:
    """A stream that stops writing when it fails; all else is the stream's own.

    Attributes:
        failure: why it stopped; None while it writes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._attempt(lambda: self._stream.write(text)) or 0

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, act: Any) -> Any:
        try:
            return act()
        except OSError as error:
            self.failure = error
            # What is buffered goes where nothing is lost, now and when the process ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            return None


def open_descriptors() -> None:
    """Give each of the three standard descriptors that is closed to the null device.

    Otherwise the next file that is opened, a run's records for one, would be standard output to every
    library and child process.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # so Python says that it was closed
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        # In place of the stream itself: what libraries print must not raise either.
        setattr(sys, name, Output(getattr(sys, name)))


def lost() -> str:
    """Why standard output was lost, in words; empty where it was not, or nobody wanted it any more."""
    stream = sys.stdout
    if not isinstance(stream, Output):
        return ""
    stream.flush()
    failure = stream.failure
    if failure is None or failure.errno in READER_GONE:
        return ""
    return failure.strerror or str(failure)
