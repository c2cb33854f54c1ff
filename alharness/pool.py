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
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from alharness.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Float values per block of a pass. On the CPU a block's activations should stay near the caches;
#: on a GPU a block should fill the chip.
BLOCK_VALUES_CPU = 1 << 21
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
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= self.n):
            raise IndexError(f"pool indices must lie in 0 .. {self.n - 1}")
        return self.to_float(self.read(index))

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
            items = items.copy()  # a read-only memory map: resident means in memory
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
        elif self.device.type == "cuda":
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
        return self._raw[indices.to(self._raw.device)].to(self.device, non_blocking=True)

    def read_range(self, start: int, stop: int) -> torch.Tensor:
        return self._raw[start:stop].to(self.device, non_blocking=True)

    def to_float(self, raw: torch.Tensor) -> torch.Tensor:
        if raw.dtype == torch.uint8:
            return raw.float().div_(self.pixel_max)
        return raw


def digest(*arrays: NDArray[Any]) -> str:
    """SHA-256 (16 hex digits) over shapes, types and bytes of the arrays."""
    sha = hashlib.sha256()
    for array in arrays:
        contiguous = np.ascontiguousarray(array)
        sha.update(f"{contiguous.dtype.str}{contiguous.shape}".encode())
        sha.update(memoryview(contiguous).cast("B"))
    return sha.hexdigest()[:16]
