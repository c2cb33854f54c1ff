"""Honest time and exact work: named phases with a device synchronise at each border, and counters.

Seconds vary with the machine, work does not: a claim about complexity is checked on the counters
first and on the clock second.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
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


def synchronise(device: torch.device | str) -> None:
    """Wait for the device's queue to run empty, so that the host clock says what was really done."""
    if str(device).startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


class Stopwatch:
    """Seconds per named phase. A nested phase's time is its own, not its parent's.

    Phases therefore add up: ``sum(seconds.values())`` is the time spent inside any phase. The
    harness opens one phase around ``select``; what a strategy leaves unnamed stays there. What the
    harness does on a strategy's behalf stands apart, whatever a strategy calls its phases.

    Attributes:
        seconds: by phase, as far as phases have ended.
        apart: seconds that belong to the harness, by its own names.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.apart: dict[str, float] = {}
        self._open: list[tuple[dict[str, float], str]] = []
        self._since = 0.0

    def _border(self) -> None:
        synchronise(self.device)
        now = time.perf_counter()
        if self._open:
            account, name = self._open[-1]
            account[name] = account.get(name, 0.0) + now - self._since
        self._since = now

    @contextmanager
    def _inside(self, account: dict[str, float], name: str) -> Iterator[None]:
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
        return self._inside(self.seconds, name)

    def aside(self, name: str = "bookkeeping") -> AbstractContextManager[None]:
        """Attribute the time inside the ``with`` block to the harness. For the harness alone."""
        return self._inside(self.apart, name)


class WorkCounters:
    """Exact counts of work done, by name (see ``WORK``)."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, name: str, n: int) -> None:
        """Count ``n`` more of ``name``.

        Raises:
            ValueError: work that was not done, or not in whole units.
        """
        if int(n) != n or n < 0:
            raise ValueError(f"work is counted in whole units, none of them negative; found {n!r}")
        self.counts[name] = self.counts.get(name, 0) + int(n)
