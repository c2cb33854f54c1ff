"""A pass over a pool that computes something of every block, and makes do with the memory there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from alharness.lazily import torch
from alharness.pool.base import Pool
from alharness.timing import WorkCounters

#: What a device without memory says beside ``OutOfMemoryError``: the driver (graphs, contexts, pinned
#: memory), cuDNN once each of its kernels lacks its workspace, and the two libraries' own handles.
_NO_MEMORY = (
    "CUDA error: out of memory",
    "HIP error: out of memory",
    "unable to find an engine to execute this computation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "HIPBLAS_STATUS_ALLOC_FAILED",
)


def scan(
    pool: Pool,
    function: Callable[[torch.Tensor], torch.Tensor],
    indices: torch.Tensor | None = None,
    *,
    work: WorkCounters | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """``function(items)`` of all items, or of ``indices`` in the order given, block by block.

    A block that does not fit into the device's memory is halved and computed again, and the pool keeps
    the smaller size: networks differ in how much their activations take. It is told as
    ``blocks_halved`` in ``work``, because another block size may round otherwise.

    Args:
        function: float32 items ``[B, ...]`` to a result for each, ``[B, ...]``; each item by itself.
        work: where halving is told; nothing else is counted here.

    Yields:
        pool indices (int64 ``[B]`` on the CPU) and the results of their items.

    Raises:
        torch.OutOfMemoryError: not even one item fits.
    """
    wanted, done = indices, 0
    n = len(pool) if indices is None else len(indices)
    while done < n:
        try:
            for part, items in pool.blocks(wanted):
                result = function(items)
                done += len(part)
                yield part, result
        except RuntimeError as error:
            if not is_out_of_memory(error) or pool.block_size() == 1:
                raise
        if done < n:  # outside of the except clause: the error's frames held the block
            items = result = torch.empty(0)
            pool.limit_blocks(max(1, pool.block_size() // 2))
            if pool.device.type == "cuda":
                torch.cuda.empty_cache()
            if work is not None:
                work.add("blocks_halved", 1)
            wanted = torch.arange(done, n) if indices is None else indices[done:]


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a device's memory ran out: said by the error, or by one behind it.

    The end of a broken graph capture raises an error of its own over the first one.
    """
    while error is not None:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and any(told in str(error) for told in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False
