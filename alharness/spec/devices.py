"""Devices by name: what is here, and what of it tells runs apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from alharness.errors import UserError, unknown_name

if TYPE_CHECKING:
    import torch


def resolve_device(device: str) -> str:
    """``auto`` -> ``cuda`` when there is one, else ``cpu``; ``cuda:1`` is the second of several.

    Raises:
        UserError: an unknown device, or one that is not here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise unknown_name("device", device, ["auto", "cpu", "cuda", "cuda:0"])
    if device == "cpu":
        return device
    if not torch.cuda.is_available():
        raise UserError("No CUDA device is available here. Use --device cpu, or --device auto.")
    number, n = int(device.partition(":")[2] or 0), torch.cuda.device_count()
    if number >= n:
        raise UserError(
            f"There is no device '{device}' here: the last of {n} is cuda:{n - 1} (CUDA_VISIBLE_DEVICES "
            "may hide others). Use --device cuda, which is the first."
        )
    return device


def device_kind(device: str) -> str:
    """``cpu`` or ``cuda``: which of several cards computes is no part of a run's identity."""
    return device.partition(":")[0]


@contextmanager
def current_device(device: str) -> Iterator[torch.device]:
    """A resolved device, torch's current one in the ``with`` block: its graphs are captured there."""
    import torch

    found = torch.device(device)
    with torch.cuda.device(found) if found.index is not None else nullcontext():
        yield found
