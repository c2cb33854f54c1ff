"""What a notebook shows while a cell runs: one line that is written over, with the time left.

Only in a notebook: there nothing else shows that a call of minutes is alive. A script has the logger
``alharness``, and a terminal the commands. Nothing of IPython is imported by us: who runs in a notebook has
imported it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

#: Seconds between two writings: a notebook keeps every one of them in its socket until it is shown.
EVERY_S = 0.5


class CellLine:
    """One line below a running cell; also the ``progress`` of long work."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None
        self._said = 0.0
        self._since: dict[str, tuple[float, int]] = {}

    def __call__(
        self, stage: str, done: int, total: int, notes: Mapping[str, float] | None = None
    ) -> None:
        """How far something is, with the time left at the pace since it began."""
        now = time.monotonic()
        begun, first = self._since.setdefault(stage, (now, done))
        left = ""
        if done > first and done < total and now > begun:
            seconds = (now - begun) * (total - done) / (done - first)
            told = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
            left = f", about {told} left"
        more = "".join(f", {name} {value:.4g}" for name, value in (notes or {}).items())
        self.say(f"{stage}: {done} of {total}{more}{left}", now=now)

    def say(self, text: str, *, always: bool = False, now: float | None = None) -> None:
        """Write the line anew, twice a second at most."""
        now = time.monotonic() if now is None else now
        if not always and now - self._said < EVERY_S:
            return
        self._said = now
        shown = {"text/plain": text}
        if self._handle is None:
            self._handle = self._display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


class NoLine(CellLine):
    """Outside of a notebook: nothing is shown."""

    def __init__(self) -> None:
        super().__init__(None)

    def say(self, text: str, *, always: bool = False, now: float | None = None) -> None:
        pass


def cell_line() -> CellLine:
    """The line of the cell that runs; one that shows nothing outside of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    # A kernel has a front end that can write a line over; IPython in a terminal would print each below.
    if shell is None or not hasattr(shell, "kernel"):
        return NoLine()
    from IPython.display import display

    return CellLine(display)
