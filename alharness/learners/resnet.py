"""torchvision's ResNet-18, with a stem that suits small images.

K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016. The stem of
the original halves an image twice before the first block, which leaves little of small images: up to 32
pixels a 3x3 convolution of stride 1 without pooling takes its place, up to 64 the original convolution
without pooling.
"""

from __future__ import annotations

from alharness.errors import UserError
from alharness.lazily import nn


def resnet18(item_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """torchvision's ResNet-18 with a stem for 32 or 64 pixels; learner.weights starts it pretrained."""
    from torchvision import models

    if len(item_shape) != 3:
        raise UserError(
            f"Classifier 'resnet18' needs images [C, H, W]; this task's items have shape {item_shape}. "
            "Use learner.kind=mlp or learner.kind=linear."
        )
    channels, size = item_shape[0], max(item_shape[1:])
    network: nn.Module = models.resnet18(num_classes=n_classes)
    if size <= 32:
        network.conv1 = _stem(nn.Conv2d(channels, 64, 3, padding=1, bias=False))
    elif channels != 3:
        network.conv1 = _stem(nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False))
    if size <= 64:
        network.maxpool = nn.Identity()
    return network


def _stem(conv: nn.Conv2d) -> nn.Conv2d:
    """Initialised as torchvision does it."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
