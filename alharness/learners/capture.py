"""A step as one CUDA graph: its few hundred small kernels are launched at once.

``torch.compile`` is no way to get there: the gradient penalty differentiates a gradient, and
compiled code cannot be differentiated twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

from alharness.numerics import is_out_of_memory

#: Eager calls before the capture: libraries choose their kernels and optimisers make their state.
WARM_UP_CALLS = 3
#: Calls from which on a capture pays: the warm-up is eager anyway, and recording and instantiating the
#: graph take the host about as long as two eager steps.
WORTH_CAPTURING = WARM_UP_CALLS + 5


class CapturedStep:
    """``function(*inputs)`` run eagerly at first, then captured once and replayed.

    Args:
        function: changes tensors in place and returns nothing; no host synchronisation inside, no
            Python numbers that change from call to call.
        rng: generator on the device that ``function`` draws from, beside the device's default one; its
            seed may change between calls.
        or_eagerly: what a warning calls the step, where no graph can hold it and it stays eager. Without
            it that is an error.
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
        if self._is_refused:
            self._function(*inputs)
            return
        try:
            self._run(inputs)
        except RuntimeError as error:
            if not self._name or self._calls < WARM_UP_CALLS or is_out_of_memory(error):
                raise
            warnings.warn(
                f"{self._name} without a CUDA graph, slower but the same: {error}", stacklevel=2
            )
            self._is_refused = True
            self._function(*inputs)

    def _run(self, inputs: tuple[torch.Tensor, ...]) -> None:
        if self._graph is not None:
            for held, given in zip(self._inputs, inputs, strict=True):
                held.copy_(given)
            self._graph.replay()
        elif self._calls < WARM_UP_CALLS:
            self._warm_up(inputs)
            self._calls += 1
        else:
            self._capture(inputs)

    def _warm_up(self, inputs: tuple[torch.Tensor, ...]) -> None:
        """One eager call on another stream, as a capture needs it."""
        current = torch.cuda.current_stream()
        stream = torch.cuda.Stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            self._function(*inputs)
        current.wait_stream(stream)

    def _capture(self, inputs: tuple[torch.Tensor, ...]) -> None:
        self._inputs = tuple(values.clone() for values in inputs)
        graph = torch.cuda.CUDAGraph()
        if self._rng is not None:
            graph.register_generator_state(self._rng)
        with torch.cuda.graph(graph):
            self._function(*self._inputs)
        self._graph = graph
        graph.replay()  # capturing records and computes nothing
