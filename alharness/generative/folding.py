"""The same networks with fewer operations: what recipes with ``folded`` compute.

Equal but for rounding, in values, gradients and gradients of gradients
(``tests/generative/test_folding.py``): a 3x3 convolution and the mean of 2x2 pixels behind it are one 4x4
convolution of stride 2, and doubling the pixels before a 3x3 convolution makes it a transposed one. A layer
norm's second derivative is written out, where torch composes it of some ninety operations: by the counts of
``benchmarks/roofline.py`` a critic's step at 64 x 64 pixels moves 37 GB in 780 kernels, not 52 GB in 1,097.

Shape letters: B images, C channels, H, W sides; D output channels.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from alharness.generative.convolution import conv2d, is_inputs_only


def then_mean(x: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
    """``avg_pool2d(layer(x), 2)`` of a 3x3 layer with padding 1 and even sides, ``[B, D, H/2, W/2]``."""
    return conv2d(x, _spread(layer.weight) / 4.0, layer.bias, (2, 2), (1, 1))


def of_doubled(x: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
    """``layer`` of the nearest-neighbour doubling of x, 3x3 with padding 1, ``[B, D, 2H, 2W]``."""
    # The transpose of a convolution walks through its kernel backwards.
    weight = _spread(layer.weight).flip(2, 3).transpose(0, 1)
    return functional.conv_transpose2d(x, weight, layer.bias, stride=2, padding=1)


def _spread(weight: torch.Tensor) -> torch.Tensor:
    """The sum of a 3x3 kernel's four shifts by a pixel, ``[D, C, 4, 4]``."""
    shifts = [(left, 1 - left, top, 1 - top) for left in (0, 1) for top in (0, 1)]
    first, *others = (functional.pad(weight, shift) for shift in shifts)
    return first + others[0] + others[1] + others[2]


class LayerNorm(nn.GroupNorm):
    """``nn.GroupNorm(1, channels)``; on CUDA its gradient by the input has a derivative of its own.

    On a CPU torch's stays: its first derivative is one kernel there, and written out both cost more.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not x.is_cuda:
            return super().forward(x)
        # In float32 under autocast, as torch's own.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() if x.dtype == torch.bfloat16 else x
            return layer_norm(x, self.weight, self.bias, self.eps)


def layer_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """Images ``[B, C, H, W]`` normalised over channels and pixels, scaled and moved by channel."""
    return cast(torch.Tensor, _LayerNorm.apply(x, weight, bias, eps))


def _mean(values: torch.Tensor) -> torch.Tensor:
    """Per image, ``[B, 1, 1, 1]``."""
    return values.mean(dim=(1, 2, 3), keepdim=True)


def _of_channels(values: torch.Tensor) -> torch.Tensor:
    """Per channel, ``[C]``."""
    return values.sum(dim=(0, 2, 3))


def _slopes(
    gradient: torch.Tensor,
    x: torch.Tensor,
    mean: torch.Tensor,
    r: torch.Tensor,
    weight: torch.Tensor | None,
    *,
    parameters: bool,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """torch's own backward pass: r P(g w), and the weight's and bias's gradients if wanted."""
    n_images, n_channels = x.shape[:2]
    n_pixels = x[0, 0].numel()
    wanted = [True, parameters, parameters]
    found = torch.ops.aten.native_group_norm_backward(
        gradient, x, mean, r, weight, n_images, n_channels, n_pixels, 1, wanted
    )
    return found[0], found[1], found[2]


class _LayerNorm(torch.autograd.Function):
    """y = n w + b with n = (x - mean) r, r = 1 / sqrt(variance + eps)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> torch.Tensor:
        n_images, n_channels = x.shape[:2]
        y, mean, r = torch.native_group_norm(
            x, weight, bias, n_images, n_channels, x[0, 0].numel(), 1, eps
        )
        ctx.save_for_backward(x, weight, mean, r)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, weight, mean, r = ctx.saved_tensors
        parameters = ctx.needs_input_grad[1] and not is_inputs_only()
        if not ctx.needs_input_grad[0]:
            _, by_weight, by_bias = _slopes(gradient, x, mean, r, weight, parameters=True)
            return None, by_weight, by_bias, None
        found = _NormGradient.apply(gradient, x, weight, mean, r, parameters)
        return (*found, None)


class _NormGradient(torch.autograd.Function):
    """g_x = r P(g w) with P(v) = v - mean(v) - n mean(v n), which is symmetric.

    With the cotangent c of g_x, v = g w and per image s = mean(c n), t = mean(v n), a = mean(c P(v)):

        d<c, g_x>/dg = w r P(c)      d<c, g_x>/dw = sum r g P(c)
        d<c, g_x>/dx = - r^2 (a n + t P(c) + s P(v))

    r P(c) is torch's own backward pass of c, and r P(v) is g_x: what is left are three means and one sum of
    three tensors. The gradients of weight and bias are not differentiated again: a penalty on slopes is one
    on g_x alone.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gradient: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor,
        mean: torch.Tensor,
        r: torch.Tensor,
        parameters: bool,
    ) -> Any:
        found = _slopes(gradient, x, mean, r, weight, parameters=parameters)
        ctx.save_for_backward(gradient, x, weight, mean, r, found[0])
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, c: torch.Tensor | None, *of_parameters: torch.Tensor | None) -> Any:
        if any(cotangent is not None for cotangent in of_parameters):
            raise NotImplementedError(
                "a layer norm's gradient by its weight has no derivative here"
            )
        if c is None:
            return (None,) * 6
        gradient, x, weight, mean, r, g_x = ctx.saved_tensors
        scaled, _, _ = _slopes(c, x, mean, r, None, parameters=False)
        by_x = by_weight = None
        if ctx.needs_input_grad[1]:
            mean, r = mean[:, :, None, None], r[:, :, None, None]
            n = torch.addcmul(-mean * r, x, r)
            s, t = _mean(c * n), _mean(gradient * weight[:, None, None] * n)
            a = _mean(c * g_x) * r
            by_x = torch.addcmul(n.mul_(-a), scaled, -t * r).addcmul_(g_x, -s * r)
        if ctx.needs_input_grad[2]:
            by_weight = _of_channels(scaled * gradient)
        return scaled * weight[:, None, None], by_x, by_weight, None, None, None
