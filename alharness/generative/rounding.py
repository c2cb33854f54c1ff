"""A network that computes in bfloat16, while its own weights, which an optimiser moves, stay float32.

What ``precision=bf16-all`` means on CUDA: activations and gradients are stored in eight bits of mantissa,
gradients of gradients too; sums, and statistics of norms, are float32. Autocast (``precision=bf16``) keeps
norms in float32, casts each weight by a kernel of its own, and leaves the gradient penalty as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call


def rounded(network: nn.Module) -> Callable[..., Any]:
    """``network`` of images or latents ``[B, ...]``, results in bfloat16; gradients reach its own weights.

    Batch normalisation keeps its weights and statistics, which every kernel for bfloat16 takes in float32.
    To be asked for again after each step of an optimiser.
    """
    own = {
        f"{path}.{name}" if path else name: weight
        for path, module in network.named_modules()
        if not isinstance(module, nn.BatchNorm2d)
        for name, weight in module.named_parameters(recurse=False)
    }
    weights = dict(zip(own, _Rounded.apply(*own.values()), strict=True))

    def compute(x: torch.Tensor, **options: Any) -> Any:
        return functional_call(network, weights, (x.bfloat16(),), options)

    return compute


class _Rounded(torch.autograd.Function):
    """All weights by one kernel, and their gradients back by one."""

    @staticmethod
    def forward(ctx: Any, *weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return _copied(weights, torch.bfloat16)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return _copied(gradients, torch.float32)


def _copied(values: tuple[torch.Tensor, ...], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    copies = [torch.empty_like(value, dtype=dtype) for value in values]
    torch._foreach_copy_(copies, list(values))
    return tuple(copies)
