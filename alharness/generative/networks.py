"""Networks of generators, critics and auto-encoders.

They follow the reference scripts (decisions 7: gan_mnist.py, gan_cifar.py, gan_cifar_resnet.py,
gan_64x64.py of igul222/improved_wgan_training, and their CT versions) in sizes and initialisation.
All work on pixels in the range the recipe trains in: [0, 1], or [-1, 1] when ``signed``.

Differs from the scripts: batch normalisation keeps running statistics, which are re-estimated after
training and used at use. With batch statistics, as in the scripts, G(z_i) depends on the other z of
its batch and jointly optimised latents are coupled.

Shape letters: B images, L latent dimensions, D features.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from alharness.errors import UserError
from alharness.generative.convolution import Conv2d
from alharness.generative.folding import NormedRelu, of_doubled, then_mean
from alharness.generative.settings import AutoencoderRecipe, GeneratorRecipe

#: Smallest side that the convolutional stacks go down to (4x4 in every script).
SMALLEST = 4


class Critic(nn.Module):
    """A body that computes features ``[B, D]`` and one linear unit on them."""

    def __init__(self, body: nn.Module, n_features: int) -> None:
        super().__init__()
        self.body = body
        self.head = _linear(n_features, 1)
        self.n_features = n_features

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Input of the last linear layer, flattened ``[B, D]``: F_disc (Sec. 3.2, decisions 1.4)."""
        return cast(torch.Tensor, self.body(pixels)).flatten(1)

    def forward(
        self, pixels: torch.Tensor, *, with_features: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Unbounded scores ``[B]``, larger is more real; the features beside them where asked for."""
        features = self.features(pixels)
        scores = cast(torch.Tensor, self.head(features)).squeeze(1)
        return (scores, features) if with_features else scores


class Dropout(nn.Module):
    """Dropout that draws its masks from a named generator, so that a stopped training continues exactly."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.rng: torch.Generator | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        # Not functional.dropout: it draws from the process's generator, which a checkpoint does not hold.
        kept = torch.rand(x.shape, generator=self.rng, device=x.device) >= self.rate
        return x * (kept.to(x.dtype) / (1.0 - self.rate))


def use_rng(module: nn.Module, rng: torch.Generator) -> None:
    """Let all dropout layers of ``module`` draw from ``rng``."""
    for part in module.modules():
        if isinstance(part, Dropout):
            part.rng = rng


def into_range(images: torch.Tensor, recipe: GeneratorRecipe | AutoencoderRecipe) -> torch.Tensor:
    """Images in [0, 1] in the range that the recipe's networks work in."""
    return images * 2.0 - 1.0 if recipe.signed else images


def out_of_range(pixels: torch.Tensor, recipe: GeneratorRecipe | AutoencoderRecipe) -> torch.Tensor:
    """What the recipe's networks give as images in [0, 1]."""
    return (pixels + 1.0) / 2.0 if recipe.signed else pixels


def build_generator(recipe: GeneratorRecipe, item_shape: tuple[int, ...]) -> nn.Module:
    """A fresh generator, latents ``[B, L]`` to pixels ``[B, C, H, W]``, from torch's random state."""
    if recipe.network == "fc":
        return _fc(recipe.latent_dim, recipe.width, item_shape, signed=recipe.signed)
    if recipe.network == "conv":
        return _conv_decoder(
            recipe.latent_dim,
            recipe.width,
            item_shape,
            batch_norm=recipe.batch_norm,
            signed=recipe.signed,
        )
    _check_divisible(recipe, item_shape)
    channels, height, columns = item_shape
    widths = _resnet_widths(recipe, item_shape)
    start = (widths[0], height >> (len(widths) - 1), columns >> (len(widths) - 1))
    layers: list[nn.Module] = [
        _linear(recipe.latent_dim, math.prod(start)),
        nn.Unflatten(1, start),
    ]
    for into, out in itertools.pairwise(widths):
        layers.append(ResidualBlock(into, out, resample="up", norm="batch", folded=recipe.folded))
    layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(), _conv(widths[-1], channels, 3, he=False)]
    return nn.Sequential(*layers, _squash(recipe.signed))


def build_critic(recipe: GeneratorRecipe, item_shape: tuple[int, ...]) -> Critic:
    """A fresh critic of pixels ``[B, C, H, W]``, from torch's random state."""
    channels, height, columns = item_shape
    # CT's scripts drop half behind each of the first three layers.
    rates = (0.5, 0.5, 0.5) if recipe.dropout else ()
    if recipe.network == "fc":
        n_pixels = math.prod(item_shape)
        return Critic(
            nn.Sequential(nn.Flatten(), *_fc_layers(n_pixels, recipe.width, rates)), recipe.width
        )
    if recipe.network == "conv":
        body, n_features = _conv_encoder(recipe.width, item_shape, rates)
        return Critic(body, n_features)
    _check_divisible(recipe, item_shape)
    if recipe.network == "resnet":
        # Two halving blocks, then blocks of full size; the CT script drops after blocks 2, 3 and 4.
        width = recipe.width
        layers: list[nn.Module] = [FirstCriticBlock(channels, width, folded=recipe.folded)]
        resample = ("down", "none", "none")
        for number, how in enumerate(resample):
            layers.append(
                ResidualBlock(width, width, resample=how, norm="none", folded=recipe.folded)
            )
            if recipe.dropout:
                layers.append(Dropout((0.2, 0.5, 0.5)[number]))
        return Critic(nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1)), width)
    widths = _resnet_widths(recipe, item_shape)[::-1]
    layers = [_conv(channels, widths[0], 3, he=False)]
    for number, (into, out) in enumerate(itertools.pairwise(widths)):
        layers.append(ResidualBlock(into, out, resample="down", norm="layer", folded=recipe.folded))
        if recipe.dropout and number >= 1:
            layers.append(Dropout(0.2 if number == 1 else 0.5))
    halvings = len(widths) - 1
    return Critic(nn.Sequential(*layers), widths[-1] * (height >> halvings) * (columns >> halvings))


def build_encoder(recipe: AutoencoderRecipe, item_shape: tuple[int, ...]) -> nn.Module:
    """Pixels ``[B, C, H, W]`` to codes ``[B, code_dim]``: the critic's stack, linear (decisions 1.5)."""
    if recipe.network == "fc":
        layers = _fc_layers(math.prod(item_shape), recipe.width, ())
        return nn.Sequential(nn.Flatten(), *layers, _linear(recipe.width, recipe.code_dim))
    body, n_features = _conv_encoder(recipe.width, item_shape, ())
    return nn.Sequential(body, nn.Flatten(), _linear(n_features, recipe.code_dim))


def build_decoder(recipe: AutoencoderRecipe, item_shape: tuple[int, ...]) -> nn.Module:
    """Codes ``[B, code_dim]`` to pixels ``[B, C, H, W]``: the generator's stack, no normalisation."""
    if recipe.network == "fc":
        return _fc(recipe.code_dim, recipe.width, item_shape, signed=recipe.signed)
    return _conv_decoder(
        recipe.code_dim, recipe.width, item_shape, batch_norm=False, signed=recipe.signed
    )


class ResidualBlock(nn.Module):
    """(norm, ReLU, 3x3 conv) twice beside a 1x1 shortcut, with nearest up- or mean down-sampling.

    As in the scripts: up-sampling stands before the first convolution and before the shortcut's,
    mean pooling behind the second one and behind the shortcut's; a block that keeps its shape has
    an identity shortcut.

    Args:
        folded: compute the same with fewer operations (``folding``), which round otherwise.
    """

    def __init__(self, into: int, out: int, *, resample: str, norm: str, folded: bool) -> None:
        super().__init__()
        self.resample = resample
        self.folded = folded
        if folded and norm == "layer":
            norm = "folded layer"
        middle = out if resample == "up" else into
        self.norm1 = _norm(norm, into)
        self.conv1 = _conv(into, middle, 3)
        self.norm2 = _norm(norm, middle)
        self.conv2 = _conv(middle, out, 3)
        plain = resample == "none" and into == out
        self.shortcut = nn.Identity() if plain else _conv(into, out, 1, he=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        up, down = self.resample == "up", self.resample == "down"
        if self.folded and (up or down):
            return self._folded(x)
        aside = self.shortcut(_double(x) if up else x)
        inner = _activated(self.norm1, x)
        inner = self.conv1(_double(inner) if up else inner)
        inner = self.conv2(_activated(self.norm2, inner))
        if down:  # the mean is linear: once for both branches
            return functional.avg_pool2d(aside + inner, 2)
        return cast(torch.Tensor, aside + inner)

    def _folded(self, x: torch.Tensor) -> torch.Tensor:
        """A 1x1 shortcut commutes with mean and doubling: it works on the smaller side."""
        inner = _activated(self.norm1, x)
        if self.resample == "up":
            inner = of_doubled(inner, self.conv1)
            inner = self.conv2(_activated(self.norm2, inner))
            return cast(torch.Tensor, _double(self.shortcut(x)) + inner)
        inner = _activated(self.norm2, self.conv1(inner))
        aside = self.shortcut(functional.avg_pool2d(x, 2))
        return cast(torch.Tensor, aside + then_mean(inner, self.conv2))


class FirstCriticBlock(nn.Module):
    """The "optimised" first block of gan_cifar_resnet.py: no activation on the pixels."""

    def __init__(self, channels: int, width: int, *, folded: bool) -> None:
        super().__init__()
        self.folded = folded
        self.conv1 = _conv(channels, width, 3)
        self.conv2 = _conv(width, width, 3)
        self.shortcut = _conv(channels, width, 1, he=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.conv1(x))
        aside = self.shortcut(functional.avg_pool2d(x, 2))
        if self.folded:
            return cast(torch.Tensor, then_mean(inner, self.conv2) + aside)
        return cast(torch.Tensor, functional.avg_pool2d(self.conv2(inner), 2) + aside)


def stages(side: int) -> list[int]:
    """Sides from the image down to about 4: 28 -> [28, 14, 7, 4], 64 -> [64, 32, 16, 8, 4]."""
    sides = [side]
    while sides[-1] > SMALLEST:
        sides.append(-(-sides[-1] // 2))
    return sides


class _Crop(nn.Module):
    """Keep the upper left corner: 8x8 -> 7x7 behind the first transposed convolution for 28x28."""

    def __init__(self, height: int, columns: int) -> None:
        super().__init__()
        self.height, self.columns = height, columns

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, : self.height, : self.columns]


def _squash(signed: bool) -> nn.Module:
    return nn.Tanh() if signed else nn.Sigmoid()


def _fc_layers(into: int, width: int, rates: Sequence[float]) -> list[nn.Module]:
    """Three hidden layers with LeakyReLU 0.2 (decisions 11)."""
    layers: list[nn.Module] = []
    for number in range(3):
        layers += [_linear(into if number == 0 else width, width), nn.LeakyReLU(0.2)]
        if rates:
            layers.append(Dropout(rates[number]))
    return layers


def _fc(into: int, width: int, item_shape: tuple[int, ...], *, signed: bool) -> nn.Sequential:
    return nn.Sequential(
        *_fc_layers(into, width, ()),
        _linear(width, math.prod(item_shape)),
        _squash(signed),
        nn.Unflatten(1, item_shape),
    )


def _conv_decoder(
    into: int, width: int, item_shape: tuple[int, ...], *, batch_norm: bool, signed: bool
) -> nn.Sequential:
    """Linear to 4x4, then 5x5 transposed convolutions of stride 2 (gan_mnist.py, gan_cifar.py)."""
    channels, height, columns = item_shape
    heights, widths = _both_stages(height, columns)
    n = len(heights) - 1
    out = width << (n - 1)
    layers: list[nn.Module] = [
        _linear(into, out * heights[-1] * widths[-1]),
        nn.Unflatten(1, (out, heights[-1], widths[-1])),
        *([nn.BatchNorm2d(out)] if batch_norm else []),
        nn.ReLU(),
    ]
    for level in range(n - 1, -1, -1):
        before, out = out, channels if level == 0 else width << (level - 1)
        layers.append(_deconv(before, out))
        # 7 is no double of 4: a stage of 28x28 is made one row and column too large, and cut.
        if (2 * heights[level + 1], 2 * widths[level + 1]) != (heights[level], widths[level]):
            layers.append(_Crop(heights[level], widths[level]))
        if level:
            layers += [*([nn.BatchNorm2d(out)] if batch_norm else []), nn.ReLU()]
    return nn.Sequential(*layers, _squash(signed))


def _conv_encoder(
    width: int, item_shape: tuple[int, ...], rates: Sequence[float]
) -> tuple[nn.Sequential, int]:
    """5x5 convolutions of stride 2 with LeakyReLU 0.2, no normalisation, down to about 4x4."""
    channels, height, columns = item_shape
    heights, widths = _both_stages(height, columns)
    layers: list[nn.Module] = []
    for level in range(len(heights) - 1):
        out = width << level
        layers += [_conv(channels, out, 5, stride=2), nn.LeakyReLU(0.2)]
        if rates:
            layers.append(Dropout(rates[min(level, len(rates) - 1)]))
        channels = out
    return nn.Sequential(*layers), channels * heights[-1] * widths[-1]


def _both_stages(height: int, columns: int) -> tuple[list[int], list[int]]:
    """Stages of both sides, the shorter one kept at its last value; at least one halving."""
    if min(height, columns) < 2 * SMALLEST - 1:
        raise UserError(
            f"Convolutional networks need images of at least {2 * SMALLEST - 1}x{2 * SMALLEST - 1}; "
            f"found {height}x{columns}. Use recipe=fc."
        )
    longer = stages(max(height, columns))
    heights, widths = [height], [columns]
    for _ in range(len(longer) - 1):
        heights.append(-(-heights[-1] // 2))
        widths.append(-(-widths[-1] // 2))
    return heights, widths


def _resnet_widths(recipe: GeneratorRecipe, item_shape: tuple[int, ...]) -> list[int]:
    """Channels from the 4x4 end of the generator to the image.

    gan_64x64.py: 8, 8, 4, 2, 1 x DIM; gan_cifar_resnet.py: 128 throughout.
    """
    # The longer side sets the depth, or the shorter one would fall below 4.
    doublings = len(stages(max(item_shape[1:]))) - 1
    if recipe.network == "resnet":
        return [recipe.width] * (doublings + 1)
    widths = [recipe.width << level for level in range(doublings)]
    return [widths[-1], *reversed(widths)]


def _check_divisible(recipe: GeneratorRecipe, item_shape: tuple[int, ...]) -> None:
    factor = 1 << (len(stages(max(item_shape[1:]))) - 1)
    if any(side % factor for side in item_shape[1:]) or factor < 4:
        raise UserError(
            f"Recipe '{recipe.recipe}' needs sides of at least 16 that halve down to {SMALLEST}; "
            f"found {item_shape[1]}x{item_shape[2]}. Use a conv recipe."
        )


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "layer":
        # Over channels and pixels with one scale per channel, as tflib's Layernorm.
        return nn.GroupNorm(1, channels)
    if kind == "folded layer":
        return NormedRelu(channels)
    return nn.Identity()


def _activated(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, norm(x) if isinstance(norm, NormedRelu) else functional.relu(norm(x)))


def _double(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _linear(into: int, out: int) -> nn.Linear:
    layer = nn.Linear(into, out)
    _uniform(layer, math.sqrt(2.0 / (into + out)))  # Glorot, tflib's default for linear layers
    return layer


def _conv(into: int, out: int, kernel: int, *, stride: int = 1, he: bool = True) -> nn.Conv2d:
    layer = Conv2d(into, out, kernel, stride=stride, padding=kernel // 2)
    # tflib divides the fan out by the stride squared: so many outputs see one input.
    fans = into * kernel**2 + out * kernel**2 / stride**2
    _uniform(layer, math.sqrt((4.0 if he else 2.0) / fans))
    return layer


def _deconv(into: int, out: int) -> nn.ConvTranspose2d:
    """5x5, stride 2: exactly doubles the side, as TensorFlow's "SAME"."""
    layer = nn.ConvTranspose2d(into, out, 5, stride=2, padding=2, output_padding=1)
    _uniform(layer, math.sqrt(4.0 / (into * 25 / 4 + out * 25)))
    return layer


def _uniform(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, std: float) -> None:
    """Uniform weights of the given standard deviation, bias 0, as tflib draws them."""
    bound = std * math.sqrt(3.0)
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.zeros_(cast(torch.Tensor, layer.bias))
