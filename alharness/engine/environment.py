"""What a run ran on: versions, hardware, source. Kept beside the records, because timings never
compare across machines (R12) and a result belongs to an implementation, not to a name (R18)."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import alharness
from alharness.pool.residency import n_sharing


@cache
def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    found = {"alharness": alharness.__version__, "python": platform.python_version()}
    installed = {name: _version(name) for name in ("torch", "numpy", "scikit-learn")}
    return found | {name: told for name, told in installed.items() if told is not None}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def hardware(device: torch.device) -> dict[str, Any]:
    """The machine as far as timings depend on it: CPU, cores, threads in use, GPU, driver, libraries.

    What a machine cannot tell is left out.
    """
    found: dict[str, Any] = {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device.type,
    }
    if device.type == "cuda":
        about = {
            "gpu": torch.cuda.get_device_name(device),
            "driver": _driver(),
            "cuda": torch.version.cuda,
            "hip": torch.version.hip,
            "cudnn": torch.backends.cudnn.version(),  # MIOpen's on AMD
            # Matching's kernel; without it matching is matrix products (matching/streamed.py).
            "triton": _version("triton") or _version("pytorch-triton-rocm") or "not installed",
        }
        found |= {name: value for name, value in about.items() if value is not None}
        # A card gives its time to several processes in turns: seconds of one hold the others' kernels.
        if (at_once := n_sharing(device)) > 1:
            found["runs_on_card"] = at_once
    return found


#: Where the kernel's modules say their version: NVIDIA's in a sentence, AMD's alone.
DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/sys/module/amdgpu/version"))


def _driver() -> str | None:
    """Version of the GPU's driver, as the kernel tells it."""
    for path in DRIVERS:
        try:
            version_found = re.search(r"\d+(\.\d+)+", path.read_text(encoding="utf-8"))
        except OSError:
            continue
        if version_found:
            return version_found[0]
    return None


@cache
def git_commit() -> str:
    """Commit of the checkout that alharness runs from, with ``+changes`` when edited; else empty."""
    here = Path(alharness.__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        if not git("ls-files", "--error-unmatch", "__init__.py"):
            return ""  # installed inside somebody else's repository
        commit = git("rev-parse", "HEAD")
        return commit + ("+changes" if git("status", "--porcelain", "--", str(here)) else "")
    except (OSError, subprocess.TimeoutExpired):
        return ""
