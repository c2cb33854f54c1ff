"""The arithmetic that results are computed with, and the allocator that times depend on: one context for
everything that is compared.

On a GPU the same program can compute float32 products with 24 bits or, several times faster, with 11
(TF32), and convolutions by kernels that sum in an order of their own each time. Runs, timing studies,
conformance checks and benchmarks compute under ``exact``; the training of a generator or an auto-encoder
under ``training``, which lets its recipe choose TF32. ``describe`` says what is set, for the records.

Torch has two ways to say the same: ``allow_tf32`` (with ``set_float32_matmul_precision``) and, since
2.9, ``fp32_precision``. Reading one after the other was used raises, so both are always set, to the
same. All of it belongs to the process, not to a thread.

Of the C library's allocator we ask that a training's memory stays with the process (``KEPT_BYTES``). By
default glibc gives a block of activations back when it is freed, and the system clears and maps the same
pages again one step later: on a CPU some 2,000 page faults in a step of MNIST's classifier and 8,000 in one
of a critic of 64x64 images, 15 to 20 % of their time (``benchmarks/bench_allocator.py``). It changes no bit
of a result.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from alharness.lazily import torch

#: Relative rounding of a float32 product under ``exact``.
UNIT_ROUNDOFF = 2.0**-24
#: Settings of the new way: backend and operation.
_OPERATIONS = (
    ("cuda", "matmul"),
    ("cuda", "conv"),
    ("cuda", "rnn"),
    ("mkldnn", "matmul"),
    ("mkldnn", "conv"),
    ("mkldnn", "rnn"),
)
#: Backends whose operations follow them where nothing else is set.
_WHOLE = (("generic", "all"), ("cuda", "all"), ("mkldnn", "all"))
#: Variables that NVIDIA's libraries and torch read themselves: told, because they can overrule us.
_VARIABLES = (
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
)
#: Freed memory that the process keeps at the end of its heap: the activations of a step of any recipe
#: that a CPU trains in reasonable time. Blocks of more than 32 MB, glibc's limit, go back as ever.
KEPT_BYTES = 1 << 28
_LARGEST_IN_HEAP = 1 << 25
#: glibc's numbers for ``mallopt``.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Who sets one of these has chosen; nothing is changed then.
_ALLOCATOR_VARIABLES = (
    "GLIBC_TUNABLES",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_",
)


def _backends() -> Any:
    """torch's settings, which its stubs do not know all of."""
    return torch.backends


@contextmanager
def exact() -> Iterator[None]:
    """Float32 is float32, and the same program on the same machine gives the same bits.

    cuDNN on, deterministic, without autotuning; no TF32 in products and convolutions. May stand inside
    itself; what was set before comes back at the end, but for the allocator, which cannot be asked.
    """
    with _arithmetic(tf32=False):
        yield


@contextmanager
def training(precision: str) -> Iterator[None]:
    """``exact``, but for a recipe's ``precision``: ``tf32`` and ``bf16`` let CUDA compute with TF32.

    On a CPU it makes no difference. The casts of ``bf16`` are the training's own (autocast).
    """
    with _arithmetic(tf32=precision != "float32"):
        yield


@contextmanager
def _arithmetic(*, tf32: bool) -> Iterator[None]:
    cudnn, cuda_matmul = _backends().cudnn, _backends().cuda.matmul
    before = cudnn.enabled, cudnn.deterministic, cudnn.benchmark
    matmul = _read(torch.get_float32_matmul_precision)
    allowed = _read(lambda: cuda_matmul.allow_tf32)
    convolution = _read(lambda: cudnn.allow_tf32)
    operations = {which: _get(*which) for which in _OPERATIONS}
    keep_freed_memory()
    cudnn.enabled, cudnn.deterministic, cudnn.benchmark = True, True, False
    cuda_matmul.allow_tf32 = tf32  # not set_float32_matmul_precision: that one moves the CPU too
    cudnn.allow_tf32 = tf32
    for backend, operation in operations:
        _set(backend, operation, "tf32" if tf32 and backend == "cuda" else "ieee")
    try:
        yield
    finally:
        cudnn.enabled, cudnn.deterministic, cudnn.benchmark = before
        if matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        elif allowed is not None:
            cuda_matmul.allow_tf32 = allowed
        if convolution is not None:
            cudnn.allow_tf32 = convolution
        for (backend, operation), value in operations.items():
            _set(backend, operation, value)


def precision() -> tuple[Any, ...]:
    """What a product of float32 numbers means now, by both of torch's ways to say it."""
    # By the functions behind ``fp32_precision``: read before and after every call of foreign code.
    get = torch._C._get_fp32_precision_getter
    found = [get(*which) for which in (*_WHOLE, *_OPERATIONS)]
    return _read(torch.get_float32_matmul_precision), *found


def set_precision(values: tuple[Any, ...]) -> None:
    """Back to what ``precision`` gave."""
    matmul, whole, parts = values[0], values[1 : 1 + len(_WHOLE)], values[1 + len(_WHOLE) :]
    for (backend, operation), value in zip(_WHOLE, whole, strict=True):
        torch._C._set_fp32_precision_setter(backend, operation, value)
    # Each of these moves some of those that follow: the finest stand last.
    if matmul is not None:
        torch.set_float32_matmul_precision(matmul)
    for which, value in zip(_OPERATIONS, parts, strict=True):
        _set(*which, value)


def describe() -> dict[str, Any]:
    """What is set now, for the environment of a record: plain values by name.

    ``matmul`` and ``convolution`` say what float32 means on CUDA: ``float32`` or ``tf32``.
    ``keeps_freed_memory``: whether we told the allocator to; times with and without do not compare.
    """
    cudnn = _backends().cudnn
    matmul, convolution = (_get("cuda", name) == "tf32" for name in ("matmul", "conv"))
    found: dict[str, Any] = {
        "cudnn": cudnn.enabled,
        "deterministic": cudnn.deterministic,
        "autotuning": cudnn.benchmark,
        "matmul": "tf32" if matmul else "float32",
        "convolution": "tf32" if convolution else "float32",
        "keeps_freed_memory": keep_freed_memory(),
    }
    return found | {name: os.environ[name] for name in _VARIABLES if name in os.environ}


@cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed, once in a process; whether it does. See the module's text.

    Nothing happens with another C library, or where the user has set the allocator by its variables
    (``GLIBC_TUNABLES``, ``MALLOC_TRIM_THRESHOLD_`` and so on).
    """
    if sys.platform != "linux" or any(os.environ.get(name) for name in _ALLOCATOR_VARIABLES):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Both: setting either ends glibc's own way of raising them.
    settings = ((_M_MMAP_THRESHOLD, _LARGEST_IN_HEAP), (_M_TRIM_THRESHOLD, KEPT_BYTES))
    return all(mallopt(number, value) == 1 for number, value in settings)


def _read(setting: Callable[[], Any]) -> Any:
    """An old setting, or None where the new way was used and the old one cannot tell."""
    try:
        return setting()
    except RuntimeError:
        return None


def _get(backend: str, operation: str) -> str:
    return cast(str, _operation(backend, operation).fp32_precision)


def _set(backend: str, operation: str, value: str) -> None:
    _operation(backend, operation).fp32_precision = value


def _operation(backend: str, operation: str) -> Any:
    if backend == "mkldnn":
        return getattr(_backends().mkldnn, operation)
    return (
        _backends().cuda.matmul if operation == "matmul" else getattr(_backends().cudnn, operation)
    )
