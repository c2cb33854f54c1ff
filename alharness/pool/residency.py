"""Where a pool lives: forecast of memory before the run, and the choice that follows from it.

Four residencies: ``device`` (raw items on the device), ``host`` (pinned memory, blocks sent over),
``memmap`` (in its file, blocks read ahead) and ``virtual`` (computed on the device). The forecast
is for the pool, a pass of a classifier over it, and on a GPU the features that matching keeps. It is
made once, before the pool is opened: with the pool in its place, less is free.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from alharness.errors import UserError
from alharness.lazily import psutil, torch
from alharness.pool.base import BLOCK_VALUES_CPU, BLOCK_VALUES_CUDA
from alharness.pool.pinned import pinned_bytes

#: Variables by which an executor tells how many processes share the memory of the host, and of a card.
SHARING = {"cpu": "ALHARNESS_SHARING_HOST", "cuda": "ALHARNESS_SHARING_CARD"}
#: Share of the free host memory that a pool may take: the rest is for networks and features.
SHARE = 0.6
#: What a GPU must have left beside pool, pass and features, for networks: training the largest recipe
#: (resnet-64: 20 M weights with gradients and moments, .3 GB, and the activations of 64 images through
#: the critic and twice back, 4 GB), the captured graphs' own memory and the allocator's slack. On a small
#: card a share of what is free, the same 40 % as the host's.
RESERVE = 6_000_000_000
#: Bytes per value of a block in a pass: the raw block, the one that is ready, the one being read, a
#: run of the file and what is picked from it; and float32 twice, because a caller holds the last
#: block while it gets the next one.
BLOCK_BYTES = 5 * 1 + 2 * 4
#: Bytes per value of a block on a GPU for the classifier's first activation: 32 channels for each of
#: the image's (MNIST's network has 32 for 1, All-CNN 96 for 3), float32, before and after the ReLU.
ACTIVATION_BYTES = 2 * 32 * 4
#: Bytes per pool item on a GPU for matching: 50 features in float32, and once more in the index.
FEATURE_BYTES = 2 * 52 * 4
#: What a pass costs whatever its blocks: the reading thread and what the allocator keeps.
PASS_BYTES = 16_000_000
#: The same for items that are computed: float32 source, coordinates, result.
VIRTUAL_BLOCK_BYTES = 10 * 4
#: Bytes per pool item of book-keeping in a cycle: targets, masks, indices, scores, choosing the best.
ITEM_BYTES = 64


@dataclass(frozen=True)
class Forecast:
    """What a pool will need, and where it will live.

    Attributes:
        residency: ``device``, ``host``, ``memmap`` or ``virtual``.
        n: number of items.
        pool_bytes: all raw items together, wherever they are.
        device_bytes: needed on the device for items and blocks; on a GPU with activations and features.
        host_bytes: needed in the host's memory (the same memory when the device is the CPU).
        free_device_bytes: free there now, or what ``pool.memory_mb`` allows; None: unknown.
        block_values: numbers per block of a pass; None: the pool's own choice.
        reason: why this residency.
    """

    residency: str
    n: int
    pool_bytes: int
    device_bytes: int
    host_bytes: int
    free_device_bytes: int | None
    block_values: int | None
    reason: str

    @property
    def total_bytes(self) -> int:
        """Memory needed in all."""
        return self.device_bytes + self.host_bytes

    def __str__(self) -> str:
        where = {
            "device": "kept on the device",
            "host": "kept in pinned host memory",
            "memmap": "streamed from its file",
            "virtual": "computed block by block",
        }[self.residency]
        need = f"{megabytes(self.device_bytes)} on the device"
        if self.host_bytes:
            need += f", {megabytes(self.host_bytes)} on the host"
        free = self.free_device_bytes
        known = f" of {megabytes(free)} that it may take" if free is not None else ""
        return (
            f"pool of {self.n:,} items ({megabytes(self.pool_bytes)}) {where}: "
            f"needs {need}{known}; {self.reason}"
        )


def forecast(
    shape: tuple[int, ...],
    device: torch.device,
    *,
    asked: str = "auto",
    memory_mb: int | None = None,
    in_file: bool = False,
    computed_from_bytes: int | None = None,
    value_bytes: int = 1,
) -> Forecast:
    """Choose a residency for uint8 images, or for rows of floats.

    Args:
        shape: ``(N, ...)`` of the pool.
        device: where items are needed.
        asked: ``auto`` or the residency that the user wants.
        memory_mb: memory that the pool may take; by default what is free on a GPU but for ``RESERVE``,
            and a share of what is free on the host.
        in_file: whether the items lie in one file and can be streamed.
        computed_from_bytes: for virtual pools, bytes of what the items are computed from.
        value_bytes: bytes of one stored number.

    Raises:
        UserError: what was asked for does not fit or is impossible, or nothing fits.
    """
    n, pool_bytes = shape[0], math.prod(shape) * value_bytes
    on_cpu = device.type != "cuda"
    free_device, free_host = free_bytes(device), free_bytes(torch.device("cpu"))
    given = memory_mb * 1_000_000 if memory_mb is not None else None
    allowed_host, allowed_device = given, given
    if given is None and free_host is not None:
        allowed_host = int(SHARE * free_host)
    if given is None and free_device is not None:
        allowed_device = free_device - min(RESERVE, int((1 - SHARE) * free_device))
    if on_cpu:
        # One memory, whatever it is called.
        allowed_device = allowed_host
    per_value = BLOCK_BYTES if computed_from_bytes is None else VIRTUAL_BLOCK_BYTES
    per_value += 0 if on_cpu else ACTIVATION_BYTES
    usual = BLOCK_VALUES_CPU if on_cpu else BLOCK_VALUES_CUDA
    usual = max(math.prod(shape[1:]), min(usual, math.prod(shape)))
    # What is free on a host varies from run to run, and with it rounding would: blocks shrink when told to.
    quartered = given if on_cpu else allowed_device
    values = _block_values(shape, usual, quartered, per_value, on_cpu)
    blocks, items = PASS_BYTES + per_value * values, ITEM_BYTES * n

    def make(residency: str, reason: str) -> Forecast:
        stored = computed_from_bytes or 0
        # Virtual items are computed on the device, from what lies there.
        on_device = blocks + (pool_bytes if residency == "device" else stored)
        on_device += 0 if on_cpu else FEATURE_BYTES * n
        on_host = items
        if residency == "host" and not on_cpu:
            on_host += pinned_bytes(pool_bytes)
        if on_cpu:
            # On a CPU "host" is the device: the pool is counted where it was not yet.
            extra = pool_bytes if residency == "host" else 0
            on_device, on_host = on_device + on_host + extra, 0
        # None leaves the pool the size of blocks that it would have anyway.
        chosen_values = values if given is not None or values < usual else None
        return Forecast(
            residency, n, pool_bytes, on_device, on_host, allowed_device, chosen_values, reason
        )

    if computed_from_bytes is not None:
        if asked not in ("auto", "virtual"):
            raise UserError(
                f"This pool is computed, not stored: pool.residency={asked} is impossible. "
                "Leave pool.residency at auto."
            )
        return _checked(make("virtual", "its items are a function of their index"), allowed_host)
    if asked == "memmap" and not in_file:
        raise UserError(
            "Only a pool that lies in one file can be streamed; this one is in memory. "
            "Use pool.residency=device or host."
        )
    if asked != "auto":
        return _checked(make(asked, "as asked for"), allowed_host)
    # From the fastest place on.
    if _fits(make("device", "").device_bytes, allowed_device):
        return make("device", "it fits")
    if not on_cpu and _fits(make("host", "").host_bytes, allowed_host):
        return make("host", "too large for the device")
    if in_file:
        return _checked(make("memmap", "too large for memory"), allowed_host)
    raise UserError(
        f"A pool of {n:,} items needs {megabytes(pool_bytes)} of memory and "
        f"{megabytes(allowed_device or 0)} may be taken. Free memory, raise pool.memory_mb, or use "
        "data that lie in an image cache, which can be streamed."
    )


def _fits(needed: int, allowed: int | None) -> bool:
    return allowed is None or needed <= allowed


def _checked(chosen: Forecast, allowed_host: int | None) -> Forecast:
    """Refuse what cannot work, before the run rather than in it.

    Raises:
        UserError: what it needs, what there is, what to do.
    """
    allowed = chosen.free_device_bytes
    if _fits(chosen.device_bytes, allowed) and _fits(chosen.host_bytes, allowed_host):
        return chosen
    in_memory = chosen.residency in ("device", "host")
    cure = (
        "Use pool.residency=auto, which streams what does not fit."
        if in_memory
        else "Free memory, or raise pool.memory_mb: less is not possible."
    )
    raise UserError(
        f"A pool of {chosen.n:,} items with pool.residency={chosen.residency} needs "
        f"{megabytes(chosen.total_bytes)} and {megabytes(allowed or 0)} may be taken (a share of "
        f"what is free, or pool.memory_mb). {cure}"
    )


def _block_values(
    shape: tuple[int, ...], usual: int, allowed: int | None, per_value: int, on_cpu: bool
) -> int:
    """Numbers per block: the pool's usual block, or what a quarter of the allowed memory holds.

    On a GPU the usual block is halved as often as it takes: another block size may round otherwise, and
    what happens to be free there should rarely change it.
    """
    if allowed is None:
        return usual
    values, most = usual, allowed // 4 // per_value
    while values > most and not on_cpu:
        values //= 2
    return max(math.prod(shape[1:]), min(values, most))


def n_sharing(device: torch.device) -> int:
    """Runs that an executor lets use the device's memory at once, this one included."""
    return max(1, int(os.environ.get(SHARING[device.type], 1)))


def free_bytes(device: torch.device) -> int | None:
    """Memory free on a device now; for the host, within the control group's limit too.

    Of processes that an executor lets share the memory (``SHARING``), each counts on its part of the whole,
    less what it holds: those that start together see the same memory free.
    """
    sharing = n_sharing(device)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_allocated(device)
        # What an earlier run of this process took and let go lies with torch's allocator, for us.
        free += torch.cuda.memory_reserved(device) - held
        return int(free if sharing == 1 else max(0, min(free, total // sharing - held)))
    host = psutil.virtual_memory()
    limit, used = _control_group()
    candidates = [int(host.available)]
    if limit is not None:
        candidates.append(max(0, limit - used))
    if sharing > 1:
        whole = min(host.total, limit or host.total)
        candidates.append(max(0, whole // sharing - psutil.Process().memory_info().rss))
    return min(candidates)


def _control_group() -> tuple[int | None, int]:
    """The control group's limit in bytes, where there is one, and what is used of it."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return None, 0
    return (int(limit) if limit != "max" else None), used


def megabytes(n_bytes: int) -> str:
    """``2.0 GB`` or ``35 MB`` (decimal)."""
    if n_bytes >= 1_000_000_000:
        return f"{n_bytes / 1e9:.1f} GB"
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes >= 1_000_000 else f"{n_bytes / 1e6:.2f} MB"
