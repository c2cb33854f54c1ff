"""CUDA graphs: operations recorded without taking effect, replayed one by one on the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from pretended_cuda.state import device, refuse
from pretended_cuda.tensors import DeviceGenerator, Operation, changed, tensors_in

#: Batch normalisation moves its running statistics, which its schema does not say.
WRITES_UNTOLD = ("native_batch_norm", "cudnn_batch_norm")

Calculate = Callable[[Any, dict[str, Any]], Any]


class Recording:
    """The operations of one capture, in order."""

    def __init__(self, generators: list[DeviceGenerator]) -> None:
        self._generators = generators
        self._operations: list[tuple[Calculate, Any, dict[str, Any], Any]] = []

    def add(
        self,
        calculate: Calculate,
        operation: Operation,
        args: Any,
        kwargs: dict[str, Any],
        rng: Any,
    ) -> Any:
        """Record an operation; its result has the right shape, memory that it writes keeps its values."""
        known = {registered._cdata for registered in self._generators}
        if rng is not None and rng._cdata not in known:
            refuse(
                "Attempt to increase offset for a CUDA generator not in capture mode: register it with "
                "CUDAGraph.register_generator_state"
            )
        with _unmoved(rng):  # a captured kernel has not run
            if operation.changes or operation.name in WRITES_UNTOLD:
                result = self._on_copies(calculate, args, kwargs)
            else:
                result = calculate(args, kwargs)
        captured = None if operation.changes else result
        self._operations.append((calculate, args, kwargs, captured))
        return result

    def _on_copies(self, calculate: Calculate, args: Any, kwargs: dict[str, Any]) -> Any:
        """The result on copies of the arguments; where it is a copy, what it was copied from."""
        copies: dict[int, torch.Tensor] = {}
        of_copy: dict[int, torch.Tensor] = {}

        def copy(held: torch.Tensor) -> torch.Tensor:
            if id(held) not in copies:
                copies[id(held)] = made = held.clone()
                of_copy[id(made)] = held
            return copies[id(held)]

        with torch.no_grad():
            result = calculate(
                changed(args, {torch.Tensor: copy}),
                {key: changed(value, {torch.Tensor: copy}) for key, value in kwargs.items()},
            )
        return changed(result, {torch.Tensor: lambda t: of_copy.get(id(t), t)})

    def replay(self) -> None:
        """All operations once more; new results go where the captured ones lie."""
        with torch.no_grad(), torch._C.DisableTorchFunction(), _disable_current_modes():
            for calculate, args, kwargs, captured in self._operations:
                result = calculate(args, kwargs)
                if captured is None:
                    continue
                for old, new in zip(tensors_in([captured]), tensors_in([result]), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)


@contextmanager
def _unmoved(rng: Any) -> Iterator[None]:
    """The device's generators stand afterwards where they stood."""
    here = device()
    default, given = here.rng_state, rng.get_state() if rng is not None else None
    yield
    here.rng_state = default
    if given is not None:
        rng.set_state(given)


class Graph:
    """``torch.cuda.CUDAGraph``."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.generators: list[DeviceGenerator] = []
        self.recording: Recording | None = None

    def register_generator_state(self, generator: Any) -> None:
        if not isinstance(generator, DeviceGenerator):
            refuse("Expected a 'cuda' device type for generator but found 'cpu'")
        self.generators.append(generator)

    def replay(self) -> None:
        if self.recording is None:
            refuse("Called CUDAGraph::replay without a preceding successful capture.")
        assert self.recording is not None
        device().counts.replays += 1
        device().counts.launches += 1
        self.recording.replay()

    def reset(self) -> None:
        self.recording = None


@contextmanager
def capture(graph: Graph, *_: Any, **__: Any) -> Iterator[None]:
    """``torch.cuda.graph``."""
    here = device()
    if here.recording is not None:
        refuse("CUDA error: a capture is under way already")
    torch.cuda.empty_cache()  # as torch does before each capture
    here.recording = recording = Recording(graph.generators)
    here.counts.captures += 1
    here.is_broken = False
    try:
        yield
    except RuntimeError as error:
        if not here.is_broken:
            raise
        # The end of the capture fails before it gives back what the beginning took.
        here.is_poisoned = True
        raise RuntimeError(
            "CUDA error: operation failed due to a previous error during capture [pretended CUDA]"
        ) from error
    finally:
        here.recording = None
    graph.recording = recording
