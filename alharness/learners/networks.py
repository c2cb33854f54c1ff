"""Networks of the classifiers.

All take float32 images in [0, 1], ``[B, C, H, W]``, and give logits ``[B, n_classes]``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from alharness.errors import UserError
from alharness.lazily import nn, torch

if TYPE_CHECKING:
    from alharness.learners.headed import Classifier


def _classifier(body: nn.Module, head: nn.Linear) -> Classifier:
    from alharness.learners.headed import Classifier  # needs torch, which a network's name does not

    return Classifier(body, head)


def _convolutional(body: nn.Module, head: nn.Linear) -> Classifier:
    """A network of convolutions, its weights channels last: what a CPU's kernels are fastest with.

    Measured on one core with pieces of equal size, images of a pass per second: 1.7 times as many
    through ``mnist-cnn``, 1.2 times through ``all-cnn``; a step of training takes nine tenths of the time.
    """
    return _classifier(body, head).to(memory_format=torch.channels_last)


def _needs_images(name: str, item_shape: tuple[int, ...]) -> None:
    """Refuse rows, with a way out."""
    if len(item_shape) != 3:
        raise UserError(
            f"Classifier '{name}' needs images [C, H, W]; this task's items have shape "
            f"{item_shape}. Use learner.kind=mlp or learner.kind=linear."
        )


def mnist_cnn(item_shape: tuple[int, ...], n_classes: int, width: int) -> Classifier:
    """Two 5x5 convolutions with pooling and one hidden layer (decisions 1.8; not given in the paper)."""
    _needs_images("mnist-cnn", item_shape)
    channels, height, rows = item_shape
    body = nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (rows // 4), width),
        nn.ReLU(),
        nn.Dropout(0.5),
    )
    return _convolutional(body, nn.Linear(width, n_classes))


def all_cnn(item_shape: tuple[int, ...], n_classes: int, width: int) -> Classifier:
    """All-CNN-C of Springenberg et al. 2015 (reference 21 of the paper), width 96 (decisions 1.8).

    The last 1x1 convolution to the classes commutes with global average pooling, so it stands
    behind the pooling as a linear head: the features are the pooled output of the layer before.
    """
    _needs_images("all-cnn", item_shape)
    channels = item_shape[0]
    wide = 2 * width
    body = nn.Sequential(
        nn.Dropout(0.2),
        *_conv_relu(channels, width),
        *_conv_relu(width, width),
        *_conv_relu(width, width, stride=2),
        nn.Dropout(0.5),
        *_conv_relu(width, wide),
        *_conv_relu(wide, wide),
        *_conv_relu(wide, wide, stride=2),
        nn.Dropout(0.5),
        *_conv_relu(wide, wide, padding=0),
        *_conv_relu(wide, wide, kernel=1, padding=0),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return _convolutional(body, nn.Linear(wide, n_classes))


def strided_cnn(item_shape: tuple[int, ...], n_classes: int, width: int) -> Classifier:
    """Strided 3x3 convolutions width, 2, 4, 8 x width, then global average (decisions 1.8, CelebA/LSUN).

    As many halvings as the image bears, at most four, so that small images work too.
    """
    _needs_images("strided-cnn", item_shape)
    channels, height, columns = item_shape
    n_layers = max(1, min(4, int(math.log2(max(2, min(height, columns)))) - 1))
    layers: list[nn.Module] = []
    for depth in range(n_layers):
        out = width << depth
        layers += _conv_relu(channels, out, stride=2)
        channels = out
    body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return _convolutional(body, nn.Linear(channels, n_classes))


def mlp(item_shape: tuple[int, ...], n_classes: int, width: int) -> Classifier:
    """One hidden layer on flattened items: for tiny images and for rows of features."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(item_shape), width), nn.ReLU())
    return _classifier(body, nn.Linear(width, n_classes))


def _conv_relu(
    channels: int, out: int, *, kernel: int = 3, stride: int = 1, padding: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride=stride, padding=padding)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(cast("torch.Tensor", conv.bias))
    return [conv, nn.ReLU()]
