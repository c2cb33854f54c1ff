"""A worker process of the local executor: takes runs from standard input, one line of JSON each.

Answers on the descriptor that standard output was at the start; whatever a library prints goes to
standard error. When the driver goes away the input ends, and the worker ends at once: a killed sweep
leaves no process behind.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any


def main() -> None:
    """Serve until the input ends."""
    # Ctrl-C in the terminal reaches the whole process group; the driver decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")

    last = 0.0

    def progress(
        stage: str, done: int, total: int, notes: Mapping[str, float] | None = None
    ) -> None:
        nonlocal last
        if time.monotonic() - last > 1.0:
            last = time.monotonic()
            answer(kind="progress", text=f"{stage} {done}/{total}")

    from alharness.executors.base import carry_out

    while True:
        reason, details = carry_out(json.loads(lines.get()), progress)
        if reason:
            answer(kind="failed", text=reason, details=details)
        else:
            answer(kind="finished")


if __name__ == "__main__":
    main()
