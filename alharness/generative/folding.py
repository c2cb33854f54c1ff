"""The same networks with fewer operations: what recipes with ``folded`` compute.

Equal but for rounding, in values, gradients and gradients of gradients
(``tests/generative/test_folding.py``): a 3x3 convolution and the mean of 2x2 pixels behind it are one 4x4
convolution of stride 2, and doubling the pixels before a 3x3 convolution makes it a transposed one. A layer
norm's second derivative is written out, where torch composes it of some ninety operations.

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


class _LayerNorm(torch.autograd.Function):
    """y = n w + b with n = (x - mean) r, r = 1 / sqrt(variance + eps)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return functional.group_norm(x, 1, weight, bias, eps)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        by_x = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            by_x = _NormGradient.apply(gradient, x, weight, ctx.eps)
        if ctx.needs_input_grad[1] and not is_inputs_only():
            by_weight = _of_channels(gradient * _normalised(x, ctx.eps)[0])
            by_bias = _of_channels(gradient)
        return by_x, by_weight, by_bias, None


def _normalised(x: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """n and r."""
    variance, mean = torch.var_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
    r = (variance + eps).rsqrt()
    return (x - mean) * r, r


class _NormGradient(torch.autograd.Function):
    """g_x = r P(g w) with P(v) = v - mean(v) - n mean(v n), which is symmetric.

    With the cotangent c of g_x, v = g w and per image s = mean(c n), t = mean(v n),
    a = mean(c v) - mean(c) mean(v) - s t:

        d<c, g_x>/dg = w r P(c)      d<c, g_x>/dw = sum r g P(c)
        d<c, g_x>/dx = - r^2 (a n + t P(c) + s P(v))
    """

    @staticmethod
    def forward(
        ctx: Any, gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        ctx.save_for_backward(gradient, x, weight)
        ctx.eps = eps
        n, r = _normalised(x, eps)
        v = gradient * weight[:, None, None]
        return r * (v - _mean(v) - n * _mean(v * n))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, c: torch.Tensor) -> Any:
        gradient, x, weight = ctx.saved_tensors
        n, r = _normalised(x, ctx.eps)
        w = weight[:, None, None]
        v = gradient * w
        mean_c, mean_v = _mean(c), _mean(v)
        s, t = _mean(c * n), _mean(v * n)
        p_c = c - mean_c - n * s
        by_x = by_weight = None
        if ctx.needs_input_grad[1]:
            a = _mean(c * v) - mean_c * mean_v - s * t
            by_x = -r.square() * (n * a + p_c * t + (v - mean_v - n * t) * s)
        scaled = r * p_c
        if ctx.needs_input_grad[2]:
            by_weight = _of_channels(scaled * gradient)
        return scaled * w, by_x, by_weight, None
