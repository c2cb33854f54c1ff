"""The pool: all items, fixed for a run, named by their position and by nothing else."""

from __future__ import annotations

from alharness.pool.base import (
    BLOCK_VALUES_CPU,
    BLOCK_VALUES_CUDA,
    EMBEDDED,
    Pool,
    PoolWrapper,
    VirtualItems,
    VirtualPool,
    digest,
)
from alharness.pool.opening import forecast_of, open_items
from alharness.pool.pinned import PinnedPool
from alharness.pool.residency import Forecast, forecast
from alharness.pool.scan import scan
from alharness.pool.source import file_extent, read_fully
from alharness.pool.stored import ArrayPool, StreamedPool

__all__ = [
    "BLOCK_VALUES_CPU",
    "BLOCK_VALUES_CUDA",
    "EMBEDDED",
    "ArrayPool",
    "Forecast",
    "PinnedPool",
    "Pool",
    "PoolWrapper",
    "StreamedPool",
    "VirtualItems",
    "VirtualPool",
    "digest",
    "file_extent",
    "forecast",
    "forecast_of",
    "open_items",
    "read_fully",
    "scan",
]
