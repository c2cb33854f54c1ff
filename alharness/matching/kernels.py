"""Matching's kernel on CUDA, in Triton, which comes with torch's builds for such devices."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from alharness.lazily import torch

#: Groups of a block. With two, and four warps, five blocks fit on a multiprocessor of an H100 (94 registers,
#: 18 KB): 62 KB of rows are on their way to it at a time, twice what its share of the memory's pace needs.
GROUPS, WARPS = 2, 4
#: What is multiplied; sums are float32.
FACTORS = tl.bfloat16


@triton.jit(do_not_specialize=["n_groups", "n_queries", "n_dims"])  # type: ignore[untyped-decorator]
def _group_minima(  # type: ignore[no-untyped-def]
    rows,
    norms,
    is_gone,
    high,
    low,
    minima,
    n_groups,
    n_queries,
    n_dims,
    SIZE: tl.constexpr,
    GROUPS: tl.constexpr,
    QUERIES: tl.constexpr,
    DIMS: tl.constexpr,
    FACTORS: tl.constexpr,
) -> None:
    group = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    is_group = group < n_groups
    within = tl.arange(0, SIZE)[None, :]
    # Rows of a group lie beside each other, dimension by dimension: whole lines of memory, none padded.
    place = tl.reshape(group[:, None] * SIZE + within, [GROUPS * SIZE])
    start = tl.reshape(group[:, None] * (n_dims * SIZE) + within, [GROUPS * SIZE])
    width = tl.cdiv(n_dims, DIMS) * DIMS
    is_row = place < n_groups.to(tl.int64) * SIZE
    gone = tl.load(is_gone + place, mask=is_row, other=1)
    norm = tl.load(norms + place, mask=is_row, other=0.0)
    norm = tl.where(gone != 0, float("inf"), norm)
    for first_query in range(0, n_queries, QUERIES):
        query = first_query + tl.arange(0, QUERIES)
        is_query = query < n_queries
        score = tl.zeros([QUERIES, GROUPS * SIZE], tl.float32)
        for first_dim in range(0, n_dims, DIMS):
            dim = first_dim + tl.arange(0, DIMS)
            is_dim = dim < n_dims
            tile = tl.load(
                rows + start[None, :] + dim[:, None] * SIZE,
                mask=is_dim[:, None] & is_row[None, :],
                other=0.0,
            )
            at = query[:, None] * width + dim[None, :]
            for part in tl.static_range(2):
                factor = tl.load((low if part else high) + at)
                score = tl.dot(factor.to(FACTORS), tile.to(FACTORS), score)
        least = tl.min(tl.reshape(score + norm[None, :], [QUERIES, GROUPS, SIZE]), axis=2)
        tl.store(
            minima + query[:, None].to(tl.int64) * n_groups + group[None, :],
            least,
            mask=is_query[:, None] & is_group[None, :],
        )


def group_minima(
    rows: torch.Tensor,
    norms: torch.Tensor,
    is_gone: torch.Tensor,
    high: torch.Tensor,
    low: torch.Tensor,
    n_queries: int,
    block: tuple[int, int],
) -> torch.Tensor:
    """``streamed.group_minima`` on CUDA.

    Args:
        block: queries and dimensions that are multiplied at a time.
    """
    n_groups, n_dims, size = rows.shape
    minima = torch.empty(n_queries, n_groups, device=rows.device)
    queries, dims = block
    constants: dict[str, Any] = {
        "SIZE": size, "GROUPS": GROUPS, "QUERIES": queries, "DIMS": dims, "FACTORS": FACTORS,
        "num_warps": WARPS, "num_stages": 1,
    }  # fmt: skip
    with torch.cuda.device_of(rows):
        _group_minima[(triton.cdiv(n_groups, GROUPS),)](
            rows, norms, is_gone, high, low, minima, n_groups, n_queries, n_dims, **constants
        )
    return minima
