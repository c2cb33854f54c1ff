"""The one pretended device that is installed, and what the threads of a process know of it."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from pretended_cuda.counts import Counts
from pretended_cuda.memory import Memory

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
    """

    def __init__(self, memory_bytes: int) -> None:
        self.counts = Counts()
        self.memory = Memory(memory_bytes)
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
    """Whether this thread is inside a function of device tensors: what torch makes in it is theirs."""

    inside = False


LOCAL = _Local()
_installed: list[PretendedDevice] = []


def device() -> PretendedDevice:
    """The installed device."""
    return _installed[-1]


@contextmanager
def installed(new: PretendedDevice) -> Iterator[None]:
    _installed.append(new)
    try:
        yield
    finally:
        _installed.pop()


def refuse(message: str) -> None:
    """As a device would.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(f"{message} [pretended CUDA]")


def read_by_host(what: str) -> None:
    """The host waits for a device value: counted, and refused inside a capture."""
    not_in_a_capture(what)
    device().counts.read()
    _waits()


def sent_by_host(host: torch.Tensor, non_blocking: bool) -> None:
    """A copy to the device: counted; from pageable memory refused inside a capture."""
    here = device()
    pinned = here.is_pinned(host) and non_blocking
    if not pinned:
        not_in_a_capture("pageable copy")
        _waits()
    here.counts.sent += 1
    here.counts.sent_pageable += not pinned


def not_in_a_capture(what: str) -> None:
    """Refuses it inside a capture, which is broken by that."""
    if device().recording is not None:
        device().is_broken = True
        refuse(f"CUDA error: operation not permitted when stream is capturing ({what})")


def _waits() -> None:
    """``torch.cuda.set_sync_debug_mode``."""
    if device().sync_debug == 2:
        refuse("called a synchronizing CUDA operation")
    if device().sync_debug == 1:
        warnings.warn("called a synchronizing CUDA operation", stacklevel=2)
