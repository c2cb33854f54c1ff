"""A layer norm and its ReLU with both derivatives, each two passes over the images: critics on CUDA, folded.

    y = max(0, n w + b)    n = (x - mean) r    r = 1 / sqrt(variance + eps)

With g the gradient of y where y > 0 and 0 elsewhere, v = g w and P(v) = v - mean(v) - n mean(v n), which is
symmetric, the gradient by x is g_x = r P(v). Its derivatives by a cotangent c, with s = mean(c n),
t = mean(v n) and a = mean(c P(v)) of an image, are

    d<c, g_x>/dg = w r P(c)      d<c, g_x>/dw = sum r g P(c)
    d<c, g_x>/dx = - r^2 (a n + t P(c) + s P(v))

So a pass takes sums of each image, and another writes. Torch's norm on CUDA knows no channels last, in which
convolutions work: each would turn its images there and back, and its second derivative is ninety kernels.
The kernels are ``norm_kernels``; torch's operations do the same without Triton, and on a CPU for tests.

Shape letters: B images, C channels, H, W sides.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch

from alharness.generative.convolution import is_inputs_only
from alharness.generative.norm_parts import N_SUMS, n_parts

_LIBRARY = torch.library.Library("alharness", "FRAGMENT")
_LIBRARY.define(
    "norm_sums(Tensor[] images, Tensor weight, Tensor bias, Tensor? stats, ScalarType kind) -> Tensor"
)
_LIBRARY.define(
    "norm_apply(Tensor[] images, Tensor weight, Tensor bias, Tensor? stats, Tensor sums, float eps,"
    " bool parameters) -> Tensor[]"
)


def normed_relu(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """``relu(group_norm(x, 1, weight, bias, eps))`` of ``[B, C, H, W]``.

    The gradients of weight and bias have no derivative: a penalty on slopes is one on the gradient by x.
    """
    return cast(torch.Tensor, _NormedRelu.apply(_channels_last(x), weight, bias, eps))


def _channels_last(images: torch.Tensor) -> torch.Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def sums(
    images: list[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor,
    stats: torch.Tensor | None,
    kind: torch.dtype,
) -> torch.Tensor:
    """What ``apply`` must know of whole images, by parts of them: ``[B, parts, 2 or 5]``.

    Args:
        images: x; with g; with c.
        stats: means and r of the images ``[B, 2]``; None before they are known.
        kind: of the sums.
    """
    x, *others = (values.to(kind) for values in images)
    if stats is None:
        x = x - x[:, :1, :1, :1]  # near the mean: squares do not cancel
        found = [x, x.square()]
    else:
        n, _, v = _terms(x, others[0], weight, bias, stats)
        found = [v, v * n]
        for c in others[1:]:
            found += [c, c * n, c * v]
    return torch.stack([values.sum(dim=(1, 2, 3)) for values in found], dim=1)[:, None]


def apply(
    images: list[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor,
    stats: torch.Tensor | None,
    total: torch.Tensor,
    eps: float,
    parameters: bool,
) -> list[torch.Tensor]:
    """Of x: y, stats. Of x and g: g_x, and the gradients by weight and bias, by parts ``[parts, 2, C]``.

    Of x, g and c: the derivatives by g and x, and that by weight beside zeros, by parts.
    """
    kind = images[0].dtype
    x, *others = (values.to(total.dtype) for values in images)
    means = (total.sum(dim=1) / x[0].numel())[:, :, None, None, None].unbind(dim=1)
    if stats is None:
        r = (means[1] - means[0].square()).clamp(min=0.0).add(eps).rsqrt()
        mean = x[:, :1, :1, :1] + means[0]
        y = (x - mean) * r * _by_channel(weight) + _by_channel(bias)
        return [y.relu().to(kind), torch.cat([mean, r], dim=1).flatten(1)]
    n, g, v = _terms(x, others[0], weight, bias, stats)
    r, v_mean, t = stats[:, 1, None, None, None], means[0], means[1]
    p_v = v - v_mean - n * t
    if len(others) == 1:
        by = torch.stack([(g * n).sum(dim=(2, 3)), g.sum(dim=(2, 3))], dim=1)
        return [(r * p_v).to(kind), by if parameters else by[:0]]
    c, c_mean, s = others[1], means[2], means[3]
    a = means[4] - c_mean * v_mean - s * t
    p_c = c - c_mean - n * s
    is_through = n * _by_channel(weight) + _by_channel(bias) > 0
    by_g = (_by_channel(weight) * r * p_c).where(is_through, 0.0)
    by_x = -r.square() * (a * n + t * p_c + s * p_v)
    by_weight = (g * r * p_c).sum(dim=(2, 3))
    by = torch.stack([by_weight, torch.zeros_like(by_weight)], dim=1)  # none by the bias
    return [by_g.to(kind), by_x.to(kind), by if parameters else by[:0]]


def _terms(
    x: torch.Tensor,
    g: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    stats: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """n, g where y > 0, and v."""
    mean, r = stats[:, :, None, None, None].unbind(dim=1)
    n = (x - mean) * r
    g = g.where(n * _by_channel(weight) + _by_channel(bias) > 0, 0.0)
    return n, g, g * _by_channel(weight)


def _by_channel(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None]


# -- which of them ------------------------------------------------------------------------------------


@cache
def _passes() -> tuple[Callable[..., torch.Tensor], Callable[..., list[torch.Tensor]]]:
    """Triton's kernels, tried on two small images; torch's operations where they cannot be had."""
    try:
        from alharness.generative import norm_kernels

        for found, expected in zip(
            _tried(norm_kernels.sums, norm_kernels.apply), _tried(sums, apply), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    except Exception as error:  # no Triton, a compiler that is not there, whatever Triton raises
        warnings.warn(
            f"layer norms by torch's operations, several times slower but the same: their kernel does not "
            f"work here ({type(error).__name__}: {error})",
            stacklevel=2,
        )
        return sums, apply
    return norm_kernels.sums, norm_kernels.apply


def _tried(
    sums: Callable[..., torch.Tensor], apply: Callable[..., list[torch.Tensor]]
) -> list[torch.Tensor]:
    """All that the passes give, of any two images."""
    drawn = torch.randn(3, 2, 5, 9, 7, generator=torch.Generator().manual_seed(0)).cuda()
    images, weight = list(map(_channels_last, drawn)), drawn[0, 0, :, 0, 0].contiguous()
    found, stats = [], None
    for n_given in (1, 2, 3):
        given = (images[:n_given], weight, weight, stats)
        written = apply(*given, sums(*given, torch.float32), 1e-5, True)
        if stats is None:
            stats = written[1]
        else:
            written[-1] = written[-1].sum(dim=0)  # parts are another number
        found += written
    return found


def _sums_on_cuda(*given: Any) -> torch.Tensor:
    return _passes()[0](*given)


def _apply_on_cuda(*given: Any) -> list[torch.Tensor]:
    return _passes()[1](*given)


def _shape_of_sums(images: list[torch.Tensor], *others: Any) -> torch.Tensor:
    return images[0].new_empty(len(images[0]), n_parts(images[0]), N_SUMS, dtype=others[-1])


def _shapes_applied(images: list[torch.Tensor], *others: Any) -> list[torch.Tensor]:
    x, total, is_wanted = images[0], others[3], others[-1]
    by = total.new_empty(total.shape[0] * total.shape[1] if is_wanted else 0, 2, x.shape[1])
    written = [torch.empty_like(x) for _ in images[1:]] or [torch.empty_like(x)]
    return [*written, total.new_empty(len(x), 2) if len(images) == 1 else by]


for _key, _sums_there, _apply_there in (
    ("CPU", sums, apply),
    ("CUDA", _sums_on_cuda, _apply_on_cuda),
    ("Meta", _shape_of_sums, _shapes_applied),
):
    _LIBRARY.impl("norm_sums", _sums_there, _key)
    _LIBRARY.impl("norm_apply", _apply_there, _key)


# -- derivatives --------------------------------------------------------------------------------------


def _both(
    images: list[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor,
    stats: torch.Tensor | None = None,
    *,
    eps: float = 0.0,
    parameters: bool = False,
) -> list[torch.Tensor]:
    """Both passes."""
    images = list(map(_channels_last, images))
    kind = torch.float64 if weight.dtype == torch.float64 else torch.float32
    total = torch.ops.alharness.norm_sums(images, weight, bias, stats, kind)
    found: list[torch.Tensor] = torch.ops.alharness.norm_apply(
        images, weight, bias, stats, total, eps, parameters
    )
    return found


class _NormedRelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> torch.Tensor:
        y, stats = _both([x], weight, bias, eps=eps)
        ctx.save_for_backward(x, weight, bias, stats)
        return y

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Any:
        parameters = ctx.needs_input_grad[1] and not is_inputs_only()
        return (*_Gradient.apply(g, *ctx.saved_tensors, parameters), None)


class _Gradient(torch.autograd.Function):
    """g_x, and the gradients by weight and bias."""

    @staticmethod
    def forward(
        ctx: Any,
        g: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        stats: torch.Tensor,
        parameters: bool,
    ) -> Any:
        g_x, by_channel = _both([x, g], weight, bias, stats, parameters=parameters)
        ctx.save_for_backward(g, x, weight, bias, stats)
        ctx.set_materialize_grads(False)
        return (g_x, *(by_channel.sum(dim=0).to(weight.dtype) if parameters else (None, None)))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, c: torch.Tensor | None, *of_parameters: torch.Tensor | None) -> Any:
        if any(cotangent is not None for cotangent in of_parameters):
            raise NotImplementedError(
                "a layer norm's gradient by its weight has no derivative here"
            )
        if c is None:
            return (None,) * 6
        g, x, weight, bias, stats = ctx.saved_tensors
        parameters = ctx.needs_input_grad[2]
        by_g, by_x, by_channel = _both([x, g, c], weight, bias, stats, parameters=parameters)
        by_weight = by_channel[:, 0].sum(dim=0).to(weight.dtype) if parameters else None
        return by_g, by_x, by_weight, None, None, None
