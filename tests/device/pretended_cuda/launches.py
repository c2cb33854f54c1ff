"""An operation of the device: computed at once, or put into its stream's queue and computed later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from pretended_cuda.operations import (
    CONVOLUTIONS,
    FUSED,
    HOST_WAITS,
    MOVES,
    RANDOM,
    ROUNDED,
    UNWRITTEN,
    WRITES_UNTOLD,
    Operation,
    changed,
    tensors_in,
)
from pretended_cuda.order import Order, garbled
from pretended_cuda.state import current_queue, device, present

Calculate = Callable[[Any, dict[str, Any]], Any]

#: How many last bits are another chip's.
OTHER_BITS = 2


def on_trial(calculate: Calculate, operation: Operation, args: Any, kwargs: dict[str, Any]) -> Any:
    """A result of the right shape from what the arguments hold; memory that is written keeps its values."""
    if not operation.writes:
        return calculate(args, kwargs)
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


def put_into(captured: Any, result: Any) -> None:
    """New results go where those of the trial lie."""
    for old, new in zip(tensors_in([captured]), tensors_in([result]), strict=True):
        if old.data_ptr() != new.data_ptr():
            old.copy_(new)


def launched(
    calculate: Calculate,
    operation: Operation,
    args: Any,
    kwargs: dict[str, Any],
    rng: torch.Generator | None,
) -> Any:
    """The result of an operation, computed when its stream comes to it.

    Args:
        calculate: computes it on host tensors.
        args, kwargs: with the host tensors that device tensors hold.
        rng: the device's generator that it draws from, if not the default one.
    """
    order = device().order
    if order is None or operation.is_view:
        return calculate(args, kwargs)
    with order.lock:
        if operation.name in MOVES or operation.name in HOST_WAITS:
            order.host_waits(present(current_queue()))
            for tensor in tensors_in([*args, *kwargs.values()]):
                order.touched_by_host(tensor, operation.name, writes=operation.writes)
            return calculate(args, kwargs)
        return _later(order, calculate, operation, args, kwargs, rng)


def _later(
    order: Order,
    calculate: Calculate,
    operation: Operation,
    args: Any,
    kwargs: dict[str, Any],
    rng: torch.Generator | None,
) -> Any:
    here, queue = device(), present(current_queue())
    given = list(tensors_in([*args, *kwargs.values()]))
    drawn_from = states_of(rng)
    result = on_trial(calculate, operation, args, kwargs)
    storages = {tensor.untyped_storage()._cdata for tensor in given}
    made = [t for t in tensors_in([result]) if t.untyped_storage()._cdata not in storages]
    if not made and not operation.writes:  # a view that its schema does not call one
        return result
    for tensor in made:
        order.allocated(queue, tensor)
        garbled(tensor)
    if operation.name in UNWRITTEN:
        return result
    changed_ones = written(operation, args, given)
    read = [tensor for tensor in given if all(tensor is not other for other in changed_ones)]
    checks = [order.unchanged(tensor) for tensor in read if here.is_pinned(tensor)]

    def work() -> None:
        for check in checks:
            check()
        with _drawing_from(drawn_from, rng) if operation.name in RANDOM else nullcontext():
            found = calculate(args, kwargs)
        if not operation.changes:
            put_into(result, found)

    order.launch(queue, operation.name, work, read, [*changed_ones, *made])
    return result


def written(operation: Operation, args: Any, given: list[torch.Tensor]) -> list[torch.Tensor]:
    """Arguments that an operation writes: the first one, or those of its first list."""
    if not operation.writes:
        return []
    if operation.name in WRITES_UNTOLD:
        return given[1:]
    if operation.name in FUSED:
        return given
    return list(tensors_in(args[:1])) or given


# Random numbers ----------------------------------------------------------------------------------

States = tuple[torch.Tensor, torch.Tensor | None]


def states_of(rng: torch.Generator | None) -> States:
    """Of the device's default generator and of the one that is given."""
    return device().rng_state, rng.get_state() if rng is not None else None


def set_states(states: States, rng: torch.Generator | None) -> None:
    device().rng_state, given = states
    if rng is not None and given is not None:
        rng.set_state(given)


@contextmanager
def unmoved(rng: torch.Generator | None) -> Iterator[None]:
    """The device's generators stand afterwards where they stood."""
    before = states_of(rng)
    yield
    set_states(before, rng)


@contextmanager
def _drawing_from(states: States, rng: torch.Generator | None) -> Iterator[None]:
    """Generators stand where they stood at the launch: CUDA's draw at offsets that the host gives out."""
    with unmoved(rng):
        set_states(states, rng)
        yield


# Rounding ----------------------------------------------------------------------------------------


def rounded(calculate: Calculate, operation: Operation) -> Calculate:
    """As another chip's libraries compute it, where they round otherwise: the same in each call."""
    if operation.name in FUSED:

        def stepped(args: Any, kwargs: dict[str, Any]) -> Any:
            result = calculate(args, kwargs)
            with torch.no_grad():
                for parameter in args[0]:
                    parameter.copy_(_shaken(parameter))
            return result

        return stepped
    if operation.name not in ROUNDED or operation.changes:
        return calculate
    return lambda args, kwargs: changed(calculate(args, kwargs), {torch.Tensor: _shaken})


def _shaken(values: torch.Tensor) -> torch.Tensor:
    """The last bits replaced by a hash of the others: zero, infinities and NaN stay."""
    if values.dtype not in (torch.float32, torch.float64) or values.numel() == 0:
        return values
    single = values.dtype == torch.float32
    bits = values.contiguous().view(torch.int32 if single else torch.int64)
    factor, shift = (-1640531527, 28) if single else (-7046029254386353131, 60)
    mask = (1 << OTHER_BITS) - 1
    hashed = (((bits & ~mask) * factor) >> shift) & mask
    found = ((bits & ~mask) | hashed).view(values.dtype)
    found = torch.where(torch.isfinite(values) & (values != 0), found, values)
    return torch.empty_like(values).copy_(found)  # with the strides that it had


# Shapes alone ------------------------------------------------------------------------------------


def without_values(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
    """The shape of a result; what the host reads is 0 or yes, and everything equals everything."""
    if name == "_local_scalar_dense":
        return args[0].dtype == torch.bool or torch.zeros((), dtype=args[0].dtype).item()
    if name in ("equal", "allclose"):
        return True
    if name == "copy_" and args[0].device.type != "meta":
        return args[0]
    if name in FUSED:
        return None
    if name in RANDOM:
        kwargs = {key: value for key, value in kwargs.items() if key != "generator"}
    result = func(*args, **kwargs)
    if name in CONVOLUTIONS and any(is_channels_last(given) for given in args[:3]):
        # cuDNN's results have the layout of whichever of images and weights has its channels last.
        return changed(result, {torch.Tensor: _channels_last})
    return result


def is_channels_last(tensor: Any) -> bool:
    """In this layout and no other."""
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.dim() == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous()
    )


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
