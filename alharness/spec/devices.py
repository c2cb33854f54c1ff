"""Devices by name: what is here, and what of it tells runs apart."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from alharness.errors import UserError, unknown_name

if TYPE_CHECKING:
    import torch


#: Where a system shows a GPU, whatever torch can do with it: NVIDIA's, AMD's, Windows' to a Linux in it.
_CARDS = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")
#: What hides GPUs from a process.
_HIDES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
#: What people call the device that torch calls ``cuda``; a build for ROCm calls its GPU so, too.
_CUDA = ("gpu", "nvidia", "rocm", "hip", "amd")
_OTHER_NAMES = {
    "mps": "Apple's GPU has no float64, which results are computed with. Use --device cpu.",
    "xpu": "Intel's GPUs have not been tried. Use --device cpu, or cuda for NVIDIA and AMD.",
}


def _why_no_gpu() -> str:
    """Which of three reasons there is for torch to see no GPU."""
    import torch

    runtime = torch.version.cuda or torch.version.hip
    if runtime is None:
        return (
            f"torch {torch.__version__} is a build for CPUs alone (https://pytorch.org/get-started has "
            "those for CUDA and ROCm)"
        )
    hidden = [f"{name}={os.environ[name]!r}" for name in _HIDES if name in os.environ]
    if hidden:
        return f"{' and '.join(hidden)} hides what there may be from this process"
    return (
        f"torch {torch.__version__} is built for {'CUDA' if torch.version.cuda else 'ROCm'} {runtime} and "
        "finds no card, or no driver that is new enough (nvidia-smi or rocm-smi tells)"
    )


def called(device: str) -> str:
    """A device by the name that torch has for it: ``gpu`` is ``cuda``, ``gpu:1`` is ``cuda:1``."""
    kind, colon, number = device.partition(":")
    return f"cuda{colon}{number}" if kind.lower() in _CUDA else device


def require_device_name(device: str) -> None:
    """Refuse what names no device, without a look at which ones are here.

    Raises:
        UserError: an unknown device.
    """
    device = called(device)
    kind = device.partition(":")[0].lower()
    if kind in _OTHER_NAMES:
        raise UserError(f"Unknown device '{device}'. {_OTHER_NAMES[kind]}")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise unknown_name("device", device, ["auto", "cpu", "cuda", "cuda:0"])


def resolve_device(device: str) -> str:
    """``auto`` -> ``cuda`` when there is one, else ``cpu``; ``cuda:1`` is the second of several.

    Raises:
        UserError: an unknown device, or one that is not here.
    """
    require_device_name(device)
    device = called(device)
    if device == "cpu":
        return device
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        if any(Path(place).exists() for place in _CARDS):
            # A day on the CPU beside a card that nobody uses is noticed too late.
            warnings.warn(
                f"There is a GPU here that torch cannot use, and device=auto takes the CPU: {_why_no_gpu()}.",
                stacklevel=2,
            )
        return "cpu"
    if not torch.cuda.is_available():
        raise UserError(
            f"No CUDA device is available here: {_why_no_gpu()}. Use --device cpu, or --device auto."
        )
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
