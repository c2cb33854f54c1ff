"""The pool: all items, fixed for a run, named by their position and by nothing else.

Items are images stored as uint8 ``[C, H, W]`` and handed out as float32 in [0, 1], or rows of
float32 when a strategy moves the problem elsewhere (ADBA's latent codes). Whatever lies behind a
pool, callers see ``gather`` for a few items and ``blocks`` for a pass over many.

Shape letters: N items of the pool, B items of a block, ``...`` the shape of one item.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from alharness.lazily import numpy as np
from alharness.lazily import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: Float values per block of a pass. On the CPU a block's activations should stay near the caches, and
#: where the allocator gives blocks of 8 MB and more back to the system they are faulted in anew each time
#: (measured: a third more CPU time; see ``numerics.keep_freed_memory``). On a GPU a block should fill the
#: chip, and its first activation, 32 channels per value in MNIST's and CIFAR's classifiers alike, stay far
#: from what fits: 2^24 values make 2^29 activations, 2.1 GB, where cuDNN counts elements in 31 bits.
BLOCK_VALUES_CPU = 1 << 20
BLOCK_VALUES_CUDA = 1 << 24


#: Array of a file of embeddings that says, as JSON, which model made them of which pool.
EMBEDDED = "embedded"


class Pool(ABC):
    """Items that can be gathered by pool index.

    Attributes:
        n: number of items N.
        item_shape: shape of one item, ``(C, H, W)`` for images.
        device: where gathered items arrive.
        residency: where the items live: ``device``, ``host``, ``memmap`` or ``virtual``.
        block_limit: items per block at most, when memory was too small for more; None: no limit.
    """

    n: int
    item_shape: tuple[int, ...]
    device: torch.device
    residency: str
    block_limit: int | None = None

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
        """Items per block of a pass, chosen from the size of one item, the device and its memory."""
        values = BLOCK_VALUES_CUDA if self.device.type == "cuda" else BLOCK_VALUES_CPU
        size = max(1, min(self.n, values // max(1, self.values_per_item)))
        return size if self.block_limit is None else min(size, self.block_limit)

    def limit_blocks(self, n_items: int) -> None:
        """From now on, blocks of at most so many items."""
        self.block_limit = n_items

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


def scaled(raw: torch.Tensor, pixel_max: int) -> torch.Tensor:
    """uint8 values as float32 in [0, 1], the same bits on every device.

    On CUDA torch divides by a host number as a product with its reciprocal, which rounds otherwise;
    by a number that lies on the device it divides.
    """
    divisor = torch.full((), float(pixel_max), device=raw.device) if raw.is_cuda else pixel_max
    return raw.float().div_(divisor)


class StoredPool(Pool):
    """A pool of uint8 images, or of float32 rows: what such pools know of themselves wherever items are.

    Args:
        n: number of items.
        item_shape: shape of one item.
        device: where gathered items arrive.
        residency: where the items live.
        pixel_max: the uint8 value that means 1.0.
        fingerprint: digest of the items, if it is known; computed when it is asked for otherwise.
    """

    def __init__(
        self,
        n: int,
        item_shape: Sequence[int],
        device: torch.device | str,
        *,
        residency: str,
        pixel_max: int,
        fingerprint: str | None,
    ) -> None:
        self.n, self.item_shape = n, tuple(item_shape)
        self.device = torch.device(device)
        self.residency, self.pixel_max = residency, pixel_max
        self._fingerprint = fingerprint

    @property
    def item_bytes(self) -> int:
        return self.values_per_item  # of one byte each

    @property
    def fingerprint(self) -> str:
        if self._fingerprint is None:
            # As ``digest`` of one array, which they need not lie in.
            raw, sha = self.read_range(0, min(1, self.n)).cpu().numpy(), hashlib.sha256()
            sha.update(f"{raw.dtype.str}{(self.n, *self.item_shape)}".encode())
            for start in range(0, self.n, self.block_size()):
                stop = min(start + self.block_size(), self.n)
                sha.update(self.read_range(start, stop).cpu().numpy().tobytes())
            self._fingerprint = sha.hexdigest()[:16]
        return self._fingerprint

    def to_float(self, raw: torch.Tensor) -> torch.Tensor:
        return scaled(raw, self.pixel_max) if raw.dtype == torch.uint8 else raw


class VirtualPool(StoredPool):
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
        super().__init__(
            n, item_shape, device,
            residency="virtual", pixel_max=pixel_max, fingerprint=fingerprint,
        )  # fmt: skip
        self._compute = compute

    def read(self, indices: torch.Tensor) -> torch.Tensor:
        return self._compute(indices)

    def read_range(self, start: int, stop: int) -> torch.Tensor:
        return self._compute(torch.arange(start, stop))


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

    def limit_blocks(self, n_items: int) -> None:
        self.wrapped.limit_blocks(n_items)


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


def digest(*arrays: NDArray[Any]) -> str:
    """SHA-256 (16 hex digits) over shapes, types and bytes of the arrays."""
    sha = hashlib.sha256()
    for array in arrays:
        contiguous = np.ascontiguousarray(array)
        sha.update(f"{contiguous.dtype.str}{contiguous.shape}".encode())
        # Of no item there is nothing to add, and no view of bytes either.
        sha.update(contiguous.data.cast("B") if contiguous.size else b"")
    return sha.hexdigest()[:16]
