"""How much of the pretended memory is held, by the storages that device tensors keep alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch


class Memory:
    """Bytes held by device tensors.

    Attributes:
        total: bytes that there are.
        held: bytes that living tensors hold.
        peak: most that was held at a time.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = self.peak = 0
        self._holders: dict[int, int] = {}  # storage -> device tensors that share it

    @property
    def free(self) -> int:
        return self.total - self.held

    def holds(self, inner: torch.Tensor) -> bool:
        """Whether a host tensor is what a device tensor holds."""
        return inner.untyped_storage()._cdata in self._holders

    def hold(
        self,
        tensor: torch.Tensor,
        inner: torch.Tensor,
        released: Callable[[int], None] | None = None,
    ) -> None:
        """``tensor`` shares the storage of ``inner`` as long as it lives; the last one calls ``released``.

        Raises:
            torch.OutOfMemoryError: a new storage does not fit.
        """
        storage = inner.untyped_storage()
        key, n_bytes = storage._cdata, storage.nbytes()
        if key not in self._holders:
            if n_bytes > self.free:
                raise torch.OutOfMemoryError(
                    f"CUDA out of memory. Tried to allocate {n_bytes} bytes. GPU 0 has a total "
                    f"capacity of {self.total} bytes of which {self.free} bytes is free."
                )
            self.held += n_bytes
            self.peak = max(self.peak, self.held)
        self._holders[key] = self._holders.get(key, 0) + 1
        weakref.finalize(tensor, self._release, key, n_bytes, released).atexit = False

    def _release(self, key: int, n_bytes: int, released: Callable[[int], None] | None) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self.held -= n_bytes
            if released is not None:
                released(key)
