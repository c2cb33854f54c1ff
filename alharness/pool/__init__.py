"""The pool: all items, fixed for a run, named by their position and by nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alharness.lazily import from_files, homes_in

if TYPE_CHECKING:
    from alharness.pool.base import BLOCK_VALUES_CPU as BLOCK_VALUES_CPU
    from alharness.pool.base import BLOCK_VALUES_CUDA as BLOCK_VALUES_CUDA
    from alharness.pool.base import EMBEDDED as EMBEDDED
    from alharness.pool.base import Pool as Pool
    from alharness.pool.base import PoolWrapper as PoolWrapper
    from alharness.pool.base import VirtualItems as VirtualItems
    from alharness.pool.base import VirtualPool as VirtualPool
    from alharness.pool.base import digest as digest
    from alharness.pool.opening import forecast_of as forecast_of
    from alharness.pool.opening import open_items as open_items
    from alharness.pool.pinned import PinnedPool as PinnedPool
    from alharness.pool.residency import Forecast as Forecast
    from alharness.pool.residency import forecast as forecast
    from alharness.pool.scanning import scan as scan
    from alharness.pool.source import file_extent as file_extent
    from alharness.pool.source import read_fully as read_fully
    from alharness.pool.stored import ArrayPool as ArrayPool
    from alharness.pool.stored import StreamedPool as StreamedPool

__getattr__ = from_files(__name__, homes_in(__file__))
