"""Pools whose items are stored: in memory (``ArrayPool``), or in their file (``StreamedPool``)."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.lazily import torch
from alharness.pool.base import StoredPool
from alharness.pool.pinned import Ring
from alharness.pool.source import file_extent, parts_of, read_fully

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ArrayPool(StoredPool):
    """A pool that fits in memory: uint8 images or float32 rows, on the device or on the host.

    Args:
        items: uint8 or float32 array ``[N, ...]``; taken as it is, not copied on the CPU
            (but for a read-only memory map, which is read into memory).
        device: where gathered items arrive.
        pixel_max: the uint8 value that means 1.0 (255; 16 for scikit-learn's digits).
        residency: ``device`` keeps the raw items there; ``host`` sends each block over (``PinnedPool``
            does that faster, for images).
        may_be_empty: whether there need be no item, as in the place of a test set.
    """

    def __init__(
        self,
        items: NDArray[Any] | torch.Tensor,
        device: torch.device | str = "cpu",
        *,
        pixel_max: int = 255,
        residency: str = "device",
        fingerprint: str | None = None,
        may_be_empty: bool = False,
    ) -> None:
        if isinstance(items, np.ndarray) and not items.flags.writeable:
            items = _resident(items, torch.device(device), residency)
        raw = torch.as_tensor(items)
        if raw.dtype not in (torch.uint8, torch.float32):
            raise UserError(
                f"A pool holds uint8 images or float32 rows; got {raw.dtype}. Convert the items."
            )
        if raw.ndim < 2 or (len(raw) == 0 and not may_be_empty):
            raise UserError(
                f"A pool needs items along its first axis; got shape {tuple(raw.shape)}."
            )
        super().__init__(
            len(raw), raw.shape[1:], device,
            residency=residency, pixel_max=pixel_max, fingerprint=fingerprint,
        )  # fmt: skip
        if residency == "device":
            raw = raw.to(self.device)
        elif self.device.type == "cuda" and not raw.is_pinned():
            raw = raw.pin_memory()
        self._raw = raw

    @property
    def item_bytes(self) -> int:
        return self.values_per_item * self._raw.element_size()

    def read(self, indices: torch.Tensor) -> torch.Tensor:
        # Ten times the speed of self._raw[indices]: whole rows are copied, not single bytes.
        there = indices.to(self._raw.device, non_blocking=True)
        picked = self._raw.index_select(0, there)
        return picked.to(self.device, non_blocking=True)

    def read_range(self, start: int, stop: int) -> torch.Tensor:
        return self._raw[start:stop].to(self.device, non_blocking=True)

    def blocks(
        self, indices: torch.Tensor | None = None, block_size: int | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        # Once for all blocks: from memory that is not pinned the host would wait for each block's copy.
        if indices is not None and self._raw.is_cuda:
            indices = indices.pin_memory()
        return super().blocks(indices, block_size)


def _resident(items: NDArray[Any], device: torch.device, residency: str) -> torch.Tensor:
    """Read-only items, moved block by block to where they shall live: there is no second copy."""
    where = device if residency == "device" else torch.device("cpu")
    resident = torch.empty(
        items.shape, dtype=torch.from_numpy(np.empty(0, items.dtype)).dtype, device=where
    )
    for start, part in parts_of(items):
        resident[start : start + len(part)] = part
    return resident


class StreamedPool(StoredPool):
    """A pool of uint8 images that stays in its file: blocks are read, not mapped.

    Pages of a memory map count as this process's memory for as long as the system likes to keep
    them; reading into a block of our own keeps the peak at a few blocks whatever the pool's size.
    A pass reads block k+1 in a thread while the caller works on block k.

    Args:
        items: a read-only memory map ``[N, ...]`` (or a slice of one along its first axis): says
            which bytes of which file.
        device: where gathered items arrive; blocks pass through pinned memory on the way to a GPU.
        pixel_max: the uint8 value that means 1.0.
        block_values: numbers per block of a pass; by default as for a pool in memory.
        fingerprint: digest of the items, known from the conversion; reading them all is costly.
    """

    #: Wanted items that lie closer than this in the file are read in one go, with what is between.
    GAP_BYTES = 1 << 16

    def __init__(
        self,
        items: NDArray[np.uint8],
        device: torch.device | str = "cpu",
        *,
        pixel_max: int = 255,
        block_values: int | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self._path, self._offset = file_extent(items)
        super().__init__(
            len(items), items.shape[1:], device,
            residency="memmap", pixel_max=pixel_max, fingerprint=fingerprint,
        )  # fmt: skip
        if block_values is not None:
            self.limit_blocks(max(1, block_values // self.values_per_item))

    def read(self, indices: torch.Tensor) -> torch.Tensor:
        step = self.block_size() if self.device.type == "cuda" else max(1, len(indices))
        ring = Ring(self.device, (min(step, len(indices)), *self.item_shape))
        sent = [ring.send(self._read_host(part, ring)) for part in indices.split(step)]
        return sent[0] if len(sent) == 1 else torch.cat(sent)

    def read_range(self, start: int, stop: int) -> torch.Tensor:
        return self.read(torch.arange(start, stop))

    def blocks(
        self, indices: torch.Tensor | None = None, block_size: int | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        step = block_size or self.block_size()
        if indices is not None:
            self._check(indices)
        n = self.n if indices is None else len(indices)

        ring = Ring(self.device, (min(step, n), *self.item_shape))

        def block(start: int) -> tuple[torch.Tensor, torch.Tensor]:
            stop = min(start + step, n)
            part = torch.arange(start, stop) if indices is None else indices[start:stop]
            return part, self._read_host(part, ring)

        for part, host in _read_ahead(block, range(0, n, step)):
            yield part, self.to_float(ring.send(host))

    def _read_into(self, file: io.RawIOBase, start: int, block: torch.Tensor) -> None:
        """Fill a block with consecutive items."""
        file.seek(self._offset + start * self.item_bytes)
        read_fully(file, block.numpy(), self._path)

    def _read_host(self, indices: torch.Tensor, ring: Ring) -> torch.Tensor:
        """Items in the order of ``indices``; the file is read in its own order, in long runs."""
        block = ring.take(len(indices))
        with self._path.open("rb", buffering=0) as file:
            if len(indices) and bool((torch.diff(indices) == 1).all()):  # nothing to sort or pick
                self._read_into(file, int(indices[0]), block)
                return block
            wanted, order = torch.sort(indices)
            gap = max(1, self.GAP_BYTES // self.item_bytes)
            longest = self.block_size()  # a run is a buffer: no longer than a block
            apart = (torch.diff(wanted) > gap) | (torch.diff(wanted // longest) > 0)
            starts = [0, *(apart.nonzero().squeeze(1) + 1).tolist(), len(wanted)]
            for begin, end in itertools.pairwise(starts):
                if begin == end:  # no items at all
                    continue
                first, last = int(wanted[begin]), int(wanted[end - 1])
                run = torch.empty((last - first + 1, *self.item_shape), dtype=torch.uint8)
                self._read_into(file, first, run)
                block[order[begin:end]] = run[wanted[begin:end] - first]
        return block


def _read_ahead(
    read: Callable[[int], tuple[torch.Tensor, torch.Tensor]], starts: Iterable[int]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """``read(start)`` in order; the next one runs in a thread while the caller works on this one."""
    with ThreadPoolExecutor(1, "alharness-read-ahead") as executor:
        following: Future[tuple[torch.Tensor, torch.Tensor]] | None = None
        for start in starts:
            current, following = following, executor.submit(read, start)
            if current is not None:
                yield current.result()
        if following is not None:
            yield following.result()
