"""The pool: all items, fixed for a run, named by their position and by nothing else."""

from __future__ import annotations

from alharness.pool.base import (
    BLOCK_VALUES_CPU,
    BLOCK_VALUES_CUDA,
    Pool,
    PoolWrapper,
    VirtualItems,
    VirtualPool,
    digest,
)
from alharness.pool.residency import Forecast, forecast
from alharness.pool.stored import ArrayPool, StreamedPool, file_extent, read_fully

__all__ = [
    "BLOCK_VALUES_CPU",
    "BLOCK_VALUES_CUDA",
    "ArrayPool",
    "Forecast",
    "Pool",
    "PoolWrapper",
    "StreamedPool",
    "VirtualItems",
    "VirtualPool",
    "digest",
    "file_extent",
    "forecast",
    "read_fully",
]
