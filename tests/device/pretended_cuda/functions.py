"""Torch's Python functions that C++ would answer by the device it sees, which is the host's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pretended_cuda.operations import tensors_in
from pretended_cuda.state import CUDA, LOCAL, device, read_by_host, refuse
from pretended_cuda.tensors import (
    NO_NUMPY,
    DeviceTensor,
    inside,
    is_generator,
    on_device,
    read,
    sent,
    settled,
)


class _Send(torch.autograd.Function):
    """Host to device, differentiable."""

    @staticmethod
    def forward(ctx: Any, host: torch.Tensor, non_blocking: bool) -> torch.Tensor:
        return sent(host.detach(), non_blocking=non_blocking)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return inside(gradient), None


class _Fetch(torch.autograd.Function):
    """Device to host, differentiable."""

    @staticmethod
    def forward(ctx: Any, tensor: DeviceTensor) -> torch.Tensor:
        read(tensor, "copy to the host")
        return fetched(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return DeviceTensor(gradient)


class _Cast(torch.autograd.Function):
    """Another type on the device. The gradient of torch's own names the host, where C++ sees the tensor."""

    @staticmethod
    def forward(ctx: Any, tensor: DeviceTensor, dtype: torch.dtype) -> torch.Tensor:
        ctx.before = tensor.dtype
        return torch.Tensor.to(tensor, dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Cast.apply(gradient, ctx.before), None


def fetched(tensor: DeviceTensor) -> torch.Tensor:
    """Values on the host."""
    if device().is_weightless:
        return torch.zeros_like(tensor.inner, device="cpu")
    return tensor.inner.detach().clone()


def _to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    copy = kwargs.pop("copy", False)
    if "other" in kwargs or (args and isinstance(args[0], torch.Tensor)):
        other = kwargs.pop("other", None)
        other = args[0] if other is None else other
        target, dtype = other.device, other.dtype
        non_blocking, layout = bool(kwargs.get("non_blocking")), kwargs.get("memory_format")
    else:
        target, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **kwargs)
    before = tensor
    if dtype is not None and tensor.dtype != dtype:
        is_there = isinstance(tensor, DeviceTensor)
        tensor = _Cast.apply(tensor, dtype) if is_there else torch.Tensor.to(tensor, dtype)
    if layout is not None:
        tensor = tensor.contiguous(memory_format=layout)
    if target is not None and on_device(target) and not isinstance(tensor, DeviceTensor):
        return _Send.apply(tensor, non_blocking)
    if target is not None and target.type == "cpu" and isinstance(tensor, DeviceTensor):
        return _Fetch.apply(tensor)
    return tensor.clone() if copy and tensor is before else tensor


def _cpu(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return _Fetch.apply(tensor) if isinstance(tensor, DeviceTensor) else tensor


def _cuda(tensor: torch.Tensor, *_: Any, **kwargs: Any) -> torch.Tensor:
    return _to(tensor, CUDA, non_blocking=bool(kwargs.get("non_blocking")))


def _numpy(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    if isinstance(tensor, DeviceTensor):
        raise TypeError(NO_NUMPY)
    return torch.Tensor.numpy(tensor, *args, **kwargs)


def _tolist(tensor: torch.Tensor) -> Any:
    if not isinstance(tensor, DeviceTensor):
        return torch.Tensor.tolist(tensor)
    read(tensor, "tolist")
    return fetched(tensor).tolist()


def _new_tensor(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    made = torch.Tensor.new_tensor(inside(tensor), *args, **kwargs)
    return _Send.apply(made, False) if isinstance(tensor, DeviceTensor) else made


def _one_hot(tensor: torch.Tensor, num_classes: int = -1) -> torch.Tensor:
    if not isinstance(tensor, DeviceTensor):
        return functional.one_hot(tensor, num_classes)
    if num_classes == -1:
        read_by_host("one_hot without a number of classes")
    return DeviceTensor(functional.one_hot(settled(tensor), num_classes))


def _pin(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    if isinstance(tensor, DeviceTensor):
        refuse("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
    return tensor if device().is_pinned(tensor) else device().pin(tensor.clone())


def _is_pinned(tensor: torch.Tensor, *_: Any, **__: Any) -> bool:
    return not isinstance(tensor, DeviceTensor) and device().is_pinned(tensor)


def _constant(data: Any, **kwargs: Any) -> torch.Tensor:
    """``torch.tensor`` and ``torch.as_tensor`` on the device: made on the host, then sent."""
    wanted, requires_grad = kwargs.pop("device"), kwargs.pop("requires_grad", False)
    if isinstance(data, torch.Tensor):
        made = _to(data, wanted, kwargs.get("dtype", data.dtype))
    else:
        made = _to(torch.tensor(data, **kwargs), wanted)
    return made.requires_grad_(requires_grad) if requires_grad else made


def _float(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return _to(tensor, torch.float32)


def _bfloat16(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return _to(tensor, torch.bfloat16)


INSTEAD: dict[Any, Callable[..., Any]] = {
    torch.Tensor.float: _float,
    torch.Tensor.bfloat16: _bfloat16,
    torch.Tensor.to: _to,
    torch.Tensor.cpu: _cpu,
    torch.Tensor.cuda: _cuda,
    torch.Tensor.numpy: _numpy,
    torch.Tensor.tolist: _tolist,
    torch.Tensor.new_tensor: _new_tensor,
    torch.Tensor.pin_memory: _pin,
    torch.Tensor.is_pinned: _is_pinned,
    functional.one_hot: _one_hot,
}


#: Attributes that a mapped tensor (``torch.func.vmap``) answers from what C++ sees of it.
ABOUT_PLACE = ("device", "is_cuda", "is_cpu")


def unwrapped(tensor: Any) -> Any:
    """The tensor that is mapped over, where this is one example of it."""
    functorch = torch._C._functorch
    while isinstance(tensor, torch.Tensor) and functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor


def _attribute(get: Any, args: Any) -> Any:
    name, tensor = getattr(get.__self__, "__name__", ""), unwrapped(args[0])
    return getattr(tensor, name) if name in ABOUT_PLACE and tensor is not args[0] else get(*args)


class Functions(TorchFunctionMode):
    """Answers what depends on the device, and notes whether torch works for device tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, torch._ops.OpOverload):  # another dispatch mode hands it on
            return func(*args, **kwargs)
        if getattr(func, "__name__", "") == "__get__":
            return _attribute(func, args)
        instead = INSTEAD.get(func)
        if instead is not None:
            return instead(*args, **kwargs)
        if kwargs.get("device") is not None:
            return self._somewhere(func, args, kwargs)
        if kwargs.get("pin_memory"):
            return device().pin(func(*args, **{**kwargs, "pin_memory": False}))
        works_on_it = any(
            isinstance(unwrapped(t), DeviceTensor) for t in tensors_in([*args, *kwargs.values()])
        )
        before, LOCAL.inside = LOCAL.inside, works_on_it
        try:
            return func(*args, **kwargs)
        finally:
            LOCAL.inside = before

    def _somewhere(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """A function that is told where its result shall lie."""
        if func in (torch.tensor, torch.as_tensor, torch.asarray):
            if on_device(kwargs["device"]) or isinstance(args[0], DeviceTensor):
                return _constant(*args, **kwargs)
            return func(*args, **kwargs)
        generator = kwargs.get("generator")
        if on_device(kwargs["device"]):
            if kwargs.get("pin_memory"):
                refuse("Only dense CPU tensors can be pinned")
            requires_grad = kwargs.pop("requires_grad", False)
            made = func(*args, **{**kwargs, "device": CUDA})
            return made.requires_grad_() if requires_grad else made
        if is_generator(generator, of_device=True):
            refuse(f"{func.__name__}: Expected a 'cpu' device type for generator but found 'cuda'")
        if kwargs.get("pin_memory"):
            return device().pin(func(*args, **{**kwargs, "pin_memory": False}))
        return func(*inside(args), **kwargs)  # as zeros_like(tensor, device="cpu")
