"""``DeviceTensor`` and what happens when torch computes with one: the rules of a device, then the CPU."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pretended_cuda.launches import launched, rounded, without_values
from pretended_cuda.operations import (
    CONVOLUTIONS,
    COPIES,
    FACTORIES,
    FUSED,
    HOST_WAITS,
    INDEXING,
    NONDETERMINISTIC,
    RANDOM,
    Operation,
    changed,
    tensors_in,
)
from pretended_cuda.order import garbled
from pretended_cuda.state import (
    CUDA,
    HOST,
    LOCAL,
    current_queue,
    device,
    held,
    must_work,
    present,
    read_by_host,
    recording_here,
    refuse,
    sent_by_host,
)

META = torch.device("meta")
NO_NUMPY = (
    "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
    "memory first."
)


class DeviceTensor(torch.Tensor):
    """Says ``cuda:0`` and holds a host tensor, ``inner``.

    To torch's C++ it is a host tensor; what depends on its device there is caught in ``functions``.
    """

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> DeviceTensor:
        made: DeviceTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=HOST,
        )
        made.inner = inner
        here = device()
        here.memory.hold(made, inner, here.order.released if here.order is not None else None)
        return made

    def __init__(self, inner: torch.Tensor) -> None: ...

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"DeviceTensor({self.inner!r})"

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(NO_NUMPY)

    def __deepcopy__(self, memo: dict[int, Any]) -> DeviceTensor:
        if id(self) in memo:
            found: DeviceTensor = memo[id(self)]
            return found
        copied = DeviceTensor(settled(self).clone()).requires_grad_(self.requires_grad)
        vars(copied).update({k: v for k, v in vars(self).items() if k == "_is_param"})
        memo[id(self)] = copied
        return copied

    def get_device(self) -> int:
        return 0

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()


def on_device(value: Any) -> bool:
    """Whether an option means the device."""
    if value is None or isinstance(value, bool):
        return False
    return isinstance(value, int) or torch.device(value).type == "cuda"


INSIDE: dict[type, Any] = {DeviceTensor: lambda t: t.inner}


def inside(value: Any) -> Any:
    """Device tensors replaced by what they hold."""
    return changed(value, INSIDE)


def compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operation that has to do with the device: check the rules, count, compute on the host."""
    here, operation, recording = device(), Operation.of(func), recording_here()
    name = operation.name
    found = list(tensors_in([*args, *kwargs.values()]))
    on_it = [t for t in found if isinstance(t, DeviceTensor)]
    hosts = [t for t in found if not isinstance(t, DeviceTensor)]
    factory = on_device(kwargs.get("device"))
    inner_kwargs = {key: inside(value) for key, value in kwargs.items()}
    if factory:
        inner_kwargs["device"] = META if here.is_weightless else HOST
    if "pin_memory" in inner_kwargs:
        inner_kwargs["pin_memory"] = False
    is_awaited = False
    if name in COPIES:
        is_awaited = _copying(name, args, kwargs, factory)
    elif hosts:
        args = _host_tensors(func, operation, args, on_it, hosts)
    _waiting(operation, args, kwargs, on_it)
    if name in CONVOLUTIONS:
        _convolving(name, args)
    if name in FUSED:
        _same_layout(args)
    if name in NONDETERMINISTIC and any(t.is_floating_point() for t in on_it):
        refuse(f"{name} does not have a deterministic implementation")
    if not operation.is_view:
        must_work()
        here.counts.launches += recording is None
    inner_args = inside(args)
    source = _generator(name, args, inner_kwargs) if name in RANDOM else None

    def calculate(args: Any, kwargs: dict[str, Any]) -> Any:
        if here.is_weightless:
            return without_values(func, name, args, kwargs)
        if name not in RANDOM or source is not None:
            return func(*args, **kwargs)
        return _with_default_generator(func, args, kwargs)

    compute_it = rounded(calculate, operation) if here.rounds_otherwise else calculate
    if recording is not None:
        result = recording.add(compute_it, operation, inner_args, inner_kwargs, source)
    elif is_awaited:
        result = compute_it(inner_args, inner_kwargs)
    else:
        result = launched(compute_it, operation, _kept(inner_args), inner_kwargs, source)
    if name == "copy_":
        return args[0]
    given = {id(t.inner): t for t in on_it} if operation.changes else {}

    def outside(inner: torch.Tensor) -> torch.Tensor:
        return given[id(inner)] if id(inner) in given else DeviceTensor(inner)

    return changed(result, {torch.Tensor: outside})


def read(tensor: DeviceTensor, what: str) -> None:
    """The host waits for a tensor's values."""
    read_by_host(what)
    order = device().order
    if order is not None:
        order.touched_by_host(tensor.inner, what, writes=False)


def _kept(args: Any) -> Any:
    """Host memory that is not pinned is read at the launch, not when the queue comes to it."""
    here = device()
    if here.order is None:
        return args

    def kept(tensor: torch.Tensor) -> torch.Tensor:
        if here.memory.holds(tensor) or here.is_pinned(tensor):
            return tensor
        return tensor.clone()

    return changed(args, {torch.Tensor: kept})


def _copying(name: str, args: Any, kwargs: Mapping[str, Any], factory: bool) -> bool:
    """Counts a copy between host and device; whether it is one to the host that the host waits for."""
    if name == "_to_copy":
        if factory and not isinstance(args[0], DeviceTensor):
            sent_by_host(args[0], bool(kwargs.get("non_blocking")))
        return False  # the host's name in an option is what C++ calls the device
    target, source = args[0], args[1]
    non_blocking = bool(args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
    if isinstance(target, DeviceTensor):
        if not isinstance(source, DeviceTensor):
            sent_by_host(source, non_blocking)
        return False
    if non_blocking and device().is_pinned(target):
        return False
    read(source, "copy to the host")
    return True


def _host_tensors(
    func: Any, operation: Operation, args: Any, on_it: list[Any], hosts: list[torch.Tensor]
) -> Any:
    """Host tensors beside device tensors: only single numbers, and indices into a device tensor."""
    if not on_it:
        return args
    if operation.name in INDEXING:
        if not isinstance(args[0], DeviceTensor):
            refuse(
                "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
            )
        indices = [sent(i) if _is_host(i) else i for i in args[1]]
        if any(_is_host(t) and t.dim() > 0 for t in args[2:3]):
            refuse(f"{func}: expected the values on the same device, but found cpu")
        return (args[0], indices, *args[2:])
    written = operation.changes and _is_host(args[0])
    if written or any(t.dim() > 0 for t in hosts):
        shapes = [tuple(t.shape) for t in hosts]
        refuse(
            f"{func}: Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and cpu! (host tensors of shape {shapes})"
        )
    if recording_here() is not None:  # a captured kernel keeps the number that it was given
        return changed(args, {torch.Tensor: lambda t: t.clone()})
    return args


def _is_host(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not isinstance(value, DeviceTensor)


def sent(host: torch.Tensor, *, non_blocking: bool = False) -> DeviceTensor:
    """A copy of host memory in new memory of the current stream; from pinned memory when it comes to that."""
    sent_by_host(host, non_blocking)
    here = device()
    made = held(host)
    if here.order is not None and recording_here() is None:
        queue = present(current_queue())
        here.order.allocated(queue, made)
        if non_blocking and here.is_pinned(host):
            check = here.order.unchanged(host)

            def work() -> None:
                check()
                made.copy_(host)

            garbled(made)
            here.order.launch(queue, "copy from pinned memory", work, [host], [made])
    return DeviceTensor(made)


def settled(tensor: DeviceTensor) -> torch.Tensor:
    """What a device tensor holds when its stream has done what was launched."""
    order = device().order
    if order is not None:
        queue = present(current_queue())
        order.run(queue, queue.n_added)
    return tensor.inner


def _waiting(operation: Operation, args: Any, kwargs: Mapping[str, Any], on_it: list[Any]) -> None:
    if not on_it:
        return
    name = operation.name
    if name in HOST_WAITS:
        read_by_host(name)
    elif name in INDEXING and any(
        i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
    ):
        read_by_host("a mask as an index")
    elif name == "repeat_interleave" and kwargs.get("output_size") is None:
        read_by_host("repeat_interleave without output_size")


def _convolving(name: str, args: Any) -> None:
    cudnn = torch.backends.cudnn
    if not cudnn.enabled:
        refuse(
            "cuDNN is switched off: each convolution would take torch's slow path, 5 to 20 times slower"
        )
    dilation = args[6 if name == "convolution_backward" else 5]
    if cudnn.deterministic and any(d > 1 for d in dilation):
        device().counts.slow_convolutions += 1


def _same_layout(args: Any) -> None:
    """What ``check_fast_path_restrictions`` demands of parameters, gradients and moments."""
    lists = [part for part in args[:4] if isinstance(part, list | tuple)]
    for parameter, *others in zip(*(part for part in lists if len(part)), strict=False):
        for other in others:
            unlike = other.shape != parameter.shape or any(
                size > 1 and a != b
                for size, a, b in zip(
                    parameter.shape, parameter.stride(), other.stride(), strict=True
                )
            )
            if unlike and isinstance(parameter, DeviceTensor):
                refuse(
                    "params, grads, exp_avgs, and exp_avg_sqs must have same dtype, device, and layout "
                    f"(strides {parameter.stride()} and {other.stride()})"
                )


def _generator(name: str, args: Any, kwargs: Mapping[str, Any]) -> torch.Generator | None:
    """The generator that an operation on the device draws from; None for the device's own."""
    given = [*args, *kwargs.values()]
    if any(is_generator(value, of_device=False) for value in given):
        refuse(f"{name}: Expected a 'cuda' device type for generator but found 'cpu'")
    return next((value for value in given if is_generator(value, of_device=True)), None)


def _with_default_generator(func: Any, args: Any, kwargs: Any) -> Any:
    """Draw from the device's default generator, leaving the host's as it is."""
    here, host = device(), torch.default_generator
    if here.is_poisoned and here.recording is None:
        refuse("Offset increment outside graph capture encountered unexpectedly.")
    before = host.get_state()
    host.set_state(here.rng_state)
    try:
        return func(*args, **kwargs)
    finally:
        here.rng_state = host.get_state()
        host.set_state(before)


class DeviceGenerator(torch._C.Generator):
    """A generator that says ``cuda:0``; its numbers are those of a host's with the same seed.

    C++ hands operations another Python object of the same generator: known by its address.
    """

    device = property(lambda self: CUDA)  # type: ignore[assignment]

    def __init__(self, *_: Any) -> None:
        _addresses.add(self._cdata)
        weakref.finalize(self, _addresses.discard, self._cdata).atexit = False


_addresses: set[int] = set()


def is_generator(value: Any, *, of_device: bool) -> bool:
    """Whether an argument is a generator of the device, or one of the host."""
    return isinstance(value, torch._C.Generator) and (value._cdata in _addresses) is of_device


class Dispatch(TorchDispatchMode):
    """Catches what has to do with the device below autograd, and what C++ makes for it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and saying so costs more than an operation

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if on_device(kwargs.get("device")) or any(
            isinstance(t, DeviceTensor) for t in tensors_in([*args, *kwargs.values()])
        ):
            return compute(func, args, kwargs)
        if LOCAL.inside and Operation.of(func).name in FACTORIES:
            return compute(func, args, {**kwargs, "device": CUDA})
        if Operation.of(func).name in RANDOM and any(
            is_generator(value, of_device=True) for value in [*args, *kwargs.values()]
        ):
            refuse(f"{func}: Expected a 'cpu' device type for generator but found 'cuda'")
        if kwargs.get("pin_memory"):
            return device().pin(func(*args, **{**kwargs, "pin_memory": False}))
        if device().order is not None:
            _touched_by_host(func, args)
        return func(*args, **kwargs)


def _touched_by_host(func: Any, args: Any) -> None:
    """The host's own work with pinned memory."""
    here, operation = device(), Operation.of(func)
    if operation.is_view or here.order is None:
        return
    for number, tensor in enumerate(tensors_in(args)):
        if here.is_pinned(tensor):
            writes = operation.changes and number == 0
            here.order.touched_by_host(tensor, operation.name, writes=writes)
