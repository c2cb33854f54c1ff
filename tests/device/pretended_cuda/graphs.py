"""CUDA graphs: operations recorded without taking effect, replayed one by one on the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pretended_cuda.state import device, refuse
from pretended_cuda.tensors import DeviceGenerator, changed, tensors_in
from torch.utils._python_dispatch import _disable_current_modes


class Recording:
    """The operations of one capture, in order."""

    def __init__(self, generators: list[DeviceGenerator]) -> None:
        self._generators = generators
        self._operations: list[tuple[Callable[[], Any], Any]] = []

    def add(
        self,
        calculate: Callable[[], Any],
        func: Any,
        changes: bool,
        args: Any,
        kwargs: dict[str, Any],
        generator: Any,
    ) -> Any:
        """Record an operation; its result has the right shape, memory that it writes keeps its values."""
        known = {registered._cdata for registered in self._generators}
        if generator is not None and generator._cdata not in known:
            refuse(
                "Attempt to increase offset for a CUDA generator not in capture mode: register it with "
                "CUDAGraph.register_generator_state"
            )
        if not changes:
            before = generator.get_state() if generator is not None else None
            result = calculate()
            if before is not None:
                generator.set_state(before)
            self._operations.append((calculate, result))
            return result
        copies: dict[int, torch.Tensor] = {}  # a captured kernel has not run
        of_copy: dict[int, torch.Tensor] = {}

        def copy(held: torch.Tensor) -> torch.Tensor:
            if id(held) not in copies:
                copies[id(held)] = made = held.clone()
                of_copy[id(made)] = held
            return copies[id(held)]

        before = generator.get_state() if generator is not None else None
        with torch.no_grad():
            result = func(
                *changed(args, {torch.Tensor: copy}),
                **{key: changed(value, {torch.Tensor: copy}) for key, value in kwargs.items()},
            )
        if before is not None:
            generator.set_state(before)
        self._operations.append((calculate, None))
        return changed(result, {torch.Tensor: lambda t: of_copy.get(id(t), t)})

    def replay(self) -> None:
        """All operations once more; new results go where the captured ones lie."""
        with torch.no_grad(), torch._C.DisableTorchFunction(), _disable_current_modes():
            for calculate, captured in self._operations:
                result = calculate()
                if captured is None:
                    continue
                for old, new in zip(tensors_in([captured]), tensors_in([result]), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)


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
    here.recording = recording = Recording(graph.generators)
    here.counts.captures += 1
    try:
        yield
    finally:
        here.recording = None
    graph.recording = recording
