"""A convolution whose gradient can be differentiated under deterministic cuDNN.

The gradient penalty differentiates the critic's gradient by its weights. Torch writes that second
derivative as a forward convolution of images with images, dilated by the stride, whose kernel is as
large as a layer's output (14x14 for the first layer of 28x28): for strides above 1 cuDNN has no
deterministic kernel for it, and what is left takes many times as long. It is the very sum that an
ordinary weight gradient is, and ``aten.convolution_backward`` computes it as one.

With images x, weights w, gradients g of the output and cotangents c of the gradient by x:

    y = x * w        g_x = backward_x(g, w)       g_w = backward_w(g, x)
                     d<c, g_x>/dg = c * w         d<c, g_x>/dw = backward_w(g, c)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

_backward = torch.ops.aten.convolution_backward.default


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` with zero padding, no groups; on CUDA outside of autocast twice differentiable.

    On a CPU torch's own derivatives stay, bit for bit.
    """

    def _conv_forward(
        self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        assert not isinstance(self.padding, str)
        return conv2d(input, weight, bias, self.stride, self.padding)


def conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> torch.Tensor:
    """``functional.conv2d``; on CUDA outside of autocast with a second derivative of its own."""
    if x.is_cuda and not torch.is_autocast_enabled("cuda"):
        return convolution(x, weight, bias, stride, padding)
    return functional.conv2d(x, weight, bias, stride, padding)


def convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> torch.Tensor:
    """``conv2d`` of ``[B, C, H, W]`` by ``[D, C, h, w]`` with a second derivative of its own.

    A gradient by x can be differentiated once more, by x's gradient and by the weights; a gradient by
    weight or bias cannot.
    """
    return cast(torch.Tensor, _Convolution.apply(x, weight, bias, list(stride), list(padding)))


@contextmanager
def inputs_only() -> Iterator[None]:
    """Backward passes inside give no gradients by weights and biases.

    A node of the graph does not learn which of its gradients are wanted; ``autograd.grad`` by the images
    alone would compute, and throw away, one more convolution per layer.
    """
    before, _inputs_only[0] = _inputs_only[0], True
    try:
        yield
    finally:
        _inputs_only[0] = before


def is_inputs_only() -> bool:
    """Whether nobody wants gradients by weights and biases now."""
    return _inputs_only[0]


#: Not one per thread: the backward pass on CUDA runs in a thread of torch's own.
_inputs_only = [False]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: list[int],
        padding: list[int],
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = (stride, padding)
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        return _forward(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        by_x = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            by_x = _InputGradient.apply(gradient, x, weight, *ctx.geometry)
        _, weight_wanted, bias_wanted, *_ = ctx.needs_input_grad
        # ``needs_input_grad`` is true for weights even where nobody asked for their gradients.
        if (weight_wanted or bias_wanted) and not _inputs_only[0]:
            by_weight, by_bias = _ParameterGradients.apply(
                gradient, x, weight, *ctx.geometry, [weight_wanted, bias_wanted], ctx.bias_sizes
            )
        return by_x, by_weight, by_bias, None, None


class _InputGradient(torch.autograd.Function):
    """g_x of the module's docstring: linear in the gradient and in the weights; x gives the shape."""

    @staticmethod
    def forward(
        ctx: Any,
        gradient: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor,
        stride: list[int],
        padding: list[int],
    ) -> torch.Tensor:
        ctx.save_for_backward(gradient, weight)
        ctx.geometry = (stride, padding)
        by_x, _, _ = _gradients(gradient, x, weight, stride, padding, [True, False, False], None)
        return cast(torch.Tensor, by_x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: torch.Tensor) -> Any:
        gradient, weight = ctx.saved_tensors
        stride, padding = ctx.geometry
        by_gradient = by_weight = None
        if ctx.needs_input_grad[0]:
            by_gradient = _forward(cotangent, weight, None, stride, padding)
        # The same sum as an ordinary weight gradient, with the cotangent in the place of the images.
        if ctx.needs_input_grad[2]:
            _, by_weight, _ = _gradients(
                gradient, cotangent, weight, stride, padding, [False, True, False], None
            )
        return by_gradient, None, by_weight, None, None


class _ParameterGradients(torch.autograd.Function):
    """g_w and the gradient by the bias; says so when they are differentiated."""

    @staticmethod
    def forward(
        ctx: Any,
        gradient: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor,
        stride: list[int],
        padding: list[int],
        wanted: list[bool],
        bias_sizes: list[int] | None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        _, by_weight, by_bias = _gradients(
            gradient, x, weight, stride, padding, [False, *wanted], bias_sizes
        )
        return by_weight, by_bias

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        raise NotImplementedError("a convolution's weight gradient cannot be differentiated here")


def _forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
) -> torch.Tensor:
    result: torch.Tensor = torch.ops.aten.convolution.default(
        x, weight, bias, stride, padding, [1, 1], False, [0, 0], 1
    )
    return result


def _gradients(
    gradient: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    wanted: list[bool],
    bias_sizes: list[int] | None,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    return cast(
        tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None],
        _backward(
            gradient, x, weight, bias_sizes, stride, padding, [1, 1], False, [0, 0], 1, wanted
        ),
    )
