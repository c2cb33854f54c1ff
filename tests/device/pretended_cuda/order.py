"""The order of a device: a queue per stream that is run as late as it may, and who has waited for whom.

Without an ``Order`` the pretended device computes at once, so that a wait that is missing in the program
changes nothing. With one, what is launched stays in its stream's queue until a wait, an event or a read of
the host demands it, or, with a seed, until chance runs it: every interleaving is one that CUDA may choose.

A program with a missing wait is found three times. Its accesses are compared by vector clocks as
they are launched, whatever the interleaving (``torch.cuda._sanitizer`` does that on a card). Memory that
nothing has been written to yet holds ``GARBAGE``, so that figures go wrong. And pinned memory is compared
by checksum when its copy runs: NumPy writes past all of torch's hooks.

Not modelled: the host clock is one for all threads (what one has waited for counts for the others, whose
futures and locks torch does not see), and disjoint parts of a storage are one.
"""

from __future__ import annotations

import random
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch.utils._python_dispatch import _disable_current_modes

#: What memory holds that has not been written: no number that a computation gives by chance, and one that
#: no operation refuses; whole numbers are 0, so that an index stays inside.
GARBAGE = 0.7734
#: A launch waits for the device when so many are in the queue (CUDA's holds about as many).
MOST_WAITING = 1000

Clock = dict[int, int]


class RaceError(RuntimeError):
    """Two accesses to one memory that no wait puts in order."""


@dataclass(frozen=True)
class Point:
    """A launch: the stream's number, and which of its launches."""

    stream: int
    n: int
    what: str

    def is_before(self, clock: Clock) -> bool:
        return clock.get(self.stream, 0) >= self.n


@dataclass
class Accesses:
    """The last write to a storage and what has read it since."""

    home: int
    write: Point | None = None
    reads: list[Point] = field(default_factory=list)

    def others(self, *, writes: bool) -> Iterator[Point]:
        """Accesses that must be over before the next one."""
        if self.write is not None:
            yield self.write
        if writes:
            yield from self.reads


@dataclass
class Entry:
    """Work of a queue, and what of other queues must be done before."""

    work: Callable[[], None] | None
    needs: tuple[tuple[Queue, int], ...] = ()


class Queue:
    """The work of one stream, in its order."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.n_added = self.n_done = 0
        self.waiting: deque[Entry] = deque()
        self.clock: Clock = {}
        self.freed: list[Point] = []  # uses by other streams of memory that went back to this one

    def add(self, entry: Entry) -> int:
        self.waiting.append(entry)
        self.n_added += 1
        self.clock[self.number] = self.n_added
        return self.n_added


class Order:
    """Queues of a device.

    Args:
        seed: of the interleaving; None runs everything as late as possible.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._chance = random.Random(seed) if seed is not None else None
        self.lock = threading.RLock()
        self._queues: list[Queue] = []
        self._host: Clock = {}
        self._known: dict[int, Accesses] = {}
        self.n_checked = self.n_late = 0  # copies of pinned memory; work that ran after its launch

    def queue(self) -> Queue:
        """A new stream's."""
        with self.lock:
            self._queues.append(Queue(len(self._queues)))
            return self._queues[-1]

    # Launches ----------------------------------------------------------------------------------

    def launch(
        self,
        queue: Queue,
        what: str,
        work: Callable[[], None],
        reads: Iterable[torch.Tensor],
        writes: Iterable[torch.Tensor],
    ) -> None:
        """Add work to a queue.

        Raises:
            RaceError: it touches memory of another stream that this one has not waited for.
        """
        with self.lock:
            _merge(queue.clock, self._host)
            point = Point(queue.number, queue.n_added + 1, what)
            self._access(point, reads, queue.clock, writes=False)
            self._access(point, writes, queue.clock, writes=True)
            queue.add(Entry(work))
            if len(queue.waiting) > MOST_WAITING:
                self.run(queue, queue.n_done + 1)
            while self._chance is not None and self._chance.random() < 0.5:
                self._run_any()

    def _access(
        self, point: Point, tensors: Iterable[torch.Tensor], clock: Clock, *, writes: bool
    ) -> None:
        for tensor in tensors:
            known = self._known.setdefault(_key(tensor), Accesses(point.stream))
            for other in known.others(writes=writes):
                if other.stream != point.stream and not other.is_before(clock):
                    raise RaceError(
                        f"stream {point.stream} ({point.what}) does not wait for stream {other.stream} "
                        f"({other.what}), which touches the same memory [pretended CUDA]"
                    )
            if writes:
                known.write, known.reads = point, []
            else:
                known.reads.append(point)

    def touched_by_host(self, tensor: torch.Tensor, what: str, *, writes: bool) -> None:
        """The host reads or writes memory, of the device or pinned.

        Raises:
            RaceError: the host has not waited for what the device does with it.
        """
        with self.lock:
            known = self._known.get(_key(tensor))
            for other in known.others(writes=writes) if known is not None else ():
                if not other.is_before(self._host):
                    raise RaceError(
                        f"the host ({what}) does not wait for stream {other.stream} ({other.what}), which "
                        "touches the same memory [pretended CUDA]"
                    )

    # Memory ------------------------------------------------------------------------------------

    def allocated(self, queue: Queue, tensor: torch.Tensor) -> None:
        """New memory of a stream: what other streams did with memory that went back to it must be over.

        Raises:
            RaceError: memory was given back while another stream used it.
        """
        with self.lock:
            freed, queue.freed = queue.freed, []
            _merge(queue.clock, self._host)
            for point in freed:
                if not point.is_before(queue.clock):
                    raise RaceError(
                        f"memory went back to stream {queue.number} while stream {point.stream} "
                        f"({point.what}) used it: wait for that first [pretended CUDA]"
                    )
            self._known.setdefault(_key(tensor), Accesses(queue.number))

    def released(self, key: int) -> None:
        """The last tensor of a storage is gone."""
        with self.lock:
            known = self._known.pop(key, None)
            if known is not None:
                foreign = [p for p in known.others(writes=True) if p.stream != known.home]
                self._queues[known.home].freed += foreign

    # Waits -------------------------------------------------------------------------------------

    def wait(self, queue: Queue, other: Queue, n: int, clock: Clock) -> None:
        """A stream goes on when another one has done its first ``n`` launches."""
        with self.lock:
            _merge(queue.clock, clock)
            queue.add(Entry(None, ((other, n),)))

    def host_waits(self, queue: Queue, n: int | None = None, clock: Clock | None = None) -> None:
        """The host goes on when a stream has done its first ``n`` launches, by default all."""
        with self.lock:
            self.run(queue, queue.n_added if n is None else n)
            _merge(self._host, queue.clock if clock is None else clock)

    def host_waits_for_all(self) -> None:
        for queue in list(self._queues):
            self.host_waits(queue)

    def run(self, queue: Queue, n: int) -> None:
        """The first ``n`` launches of a queue, and what they wait for."""
        while queue.n_done < n:
            entry = queue.waiting.popleft()
            for other, needed in entry.needs:
                self.run(other, needed)
            queue.n_done += 1
            if entry.work is not None:
                self.n_late += 1
                with on_host():
                    entry.work()

    def _run_any(self) -> None:
        """One launch that nothing holds back, of a queue drawn by chance."""
        assert self._chance is not None
        ready = [
            queue
            for queue in self._queues
            if queue.waiting
            and all(other.n_done >= n for other, n in queue.waiting[0].needs)
        ]  # fmt: skip
        if ready:
            queue = self._chance.choice(ready)
            self.run(queue, queue.n_done + 1)

    # Pinned memory -----------------------------------------------------------------------------

    def unchanged(self, host: torch.Tensor) -> Callable[[], None]:
        """Checks, when the copy runs, that pinned memory is what it was at the launch.

        Raises:
            RaceError (the check): it was written meanwhile.
        """
        before = checksum(host)

        def check() -> None:
            self.n_checked += 1
            if checksum(host) != before:
                raise RaceError(
                    "pinned memory was written while its copy was under way [pretended CUDA]"
                )

        return check


@contextmanager
def on_host() -> Iterator[None]:
    """Computes as torch does without a device, and without gradients."""
    with torch.no_grad(), torch._C.DisableTorchFunction(), _disable_current_modes():
        yield


def checksum(host: torch.Tensor) -> int:
    with on_host():
        return zlib.crc32(host.detach().contiguous().view(torch.uint8).numpy().tobytes())


def garbled(tensor: torch.Tensor) -> torch.Tensor:
    """Memory that is not written yet."""
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
        return tensor.fill_(GARBAGE)
    return tensor.zero_()


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _merge(into: Clock, other: Clock) -> None:
    for number, n in other.items():
        into[number] = max(into.get(number, 0), n)
