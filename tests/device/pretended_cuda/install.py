"""Torch with one pretended device, for the length of a ``with`` block."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from alharness.matching import streamed
from pretended_cuda.functions import Functions
from pretended_cuda.graphs import Graph, capture
from pretended_cuda.state import (
    CUDA,
    PretendedDevice,
    installed,
    must_work,
    not_in_a_capture,
    recording_here,
    refuse,
)
from pretended_cuda.streams import Event, Stream, current_stream, default_stream, entered
from pretended_cuda.tensors import DeviceGenerator, DeviceTensor, Dispatch, on_device

NAME = "pretended CUDA device"


def _group_minima(
    rows_GKS: torch.Tensor,
    norms_N: torch.Tensor,
    is_gone_N: torch.Tensor,
    high: torch.Tensor,
    low: torch.Tensor,
    n_queries: int,
) -> torch.Tensor:
    """What matching's kernel computes, by matrix products; the kernel itself: test_streamed_matching.py."""
    queries_QK = (high.float() + low.float())[:n_queries, : rows_GKS.shape[1]]
    norms_GS = norms_N.masked_fill(is_gone_N, torch.inf).view(len(rows_GKS), -1)
    return (torch.einsum("qk,gks->qgs", queries_QK, rows_GKS.float()) + norms_GS).amin(dim=2)


# Device tensors hold host tensors: what is computed with them ends here.
_KERNELS = torch.library.Library("alharness", "IMPL", "CPU")
_KERNELS.impl("group_minima", _group_minima)
assert streamed.BLOCK  # it has said what there is to compute


@contextmanager
def pretended_cuda(memory_bytes: int = 8 << 30, **options: Any) -> Iterator[PretendedDevice]:
    """One pretended device with so much memory, in this thread and in those begun meanwhile.

    Args:
        options: of ``PretendedDevice``, by their names.
    """
    here = PretendedDevice(memory_bytes, **options)
    with ExitStack() as stack:
        stack.enter_context(installed(here))
        for place, name, value in _replacements(here):
            stack.enter_context(mock.patch.object(place, name, value, create=True))
        stack.enter_context(_modes())
        yield here


@contextmanager
def _modes() -> Iterator[None]:
    with Dispatch(), Functions():
        yield


def _replacements(here: PretendedDevice) -> Iterator[tuple[Any, str, Any]]:
    """What of torch and Python says or does something else while the device is there."""
    # Before torch 2.6 a first step imports it, and it wants real events.
    if not hasattr(torch, "accelerator"):
        import_module("torch._dynamo")
    for name, value in _cuda(here).items():
        yield torch.cuda, name, value
    yield torch, "Generator", _GeneratorClass("Generator", (), {})
    optimizer = import_module("torch.optim.optimizer")  # torch.optim hides it
    supported = [*optimizer._foreach_supported_types, DeviceTensor]
    yield optimizer, "_foreach_supported_types", supported
    yield torch._C, "_group_tensors_by_device_and_dtype", _grouping()
    yield torch.autograd, "_engine_run_backward", _engine()
    if hasattr(torch, "accelerator"):  # since torch 2.6
        yield torch.accelerator, "current_accelerator", lambda *_, **__: torch.device("cuda")
        yield torch.accelerator, "is_available", lambda: True
        yield torch.accelerator, "current_stream", current_stream
        yield torch.accelerator, "current_device_index", lambda: 0
    # Module.to would write a device tensor's metadata into the host's parameter.
    yield torch.__future__, "_overwrite_module_params_on_conversion", True
    run = threading.Thread.run

    def run_with_device(thread: threading.Thread) -> None:
        with _modes():  # torch's modes belong to a thread
            run(thread)

    yield threading.Thread, "run", run_with_device


def _cuda(here: PretendedDevice) -> dict[str, Any]:
    """``torch.cuda``."""

    def synchronize(*_: Any) -> None:
        not_in_a_capture("synchronize")
        must_work()
        here.counts.synchronisations += 1
        if here.order is not None:
            here.order.host_waits_for_all()

    def empty_cache() -> None:
        must_work()
        if here.is_poisoned:
            refuse("captures_underway.empty() INTERNAL ASSERT FAILED")

    def set_sync_debug_mode(mode: int | str) -> None:
        here.sync_debug = {"default": 0, "warn": 1, "error": 2}.get(str(mode), mode)

    def manual_seed(seed: int) -> None:
        here.rng_state = torch._C.Generator().manual_seed(int(seed)).get_state()

    def set_rng_state(state: torch.Tensor, *_: Any) -> None:
        here.rng_state = state.clone()

    def reset_peak(*_: Any) -> None:
        here.memory.peak = here.memory.held

    properties = SimpleNamespace(
        name=NAME,
        major=9,
        minor=0,
        total_memory=here.memory.total,
        multi_processor_count=1,
        L2_cache_size=50 << 20,
    )
    return {
        "_lazy_init": lambda: None,
        "init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda *_: None,
        "device": lambda *_: nullcontext(),
        "get_device_name": lambda *_: NAME,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_properties": lambda *_: properties,
        "is_bf16_supported": lambda *_, **__: True,
        "synchronize": synchronize,
        "mem_get_info": lambda *_: (here.memory.free, here.memory.total),
        "memory_allocated": lambda *_: here.memory.held,
        "memory_reserved": lambda *_: here.memory.held,
        "max_memory_allocated": lambda *_: here.memory.peak,
        "max_memory_reserved": lambda *_: here.memory.peak,
        "reset_peak_memory_stats": reset_peak,
        "empty_cache": empty_cache,
        "set_sync_debug_mode": set_sync_debug_mode,
        "get_sync_debug_mode": lambda: here.sync_debug,
        "manual_seed": manual_seed,
        "manual_seed_all": manual_seed,
        "get_rng_state": lambda *_: here.rng_state.clone(),
        "set_rng_state": set_rng_state,
        "current_stream": current_stream,
        "default_stream": default_stream,
        "stream": entered,
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": capture,
        "is_current_stream_capturing": lambda: recording_here() is not None,
        "current_blas_handle": lambda: 0,
    }


class _GeneratorClass(type):
    """``torch.Generator``: one for the device where it is asked for."""

    def __call__(cls, device: Any = "cpu") -> torch._C.Generator:
        return DeviceGenerator() if on_device(device) else torch._C.Generator(device)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, torch._C.Generator)


def _grouping() -> Any:
    """Optimisers group their tensors by the device that C++ sees."""
    group = torch._C._group_tensors_by_device_and_dtype

    def grouped(lists: Any, with_indices: bool = False) -> Any:
        found = {}
        for (seen, dtype), (tensors, indices) in group(lists, with_indices).items():
            on_it = isinstance(tensors[0][0], DeviceTensor)
            found[CUDA if on_it else seen, dtype] = tensors, indices
        return found

    return grouped


def _engine() -> Any:
    """Python code that a backward pass runs must find the functions' mode, too."""
    run_backward = torch.autograd._engine_run_backward

    def engine(*args: Any, **kwargs: Any) -> Any:
        with Functions():
            return run_backward(*args, **kwargs)

    return engine
