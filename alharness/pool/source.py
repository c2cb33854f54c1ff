"""Images as a task hands them over: an array in memory, or a memory map of a file."""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.lazily import torch
from alharness.pool.base import BLOCK_VALUES_CPU

if TYPE_CHECKING:
    from numpy.typing import NDArray


def parts_of(items: NDArray[Any]) -> Iterator[tuple[int, torch.Tensor]]:
    """All items in order, block by block, each with the index of its first item.

    A memory map's are read, not copied from the map: mapped pages would count as ours beside a copy.
    """
    step = max(1, BLOCK_VALUES_CPU * len(items) // max(1, items.size))
    try:
        path, offset = file_extent(items)
    except UserError:  # in memory already
        for start in range(0, len(items), step):
            yield start, torch.from_numpy(np.array(items[start : start + step]))
        return
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        for start in range(0, len(items), step):
            part = np.empty((min(step, len(items) - start), *items.shape[1:]), items.dtype)
            read_fully(file, part, path)
            yield start, torch.from_numpy(part)


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
