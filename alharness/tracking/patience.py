"""What a store may cost: its calls run in a thread of their own and are given up when time is up.

The caller waits for each call, so nothing of the store happens beside a timed selection.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

#: Seconds that a run waits for its store, all calls together.
PATIENCE_S = 10.0


class Patience:
    """A budget of waiting.

    Args:
        seconds: the budget; ``PATIENCE_S`` by default.

    Attributes:
        left: what is left of it.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = self.left = PATIENCE_S if seconds is None else seconds
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def refill(self) -> None:
        """Start again with the whole budget."""
        self.left = self.seconds

    def call(self, action: Callable[[], Result], *, free: float | None = None) -> Result:
        """The result of an action, which must come within the budget.

        Args:
            action: what to call; it goes on by itself when it is given up.
            free: limit of an action that does work of ours rather than wait, outside the budget.

        Raises:
            TimeoutError: it did not come; everything else that the action raises.
        """
        if self._thread is None:
            # A thread of the standard pool would be waited for at the end of the process.
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        done = threading.Event()
        results: list[Result] = []
        errors: list[BaseException] = []

        def act() -> None:
            try:
                results.append(action())
            except BaseException as error:
                errors.append(error)
            finally:
                done.set()

        limit = max(self.left, 0.0) if free is None else free
        began = time.monotonic()
        self._calls.put(act)
        try:
            in_time = done.wait(limit)
        finally:
            if free is None:
                self.left -= time.monotonic() - began
        if not in_time:
            raise TimeoutError(f"no answer within {self.seconds if free is None else free:.0f} s")
        if errors:
            raise errors[0]
        return results[0]

    def _work(self) -> None:
        while True:
            self._calls.get()()
