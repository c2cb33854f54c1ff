"""The pool: all items, fixed for a run, named by their position and by nothing else.

Items are images stored as uint8 ``[C, H, W]`` and handed out as float32 in [0, 1], or rows of
float32 when a strategy moves the problem elsewhere (ADBA's latent codes). Whatever lies behind a
pool, callers see ``gather`` for a few items and ``blocks`` for a pass over many.

Shape letters: N items of the pool, B items of a block, ``...`` the shape of one item.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import math
import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from alharness.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Float values per block of a pass. On the CPU a block's activations should stay near the caches,
#: and blocks of 8 MB and more are given back to the system and faulted in anew each time (measured:
#: a third more CPU time, and worse on a busy machine); on a GPU a block should fill the chip.
BLOCK_VALUES_CPU = 1 << 20
BLOCK_VALUES_CUDA = 1 << 26


class Pool(ABC):
    """Items that can be gathered by pool index.

    Attributes:
        n: number of items N.
        item_shape: shape of one item, ``(C, H, W)`` for images.
        device: where gathered items arrive.
        residency: where the items live: ``device``, ``host``, ``memmap`` or ``virtual``.
    """

    n: int
    item_shape: tuple[int, ...]
    device: torch.device
    residency: str

    def __len__(self) -> int:
        return self.n

    @property
    def values_per_item(self) -> int:
        """Numbers in one item."""
        return math.prod(self.item_shape)

    @property
    @abstractmethod
    def item_bytes(self) -> int:
        """Bytes that reading one item moves."""

    @abstractmethod
    def read(self, indices: torch.Tensor) -> torch.Tensor:
        """Raw items ``[B, ...]`` on the device, in the order of ``indices`` (int64 ``[B]`` on the CPU)."""

    @abstractmethod
    def read_range(self, start: int, stop: int) -> torch.Tensor:
        """Raw items ``start .. stop-1`` on the device: the cheap path of a full pass."""

    @abstractmethod
    def to_float(self, raw: torch.Tensor) -> torch.Tensor:
        """Raw items as float32 (images in [0, 1])."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A digest of the items, for artefacts and protocol fingerprints."""

    def gather(self, indices: torch.Tensor | NDArray[np.int64]) -> torch.Tensor:
        """Items by pool index, float32 ``[B, ...]`` on the device, in the order given.

        Raises:
            IndexError: an index outside 0 .. N-1. Negative indices are not positions from the end.
        """
        index = torch.as_tensor(indices, dtype=torch.int64, device="cpu").reshape(-1)
        self._check(index)
        return self.to_float(self.read(index))

    def _check(self, index: torch.Tensor) -> None:
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= self.n):
            raise IndexError(f"pool indices must lie in 0 .. {self.n - 1}")

    def block_size(self) -> int:
        """Items per block of a pass, chosen from the size of one item and the device."""
        values = BLOCK_VALUES_CUDA if self.device.type == "cuda" else BLOCK_VALUES_CPU
        return max(1, min(self.n, values // max(1, self.values_per_item)))

    def blocks(
        self, indices: torch.Tensor | None = None, block_size: int | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """A pass over all items, or over ``indices`` in the order given.

        Yields:
            pool indices (int64 ``[B]`` on the CPU) and their items (float32 ``[B, ...]`` on the device).
        """
        step = block_size or self.block_size()
        if indices is None:
            for start in range(0, self.n, step):
                stop = min(start + step, self.n)
                yield torch.arange(start, stop), self.to_float(self.read_range(start, stop))
        else:
            for start in range(0, len(indices), step):
                part = indices[start : start + step]
                yield part, self.gather(part)


class ArrayPool(Pool):
    """A pool that fits in memory: uint8 images or float32 rows, on the device or on the host.

    Args:
        items: uint8 or float32 array ``[N, ...]``; taken as it is, not copied on the CPU
            (but for a read-only memory map, which is read into memory).
        device: where gathered items arrive.
        pixel_max: the uint8 value that means 1.0 (255; 16 for scikit-learn's digits).
        residency: ``device`` keeps the raw items there; ``host`` sends each block over.
    """

    def __init__(
        self,
        items: NDArray[Any] | torch.Tensor,
        device: torch.device | str = "cpu",
        *,
        pixel_max: int = 255,
        residency: str = "device",
        fingerprint: str | None = None,
    ) -> None:
        if isinstance(items, np.ndarray) and not items.flags.writeable:
            items = _resident(items, torch.device(device), residency)
        raw = torch.as_tensor(items)
        if raw.dtype not in (torch.uint8, torch.float32):
            raise UserError(
                f"A pool holds uint8 images or float32 rows; got {raw.dtype}. Convert the items."
            )
        if raw.ndim < 2 or len(raw) == 0:
            raise UserError(
                f"A pool needs items along its first axis; got shape {tuple(raw.shape)}."
            )
        self.n = len(raw)
        self.item_shape = tuple(raw.shape[1:])
        self.device = torch.device(device)
        self.residency = residency
        self.pixel_max = pixel_max
        self._fingerprint = fingerprint
        if residency == "device":
            raw = raw.to(self.device)
        elif self.device.type == "cuda" and not raw.is_pinned():
            raw = raw.pin_memory()
        self._raw = raw

    @property
    def item_bytes(self) -> int:
        return self.values_per_item * self._raw.element_size()

    @property
    def fingerprint(self) -> str:
        if self._fingerprint is None:
            self._fingerprint = digest(self._raw.cpu().numpy())
        return self._fingerprint

    def read(self, indices: torch.Tensor) -> torch.Tensor:
        # Ten times the speed of self._raw[indices]: whole rows are copied, not single bytes.
        picked = self._raw.index_select(0, indices.to(self._raw.device))
        return picked.to(self.device, non_blocking=True)

    def read_range(self, start: int, stop: int) -> torch.Tensor:
        return self._raw[start:stop].to(self.device, non_blocking=True)

    def to_float(self, raw: torch.Tensor) -> torch.Tensor:
        if raw.dtype == torch.uint8:
            return raw.float().div_(self.pixel_max)
        return raw


def _resident(items: NDArray[Any], device: torch.device, residency: str) -> torch.Tensor:
    """A read-only memory map, read block by block to where it shall live: there is no second copy."""
    to_device = residency == "device"
    resident = torch.empty(
        items.shape,
        dtype=torch.from_numpy(np.empty(0, items.dtype)).dtype,
        device=device if to_device else "cpu",
        pin_memory=not to_device and device.type == "cuda",
    )
    step = max(1, BLOCK_VALUES_CPU * len(items) // max(1, items.size))
    try:
        path, offset = file_extent(items)
    except UserError:  # read-only, but in memory already
        return torch.from_numpy(np.array(items)).to(resident.device)
    # Read, not copied from the map: mapped pages would count as ours beside the copy.
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        for start in range(0, len(items), step):
            part = np.empty((min(step, len(items) - start), *items.shape[1:]), items.dtype)
            read_fully(file, part, path)
            resident[start : start + len(part)] = torch.from_numpy(part)
    return resident


def read_fully(file: io.RawIOBase, values: NDArray[Any], path: Path) -> None:
    """Fill an array from an unbuffered file, wherever it stands.

    Raises:
        UserError: the file ends too early.
    """
    view = values.data.cast("B")
    while len(view):
        n_read = file.readinto(view)
        if not n_read:
            raise UserError(
                f"{path} is shorter than its header says: the image cache is damaged. "
                "Remove its folder and run 'alharness data prepare' again."
            )
        view = view[n_read:]


class StreamedPool(Pool):
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
        self.n = len(items)
        self.item_shape = tuple(items.shape[1:])
        self.device = torch.device(device)
        self.residency = "memmap"
        self.pixel_max = pixel_max
        self._block_values = block_values
        self._items = items
        self._fingerprint = fingerprint

    @property
    def item_bytes(self) -> int:
        return self.values_per_item

    @property
    def fingerprint(self) -> str:
        if self._fingerprint is None:
            self._fingerprint = digest(self._items)
        return self._fingerprint

    def block_size(self) -> int:
        if self._block_values is None:
            return super().block_size()
        return max(1, min(self.n, self._block_values // self.values_per_item))

    def read(self, indices: torch.Tensor) -> torch.Tensor:
        return self._to_device(self._read_host(indices))

    def read_range(self, start: int, stop: int) -> torch.Tensor:
        return self._to_device(self._read_host_range(start, stop))

    def to_float(self, raw: torch.Tensor) -> torch.Tensor:
        return raw.float().div_(self.pixel_max)

    def blocks(
        self, indices: torch.Tensor | None = None, block_size: int | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        step = block_size or self.block_size()
        if indices is not None:
            self._check(indices)
        n = self.n if indices is None else len(indices)

        def block(start: int) -> tuple[torch.Tensor, torch.Tensor]:
            stop = min(start + step, n)
            if indices is None:
                return torch.arange(start, stop), self._read_host_range(start, stop)
            return indices[start:stop], self._read_host(indices[start:stop])

        for part, host in _read_ahead(block, range(0, n, step)):
            yield part, self.to_float(self._to_device(host))

    def _to_device(self, host: torch.Tensor) -> torch.Tensor:
        # The pinned block may be freed while the copy runs: torch's allocator waits for the stream.
        return host.to(self.device, non_blocking=True)

    def _host_block(self, n: int) -> torch.Tensor:
        pinned = self.device.type == "cuda"
        return torch.empty((n, *self.item_shape), dtype=torch.uint8, pin_memory=pinned)

    def _read_host_range(self, start: int, stop: int) -> torch.Tensor:
        block = self._host_block(stop - start)
        with self._path.open("rb", buffering=0) as file:
            self._read_into(file, start, block)
        return block

    def _read_into(self, file: io.RawIOBase, start: int, block: torch.Tensor) -> None:
        """Fill a block with consecutive items."""
        file.seek(self._offset + start * self.item_bytes)
        read_fully(file, block.numpy(), self._path)

    def _read_host(self, indices: torch.Tensor) -> torch.Tensor:
        """Items in the order of ``indices``; the file is read in its own order, in long runs."""
        if len(indices) and bool((torch.diff(indices) == 1).all()):  # nothing to sort or pick
            return self._read_host_range(int(indices[0]), int(indices[-1]) + 1)
        wanted, order = torch.sort(indices)
        block = self._host_block(len(indices))
        gap = max(1, self.GAP_BYTES // self.item_bytes)
        longest = self.block_size()  # a run is a buffer: no longer than a block
        apart = (torch.diff(wanted) > gap) | (torch.diff(wanted // longest) > 0)
        starts = [0, *(apart.nonzero().squeeze(1) + 1).tolist(), len(wanted)]
        with self._path.open("rb", buffering=0) as file:
            for begin, end in itertools.pairwise(starts):
                if begin == end:  # no items at all
                    continue
                first, last = int(wanted[begin]), int(wanted[end - 1])
                run = torch.empty((last - first + 1, *self.item_shape), dtype=torch.uint8)
                self._read_into(file, first, run)
                block[order[begin:end]] = run[wanted[begin:end] - first]
        return block


class VirtualPool(Pool):
    """A pool whose items are computed when asked for: a pure function of the pool index.

    Args:
        n: number of items.
        item_shape: shape of one item.
        device: where items are computed.
        compute: pool indices (int64 ``[B]`` on the CPU) to raw items (uint8 ``[B, ...]`` on the
            device); an item must not depend on the others asked for with it.
        pixel_max: the uint8 value that means 1.0.
        fingerprint: digest of what determines the items.
    """

    def __init__(
        self,
        n: int,
        item_shape: tuple[int, ...],
        device: torch.device | str,
        compute: Callable[[torch.Tensor], torch.Tensor],
        *,
        pixel_max: int,
        fingerprint: str,
    ) -> None:
        self.n = n
        self.item_shape = item_shape
        self.device = torch.device(device)
        self.residency = "virtual"
        self.pixel_max = pixel_max
        self._compute = compute
        self._fingerprint = fingerprint

    @property
    def item_bytes(self) -> int:
        return self.values_per_item

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def read(self, indices: torch.Tensor) -> torch.Tensor:
        return self._compute(indices)

    def read_range(self, start: int, stop: int) -> torch.Tensor:
        return self._compute(torch.arange(start, stop))

    def to_float(self, raw: torch.Tensor) -> torch.Tensor:
        return raw.float().div_(self.pixel_max)


class PoolWrapper(Pool):
    """Another pool's items, seen on their way: for those who count or time what is read.

    Subclasses override ``read`` and ``read_range``; a pass goes through ``read_range``, so a streamed
    pool is not read ahead.
    """

    def __init__(self, pool: Pool) -> None:
        self.wrapped = pool
        self.n, self.item_shape, self.device = pool.n, pool.item_shape, pool.device
        self.residency = pool.residency

    @property
    def item_bytes(self) -> int:
        return self.wrapped.item_bytes

    @property
    def fingerprint(self) -> str:
        return self.wrapped.fingerprint

    def read(self, indices: torch.Tensor) -> torch.Tensor:
        return self.wrapped.read(indices)

    def read_range(self, start: int, stop: int) -> torch.Tensor:
        return self.wrapped.read_range(start, stop)

    def to_float(self, raw: torch.Tensor) -> torch.Tensor:
        return self.wrapped.to_float(raw)

    def block_size(self) -> int:
        return self.wrapped.block_size()


class VirtualItems(Protocol):
    """Items that are computed, as a task hands them over before there is a device."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, ...)``."""

    @property
    def source_bytes(self) -> int:
        """Bytes of what the items are computed from, which must lie on the device."""

    def open(self, device: torch.device, fingerprint: str) -> Pool:
        """The pool that computes them there."""


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


def file_extent(items: NDArray[Any]) -> tuple[Path, int]:
    """File and byte offset of the first item of a memory map, or of a slice of one.

    Raises:
        UserError: the items do not lie in a file, one after the other.
    """
    root: Any = items
    while isinstance(root, np.ndarray) and not isinstance(root.base, mmap.mmap):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or not items.flags.c_contiguous:
        raise UserError(
            "Only a pool that lies in one file can be streamed; this one is in memory. "
            "Use pool.residency=device or host."
        )
    address, start = (int(array.__array_interface__["data"][0]) for array in (items, root))
    return Path(root.filename), int(root.offset) + address - start


def digest(*arrays: NDArray[Any]) -> str:
    """SHA-256 (16 hex digits) over shapes, types and bytes of the arrays."""
    sha = hashlib.sha256()
    for array in arrays:
        contiguous = np.ascontiguousarray(array)
        sha.update(f"{contiguous.dtype.str}{contiguous.shape}".encode())
        sha.update(contiguous.data.cast("B"))
    return sha.hexdigest()[:16]
