"""A step as one CUDA graph: its few hundred small kernels are launched at once.

``torch.compile`` is no way to get there: the gradient penalty differentiates a gradient, and
compiled code cannot be differentiated twice.

A capture that fails is not to be had back: up to torch 2.11 at least the device's generator stays in
capture mode, the allocator counts a capture under way, and the next step that draws or captures fails. So
whether a graph can hold a step is never found out by capturing: the last eager call is watched, and a
step that does what no graph can hold stays eager.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch.utils._python_dispatch import TorchDispatchMode

#: Eager calls before the capture: libraries choose their kernels and optimisers make their state.
WARM_UP_CALLS = 3
#: Calls from which on a capture pays: the warm-up is eager anyway, and recording and instantiating the
#: graph take the host about as long as two eager steps.
WORTH_CAPTURING = WARM_UP_CALLS + 5

#: Operations whose result, or its shape, the host has to know before it can go on.
HOST_READS = frozenset(
    [
        "_local_scalar_dense",
        "_unique2",
        "bincount",
        "equal",
        "masked_select",
        "nonzero",
        "unique_consecutive",
        "unique_dim",
    ]
)
#: What torch says, as a warning, of an operation that waits for the device.
_SYNCHRONISES = "called a synchronizing CUDA operation"


class CapturedStep:
    """``function(*inputs)`` run eagerly at first, then captured once and replayed.

    Args:
        function: changes tensors in place and returns nothing; no host synchronisation inside, no
            Python numbers that change from call to call.
        rng: generator on the device that ``function`` draws from, beside the device's default one; its
            seed may change between calls.
        or_eagerly: what a warning calls the step, where no graph can hold it and it stays eager. Without
            it that is an error.

    Raises:
        RuntimeError: no graph can hold the step, and it has no name to stay eager under; or the device
            ran out of memory.
    """

    def __init__(
        self,
        function: Callable[..., None],
        rng: torch.Generator | None = None,
        *,
        or_eagerly: str = "",
    ) -> None:
        self._function = function
        self._rng = rng
        self._name = or_eagerly
        self._is_refused = False
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[torch.Tensor, ...] = ()

    def __call__(self, *inputs: torch.Tensor) -> None:
        """One step; the inputs' shapes are those of the first call."""
        if self._graph is not None:
            for held, given in zip(self._inputs, inputs, strict=True):
                held.copy_(given)
            self._graph.replay()
        elif self._is_refused:
            self._function(*inputs)
        elif self._calls < WARM_UP_CALLS:
            self._calls += 1
            self._warm_up(inputs)
        else:
            self._capture(inputs)

    def _warm_up(self, inputs: tuple[torch.Tensor, ...]) -> None:
        """One eager call on another stream, as a capture needs it; the last one is watched."""
        current = torch.cuda.current_stream()
        stream = torch.cuda.Stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            if self._calls < WARM_UP_CALLS:
                self._function(*inputs)
            else:
                with watched(self._rng) as obstacles:
                    self._function(*inputs)
                self._judge(obstacles)
        current.wait_stream(stream)

    def _judge(self, obstacles: list[str]) -> None:
        """Stay eager where no graph can hold what was watched."""
        if not obstacles:
            return
        told = "; ".join(dict.fromkeys(obstacles))
        if not self._name:
            raise RuntimeError(f"no CUDA graph can hold this step: {told}")
        warnings.warn(
            f"{self._name} without a CUDA graph, slower but the same: {told}", stacklevel=4
        )
        self._is_refused = True

    def _capture(self, inputs: tuple[torch.Tensor, ...]) -> None:
        self._inputs = tuple(values.clone() for values in inputs)
        graph = torch.cuda.CUDAGraph()
        if self._rng is not None:
            graph.register_generator_state(self._rng)
        # What another thread allocates meanwhile (a pool that is read ahead) is no part of this capture.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._function(*self._inputs)
        self._graph = graph
        graph.replay()  # capturing records and computes nothing


@contextmanager
def watched(rng: torch.Generator | None = None) -> Iterator[list[str]]:
    """What no CUDA graph can hold of the steps in the ``with`` block, in words, once it is left.

    They are done as ever: torch warns of each wait for the device instead of refusing it, because a step
    that is broken off in its middle cannot be repeated.

    Args:
        rng: a generator that will be registered with the graph.
    """
    found: list[str] = []
    before, here = torch.cuda.get_sync_debug_mode(), threading.get_ident()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=_SYNCHRONISES)
        warnings.filterwarnings("ignore", message="Synchronization debug mode")  # a prototype
        show = warnings.showwarning

        def note(message: Warning | str, *where: Any, **more: Any) -> None:
            if _SYNCHRONISES not in str(message):
                show(message, *where, **more)
            elif threading.get_ident() == here:  # not a thread that reads a pool ahead
                found.append("the host waits for the device")

        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with _Watch(found, rng):
                yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)


class _Watch(TorchDispatchMode):
    """Notes operations that a capture would fail on, or would freeze."""

    def __init__(self, found: list[str], rng: torch.Generator | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = found
        known = [*torch.cuda.default_generators, *([] if rng is None else [rng])]
        # C++ hands operations another Python object of the same generator.
        self.known = {_address(generator) for generator in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [*args, *kwargs.values()]
        name = func._schema.name.partition("::")[2]
        on_device = _means_cuda(kwargs.get("device")) or any(
            value.is_cuda for value in given if isinstance(value, torch.Tensor)
        )
        if on_device and name in HOST_READS:
            self.found.append(f"the host reads a result ({name})")
        if name in ("copy_", "_to_copy") and _crosses(args, kwargs):
            # From pinned memory, too: a replay would copy what lies there then.
            self.found.append("a copy between host and device")
        drawn_by = [value for value in given if isinstance(value, torch.Generator)]
        if on_device and any(_address(generator) not in self.known for generator in drawn_by):
            # A generator outside of capture mode refuses to draw in a capture.
            self.found.append("random numbers of a generator that the graph does not know")
        return func(*args, **kwargs)


def _address(generator: torch.Generator) -> int:
    address: int = cast(Any, generator)._cdata
    return address


def _means_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _crosses(args: Any, kwargs: Any) -> bool:
    """Whether the two sides of a copy lie on host and device."""
    if isinstance(args[1] if len(args) > 1 else None, torch.Tensor):  # copy_(target, source)
        return bool(args[0].is_cuda != args[1].is_cuda)
    return kwargs.get("device") is not None and _means_cuda(kwargs["device"]) != args[0].is_cuda


def weakly(method: Callable[..., None]) -> Callable[..., None]:
    """A method without its object, which keeps a graph of it: all memory goes when the object goes.

    Without, object and graph would keep each other until Python's cyclic collector runs, and nothing makes
    it run when a device's memory is short.
    """
    reference = weakref.WeakMethod(method)

    def call(*inputs: torch.Tensor) -> None:
        bound = reference()
        assert bound is not None  # whoever calls has the object
        bound(*inputs)

    return call
