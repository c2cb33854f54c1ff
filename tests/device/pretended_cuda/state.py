"""The one pretended device that is installed, and what the threads of a process know of it."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import torch

from pretended_cuda.counts import Counts
from pretended_cuda.memory import Memory
from pretended_cuda.order import Order, Queue

if TYPE_CHECKING:
    from pretended_cuda.graphs import Recording

CUDA = torch.device("cuda", 0)
HOST = torch.device("cpu")


class PretendedDevice:
    """Counts, memory, generator and the capture under way of one pretended device.

    Attributes:
        sync_debug: what a wait for the device is to a program: 0 nothing, 1 a warning, 2 an error.
        is_broken: the capture under way did what is not permitted in it.
        is_poisoned: a capture that was broken has ended, as up to torch 2.11: generator and allocator
            take it for under way for ever.
        order: queues of the streams; None computes at once.
        queue: the default stream's.
        rounds_otherwise: results have other last bits than the host's, as another chip's libraries give.
        is_weightless: tensors have shapes and no values, so that steps of any size can be counted; what the
            host reads is 0.
        breaks_at: the launch that ends in an error which stays (an illegal access); None never.
    """

    def __init__(
        self,
        memory_bytes: int,
        *,
        order: Order | None = None,
        rounds_otherwise: bool = False,
        breaks_at: int | None = None,
        is_weightless: bool = False,
    ) -> None:
        self.is_weightless = is_weightless
        self.counts = Counts()
        self.memory = Memory(memory_bytes)
        self.order = order
        self.queue = order.queue() if order is not None else None
        self.rounds_otherwise, self.breaks_at = rounds_otherwise, breaks_at
        self.recording: Recording | None = None
        self.sync_debug = 0
        self.is_broken = self.is_poisoned = False
        self.rng_state = torch.Generator().manual_seed(0).get_state()  # of the default generator
        self._pinned: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    @contextmanager
    def counting(self) -> Iterator[Counts]:
        """Counts of the ``with`` block; they are complete when it ends."""
        before, found = self.counts.copy(), Counts()
        try:
            yield found
        finally:
            vars(found).update(vars(self.counts.since(before)))

    def pin(self, host: torch.Tensor) -> torch.Tensor:
        """Host memory, marked as pinned as long as its storage lives."""
        storage = host.untyped_storage()
        key = storage._cdata
        self._pinned[key] = weakref.ref(storage, lambda _: self._pinned.pop(key, None))
        return host

    def is_pinned(self, host: torch.Tensor) -> bool:
        return host.untyped_storage()._cdata in self._pinned


class _Local(threading.local):
    """What a thread does.

    Attributes:
        inside: it is inside a function of device tensors: what torch makes in it is theirs.
        queues: of the streams that it has entered.
    """

    def __init__(self) -> None:
        self.inside = False
        self.queues: list[Queue | None] = []


LOCAL = _Local()
_installed: list[PretendedDevice] = []


def device() -> PretendedDevice:
    """The installed device."""
    return _installed[-1]


def current_queue() -> Queue | None:
    """Of the stream that this thread launches on."""
    return LOCAL.queues[-1] if LOCAL.queues else device().queue


def must_work() -> None:
    """An error of the device stays until the process ends.

    Raises:
        RuntimeError: it has come, or comes with this launch; what fails is not counted, so it stays.
    """
    here = device()
    if here.breaks_at is not None and here.counts.launches >= here.breaks_at:
        raise STICKY("CUDA error: an illegal memory access was encountered [pretended CUDA]")


@contextmanager
def installed(new: PretendedDevice) -> Iterator[None]:
    _installed.append(new)
    try:
        yield
    finally:
        _installed.pop()


#: What torch raises for an error of the device (since 2.8 a class of its own).
STICKY: type[RuntimeError] = getattr(torch, "AcceleratorError", RuntimeError)


def held(host: torch.Tensor) -> torch.Tensor:
    """What a device tensor holds that is a copy of a host's."""
    return torch.empty_like(host, device="meta") if device().is_weightless else host.clone()


def refuse(message: str) -> NoReturn:
    """As a device would.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(f"{message} [pretended CUDA]")


def read_by_host(what: str) -> None:
    """The host waits for a device value: counted, and refused inside a capture."""
    not_in_a_capture(what)
    must_work()
    device().counts.read()
    _waits()


def sent_by_host(host: torch.Tensor, non_blocking: bool) -> None:
    """A copy to the device: counted; from pageable memory refused inside a capture."""
    here = device()
    must_work()
    pinned = here.is_pinned(host) and non_blocking
    if not pinned:
        not_in_a_capture("pageable copy")
        _waits()
    here.counts.sent += 1
    here.counts.sent_pageable += not pinned


def present(queue: Queue | None) -> Queue:
    """Of a device with an ``Order``, where every stream has one."""
    assert queue is not None
    return queue


def recording_here() -> Recording | None:
    """The capture under way that records what this thread launches."""
    found = device().recording
    return found if found is not None and found.thread == threading.get_ident() else None


def not_in_a_capture(what: str) -> None:
    """Refuses it inside a capture, which is broken by that; beside one of mode ``global``, too."""
    under_way = device().recording
    if under_way is not None and (recording_here() is not None or under_way.mode == "global"):
        device().is_broken = True
        refuse(f"CUDA error: operation not permitted when stream is capturing ({what})")


def _waits() -> None:
    """The host waits for its stream: refused or warned of by ``torch.cuda.set_sync_debug_mode``."""
    here = device()
    if here.sync_debug == 2:
        refuse("called a synchronizing CUDA operation")
    if here.sync_debug == 1:
        warnings.warn("called a synchronizing CUDA operation", stacklevel=2)
    if here.order is not None:
        here.order.host_waits(present(current_queue()))
