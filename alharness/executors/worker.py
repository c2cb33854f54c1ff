"""A worker process of the local executor: takes runs from standard input, one line of JSON each.

Answers on the descriptor that standard output was at the start; whatever a library prints goes to standard
error. When the driver goes away the input ends, and the worker ends at once: a killed sweep leaves no process
behind.

Importing torch takes seconds. ``--nursery FD`` imports once, runs nothing, and forks itself into workers
as it is asked to over a socket: n workers start for little more than the price of one.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from alharness.progress import Progress


def main() -> None:
    """Serve until the input ends."""
    # Ctrl-C in the terminal reaches the whole process group; the driver decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        # In a thread of its own: the end of the input ends the process in the middle of a run.
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")

    from alharness.executors.base import carry_out

    while True:
        work = json.loads(lines.get())
        say = partial(answer, index=work["index"])
        reason, details = carry_out(work, _reporting(say))
        if reason:
            say(kind="failed", text=reason, details=details)
        else:
            say(kind="finished")


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


def nursery(channel: socket.socket) -> None:
    """Import what runs need; then fork a worker per request, until the driver goes away.

    A request is one message of JSON: ``{"fork": NUMBER}`` with the three descriptors that the
    worker gets as its standard ones; ``{"wait": NUMBER}`` or ``{"kill": NUMBER}``, which are answered with
    the exit code. Workers stay unreaped until they are asked after, so that no other process takes their
    number meanwhile.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in NEEDED:  # nothing is computed: threads and devices do not survive a fork
        importlib.import_module(module)
    gc.freeze()  # a collection in a worker would copy the pages of all that was imported
    channel.send(b"ready")
    pids: dict[int, int] = {}
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, 1 << 12, 3)
        if not message:
            return
        request = json.loads(message)
        if "fork" in request:
            pid = os.fork()
            if pid == 0:
                channel.close()
                _become_worker(descriptors)
            pids[request["fork"]] = pid
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        (asked, number), *_ = request.items()
        if asked == "kill":
            os.kill(pids[number], signal.SIGKILL)
        _, status = os.waitpid(pids.pop(number), 0)
        channel.send(str(os.waitstatus_to_exitcode(status)).encode())


#: What runs import: all of them the first, torch's first optimiser the second.
NEEDED = ("alharness.engine.runner", "torch._dynamo")


def _become_worker(descriptors: Sequence[int]) -> NoReturn:
    """In the child: serve, and end without going back into the nursery's loop."""
    code = 1
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    # Started with -P: a plug-in's modules in the working folder are found, but behind what is installed.
    # In front of it a folder 'alharness' (a clone) or a file 'random.py' would take a library's place.
    sys.path.append(str(Path.cwd()))
    if sys.argv[1:2] == ["--nursery"]:
        nursery(socket.socket(fileno=int(sys.argv[2])))
    else:
        main()
