"""What makes a device slow and needs no clock to see: launches, host reads, copies, graphs."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import FrameType


@dataclass
class Counts:
    """Exact counts since they were begun.

    Attributes:
        launches: kernels started one by one by the host; views and replayed kernels are not among them.
        host_reads: times that the host waits for a value: ``item``, ``tolist``, ``bool``, ``cpu``,
            ``nonzero`` and all whose shape depends on values.
        sent: copies from the host to the device.
        sent_pageable: those of them from memory that is not pinned, which the host waits for.
        synchronisations: calls of ``torch.cuda.synchronize``.
        captures, replays: graphs recorded, and replayed.
        slow_convolutions: dilated convolutions under deterministic cuDNN, which does not have them.
        reads_at: the innermost lines outside torch that the host reads come from, for messages.
    """

    launches: int = 0
    host_reads: int = 0
    sent: int = 0
    sent_pageable: int = 0
    synchronisations: int = 0
    captures: int = 0
    replays: int = 0
    slow_convolutions: int = 0
    reads_at: Counter[str] = field(default_factory=Counter)

    def read(self) -> None:
        """One more host read, from wherever this is called."""
        self.host_reads += 1
        self.reads_at[_caller()] += 1

    def since(self, before: Counts) -> Counts:
        """What has been counted since ``before``."""
        found = Counts()
        for entry in fields(self):
            mine, theirs = getattr(self, entry.name), getattr(before, entry.name)
            setattr(found, entry.name, mine - theirs)  # a Counter keeps what is positive
        return found

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        sums = {e.name: getattr(self, e.name) + getattr(other, e.name) for e in fields(self)}
        return Counts(**sums)

    def copy(self) -> Counts:
        """The same counts, not counting on."""
        return self.since(Counts())


#: Frames that are machinery and not the line that asked.
MACHINERY = ("torch", Path(__file__).parent.name, "contextlib.py")


def _caller() -> str:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if not any(part in MACHINERY for part in path.parts):
            return f"{path.parent.name}/{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"
