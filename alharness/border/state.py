"""What belongs to everybody in a process: one table of how it is read, compared and put back.

A row is read before and after foreign code is called. Reading all of them takes tens of microseconds. What a
row puts back lets the next run of this process begin as if the one that is refused had not been.
"""

from __future__ import annotations

import ctypes
import gc
import locale
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.modules import module as nn_module
from torch.optim import Optimizer

from alharness import numerics

#: Values by name, in a user's words; compared by ``changed``.
Marks = dict[str, object]

#: 624 words and the position among them.
_TWISTER_BYTES = 4 * 625
_RANDOM_STATE = "the global random state of"
#: Not to be left alone, but what a changed random state may come from.
_N_MODULES = "the number of modules"
#: Variables that change what a worker, or a later run of this process, computes or where it writes. Not
#: all: libraries set variables of their own as they are imported, and may.
_VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HOME", "TMPDIR", "ALHARNESS_CACHE")


class Setting(NamedTuple):
    """A row: a name for messages, how to read it, and how to set it to what was read."""

    name: str
    read: Callable[[], Any]
    put_back: Callable[[Any], object]


# Random states ---------------------------------------------------------------------------------


def _numpy_state() -> tuple[Any, object]:
    """The Mersenne twister's state, its bytes as they lie: 1 us, where ``get_state`` takes 80.

    A normal number that numpy drew ahead is not in it; whoever takes that one shows when asked again.
    """
    source = np.random.get_bit_generator()  # type: ignore[attr-defined]  # public, not in its stub
    if not isinstance(source, np.random.MT19937):
        return source, repr(source.state)
    return source, ctypes.string_at(source.ctypes.state_address, _TWISTER_BYTES)


def _set_numpy_state(state: tuple[Any, object]) -> None:
    source, words = state
    np.random.set_bit_generator(source)  # type: ignore[attr-defined]
    if isinstance(words, bytes):
        ctypes.memmove(source.ctypes.state_address, words, len(words))


def _set_torch_state(state: bytes) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


# Python and the system -------------------------------------------------------------------------


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - a tenth of Path.cwd's time
    except FileNotFoundError:  # removed meanwhile
        return None


def _change_folder(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _umask() -> int:
    # The system tells the mask only to those who set one; a strict one, should a thread write just now.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_SIGNALS = sorted(signal.valid_signals())
#: What ``signal.getsignal`` calls: without its enums it takes a twentieth of the time.
_handler_of: Callable[[int], Any] = sys.modules["_signal"].getsignal


def _handlers() -> tuple[Any, ...]:
    return tuple(map(_handler_of, _SIGNALS))


def _set_handlers(handlers: tuple[Any, ...]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # Python lets nobody else do it
    for number, handler in zip(_SIGNALS, handlers, strict=True):
        if handler is not None and _handler_of(number) != handler:
            signal.signal(number, handler)


def _variables() -> tuple[str | None, ...]:
    return tuple(os.environ.get(name) for name in _VARIABLES)


def _set_variables(values: tuple[str | None, ...]) -> None:
    for name, value in zip(_VARIABLES, values, strict=True):
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _streams() -> tuple[Any, ...]:
    return sys.stdin, sys.stdout, sys.stderr


def _set_streams(streams: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = streams


def _set_tracing(functions: tuple[Any, Any]) -> None:
    sys.settrace(functions[0])
    sys.setprofile(functions[1])


def _affinity() -> Any:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def _set_affinity(cpus: Any) -> None:
    if cpus is not None:
        os.sched_setaffinity(0, cpus)


# Torch -----------------------------------------------------------------------------------------

_DEVICES = ("cpu", "cuda")
#: Hooks of all modules and optimisers of the process: dictionaries that are changed in place.
_HOOKS: list[dict[Any, Any]] = [
    value
    for owner in (nn_module, sys.modules[Optimizer.__module__])
    for name, value in sorted(vars(owner).items())
    if name.startswith("_global_") and isinstance(value, dict)
]


def _hooks() -> list[tuple[Any, ...]]:
    return [tuple(hooks.items()) for hooks in _HOOKS]


def _set_hooks(values: list[tuple[Any, ...]]) -> None:
    for hooks, items in zip(_HOOKS, values, strict=True):
        hooks.clear()
        hooks.update(items)


def _autocast() -> tuple[Any, ...]:
    return (
        torch.is_autocast_cache_enabled(),
        *(
            (torch.is_autocast_enabled(where), torch.get_autocast_dtype(where))
            for where in _DEVICES
        ),
    )


def _set_autocast(values: tuple[Any, ...]) -> None:
    torch.set_autocast_cache_enabled(values[0])
    for where, (enabled, dtype) in zip(_DEVICES, values[1:], strict=True):
        torch.set_autocast_enabled(where, enabled)
        torch.set_autocast_dtype(where, dtype)


def _modes() -> tuple[int, int]:
    """How many modes catch torch's calls: ``set_default_device`` is one, a FLOP counter another."""
    return torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()


def _leave_modes(numbers: tuple[int, int]) -> None:
    while torch._C._len_torch_function_stack() > numbers[0]:
        torch._C._pop_torch_function_stack()
    while torch._C._len_torch_dispatch_stack() > numbers[1]:
        torch._C._pop_torch_dispatch_stack()


_left_inference_modes: list[Any] = []


def _set_inference_mode(enabled: bool) -> None:
    # Whoever entered it holds what would leave it; another one inside it undoes it.
    mode: Any = torch.inference_mode(enabled)
    mode.__enter__()
    _left_inference_modes.append(mode)


def _determinism() -> tuple[Any, ...]:
    cudnn = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.enabled,
        cudnn.deterministic,
        cudnn.benchmark,
    )


def _set_determinism(values: tuple[Any, ...]) -> None:
    torch.use_deterministic_algorithms(values[0], warn_only=values[1])
    cudnn = torch.backends.cudnn
    cudnn.enabled, cudnn.deterministic, cudnn.benchmark = values[2:]


_TINY = 5e-324  # a denormal number: the processor's flag holds for every library of this thread


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


#: Functions of torch that read a flag and set it; those that this version lacks are left out.
_FLAGS = {
    "torch's use of oneDNN": ("_get_mkldnn_enabled", "_set_mkldnn_enabled"),
    "torch's use of NNPACK": ("_get_nnpack_enabled", "_set_nnpack_enabled"),
    "torch's flash attention": ("_get_flash_sdp_enabled", "_set_sdp_use_flash"),
    "torch's efficient attention": ("_get_mem_efficient_sdp_enabled", "_set_sdp_use_mem_efficient"),
    "torch's plain attention": ("_get_math_sdp_enabled", "_set_sdp_use_math"),
    "torch's cuDNN attention": ("_get_cudnn_sdp_enabled", "_set_sdp_use_cudnn"),
    "torch's half-precision sums": (
        "_get_cublas_allow_fp16_reduced_precision_reduction",
        "_set_cublas_allow_fp16_reduced_precision_reduction",
    ),
}


#: The table. Of CUDA's random state nothing is read: capturing a graph may move it, and what is drawn from
#: it shows when the same view is asked again.
SETTINGS = (
    Setting(
        f"{_RANDOM_STATE} torch", lambda: torch.get_rng_state().numpy().tobytes(), _set_torch_state
    ),
    Setting(f"{_RANDOM_STATE} numpy", _numpy_state, _set_numpy_state),
    Setting(f"{_RANDOM_STATE} random", random.getstate, random.setstate),
    Setting("torch's inference mode", torch.is_inference_mode_enabled, _set_inference_mode),
    Setting("torch's gradient mode", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting("torch's modes", _modes, _leave_modes),
    Setting("torch's autocast", _autocast, _set_autocast),
    Setting("torch's anomaly mode", _anomaly, lambda flags: torch.set_anomaly_enabled(*flags)),
    Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting("torch's determinism", _determinism, _set_determinism),
    Setting("torch's precision", numerics.precision, numerics.set_precision),
    Setting(
        "torch's flushing of denormal numbers",
        lambda: _TINY * 1.0 == 0.0,
        torch.set_flush_denormal,
    ),
    *(
        Setting(name, getattr(torch._C, read), getattr(torch._C, write))
        for name, (read, write) in _FLAGS.items()
        if hasattr(torch._C, read) and hasattr(torch._C, write)
    ),
    Setting("torch's hooks on all modules and optimisers", _hooks, _set_hooks),
    Setting(
        "numpy's handling of floating-point errors",
        lambda: (np.geterr(), np.geterrcall()),
        lambda values: (np.seterr(**values[0]), np.seterrcall(values[1])),
    ),
    Setting("the working folder", _folder, _change_folder),
    Setting("the mask of new files' modes (umask)", _umask, os.umask),
    Setting("the handlers of signals", _handlers, _set_handlers),
    *(
        [
            Setting(
                "the mask of signals",
                lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
                lambda mask: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
            )
        ]
        if hasattr(signal, "pthread_sigmask")  # not on Windows
        else []
    ),
    Setting("the environment's variables", _variables, _set_variables),
    Setting("the standard streams", _streams, _set_streams),
    Setting("the processors that this process may use", _affinity, _set_affinity),
    Setting(
        "the locale",
        lambda: locale.setlocale(locale.LC_ALL),
        lambda name: locale.setlocale(locale.LC_ALL, name),
    ),
    Setting("Python's recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting(
        "Python's collector of garbage",
        gc.isenabled,
        lambda enabled: gc.enable() if enabled else gc.disable(),
    ),
    Setting("Python's tracing", lambda: (sys.gettrace(), sys.getprofile()), _set_tracing),
)


def global_marks() -> Marks:
    """Random states and settings that belong to everybody."""
    marks: Marks = {row.name: row.read() for row in SETTINGS}
    # Counted last: the first reading may itself import (numpy and torch load parts when they are asked).
    return {**marks, _N_MODULES: len(sys.modules)}


def put_back(marks: Mapping[str, object]) -> None:
    """Set everything that belongs to everybody to what it was at these marks."""
    for row in SETTINGS:
        if row.name in marks and row.read() != marks[row.name]:
            row.put_back(marks[row.name])


def changed(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Names of the marks that differ; where an import may have moved a random state, with the cure."""
    names = [name for name in before if name != _N_MODULES and before[name] != after.get(name)]
    hint = _about_imports(before.get(_N_MODULES), after.get(_N_MODULES))
    return [name + hint if name.startswith(_RANDOM_STATE) else name for name in names]


def _about_imports(n_before: object, n_after: object) -> str:
    """What to say beside a changed random state if libraries were imported meanwhile.

    Some draw as they are imported. That cannot be told from a draw of the plug-in's own without a hook
    in every import, which would be in the way of what is timed; so the plug-in's author is told.
    """
    if not isinstance(n_before, int) or n_before == n_after:
        return ""
    # Modules lie in the order in which they came.
    came = dict.fromkeys(name.partition(".")[0] for name in islice(sys.modules, n_before, None))
    libraries = [name for name in came if name not in sys.stdlib_module_names]
    if not libraries:
        return ""
    more = f" and {len(libraries) - 3} more" if len(libraries) > 3 else ""
    return (
        f" (if importing {', '.join(libraries[:3])}{more} did, import at the top of the module, "
        "not inside the call)"
    )
