"""Pinned host memory: what a GPU reads by itself while the host goes on with other work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alharness.lazily import torch
from alharness.pool.base import StoredPool
from alharness.pool.source import parts_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Bytes of one piece of pinned memory at most: torch rounds each up to a power of two, which makes 137 GB
#: of 100 GB in one piece and wastes less than one item per piece of this size.
PIECE_BYTES = 1 << 30


class Ring:
    """Three host buffers in turn on the way to a GPU: one is filled, one is sent, one waits for its copy.

    A buffer is filled again only when its copy has ended, so that a host which reads faster than the
    GPU computes waits instead of pinning more and more memory. On a CPU there is nothing to send and
    every buffer is new, because callers keep what they get.

    Args:
        device: where items are needed.
        shape: of the largest block, uint8 ``[B, ...]``.
    """

    SLOTS = 3

    def __init__(self, device: torch.device, shape: tuple[int, ...]) -> None:
        self.device, self.shape = device, shape
        self._on_cuda = device.type == "cuda"
        self._slots: list[tuple[torch.Tensor, torch.cuda.Event]] = []
        self._taken = self._sent = 0

    def take(self, n: int) -> torch.Tensor:
        """A host buffer for ``n`` items; may be called in another thread than ``send``."""
        if not self._on_cuda:
            return torch.empty((n, *self.shape[1:]), dtype=torch.uint8)
        at = self._taken % self.SLOTS
        if at == len(self._slots):
            self._slots.append(self._slot())
        elif self._taken - self._sent >= self.SLOTS:
            raise RuntimeError("all buffers of the ring are taken and none was sent")
        else:
            self._slots[at][1].synchronize()
        self._taken += 1
        return self._slots[at][0][:n]

    def _slot(self) -> tuple[torch.Tensor, torch.cuda.Event]:
        return torch.empty(self.shape, dtype=torch.uint8, pin_memory=True), torch.cuda.Event()

    def send(self, host: torch.Tensor) -> torch.Tensor:
        """The oldest buffer that was taken, on the device; the host does not wait for the copy."""
        if not self._on_cuda:
            return host
        there = host.to(self.device, non_blocking=True)
        self._slots[self._sent % self.SLOTS][1].record()
        self._sent += 1
        return there


class PinnedPool(StoredPool):
    """A pool of uint8 images in pinned host memory, sent to the GPU block by block.

    Args:
        items: uint8 array ``[N, ...]``; copied, block by block where it is a memory map.
        device: where gathered items arrive.
        pixel_max: the uint8 value that means 1.0.
        fingerprint: digest of the items, if it is known.
    """

    #: Items that span at most so many times their number are sent with what is between them and picked
    #: on the device: a copy of pinned memory runs at the bus's speed, picking on the host does not.
    DENSE = 2

    def __init__(
        self,
        items: NDArray[np.uint8],
        device: torch.device | str,
        *,
        pixel_max: int = 255,
        fingerprint: str | None = None,
    ) -> None:
        super().__init__(
            len(items), items.shape[1:], device,
            residency="host", pixel_max=pixel_max, fingerprint=fingerprint,
        )  # fmt: skip
        self._rows = max(1, PIECE_BYTES // self.item_bytes)
        pinned = self.device.type == "cuda"
        self._pieces = [
            torch.empty(
                (min(self._rows, self.n - start), *self.item_shape),
                dtype=torch.uint8,
                pin_memory=pinned,
            )
            for start in range(0, self.n, self._rows)
        ]
        for start, part in parts_of(items):
            for at, piece in self._overlap(start, start + len(part)):
                piece.copy_(part[at - start : at - start + len(piece)])

    def _overlap(self, start: int, stop: int) -> list[tuple[int, torch.Tensor]]:
        """The pieces of items ``start .. stop-1``, each with the index of its first item."""
        found = []
        while start < stop:
            piece, at = divmod(start, self._rows)
            part = self._pieces[piece][at : at + stop - start]
            found.append((start, part))
            start += len(part)
        return found

    def read_range(self, start: int, stop: int) -> torch.Tensor:
        raw = torch.empty((stop - start, *self.item_shape), dtype=torch.uint8, device=self.device)
        for at, piece in self._overlap(start, stop):
            raw[at - start : at - start + len(piece)].copy_(piece, non_blocking=True)
        return raw

    def read(self, indices: torch.Tensor) -> torch.Tensor:
        if len(indices) == 0:
            return self.read_range(0, 0)
        first, last = int(indices.min()), int(indices.max())
        span = last + 1 - first
        if span <= self.DENSE * len(indices):
            covering = self.read_range(first, last + 1)
            at = indices - first
            if self.device.type == "cuda":
                at = at.pin_memory().to(self.device, non_blocking=True)
            return covering.index_select(0, at)
        step = self.block_size()
        ring = Ring(self.device, (min(step, len(indices)), *self.item_shape))
        return torch.cat([ring.send(self._pick(part, ring)) for part in indices.split(step)])

    def _pick(self, indices: torch.Tensor, ring: Ring) -> torch.Tensor:
        """Items from here and there, gathered on the host."""
        host = ring.take(len(indices))
        of_piece = indices // self._rows
        for piece in of_piece.unique().tolist():
            here = (of_piece == piece).nonzero().squeeze(1)
            host[here] = self._pieces[piece].index_select(0, indices[here] % self._rows)
        return host


def pinned_bytes(n_bytes: int) -> int:
    """Bytes that ``n_bytes`` of a ``PinnedPool`` take, its last piece rounded up."""
    whole, rest = divmod(n_bytes, PIECE_BYTES)
    return whole * PIECE_BYTES + (1 << (rest - 1).bit_length() if rest else 0)
