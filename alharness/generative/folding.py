"""The same networks with fewer operations: what recipes with ``folded`` compute.

Equal but for rounding, in values, gradients and gradients of gradients
(``tests/generative/test_folding.py``): a 3x3 convolution and the mean of 2x2 pixels behind it are one 4x4
convolution of stride 2, and doubling the pixels before a 3x3 convolution makes it a transposed one. On CUDA
a layer norm and its ReLU are kernels of their own (``normed_relu``). What both save, by the counts of
``benchmarks/roofline.py``, is in benchmarks/results/device-counts.md.

Shape letters: B images, C channels, H, W sides; D output channels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from alharness.generative.convolution import conv2d
from alharness.generative.normed_relu import normed_relu


def then_mean(x: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
    """``avg_pool2d(layer(x), 2)`` of a 3x3 layer with padding 1 and even sides, ``[B, D, H/2, W/2]``."""
    return conv2d(x, _spread(layer.weight, 4), layer.bias, (2, 2), (1, 1))


def of_doubled(x: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
    """``layer`` of the nearest-neighbour doubling of x, 3x3 with padding 1, ``[B, D, 2H, 2W]``."""
    # The transpose of a convolution walks through its kernel backwards.
    weight = _spread(layer.weight).flip(2, 3).transpose(0, 1)
    return functional.conv_transpose2d(x, weight, layer.bias, stride=2, padding=1)


def _spread(weight: torch.Tensor, divisor: int = 1) -> torch.Tensor:
    """The sum of a 3x3 kernel's four shifts by a pixel, divided: ``[D, C, 4, 4]``."""
    if weight.is_cuda:
        return _pooled(weight, divisor)
    # Another order of the sums, which is in what CPUs have trained; pooling is no faster there.
    shifts = [(left, 1 - left, top, 1 - top) for left in (0, 1) for top in (0, 1)]
    first, *others = (functional.pad(weight, shift) for shift in shifts)
    total = first + others[0] + others[1] + others[2]
    return total / divisor if divisor > 1 else total


def _pooled(weight: torch.Tensor, divisor: int) -> torch.Tensor:
    """The same as a mean of 2x2 weights with zeros around: one kernel, and one for its gradient."""
    return functional.avg_pool2d(weight, 2, stride=1, padding=1, divisor_override=divisor)


class NormedRelu(nn.GroupNorm):
    """``relu(nn.GroupNorm(1, channels)(x))``; on CUDA by kernels of its own (``normed_relu``).

    On a CPU torch's stays: its first derivative is one kernel there, and written out both cost more.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not x.is_cuda:
            return functional.relu(super().forward(x))
        # In float32 under autocast, as torch's own; rounded weights are for rounded images.
        with torch.autocast(x.device.type, enabled=False):
            return normed_relu(x.to(self.weight.dtype), self.weight, self.bias, self.eps)
