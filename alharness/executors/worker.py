"""A worker process of the local executor: takes runs from standard input, one line of JSON each.

Its argument says how many it carries out at a time: one after the other, or so many in threads whose
classifiers are trained together (``packed``). Answers on the descriptor that standard output was at the
start; whatever a library prints goes to standard error. When the driver goes away the input ends, and the
worker ends at once: a killed sweep leaves no process behind.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from alharness.progress import Progress


def main(width: int = 1) -> None:
    """Serve until the input ends."""
    # Ctrl-C in the terminal reaches the whole process group; the driver decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    lines: queue.Queue[str] = queue.Queue()
    lock = threading.Lock()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()

    def answer(**values: Any) -> None:
        with lock:
            answers.write(json.dumps(values) + "\n")

    def serve(carry_out: Callable[[Mapping[str, Any], Progress], tuple[str, str]]) -> None:
        while True:
            work = json.loads(lines.get())
            say = partial(answer, index=work["index"])
            reason, details = carry_out(work, _reporting(say))
            if reason:
                say(kind="failed", text=reason, details=details)
            else:
                say(kind="finished")

    if width == 1:
        from alharness.executors.base import carry_out

        serve(carry_out)
    else:
        _serve_packed(width, serve)


def _serve_packed(width: int, serve: Callable[..., None]) -> None:
    """So many threads that serve; the process computes by one arithmetic, whichever run begins or ends."""
    from alharness import numerics
    from alharness.errors import reason_of
    from alharness.executors.base import carry_out
    from alharness.executors.packed import Meeting

    meeting = Meeting()

    def in_turn(work: Mapping[str, Any], progress: Progress) -> tuple[str, str]:
        try:
            with meeting.run():
                return carry_out(work, progress)
        except BaseException as error:  # what ends a process must not end a thread unheard
            return reason_of(error), ""

    with numerics.exact():
        threads = [threading.Thread(target=serve, args=(in_turn,)) for _ in range(width)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _reporting(say: Callable[..., None]) -> Progress:
    """Progress in words, at most once a second."""
    last = 0.0

    def progress(
        stage: str, done: int, total: int, notes: Mapping[str, float] | None = None
    ) -> None:
        nonlocal last
        if time.monotonic() - last > 1.0:
            last = time.monotonic()
            say(kind="progress", text=f"{stage} {done}/{total}")

    return progress


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
