"""Items as a pool: where it will live, and the pool that lives there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alharness.lazily import numpy as np
from alharness.lazily import torch
from alharness.pool.base import Pool, VirtualItems
from alharness.pool.pinned import PinnedPool
from alharness.pool.residency import Forecast, forecast
from alharness.pool.stored import ArrayPool, StreamedPool

if TYPE_CHECKING:
    from numpy.typing import NDArray


def forecast_of(
    items: NDArray[Any] | VirtualItems,
    device: torch.device,
    asked: str = "auto",
    memory_mb: int | None = None,
) -> Forecast:
    """Where these items will live and what memory they will need.

    Args:
        items: an array, in memory or memory-mapped, or what computes them.
        device: where they are needed.
        asked: ``auto`` or the residency that the user wants.
        memory_mb: memory that they may take.

    Raises:
        UserError: the residency asked for cannot work.
    """
    return forecast(
        items.shape,
        device,
        asked=asked,
        memory_mb=memory_mb,
        in_file=isinstance(items, np.memmap),
        computed_from_bytes=None if isinstance(items, np.ndarray) else items.source_bytes,
        value_bytes=items.itemsize if isinstance(items, np.ndarray) else 1,
    )


def open_items(
    items: NDArray[Any] | VirtualItems,
    device: torch.device,
    chosen: Forecast,
    *,
    pixel_max: int = 255,
    fingerprint: str | None = None,
) -> Pool:
    """The items as a ``Pool``.

    Args:
        items: as ``forecast_of`` takes them.
        device: where they are needed.
        chosen: what that said.
        pixel_max: the uint8 value that means 1.0.
        fingerprint: of the items; names artefacts.
    """
    pool: Pool
    named: dict[str, Any] = {"pixel_max": pixel_max, "fingerprint": fingerprint}
    if not isinstance(items, np.ndarray):
        pool = items.open(device, fingerprint or "")
    elif chosen.residency == "memmap":
        pool = StreamedPool(items, device, **named)
    elif chosen.residency == "host" and device.type == "cuda":
        pool = PinnedPool(items, device, **named)
    else:
        pool = ArrayPool(items, device, residency=chosen.residency, **named)
    if chosen.block_values is not None:
        pool.limit_blocks(max(1, chosen.block_values // pool.values_per_item))
    return pool
