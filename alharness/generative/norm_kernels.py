"""The layer norm's kernels on CUDA, in Triton, which comes with torch's builds for such devices.

Images ``[B, C, H, W]`` lie channels last: an image is ``H W`` rows of C numbers. A part of it is a block's
work, a tile of rows at a time; sums of parts are added up by who needs them, in one order.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from alharness.generative.norm_parts import N_SUMS, TILE, TILES, n_parts

WARPS = 4


@triton.jit  # type: ignore[untyped-decorator]
def _sums(  # type: ignore[no-untyped-def]
    x,
    g,
    c,
    weight,
    bias,
    stats,
    sums,
    n_rows,
    n_channels,
    ORDER: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILES: tl.constexpr,
    N_SUMS: tl.constexpr,
) -> None:
    part, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    kind = sums.dtype.element_ty
    column = tl.arange(0, COLUMNS)[None, :]
    start = image * n_rows * n_channels
    w = tl.load(weight + column, mask=column < n_channels, other=0.0).to(kind)
    b = tl.load(bias + column, mask=column < n_channels, other=0.0).to(kind)
    if ORDER == 0:
        mean, r = tl.load(x + start).to(kind), 1.0  # near the mean: squares do not cancel
    else:
        mean, r = tl.load(stats + 2 * image), tl.load(stats + 2 * image + 1)
    first = tl.zeros([ROWS, COLUMNS], kind)
    second = tl.zeros([ROWS, COLUMNS], kind)
    third = tl.zeros([ROWS, COLUMNS], kind)
    fourth = tl.zeros([ROWS, COLUMNS], kind)
    fifth = tl.zeros([ROWS, COLUMNS], kind)
    for tile in range(TILES):
        row = (part * TILES + tile) * ROWS + tl.arange(0, ROWS)[:, None]
        is_there = (row < n_rows) & (column < n_channels)
        at = start + row * n_channels + column
        n = (tl.load(x + at, mask=is_there, other=0.0).to(kind) - mean) * r
        if ORDER == 0:
            n = tl.where(is_there, n, 0.0)
            first += n
            second += n * n
        else:
            v = tl.load(g + at, mask=is_there, other=0.0).to(kind) * w
            v = tl.where(n * w + b > 0, v, 0.0)
            first += v
            second += v * n
            if ORDER == 2:
                cotangent = tl.load(c + at, mask=is_there, other=0.0).to(kind)
                third += cotangent
                fourth += cotangent * n
                fifth += cotangent * v
    to = sums + (image * tl.num_programs(0) + part) * N_SUMS
    tl.store(to, tl.sum(tl.sum(first, axis=1), axis=0))
    tl.store(to + 1, tl.sum(tl.sum(second, axis=1), axis=0))
    if ORDER == 2:
        tl.store(to + 2, tl.sum(tl.sum(third, axis=1), axis=0))
        tl.store(to + 3, tl.sum(tl.sum(fourth, axis=1), axis=0))
        tl.store(to + 4, tl.sum(tl.sum(fifth, axis=1), axis=0))


@triton.jit  # type: ignore[untyped-decorator]
def _mean(sums, image, n_parts, which, count, PARTS: tl.constexpr, N_SUMS: tl.constexpr):  # type: ignore[no-untyped-def]
    part = tl.arange(0, PARTS)
    at = (image * n_parts + part) * N_SUMS + which
    return tl.sum(tl.load(sums + at, mask=part < n_parts, other=0.0), axis=0) / count


@triton.jit  # type: ignore[untyped-decorator]
def _apply(  # type: ignore[no-untyped-def]
    x,
    g,
    c,
    weight,
    bias,
    stats,
    sums,
    result,
    other,
    by_channel,
    eps,
    n_rows,
    n_channels,
    ORDER: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILES: tl.constexpr,
    N_SUMS: tl.constexpr,
    PARTS: tl.constexpr,
    PARAMETERS: tl.constexpr,
) -> None:
    part, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    n_parts = tl.num_programs(0)
    kind = sums.dtype.element_ty
    column = tl.arange(0, COLUMNS)[None, :]
    start = image * n_rows * n_channels
    count = (n_rows * n_channels).to(kind)
    w = tl.load(weight + column, mask=column < n_channels, other=0.0).to(kind)
    b = tl.load(bias + column, mask=column < n_channels, other=0.0).to(kind)
    one = _mean(sums, image, n_parts, 0, count, PARTS, N_SUMS)
    two = _mean(sums, image, n_parts, 1, count, PARTS, N_SUMS)
    if ORDER == 0:
        mean = tl.load(x + start).to(kind) + one
        r = 1.0 / tl.sqrt(tl.maximum(two - one * one, 0.0) + eps)
        if part == 0:
            tl.store(stats + 2 * image, mean)
            tl.store(stats + 2 * image + 1, r)
    else:
        mean, r = tl.load(stats + 2 * image), tl.load(stats + 2 * image + 1)
    if ORDER == 2:
        c_mean = _mean(sums, image, n_parts, 2, count, PARTS, N_SUMS)
        s = _mean(sums, image, n_parts, 3, count, PARTS, N_SUMS)
        a = _mean(sums, image, n_parts, 4, count, PARTS, N_SUMS) - c_mean * one - s * two
    by_weight = tl.zeros([ROWS, COLUMNS], kind)
    by_bias = tl.zeros([ROWS, COLUMNS], kind)
    for tile in range(TILES):
        row = (part * TILES + tile) * ROWS + tl.arange(0, ROWS)[:, None]
        is_there = (row < n_rows) & (column < n_channels)
        at = start + row * n_channels + column
        n = (tl.load(x + at, mask=is_there, other=0.0).to(kind) - mean) * r
        y = n * w + b
        if ORDER == 0:
            tl.store(result + at, tl.maximum(y, 0.0), mask=is_there)
        else:
            through = tl.load(g + at, mask=is_there, other=0.0).to(kind)
            through = tl.where(y > 0, through, 0.0)
            p_v = through * w - one - n * two
            if ORDER == 1:
                tl.store(result + at, r * p_v, mask=is_there)
                by_weight += through * n
                by_bias += through
            else:
                p_c = tl.load(c + at, mask=is_there, other=0.0).to(kind) - c_mean - n * s
                tl.store(result + at, tl.where(y > 0, w * r * p_c, 0.0), mask=is_there)
                tl.store(other + at, -r * r * (a * n + two * p_c + s * p_v), mask=is_there)
                by_weight += through * r * p_c
    if PARAMETERS:
        to = by_channel + (image * n_parts + part) * 2 * n_channels + tl.arange(0, COLUMNS)
        is_channel = tl.arange(0, COLUMNS) < n_channels
        tl.store(to, tl.sum(by_weight, axis=0), mask=is_channel)
        tl.store(to + n_channels, tl.sum(by_bias, axis=0), mask=is_channel)


def _plan(x: torch.Tensor) -> tuple[int, dict[str, Any]]:
    """Parts of an image, and the constants of both kernels."""
    columns = triton.next_power_of_2(x.shape[1])
    constants = {
        "ROWS": max(1, TILE // columns), "COLUMNS": columns, "TILES": TILES, "N_SUMS": N_SUMS,
        "num_warps": WARPS,
    }  # fmt: skip
    return n_parts(x), constants


def sums(
    images: list[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor,
    stats: torch.Tensor | None,
    kind: torch.dtype,
) -> torch.Tensor:
    """``normed_relu.sums`` of images that lie channels last: ``[B, parts, 5]``."""
    x, (n, constants) = images[0], _plan(images[0])
    found = torch.empty(len(x), n, N_SUMS, dtype=kind, device=x.device)
    given = [*images, x, x][:3]
    with torch.cuda.device_of(x):
        _sums[(n, len(x))](
            *given, weight, bias, found if stats is None else stats, found,
            x.shape[2] * x.shape[3], x.shape[1], ORDER=len(images) - 1, **constants,
        )  # fmt: skip
    return found


def apply(
    images: list[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor,
    stats: torch.Tensor | None,
    total: torch.Tensor,
    eps: float,
    parameters: bool,
) -> list[torch.Tensor]:
    """``normed_relu.apply`` of images that lie channels last."""
    x, (n, constants), order = images[0], _plan(images[0]), len(images) - 1
    given = [*images, x, x][:3]
    if stats is None:
        stats = total.new_empty(len(x), 2)
    result = torch.empty_like(x)
    other = torch.empty_like(x) if order == 2 else result
    by_channel = total.new_empty(len(x) * n if parameters else 0, 2, x.shape[1])
    with torch.cuda.device_of(x):
        _apply[(n, len(x))](
            *given, weight, bias, stats, total, result, other, by_channel, eps,
            x.shape[2] * x.shape[3], x.shape[1], ORDER=order, PARAMETERS=parameters,
            PARTS=triton.next_power_of_2(n), **constants,
        )  # fmt: skip
    return [[result, stats], [result, by_channel], [result, other, by_channel]][order]
