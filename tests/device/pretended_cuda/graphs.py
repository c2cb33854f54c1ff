"""CUDA graphs: operations recorded without taking effect, replayed one by one on the same memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pretended_cuda.launches import Calculate, on_trial, put_into, unmoved, written
from pretended_cuda.operations import RANDOM, Operation, tensors_in
from pretended_cuda.order import on_host
from pretended_cuda.state import current_queue, device, must_work, present, refuse
from pretended_cuda.tensors import DeviceGenerator


class Recording:
    """The operations of one capture, in order.

    Attributes:
        thread: whose launches are recorded.
        mode: which calls of other threads break the capture: ``global`` all that no capture permits.
        draws: a replay draws random numbers.
        reads, writes: memory that a replay touches.
    """

    def __init__(self, generators: list[DeviceGenerator], mode: str = "global") -> None:
        self._generators = generators
        self._operations: list[tuple[Calculate, Any, dict[str, Any], Any]] = []
        self.thread, self.mode = threading.get_ident(), mode
        self.draws = False
        self.reads: list[torch.Tensor] = []
        self.writes: list[torch.Tensor] = []

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
        with unmoved(rng):  # a captured kernel has not run
            result = on_trial(calculate, operation, args, kwargs)
        captured = None if operation.changes else result
        self._operations.append((calculate, args, kwargs, captured))
        if not operation.is_view:
            self._note(operation, args, kwargs, result)
        return result

    def _note(self, operation: Operation, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        self.draws |= operation.name in RANDOM
        given = list(tensors_in([*args, *kwargs.values()]))
        self.reads += given
        self.writes += [*written(operation, args, given), *tensors_in([result])]

    def replay(self) -> None:
        """All operations once more; new results go where the captured ones lie."""
        with on_host():
            for calculate, args, kwargs, captured in self._operations:
                result = calculate(args, kwargs)
                if captured is not None:
                    put_into(captured, result)


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
        here, recording = device(), self.recording
        must_work()
        here.counts.replays += 1
        here.counts.launches += 1
        if here.order is None:
            recording.replay()
            return
        queue = present(current_queue())
        here.order.launch(queue, "a graph", recording.replay, recording.reads, recording.writes)
        if recording.draws:  # how far a generator moves is known when it has run
            here.order.run(queue, queue.n_added)

    def reset(self) -> None:
        self.recording = None


@contextmanager
def capture(graph: Graph, *_: Any, capture_error_mode: str = "global", **__: Any) -> Iterator[None]:
    """``torch.cuda.graph``."""
    here = device()
    if here.recording is not None:
        refuse("CUDA error: a capture is under way already")
    torch.cuda.synchronize()  # as torch does before each capture
    torch.cuda.empty_cache()
    here.recording = recording = Recording(graph.generators, capture_error_mode)
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
