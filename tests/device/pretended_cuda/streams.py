"""``torch.cuda.Stream`` and ``Event``; idle and past at any time where the device has no ``Order``."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pretended_cuda.order import Clock, Order, Queue
from pretended_cuda.state import LOCAL, current_queue, device, recording_here


def _order() -> Order:
    found = device().order
    assert found is not None
    return found


class Stream:
    """``torch.cuda.Stream``."""

    def __init__(self, *_: Any, queue: Queue | None = None, **__: Any) -> None:
        self.queue = queue
        if queue is None and device().order is not None:
            self.queue = _order().queue()
        self.cuda_stream = self.queue.number if self.queue is not None else 0

    def wait_stream(self, other: Stream) -> None:
        self.wait_event(other.record_event())

    def wait_event(self, event: Event) -> None:
        if self.queue is not None and event.queue is not None:
            _order().wait(self.queue, event.queue, event.n, event.clock)

    def synchronize(self) -> None:
        if self.queue is not None:
            _order().host_waits(self.queue)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def query(self) -> bool:
        return self.queue is None or _done(self.queue, self.queue.n_added)

    def is_capturing(self) -> bool:
        return recording_here() is not None

    def __enter__(self) -> Stream:
        LOCAL.queues.append(self.queue)
        return self

    def __exit__(self, *_: Any) -> None:
        LOCAL.queues.pop()


class Event:
    """``torch.cuda.Event``; one that was never recorded has happened."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.at = time.perf_counter()
        self.queue: Queue | None = None
        self.n, self.clock = 0, Clock()

    def record(self, stream: Stream | None = None) -> None:
        self.at = time.perf_counter()
        self.queue = stream.queue if stream is not None else current_queue()
        if self.queue is not None:
            self.n, self.clock = self.queue.n_added, dict(self.queue.clock)

    def wait(self, stream: Stream | None = None) -> None:
        (stream or current_stream()).wait_event(self)

    def synchronize(self) -> None:
        if self.queue is not None:
            _order().host_waits(self.queue, self.n, self.clock)

    def query(self) -> bool:
        return self.queue is None or _done(self.queue, self.n)

    def elapsed_time(self, other: Event) -> float:
        return (other.at - self.at) * 1e3


def _done(queue: Queue, n: int) -> bool:
    """Whether so many launches are done; if not, one more is: whoever asks again and again sees it end."""
    if queue.n_done >= n:
        return True
    _order().run(queue, queue.n_done + 1)
    return False


def current_stream(*_: Any) -> Stream:
    return Stream(queue=current_queue())


def default_stream(*_: Any) -> Stream:
    return Stream(queue=device().queue)


def entered(stream: Stream | None) -> AbstractContextManager[Any]:
    """``torch.cuda.stream``."""
    return nullcontext() if stream is None else stream
